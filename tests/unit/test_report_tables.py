import pytest

from hybridbench.analysis.claims import LEDGER, Verdict
from hybridbench.analysis.tables import Number
from hybridbench.errors import DataError
from hybridbench.report import tables


def claims():
    return [Verdict(r.id, r.claim, r.where, r.rule, r.quantity, r.needs_gpu, "open", None, "no records") for r in LEDGER]


def test_ledger_has_all_claims():
    frame = tables.ledger_table(claims())
    assert list(frame["id"]) == [rule.id for rule in LEDGER]
    assert (frame["verdict"] == "◇ open").all()
    assert (frame["number"] == "–").all()


def test_scores_stand_by_task():
    numbers = {f"test_score_wine_{model}": Number(90.0, unit="%") for model in ("hybrid", "separable", "classical")}
    numbers |= {f"hybrid_minus_{model}_wine": Number(1.0, 0.1, 2.0, 5, "points") for model in ("separable", "classical")}
    row = tables.score_table(numbers).iloc[0]
    assert row["task"] == "wine"
    assert row["hybrid"] == "90 %"
    assert "[0.10, 2.00]" in row["hybrid − classical"]


def test_optimizers_stand_by_name():
    numbers = {f"study_iqm_{name}": Number(0.9, 0.8, 1.0, 5) for name in ("adam", "fused_adam")}
    numbers |= {"study_improvement_fused_adam": Number(0.5, 0.4, 0.6, 5), "study_iqm_default_sgd": Number(0.1)}
    frame = tables.optimizer_table(numbers, ["sgd", "adam", "fused_adam"])
    assert list(frame["optimizer"]) == ["adam", "fused_adam"]
    assert list(frame["P(better than Adam)"]) == ["–", numbers["study_improvement_fused_adam"].text]


def test_nothing_to_show_is_said():
    with pytest.raises(DataError, match="run"):
        tables.score_table({})
    with pytest.raises(DataError, match="run"):
        tables.optimizer_table({}, ["adam"])


def test_a_table_is_shown_whole(monkeypatch):
    seen = {}
    monkeypatch.setattr(tables, "display", lambda data, raw: seen.update(data))
    tables.show_table(tables.ledger_table(claims()))
    assert seen["text/html"].count("<tr") == 29
    assert "..." not in seen["text/html"]
    assert "C28" in seen["text/plain"]
