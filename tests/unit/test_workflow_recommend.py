import json
import sys

import pytest
import study_records

from hybridbench import paths
from hybridbench.analysis import optimizers
from hybridbench.errors import ConfigurationError, DataError
from hybridbench.workflow import cli, recommend

TABLE = study_records.study()


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The made-up study as this machine's records."""
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path))
    study_records.write(tmp_path, TABLE)
    return tmp_path


def test_the_table_is_the_analysis_in_words(own):
    advice = recommend.advise("classification", 150, "build")
    found = optimizers.recommendation(TABLE, "classification", 150)
    assert [row[0] for row in advice.rows] == list(found.index)
    assert advice.rows[0][0] == "adam"
    name, rates, score, diverged, evidence = advice.rows[found.index.get_loc("momentum")]
    low, high = found.loc["momentum", ["rate_low", "rate_high"]]
    assert name == "momentum"
    assert rates == (f"{low:.1g}" if low == high else f"{low:.1g} to {high:.1g}")
    assert score.startswith(f"{found.loc['momentum', 'score']:.2f}"[:3])
    assert "[" in score
    assert diverged == f"{100 * found.loc['momentum', 'diverged']:.0f} %" != "0 %"
    assert evidence == "1 problem, 5 seeds"


def test_it_says_what_it_rests_on(own):
    advice = recommend.advise("energy", 300, "build")
    assert "hybrid models for basins, with 8 qubits, 2 layers and batches of 32 samples, over 5 seeds" in advice.rests_on
    assert "11 from 0.0001 to 10" in advice.rests_on
    assert "extrapolated" not in advice.limits
    assert "noise" in advice.limits


def test_beyond_the_measured_steps_nothing_is_extrapolated(own):
    longest, beyond = (recommend.advise("regression", budget, "build") for budget in (300, 5000))
    assert beyond.rows == longest.rows
    assert "scores are those of 300 steps and not of 5000, and nothing is extrapolated" in beyond.limits


def test_a_larger_budget_is_not_worse(own):
    def scores(budget):
        return optimizers.recommendation(TABLE, "classification", budget)["score"]

    short, long = (recommend.advise("classification", budget, "build").rows for budget in (15, 300))
    assert short != long
    assert (scores(300) >= scores(15).reindex(scores(300).index)).all()


@pytest.mark.parametrize(
    ("task", "budget", "source", "words"),
    [
        ("clasification", 100, "build", "Unknown task 'clasification'. Did you mean 'classification'"),
        ("energy", 14, "build", "budget is 14 steps, and the records begin at 15: give 15 or more"),
        ("energy", -1, "build", "budget is -1 steps"),
        ("energy", 100, "mine", "Unknown source 'mine'"),
    ],
)
def test_a_mistake_is_one_sentence(own, task, budget, source, words):
    with pytest.raises(ConfigurationError) as caught:
        recommend.advise(task, budget, source)
    assert words in str(caught.value)


def test_without_records_it_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path))
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path / "data")
    for source in ("shipped", "build"):
        with pytest.raises(DataError, match=r"no optimizers records.*hybridbench study"):
            recommend.advise("energy", 100, source)
    study_records.write(tmp_path, TABLE[TABLE["problem"] == "diabetes"])
    with pytest.raises(DataError, match="no tuned runs of energy"):
        recommend.advise("energy", 100, "build")


def test_the_answer_names_what_cannot_be_told_apart(own):
    advice = recommend.advise("classification", 300, "build")
    best, *others = advice.found
    assert advice.answer.startswith(f"Start with {best['optimizer']}, with a learning rate of {advice.rows[0][1]}: ")
    for other in others:
        alike = other["score"][2] >= best["score"][1]
        assert (other["optimizer"] in advice.answer.split(".", 2)[-1].replace(",", " ").split()) == alike


def test_json_holds_the_tables_numbers(own, monkeypatch, capsys):
    command = ["hybridbench", "recommend-optimizer", "--task", "classification", "--budget", "300", "--source", "build"]
    monkeypatch.setattr(sys, "argv", [*command, "--json"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 0
    found = json.loads(capsys.readouterr().out)
    advice = recommend.advise("classification", 300, "build")
    assert found == {
        "answer": advice.answer,
        "optimizers": list(advice.found),
        "rests_on": advice.rests_on,
        "limits": advice.limits,
    }
    assert [row["optimizer"] for row in found["optimizers"]] == [row[0] for row in advice.rows]
    for row, shown in zip(found["optimizers"], advice.rows, strict=True):
        assert float(shown[2].split()[0]) == pytest.approx(row["score"][0], abs=1e-3)
        assert (row["learning_rate"] is None) == (shown[1] == "not measured")


def test_the_command_prints_table_and_words(own, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "110")
    command = ["hybridbench", "recommend-optimizer", "--task", "classification", "--budget", "500", "--source", "build"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    out = capsys.readouterr().out
    assert caught.value.code == 0
    for words in ("nadam", "learning rate", "1 problem, 5 seeds", "nothing is extrapolated", "digits_3v5"):
        assert words in " ".join(out.split())


def test_the_command_tells_a_mistake_in_one_line(own, monkeypatch, capsys):
    command = ["hybridbench", "recommend-optimizer", "--task", "energy", "--budget", "5", "--source", "build"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("hybridbench: budget is 5 steps")


def test_rows_fit_a_terminal(own, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    advice = recommend.advise("classification", 300, "build")
    recommend.show(advice)
    lines = capsys.readouterr().out.splitlines()
    for row in advice.rows:
        assert sum(all(cell in line for cell in row) for line in lines) == 1  # no row needs a second line
