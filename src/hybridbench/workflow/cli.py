"""The command line. Heavy imports happen inside the commands, so that --help is there at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridbench.errors import HybridbenchError, plain

if TYPE_CHECKING:
    from hybridbench.measurement.campaign import Outcome
    from hybridbench.measurement.records import RecordStore

app = typer.Typer(
    name="hybridbench",
    help="What speeds up the training of hybrid quantum-classical models: run the notebooks, compare, build the paper.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

#: The exit code of a command that Ctrl-C ends.
STOPPED = 130
#: What is wrong with a command line: typer brings click's class, or a copy of it.
_USAGE = typer.BadParameter.__mro__[2]

Profile = Annotated[str, typer.Option("--profile", "-p", help="Which parameters: a file in profiles/, without .yaml.")]
Source = Annotated[str, typer.Option(help="Which records: 'shipped' (data/records) or 'build' (this machine's own).")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer for a program, as JSON.")]


@app.command("run")
def run_command(
    profile: Profile = "quick",
    only: Annotated[
        list[str] | None, typer.Option("--only", "-o", help="Run this notebook and no other; may be repeated.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-P", help="notebook.parameter=value on top of the profile; may be repeated."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Run also what is up to date.")] = False,
    show_list: Annotated[
        bool, typer.Option("--list", "-l", help="Only list notebooks, parameters and what is allowed.")
    ] = False,
) -> None:
    """Run the notebooks in order and compare the claims with the shipped ones.

    Executed notebooks go to build/notebooks/PROFILE, records to build/records. A run that was cut off continues with what
    is missing or out of date. The exit code is 0 when everything ran and no claim disagrees.

    **Examples**

    hybridbench run

    hybridbench run --list

    hybridbench run --only 03_cpu_baseline --force

    hybridbench run --profile full --param "05_optimizer_comparison.seeds=[0, 1, 2]"
    """
    if show_list:
        _list_parameters(profile, param or [])
        return
    from hybridbench.workflow import run, verdict

    run.run(profile, only or [], force, param or [])
    if not only:
        _finish(verdict.this_machines_rows())


def _list_parameters(profile: str, options: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    from hybridbench.workflow import parameters, profiles
    from hybridbench.workflow.terminal import cells

    values = profiles.override(profiles.load(profile), options)
    for notebook, given in values.items():
        table = Table(
            "parameter", "value", "allowed", "meaning", title=f"{notebook}, profile {profile}", title_justify="left"
        )
        for known in parameters.schema(notebook).values():
            table.add_row(*cells(known.name, given.get(known.name, known.default), known.allowed, known.help))
        Console().print(table)


def _finish(rows: list) -> None:
    from hybridbench.workflow import verdict

    verdict.show(rows)
    if bad := verdict.disagreements(rows):
        names = ", ".join(row.id for row in bad)
        print(f"Disagreement with the shipped records on {names}: see 06_analysis in build/notebooks.", file=sys.stderr)
        raise typer.Exit(1)


@app.command("defaults")
def defaults_command() -> None:
    """Print the notebooks' own defaults as a profile: what profiles/quick.yaml has to hold, or a start for another one.

    **Examples**

    hybridbench defaults > profiles/quick.yaml

    hybridbench defaults > profiles/mine.yaml
    """
    from hybridbench.workflow import profiles

    print(profiles.defaults_text(), end="")


@app.command("status")
def status_command(profile: Profile = "quick") -> None:
    """Show which notebooks are done, out of date or missing, the records, and this machine.

    **Example**

    hybridbench status --profile full
    """
    from hybridbench.workflow import status

    status.show(profile)


@app.command("verdict")
def verdict_command() -> None:
    """Show the table *claim | shipped | here | verdict* again; the exit code is 1 where a claim disagrees.

    **Example**

    hybridbench verdict
    """
    from hybridbench.workflow import verdict

    _finish(verdict.this_machines_rows())


class Stopped(HybridbenchError):
    """Ctrl-C, or the signal that ends a process."""

    exit_code = STOPPED


@contextmanager
def _campaign(store: RecordStore, anew: Iterable[Any] = ()) -> Iterator[Path]:
    """The build folder, for a run that makes records; those of `anew` are removed first.

    Ctrl-C ends with a sentence that counts the records that are kept.
    """
    from hybridbench import lock

    try:
        with lock.build_folder() as build:
            for config in anew:
                store.path(config).unlink(missing_ok=True)
            yield build
    except KeyboardInterrupt:
        kept = len(list(store.folder.glob("*.parquet")))
        raise Stopped(f"Stopped. {kept} records are kept, and the same command goes on with what is missing.") from None


def _say_written(text: str, files: Iterable[Path]) -> None:
    from hybridbench import paths

    print(text)
    for file in files:
        print(f"wrote {paths.relative(file)}")


Cells = Annotated[
    str,
    typer.Option(
        "--cells", help="Which cells, separated by spaces: sizes as '8,2,32', 'memory', 'first_call', 'fall_back'."
    ),
]
Processes = Annotated[int, typer.Option(help="Processes of every arm; fewer than 3 give no interval.")]
Seconds = Annotated[float, typer.Option(help="How long an arm gives samples in one process.")]
Again = Annotated[bool, typer.Option("--force", "-f", help="Measure also what has a record, and replace it.")]


@app.command("bench")
def bench_command(cells: Cells = "", processes: Processes = 3, seconds: Seconds = 4.0, force: Again = False) -> None:
    """Benchmark one training step: KerasLayer as shipped, the fast device, the compiled layer, XLA, the engine alone.

    Table and figure go to build/bench, records to build/records/bench. A run that was cut off continues with the cells that
    are missing. Let nothing else run meanwhile.

    **Examples**

    hybridbench bench

    hybridbench bench --cells "8,2,32 memory" --force
    """
    _bench(False, cells, processes, seconds, force)


@app.command("bench-peers")
def bench_peers_command(cells: Cells = "", processes: Processes = 3, seconds: Seconds = 4.0, force: Again = False) -> None:
    """The same with PennyLane 0.45 + jax.jit and hand-written C among the arms; 'make bench-peers' makes their environment.

    **Example**

    hybridbench bench-peers --cells 8,2,32
    """
    _bench(True, cells, processes, seconds, force)


def _bench(peers: bool, names: str, processes: int, seconds: float, force: bool) -> None:
    from hybridbench.measurement.records import RecordStore
    from hybridbench.progress import print_position
    from hybridbench.report.bench import write
    from hybridbench.training import bench

    wanted = bench.cells(peers, names.split(), processes, seconds)
    store = RecordStore(bench.STUDY)
    with _campaign(store, wanted if force else ()) as build:
        text, files = write(bench.run(wanted, store, print_position), build / "bench")
    _say_written(text, files)


@app.command("gpu")
def gpu_command(
    part: Annotated[
        list[str] | None, typer.Option(help="Only this part: engine, lightning or tensorflow; may be repeated.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="Time limit of each part, at most 10.")] = 10.0,
) -> None:
    """Run everything that needs an NVIDIA GPU, with proof, beside the CPU routes on the same machine.

    The parts are *engine* (the CUDA engine, without TensorFlow), *lightning* (PennyLane's lightning.gpu) and *tensorflow*
    (default.qubit on TensorFlow's GPU, and the original study's workload). A part that runs out of time stops, and the same
    command goes on from there. Records go to build/records/timing, what the driver said to build/gpu. Without a GPU nothing
    is written. The exit code is 1 where something failed.

    **Examples**

    hybridbench gpu

    hybridbench gpu --part engine --minutes 5
    """
    import time
    from functools import partial

    from hybridbench import paths
    from hybridbench.measurement.proof import require_gpu
    from hybridbench.measurement.records import RecordStore
    from hybridbench.progress import duration, print_position
    from hybridbench.training import gpu

    names, store = part or gpu.PARTS, RecordStore(gpu.STUDY)
    for name in names:
        gpu.part(name)  # a wrong name stops before anything runs
    print(f"GPU: {'; '.join(require_gpu())}")
    failed = False
    for name in names:
        begin = time.monotonic()
        try:
            with _campaign(store):
                outcome = gpu.run_part(name, minutes, partial(print_position, run=name))
        except gpu.TimingError as error:
            print(f"Part {name} was not run: {error}", file=sys.stderr)
            failed = True
            continue
        print(f"Part {name}: {len(outcome.done)} cells in {duration(time.monotonic() - begin)}.{_unfinished(outcome)}")
        failed |= bool(outcome.failed)
    print(f"Records are in {paths.relative(store.folder)}, and what the driver said in {paths.relative(gpu.folder())}.")
    if failed:
        raise typer.Exit(1)


def _unfinished(outcome: Outcome) -> str:
    """What a campaign left for another run, as a sentence; what failed goes to standard error."""
    for config, reason in outcome.failed:
        print(f"No record of {config.title}: {reason}", file=sys.stderr)
    if not outcome.left:
        return "" if outcome.failed else " Nothing is left."
    config, reason = outcome.left[0]
    return f" {len(outcome.left)} more are left: the same command goes on with them. The first, {config.title}: {reason}"


@app.command("measure")
def measure_command(
    minutes: Annotated[
        float | None,
        typer.Option(help="Time that it may take; what does not fit is left for another run. 5, or no limit with --full."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="All cells of the atlas, with 1 thread and with all cores.")] = False,
    threads: Annotated[
        list[int] | None, typer.Option(help="With --full: only this number of threads; may be repeated.")
    ] = None,
) -> None:
    """Measure this machine: one training step by every route, at sizes from 2 to 20 qubits, for 'hybridbench recommend'.

    Takes at most five minutes on two cores. With --full every cell is measured three times, in other processes and at
    other times, which takes about seventy-five. Records go to build/records/atlas; a run that was cut off, by Ctrl-C too,
    continues with what is missing. Let nothing else run meanwhile.

    **Examples**

    hybridbench measure

    hybridbench measure --minutes 2

    hybridbench measure --full
    """
    from hybridbench import paths
    from hybridbench.analysis import costs
    from hybridbench.analysis.tables import Number
    from hybridbench.errors import ConfigurationError
    from hybridbench.measurement.records import RecordStore
    from hybridbench.measurement.timing import TimingError
    from hybridbench.progress import print_position
    from hybridbench.training import atlas

    if threads and not full:
        raise ConfigurationError("--threads goes with --full: the short measurement uses all cores.")
    store = RecordStore(atlas.STUDY)
    routes, missing = atlas.usable_routes()
    for why in dict.fromkeys(missing.values()):
        arms = "; ".join(arm for arm, other in missing.items() if other == why)
        print(f"Not measured here, {why}: {arms}.", file=sys.stderr)
    limit = minutes if minutes is not None or full else 5.0
    with _campaign(store):
        outcome = atlas.run(atlas.cells(full, threads, routes), store, limit, print_position)
    rest, kept = _unfinished(outcome), len(list(store.folder.glob("*.parquet")))
    if not kept and not outcome.failed:
        raise TimingError(f"Nothing was recorded: give more than {limit:g} --minutes.{rest}")
    print(f"{kept} records of cells are in {paths.relative(store.folder)}.{rest}")
    table = outcome.table()
    checked = costs.validate(costs.models(table)) if len(table) else table
    if len(checked):
        share = Number.of(costs.share_within(checked)).text
        print(f"The cost model predicts {share} of {len(checked)} held-out times to within a factor of {costs.WITHIN:g}.")
    print("Ask them with 'hybridbench recommend --qubits 8 --batch 32 --layers 2 --source build'.")
    if outcome.failed:
        raise typer.Exit(1)


@app.command("study")
def study_command(
    problem: Annotated[list[str] | None, typer.Option(help="Only this problem; may be repeated.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model; may be repeated.")] = None,
    optimizer: Annotated[list[str] | None, typer.Option(help="Only this optimizer; may be repeated.")] = None,
    workers: Annotated[int, typer.Option(help="Processes on this machine, with one thread each.")] = 2,
    scheduler: Annotated[
        str,
        typer.Option(
            help="Address of a running Dask scheduler, 'tcp://host:8786'; its workers do the work instead. It asks for no "
            "password: in a closed network only."
        ),
    ] = "",
) -> None:
    """Run the optimizer study: tune every optimizer on every problem and model, then train with what was chosen.

    Records go to build/records/optimizers. A run that was cut off, by Ctrl-C too, continues with what is missing. Step
    times are no part of it: these are taken alone, in notebook 05.

    The terminal shows how much is done and the time left, and the address of Dask's dashboard, to be opened in a browser.

    **Examples**

    hybridbench study

    hybridbench study --problem wine --model hybrid --optimizer adam --optimizer sgd --workers 4

    **On several machines**, from the same checkout and environment on each of them; the scheduler prints its address:

    dask scheduler

    dask worker tcp://host:8786 --nthreads 1 --nworkers 4

    hybridbench study --scheduler tcp://host:8786

    A Dask scheduler asks for no password: **whoever reaches its port can run code** as you, there and on every worker, and a
    worker runs what a scheduler sends. Use one in a closed network only, or through SSH ('ssh -L 8786:localhost:8786 host'),
    or with Dask's TLS certificates and an address 'tls://host:8786'.
    """
    from hybridbench import paths
    from hybridbench.errors import ConfigurationError
    from hybridbench.measurement.records import RecordStore
    from hybridbench.training import study, trial
    from hybridbench.training.optimizers import OPTIMIZERS
    from hybridbench.training.sweep import SweepError, run_plans

    plans = study.plans(problem or study.PROBLEMS, model or study.MODELS, optimizer or tuple(OPTIMIZERS))
    if not plans:
        raise ConfigurationError(
            "The study has no such trials: problems basins and original have the hybrid model only, and qng needs a circuit."
        )
    store = RecordStore(study.STUDY)
    try:
        with _campaign(store):
            run_plans(store, plans, trial.run_trial, study.STUDY, scheduler or "local", workers)
    except SweepError as error:
        for note in getattr(error, "__notes__", []):
            print(note, file=sys.stderr)
        print(f"hybridbench: {error} What has a record stays: the same command goes on from there.", file=sys.stderr)
        raise typer.Exit(1) from error
    print(f"{len(list(store.folder.glob('*.parquet')))} records are in {paths.relative(store.folder)}.")


@app.command("frontier")
def frontier_command(
    cell: Annotated[
        list[str] | None, typer.Option(help="Only this part: 'gradient', 'descent' or 'memory'; may be repeated.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Make also what has a record, and replace it.")] = False,
) -> None:
    """Run the frontier study: gradient variance, training from a random start and memory, against qubits and depth.

    Figures go to build/frontier, records to build/records/frontier. A run that was cut off, by Ctrl-C too, continues with
    what is missing. Nothing in it is timed, so it may share the machine. It takes about a quarter of an hour on two cores.

    **Examples**

    hybridbench frontier

    hybridbench frontier --cell gradient
    """
    from hybridbench.measurement.records import RecordStore
    from hybridbench.progress import print_position
    from hybridbench.report.gallery import write_frontier
    from hybridbench.training import frontier

    wanted = frontier.configs(cell or ())
    store = RecordStore(frontier.STUDY)
    with _campaign(store, wanted if force else ()) as build:
        text, files = write_frontier(frontier.run(wanted, store, print_position), build / "frontier")
    _say_written(text, files)


@app.command("rerun")
def rerun_command(
    n: Annotated[int, typer.Option("--records", "-n", help="How many records to draw at random and run again.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    source: Source = "shipped",
) -> None:
    """Run records of the optimizer study again and compare their histories step by step.

    On the machine of the records they agree to 0.000001, or the command ends with exit code 1. Another processor may round
    otherwise, and where training is chaotic, at high learning rates, rounding is enough to drive histories apart.

    **Examples**

    hybridbench rerun

    hybridbench rerun --records 100 --seed 7
    """
    from hybridbench.measurement.machine import this_machine
    from hybridbench.measurement.records import read_records
    from hybridbench.training import rerun, study

    table = read_records(study.STUDY, source)
    found = rerun.rerun(table, n, seed)
    apart = found[found["difference"] > rerun.SAME]
    print(
        f"{len(found) - len(apart)} of {len(found)} records agree to {rerun.SAME:g}; largest {found['difference'].max():.1e}"
    )
    if len(apart):
        print(apart.to_string(index=False))
        if this_machine().id in set(apart["machine"]):
            raise typer.Exit(1)
        print("This machine is not the one of these records: compare the verdicts ('hybridbench run') instead.")


@app.command("claims")
def claims_command(source: Source = "shipped") -> None:
    """Decide all claims and write every quoted number: data/claims.json, or build/claims.json from this machine's records.

    From the shipped records the tables in README.md, docs/protocol.md and docs/records.md are renewed as well.

    **Examples**

    hybridbench claims

    hybridbench claims --source build
    """
    from hybridbench import lock, paths
    from hybridbench.analysis import claims, prose
    from hybridbench.measurement import checksums, columns
    from hybridbench.report import paper

    target, _ = paper.inputs(source)
    with lock.build_folder():
        if source == "shipped":
            # The list of checksums is renewed below; what else is damaged must not enter it unseen.
            checksums.verify_all(but=[target])
            claims.check_quoted()
        claims.write_claims(source, target)
        if source == "shipped":
            checksums.write_checksums()
            prose.update_readme()
            prose.renew_table(paths.root() / "docs" / "protocol.md", claims.rules_as_markdown())
            prose.renew_table(paths.root() / "docs" / "records.md", columns.as_markdown())
    print(f"wrote {paths.relative(target)}")


@app.command("recommend")
def recommend_command(
    qubits: Annotated[int, typer.Option("--qubits", "-q", help="Wires of the circuit.")],
    batch: Annotated[int, typer.Option("--batch", "-b", help="Samples of a training step.")],
    layers: Annotated[int, typer.Option("--layers", "-l", help="Strongly entangling layers, or as many gates.")],
    precision: Annotated[str, typer.Option(help="Only routes whose states are 'complex64' or 'complex128'.")] = "",
    threads: Annotated[int, typer.Option(help="Threads of the process; the most that were measured when left out.")] = 0,
    machine: Annotated[
        str, typer.Option(help="Id of a machine with records; this one when left out, or the one with most cells.")
    ] = "",
    source: Source = "shipped",
    as_json: Json = False,
) -> None:
    """Say which way of running a hybrid model is fastest at a size: backend, expected step time, runner-up, GPU or not.

    A time is measured, or predicted by a cost model where there are measurements near; elsewhere it says so and predicts
    nothing, and the exit code is 1. 'hybridbench measure' adds this machine in five minutes.

    **Examples**

    hybridbench recommend --qubits 12 --batch 64 --layers 3

    hybridbench recommend --qubits 8 --batch 32 --layers 2 --precision complex128 --threads 1

    hybridbench recommend --qubits 12 --batch 64 --layers 3 --source build

    hybridbench recommend --qubits 12 --batch 64 --layers 3 --json
    """
    from hybridbench.workflow import choose

    choice = choose.advise(qubits, batch, layers, precision, threads, machine, source)
    _show(choose, choice, as_json)
    if not choice.found:
        raise typer.Exit(1)


@app.command("recommend-optimizer")
def recommend_optimizer_command(
    task: Annotated[str, typer.Option("--task", "-t", help="Kind of problem: classification, regression or energy.")],
    budget: Annotated[int, typer.Option("--budget", "-b", help="Optimizer steps that you can afford.")],
    source: Source = "shipped",
    as_json: Json = False,
) -> None:
    """Say which optimizer to start with and in which range of learning rates, by the records of the optimizer study.

    **Examples**

    hybridbench recommend-optimizer --task classification --budget 300

    hybridbench recommend-optimizer --task energy --budget 100 --source build

    hybridbench recommend-optimizer --task classification --budget 300 --json
    """
    from hybridbench.workflow import recommend

    _show(recommend, recommend.advise(task, budget, source), as_json)


def _show(recommender: ModuleType, found: Any, as_json: bool) -> None:
    import json

    if as_json:
        print(json.dumps(recommender.as_json(found), indent=2, ensure_ascii=False))
    else:
        recommender.show(found)


@app.command("figures")
def figures_command(source: Source = "shipped") -> None:
    """Draw the paper's figures: into figures/, or into build/figures from this machine's records.

    **Examples**

    hybridbench figures

    hybridbench figures --source build
    """
    from hybridbench import lock, paths
    from hybridbench.report import gallery

    with lock.build_folder():
        files = gallery.build_figures(source)
    for written in files:
        print(f"wrote {paths.relative(written)}")


@app.command("paper")
def paper_command(source: Source = "shipped") -> None:
    """Set the paper: paper/paper.pdf, or build/paper.pdf from this machine's records. Needs claims.json and the figures.

    **Examples**

    hybridbench paper

    hybridbench paper --source build
    """
    from hybridbench import lock, paths
    from hybridbench.report import paper

    with lock.build_folder():
        written = paper.build_paper(source)
    print(f"wrote {paths.relative(written)}")


@app.command("ship")
def ship_command(
    studies: Annotated[list[str] | None, typer.Argument(help="Studies to ship; all in the folder when left out.")] = None,
    build: Annotated[
        str, typer.Option("--from", help="Another machine's build folder, copied here; this machine's when left out.")
    ] = "",
) -> None:
    """Copy records from build/records, or from another machine's build folder, to data/records and renew the checksums.

    Every row is checked first, and the times of a GPU against what its driver answered (gpu/proof.jsonl of the folder).
    Records of another machine than this one are marked, and every number that rests on them says so.

    **Examples**

    hybridbench ship

    hybridbench ship timing training

    hybridbench ship timing --from build-of-the-gpu-machine
    """
    import pandas as pd

    from hybridbench import lock, paths
    from hybridbench.errors import DataError, check_name
    from hybridbench.measurement import records

    place = Path(build) if build else paths.build_dir()
    folder = place / "records"
    own = sorted(child.name for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    if not own:
        what = "give the folder that holds records/" if build else "run 'hybridbench run' first"
        raise DataError(f"No records in {paths.relative(folder)}: {what}.")
    for study in studies or []:
        check_name("study", study, own)
    with lock.build_folder():
        written = records.ship(studies or own, place)
    for file in written:
        count = pd.read_parquet(file, columns=["record"])["record"].nunique()
        print(f"wrote {paths.relative(file)}: {count} record{'s' * (count != 1)}, and nothing else of that machine")


@app.command("verify")
def verify_command() -> None:
    """Check every file of data/ and figures/ against its SHA256SUMS.

    **Example**

    hybridbench verify
    """
    from hybridbench import paths
    from hybridbench.analysis import claims
    from hybridbench.measurement import checksums

    claims.check_quoted()
    data, figures = checksums.verify_all(), checksums.verify_all(paths.root() / "figures")
    print(f"{data} files of data/ and {figures} of figures/ are as shipped.")


def main() -> None:
    """Entry point: an error of the user's is one line on standard error and exit code 2, a failing run is exit code 1.

    What the machine lacks (memory, a place to write, a package) is the user's too. A terminal that cannot show a character
    gets its code instead.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    for name in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: what was started is ended, and what is half-written removed
        if signal.getsignal(name) is signal.SIG_DFL:
            signal.signal(name, signal.default_int_handler)
    try:
        code = app(prog_name="hybridbench", standalone_mode=False)
        sys.stdout.flush()  # a reader that went away is seen here and not at the very end
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        told = _sentence(error)
        if told is None:
            raise
        if told:
            _say(told)
        sys.exit(getattr(error, "exit_code", 2))
    if code == STOPPED:  # typer turns Ctrl-C into it
        _say("Stopped. What was finished is kept, and the same command goes on with what is missing.")
    sys.exit(code or 0)


def _say(sentence: str) -> None:
    print(f"hybridbench: {sentence}", file=sys.stderr)


def _sentence(error: Exception) -> str | None:
    """What to tell of an error that the user or the machine caused; None for a mistake of the suite."""
    if isinstance(error, HybridbenchError):
        return plain(error)
    if isinstance(error, _USAGE):
        what = " ".join(error.format_message().split()).rstrip(".")
        where = error.ctx.command_path if getattr(error, "ctx", None) else "hybridbench"
        return f"{what}: '{where} --help' says what is allowed." if what else ""  # no command at all: the help is there
    if isinstance(error, OSError):
        where = f" {plain(error.filename)}" if error.filename else ""
        return (
            f"{error.strerror or error}:{where}. Free or name another place (HYBRIDBENCH_BUILD is the folder of what a run "
            "makes) and run the same command again."
        ).replace(":.", ".")
    if isinstance(error, MemoryError) or "can't start new thread" in str(error):
        return (
            "There is not enough memory for this (a limit such as 'ulimit -v' counts too). What was finished is kept: free "
            "some, and run the same command again."
        )
    if isinstance(error, ImportError):
        from hybridbench.stack import INSTALL

        reason = plain(" ".join(str(error).split())[:200]).rstrip(".")
        return f"A package cannot be loaded ({reason}): {INSTALL}. Where memory is limited ('ulimit -v'), allow more."
    return None


if __name__ == "__main__":
    main()
