import io
import subprocess
import sys

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner
from workflow_toys import profile, toy

from hybridbench import paths
from hybridbench.workflow import cli, status, verdict


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A toy checkout: one notebook, one profile, its own build and data folders."""
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path / "build"))
    toy(tmp_path / "notebooks", "00_first", "print(n_qubits)")
    profile(tmp_path / "profiles", "quick", "00_first:\n  n_qubits: 6\n")
    (tmp_path / "data" / "records").mkdir(parents=True)
    return tmp_path


def call(monkeypatch, capsys, *arguments):
    """Exit code, standard output and standard error of the entry point."""
    monkeypatch.setattr(sys, "argv", ["hybridbench", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code, *capsys.readouterr()


def row(verdict_text):
    return verdict.Row("C01", "batching helps", "confirmed", "refuted", verdict_text)


def test_help_teaches_and_imports_nothing_heavy():
    program = "import sys; from hybridbench.workflow import cli; print([m for m in ('tensorflow', 'pennylane', 'pandas', "
    program += "'papermill', 'matplotlib') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
    text = CliRunner().invoke(cli.app, ["run", "--help"]).output
    assert "Examples" in text
    assert "hybridbench run --only 03_cpu_baseline --force" in text


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "defaults",
        "status",
        "verdict",
        "gpu",
        "measure",
        "recommend",
        "study",
        "frontier",
        "rerun",
        "claims",
        "recommend-optimizer",
        "figures",
        "paper",
        "ship",
        "verify",
    ],
)
def test_every_command_has_an_example(command):
    result = CliRunner().invoke(cli.app, [command, "--help"])
    assert result.exit_code == 0
    assert f"hybridbench {command}" in result.output.split("Example", 1)[1]


def test_a_mistake_is_one_line_and_exit_code_2(checkout, monkeypatch, capsys):
    code, out, error = call(monkeypatch, capsys, "run", "--profile", "quik")
    assert (code, out) == (2, "")
    assert error == "hybridbench: Unknown profile 'quik'. Did you mean 'quick'? Known: quick.\n"
    code, _, error = call(monkeypatch, capsys, "run", "--param", "00_first.n_qubits=99")
    assert code == 2
    assert "00_first, parameter n_qubits: 99 is out of range; allowed is int from 2 to 8" in error
    assert not (checkout / "build").exists()


def test_a_failing_notebook_is_exit_code_1(checkout, monkeypatch, capsys):
    toy(checkout / "notebooks", "00_first", "1 / 0")
    code, _, error = call(monkeypatch, capsys, "run")
    assert code == 1
    assert "build/notebooks/quick/00_first.partial.ipynb" in error


@pytest.mark.parametrize(("text", "expected"), [(verdict.AGREES, 0), (verdict.NOT_DECIDED, 0), (verdict.DISAGREES, 1)])
def test_a_run_ends_with_the_verdicts(checkout, monkeypatch, capsys, text, expected):
    monkeypatch.setattr(verdict, "this_machines_rows", lambda: [row(text)])
    code, out, error = call(monkeypatch, capsys, "run")
    assert code == expected
    assert f"1 claims: 1 {text}" in out
    assert ("Disagreement with the shipped records on C01" in error) == (expected == 1)


def test_list_shows_parameters_and_runs_nothing(checkout, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "160")
    code, out, _ = call(monkeypatch, capsys, "run", "--list", "--param", "00_first.optimizers=[nadam]")
    assert code == 0
    assert "int from 2 to 8" in out
    assert "nadam" in out
    assert not (checkout / "build").exists()


def test_status_counts_notebooks_and_records(checkout):
    folder = checkout / "build" / "records" / "timing"
    folder.mkdir(parents=True)
    pd.DataFrame({"seconds": [1.0, 2.0]}).to_parquet(folder / "a.parquet")
    assert status.records() == [status.Records("timing", 1, 2, 0, 0)]
    console = Console(file=io.StringIO(), width=120)
    status.show("quick", console)
    text = console.file.getvalue()
    for word in ["00_first", "missing", "timing", "Machine: "]:
        assert word in text


def test_ship_without_records_says_what_to_do(checkout, monkeypatch, capsys):
    code, _, error = call(monkeypatch, capsys, "ship")
    assert code == 2
    assert error == "hybridbench: No records in build/records: run 'hybridbench run' first.\n"


def test_verify_sees_a_damaged_file(checkout, monkeypatch, capsys):
    from hybridbench.measurement.checksums import write_checksums

    (checkout / "data" / "table.csv").write_text("1\n")
    (checkout / "figures").mkdir()
    (checkout / "figures" / "one.svg").write_text("<svg/>")
    write_checksums()
    write_checksums(checkout / "figures")
    assert call(monkeypatch, capsys, "verify")[:2] == (0, "1 files of data/ and 1 of figures/ are as shipped.\n")
    (checkout / "figures" / "one.svg").write_text("<svg />")
    code, _, error = call(monkeypatch, capsys, "verify")
    assert (code, "figures/one.svg is damaged" in error) == (2, True)
    (checkout / "data" / "table.csv").write_text("2\n")
    code, _, error = call(monkeypatch, capsys, "verify")
    assert code == 2
    assert "data/table.csv is damaged" in error


def test_claims_renews_the_checksum_of_its_file_and_of_no_damaged_one(checkout, monkeypatch, capsys):
    from hybridbench.analysis import claims
    from hybridbench.measurement import columns
    from hybridbench.measurement.checksums import verify_all, write_checksums

    monkeypatch.setattr(claims, "write_claims", lambda source, path: path.write_text('{"claims": [], "numbers": {}}'))
    tables = "".join(f"<!-- {name}:begin -->\n<!-- {name}:end -->\n" for name in ("claims", "optimizers"))
    (checkout / "README.md").write_text(f"before\n{tables}after\n")
    (checkout / "docs").mkdir()
    pages = {"protocol.md": claims.rules_as_markdown(), "records.md": columns.as_markdown()}
    for page, table in pages.items():
        (checkout / "docs" / page).write_text("before\n\n" + table.split("\n", 1)[0] + "\n| an old row |\n\nafter\n")
    (checkout / "data" / "table.csv").write_text("1\n")
    write_checksums()
    assert call(monkeypatch, capsys, "claims")[:2] == (0, "wrote data/claims.json\n")
    assert verify_all() == 2
    for page, table in pages.items():
        assert (checkout / "docs" / page).read_text() == f"before\n\n{table}\nafter\n"
    assert "claim of the original study" in (checkout / "README.md").read_text()
    assert call(monkeypatch, capsys, "claims")[0] == 0
    (checkout / "data" / "table.csv").write_text("2\n")
    code, _, error = call(monkeypatch, capsys, "claims")
    assert code == 2
    assert "data/table.csv is damaged" in error


def test_figures_and_paper_say_what_is_missing(checkout, monkeypatch, capsys):
    code, _, error = call(monkeypatch, capsys, "figures")
    assert code == 2
    assert "circuits records" in error
    code, _, error = call(monkeypatch, capsys, "paper")
    assert code == 2
    assert "data/claims.json is missing" in error
    for command in ("figures", "claims", "paper"):
        code, _, error = call(monkeypatch, capsys, command, "--source", "mine")
        assert code == 2
        assert "Unknown source 'mine'" in error


def test_a_build_folder_that_cannot_be_is_one_line(checkout, monkeypatch, capsys):
    (checkout / "a_file").write_text("")
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(checkout / "a_file"))
    code, _, error = call(monkeypatch, capsys, "run")
    assert code == 2
    line = error.splitlines()[-1]
    assert line.startswith("hybridbench: Not a directory:")
    assert "HYBRIDBENCH_BUILD" in line
    assert "Traceback" not in error


def test_status_names_a_damaged_record(checkout, monkeypatch, capsys):
    folder = checkout / "build/records/energy"
    folder.mkdir(parents=True)
    (folder / "a.parquet").write_bytes(b"half")
    code, _, error = call(monkeypatch, capsys, "status")
    assert code == 2
    assert "a.parquet is damaged" in error


def test_study_says_how_to_use_several_machines():
    text = " ".join(CliRunner().invoke(cli.app, ["study", "--help"]).output.split())
    for line in (
        "dask scheduler",
        "dask worker tcp://host:8786 --nthreads 1",
        "hybridbench study --scheduler tcp://host:8786",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--problem", "wines"), "Unknown problem 'wines'. Did you mean 'wine'"),
        (("--model", "hybird"), "Unknown model 'hybird'. Did you mean 'hybrid'"),
        (("--optimizer", "adamm"), "Unknown optimizer 'adamm'. Did you mean 'adam"),
        (
            ("--problem", "basins", "--model", "classical"),
            "no such trials: problems basins and original have the hybrid model only",
        ),
        (("--workers", "0"), "workers is 0, and must be a whole number from 1 to 256"),
        (("--scheduler", "host:8786"), "cluster is 'host:8786', and must be 'local', 'here' or an address"),
        (("--scheduler", "tcp://127.0.0.1:1"), "No Dask scheduler answers at tcp://127.0.0.1:1"),
    ],
)
def test_study_refuses_what_cannot_be_in_one_line(checkout, monkeypatch, capsys, arguments, message):
    from hybridbench.training import sweep

    monkeypatch.setattr(sweep, "CONNECT_SECONDS", 0.5)
    code, out, error = call(monkeypatch, capsys, "study", *arguments)
    assert (code, out) == (2, "")
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (checkout / "build").exists()


@pytest.mark.parametrize(
    ("command", "where", "name"), [("study", "sweep", "run_plans"), ("measure", "atlas", "run")], ids=["study", "measure"]
)
def test_ctrl_c_says_what_is_kept(checkout, monkeypatch, capsys, command, where, name):
    from importlib import import_module

    def stopped(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module(f"hybridbench.training.{where}"), name, stopped)
    code, out, error = call(monkeypatch, capsys, command)
    assert (code, out) == (130, "")
    assert "Stopped. 0 " in error
    assert "the same command goes on with what is missing" in error
    assert "Traceback" not in error


def test_study_runs_resumes_and_counts(checkout, monkeypatch, capsys, tmp_path):
    from functools import partial

    import sweep_toys
    import toy_study  # noqa: F401  (makes the study known)

    from hybridbench.training import study, trial

    monkeypatch.setattr(study, "STUDY", "toys")
    asked, task = [], "fails"

    def plans(problems, models, optimizers):
        asked.append((problems, models, optimizers))
        return [sweep_toys.plan(task, 5, [])]

    monkeypatch.setattr(study, "plans", plans)
    monkeypatch.setattr(trial, "run_trial", partial(sweep_toys.run, log=tmp_path / "log"))
    code, out, error = call(monkeypatch, capsys, "study", "--workers", "1", "--optimizer", "adam", "--optimizer", "sgd")
    assert (code, out) == (1, "")
    assert "in run\n    raise Unsendable" in error, "a failure of the code shows where"
    assert "running Toy(task='fails', seed=3). What has a record stays" in error.splitlines()[-1]
    assert asked == [(study.PROBLEMS, study.MODELS, ["adam", "sgd"])]
    task = "works"
    for _ in range(2):
        code, out, error = call(monkeypatch, capsys, "study", "--workers", "1")
        assert (code, out) == (0, "10 records are in build/records/toys.\n")
    assert error == "", "nothing is started where nothing is missing"
    assert len(sweep_toys.calls(tmp_path / "log")) == 4 + 7


@pytest.mark.parametrize(("apart", "machine", "code"), [(1e-9, "here", 0), (1e-3, "here", 1), (1e-3, "elsewhere", 0)])
def test_rerun_fails_only_on_the_machine_of_the_records(checkout, monkeypatch, capsys, apart, machine, code):
    from hybridbench.measurement import records
    from hybridbench.measurement.machine import this_machine
    from hybridbench.training import rerun

    name = this_machine().id if machine == "here" else machine
    found = pd.DataFrame({"record": ["a", "b"], "machine": name, "difference": [0, apart]})
    monkeypatch.setattr(records, "read_records", lambda study, source: pd.DataFrame())
    monkeypatch.setattr(rerun, "rerun", lambda table, n, seed: found)
    exit_code, out, _ = call(monkeypatch, capsys, "rerun", "--records", "2")
    assert exit_code == code
    assert f"{2 if apart < 1e-6 else 1} of 2 records agree to 1e-06" in out
    assert ("not the one of these records" in out) == (machine == "elsewhere")
