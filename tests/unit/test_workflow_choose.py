import json
import sys

import atlas_tables
import pandas as pd
import pytest

from hybridbench import paths
from hybridbench.analysis import costs
from hybridbench.errors import ConfigurationError, DataError
from hybridbench.measurement.campaign import Outcome
from hybridbench.progress import Position
from hybridbench.workflow import choose, cli

TABLE = atlas_tables.atlas(threads=(1, 2))
M1 = atlas_tables.machine_of()


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The made-up atlas as this machine's records."""
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path))
    atlas_tables.write(tmp_path, TABLE)
    return tmp_path


def ask(qubits=10, batch=24, layers=3, **more):
    return choose.advise(qubits, batch, layers, source="build", **more)


def by_route(choice):
    return {(offer.route, offer.precision): offer for offer in choice.offers}


def test_the_fastest_comes_first_with_its_interval_and_the_runner_up(own):
    choice = ask()
    times = [offer.step.value for offer in choice.offers if offer.step]
    assert times == sorted(times)
    best = choice.offers[0]
    assert (best.route, best.precision) == (costs.COMPILED, "complex64")
    truth = atlas_tables.planted_seconds(best.route, best.precision, (10, 3, 24))
    assert best.step.low < truth < best.step.high
    assert best.evidence.startswith("model; nearest (")
    assert choice.answer.startswith("Use hybridbench.KerasLayer in complex64: ")
    assert "Runner-up: hybridbench.KerasLayer in complex128, " in choice.answer
    assert choice.title == "One training step with 10 qubits, 3 layers and batch 24 on a processor (2 threads)"


def test_what_was_measured_is_told_as_it_was_measured(own):
    offers = by_route(ask(8, 32, 2))
    rows = TABLE[(TABLE["threads"] == 2) & (TABLE[list(costs.AXES)] == (8, 2, 32)).all(axis=1)]
    for (route, precision), offer in offers.items():
        own_rows = rows[(rows["route"] == route) & (rows["precision"] == precision)]
        assert offer.step.value == pytest.approx(own_rows["seconds"].median())
        assert offer.evidence == "measured in 1 process"
    assert offers[costs.SHIPPED, "complex128"].faster is None
    compiled, shipped = offers[costs.COMPILED, "complex64"], offers[costs.SHIPPED, "complex128"]
    assert compiled.faster.value == pytest.approx(shipped.step.value / compiled.step.value)


def test_what_several_processes_measured_says_so_and_is_one_cell(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path))
    atlas_tables.write(tmp_path, atlas_tables.passes())
    choice = ask(8, 32, 2)
    assert {offer.evidence for offer in choice.offers} == {"measured in 3 processes"}
    assert all(offer.step.n == 3 for offer in choice.offers)
    cells = atlas_tables.atlas()[list(costs.AXES)].drop_duplicates()
    assert f"It rests on {len(cells)} measured cells of machine {M1}" in choice.rests_on


def test_far_from_every_measurement_nothing_is_predicted(own):
    choice = ask(26, 4096, 50)
    assert all(offer.step is None for offer in choice.offers)
    assert all(row[2] == "no measurement near this" for row in choice.rows)
    assert "There is no measurement near this: 26 qubits, 50 layers and batch 4096" in choice.answer
    assert "hybridbench measure" in choice.answer
    assert choice.gpu == "No GPU measurement."


def test_a_route_that_is_too_slow_there_has_no_time_and_the_others_have(own):
    offers = by_route(ask(16, 32, 2))
    assert offers[costs.COMPILED, "complex64"].step is not None
    slow = offers[costs.SHIPPED, "complex128"]
    assert (slow.step, slow.evidence) == (None, "not tried: too slow")
    assert offers[costs.COMPILED, "complex64"].faster is None


def test_datasheets_are_labelled_as_what_they_are(own):
    text = ask(14, 32, 2).gpu
    assert text.startswith("No GPU measurement. Predicted, not measured, from datasheets")
    for name in choose.SHOWN_HARDWARE:
        assert f"{name} " in text
    assert "would " in text or "too close" in text


def test_what_exceeds_the_memory_of_a_gpu_is_said(own, monkeypatch):
    small = costs.Hardware("T4", 320e9, 8.1e12, 2.5e11, 4e-6, 1e3, "made up")
    monkeypatch.setitem(costs.HARDWARE, "T4", small)
    assert "T4 too little memory" in ask(14, 32, 2).gpu


def test_a_gpu_that_was_measured_is_compared(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path))
    planted = {**atlas_tables.PLANTED, **atlas_tables.GPU_PLANTED}
    atlas_tables.write(tmp_path, atlas_tables.atlas(planted=planted, proof='{"gpu": "Test GPU"}'))
    assert ask(16, 32, 2).gpu.startswith("GPU, measured here: it pays; hybridbench.KerasLayer, cuda takes")
    assert ask(4, 10, 2).gpu.startswith("GPU, measured here: it does not pay")


def test_precision_and_threads_narrow_it(own):
    double = ask(precision="complex128")
    assert {offer.precision for offer in double.offers} == {"complex128"}
    # The factor is still against the shipped layer, which has one precision.
    assert double.offers[0].faster is not None
    assert "(1 thread)" in ask(threads=1).title


def test_another_machine_can_be_named(own):
    atlas_tables.write(own, atlas_tables.atlas(machine="m2").assign(cpu="another processor"))
    assert "another processor" in ask(machine=atlas_tables.machine_of("m2", cpu="another processor")).title
    assert "a processor (2" in ask(machine=M1).title
    # Without a name the one with most cells, where this machine has none.
    assert "a processor (2" in ask().title


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"qubits": 0}, "qubits is 0, and has to be from 1 to 1000000"),
        ({"batch": -3}, "batch is -3"),
        ({"layers": 0}, "layers is 0"),
        ({"precision": "float32"}, "Unknown precision 'float32'"),
        ({"threads": 7}, "threads is 7, and this machine was measured with 1 and 2"),
        ({"machine": "mine"}, f"Unknown machine 'mine'.*Known: {M1}"),
    ],
)
def test_a_mistake_is_one_sentence(own, more, words):
    with pytest.raises(ConfigurationError, match=words):
        ask(**more)


def test_without_records_it_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path))
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path / "data")
    for source in ("shipped", "build"):
        with pytest.raises(DataError, match=r"no atlas records.*hybridbench measure"):
            choose.advise(8, 32, 2, source=source)
    with pytest.raises(ConfigurationError, match="Unknown source"):
        choose.advise(8, 32, 2, source="mine")


def test_few_cells_are_no_model_but_what_was_measured_is_still_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path))
    few = TABLE[(TABLE["threads"] == 2) & TABLE["record"].isin(TABLE["record"].unique()[39:44])]
    atlas_tables.write(tmp_path, few)
    measured = ask(*(int(few[name].iloc[0]) for name in ("n_qubits", "batch_size", "n_layers")))
    assert measured.offers[0].evidence == "measured in 1 process"
    assert all(offer.step is None for offer in ask(20, 32, 2).offers)
    assert "5 cells" in ask(20, 32, 2).offers[0].evidence


def test_markdown_is_the_same_table(own):
    choice = ask()
    lines = choose.markdown(choice).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(choice.rows)
    assert tuple(cell.strip() for cell in table[2].strip("|").split("|")) == choice.rows[0]
    for text in (choice.answer, choice.gpu, choice.rests_on):
        assert text in lines


def test_the_command_prints_table_and_words(own, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")
    command = ["hybridbench", "recommend", "--qubits", "10", "--batch", "24", "--layers", "3", "--source", "build"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    out = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    for words in ("Use hybridbench.KerasLayer", "Runner-up", "Predicted, not measured", "hybridbench measure", M1):
        assert words in out


def test_the_command_tells_a_mistake_in_one_line(own, monkeypatch, capsys):
    command = ["hybridbench", "recommend", "--qubits", "-1", "--batch", "24", "--layers", "3", "--source", "build"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("hybridbench: qubits is -1")


def test_measure_tells_what_it_did_and_what_is_left(tmp_path, monkeypatch, capsys):
    from hybridbench.training import atlas

    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path))
    atlas_tables.write(tmp_path, TABLE)
    asked = []

    def run(wanted, store, minutes, report):
        asked.append((len(wanted), minutes))
        report(Position(0, len(wanted), wanted[0].title, 100.0))
        outcome = Outcome(wanted, store, left=[(cell, "no time") for cell in wanted[-2:]])
        outcome.table = lambda: TABLE if minutes is None else pd.DataFrame()
        return outcome

    monkeypatch.setattr(atlas, "run", run)
    for command, minutes in ((["measure"], 5.0), (["measure", "--minutes", "2"], 2.0), (["measure", "--full"], None)):
        monkeypatch.setattr(sys, "argv", ["hybridbench", *command])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == 0
        out, err = capsys.readouterr()
        assert asked[-1][1] == minutes
        assert ("held-out times to within a factor of 1.5" in out) == (minutes is None)
        assert "2 more" in out
        assert "the same command goes on" in out
        assert "[1/" in err
        assert "left" in err
        assert "Not measured here, no GPU" in err
        assert "KerasLayer, lightning.gpu, complex128; " in err
    assert asked[-1][0] > asked[0][0]
    monkeypatch.setattr(sys, "argv", ["hybridbench", "measure", "--threads", "1"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert "--threads goes with --full" in capsys.readouterr().err


def test_without_a_fitted_host_no_gpu_is_predicted(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path))
    few = TABLE[(TABLE["threads"] == 2) & TABLE["record"].isin(TABLE["record"].unique()[39:44])]
    atlas_tables.write(tmp_path, few)
    text = ask(*(int(few[name].iloc[0]) for name in ("n_qubits", "batch_size", "n_layers"))).gpu
    assert text.startswith("No GPU measurement. None is predicted either: ")
    assert "would pay" not in text


def test_whether_there_is_an_answer(own):
    assert ask(8, 32, 2).found
    assert not ask(26, 4096, 50).found


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_at_any_width_the_answer_comes_first_and_no_word_is_broken(own, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    choice = ask(8, 32, 2)
    choose.show(choice)
    out = capsys.readouterr().out
    assert out.startswith("Use hybridbench.KerasLayer")
    assert "…" not in out
    words = set(out.split())
    for row in (choose.HEADER, *choice.rows):
        assert {word for cell in row for word in cell.split()} <= words


def test_json_holds_the_tables_numbers(own, monkeypatch, capsys):
    command = ["hybridbench", "recommend", "--qubits", "8", "--batch", "32", "--layers", "2", "--source", "build", "--json"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 0
    found, choice = json.loads(capsys.readouterr().out), ask(8, 32, 2)
    assert found["answer"] == choice.answer
    assert [route["route"] for route in found["routes"]] == [offer.route for offer in choice.offers]
    for route, offer in zip(found["routes"], choice.offers, strict=True):
        assert route["seconds"] == (offer.step and [offer.step.value, offer.step.low, offer.step.high])
        assert (route["times_as_fast_as_shipped"] is None) == (offer.faster is None)
