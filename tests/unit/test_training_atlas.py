import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from hybridbench.analysis import costs
from hybridbench.design.routes import ROUTES
from hybridbench.errors import ConfigurationError
from hybridbench.measurement import timing
from hybridbench.measurement.child import ChildFailed, TimeLimitReached
from hybridbench.measurement.records import RecordStore, config_hash
from hybridbench.training import atlas, steps

CPU_ROUTES = [route for route in atlas.ROUTES if not route.route.gpu]


def cell(size=(2, 1, 2), routes=(), role="fit", **more):
    return atlas.AtlasCell(*size, 1, role, atlas.arms_of(routes or [CPU_ROUTES[0], CPU_ROUTES[3]], size), **more)


# ------------------------------------------------------------------------------------------------------------- the design
def test_the_design_is_the_same_every_time_and_its_roles_do_not_meet():
    one, two = atlas.cells(), atlas.cells()
    assert [config_hash(c) for c in one] == [config_hash(c) for c in two]
    for threads, repetition in {(c.threads, c.repetition) for c in one}:
        own = [c for c in one if (c.threads, c.repetition) == (threads, repetition)]
        assert len({c.size for c in own}) == len(own)
        assert {c.role for c in own} == set(atlas.ROLES)
        held_out = {c.size for c in own if c.role == "held_out"}
        assert not held_out & {c.size for c in own if c.role != "held_out"}
        assert len(held_out) >= 5


def test_every_cell_is_measured_in_several_passes_and_meets_other_neighbours_in_each():
    own = atlas.cells()
    passes = [[c for c in own if c.repetition == number] for number in range(1, atlas.REPETITIONS + 1)]
    # One pass after the other: what disturbs the machine for minutes meets a cell once.
    assert own == [c for each in passes for c in each]
    same = [[dataclasses.replace(c, repetition=1) for c in each] for each in passes]
    assert len({config_hash(c) for c in own}) == len(own) == atlas.REPETITIONS * len(passes[0])
    assert all({config_hash(c) for c in each} == {config_hash(c) for c in same[0]} for each in same)
    starts = range(0, len(same[0]), atlas.CELLS_A_PROCESS)
    together = [{frozenset(map(config_hash, each[i : i + atlas.CELLS_A_PROCESS])) for i in starts} for each in same]
    assert not together[0] & together[1]
    assert not together[1] & together[2]
    assert not together[0] & together[2]
    assert {c.repetition for c in atlas.cells(full=False)} == {1}


def test_the_grid_goes_as_far_as_it_says():
    own = atlas.cells()
    assert {2, 20} <= {c.n_qubits for c in own}
    assert {1, 1024} <= {c.batch_size for c in own}
    assert {1, 8} <= {c.n_layers for c in own}
    assert all(atlas._work(c.size) <= atlas.LARGEST_WORK for c in own if c.role != "line")
    assert atlas.CENTRE in {c.size for c in own}


def test_held_out_cells_do_not_depend_on_the_fitting_ones(monkeypatch):
    before = [c.size for c in atlas.cells() if c.role == "held_out"]
    monkeypatch.setattr(atlas, "FIT_SEED", 7)
    after = [c.size for c in atlas.cells() if c.role == "held_out"]
    assert set(before) == set(after)


def test_the_short_grid_is_a_part_of_the_full_one_and_has_every_axis():
    short, full = atlas.cells(full=False), atlas.cells()
    sizes = {(c.size, c.threads) for c in full}
    # (16, 2, 1) and the others with less time each are the same cells, so that neither run repeats the other's.
    assert {(c.size, c.threads) for c in short} <= sizes
    assert {config_hash(c) for c in short} <= {config_hash(c) for c in full}
    assert {c.role for c in short[:9]} == set(atlas.ROLES)
    assert len([c for c in short if c.role != "held_out"]) >= costs.FEWEST_CELLS
    assert sum(map(atlas.expected_seconds, short)) < 4.5 * 60
    assert sum(map(atlas.expected_seconds, full)) < atlas.REPETITIONS * 20 * 60


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_qubits": 0}, "n_qubits is 0"),
        ({"batch_size": 2.0}, "batch_size is 2.0"),
        ({"repetition": 0}, "repetition is 0"),
        ({"role": "other"}, "Unknown role 'other'"),
        ({"limit_seconds": 0}, "limit_seconds is 0"),
    ],
)
def test_a_cell_that_cannot_be_is_refused(change, words):
    with pytest.raises(ConfigurationError, match=words):
        dataclasses.replace(cell(), **change)


def test_more_threads_than_there_are_is_refused():
    with pytest.raises(ConfigurationError, match="threads is 4096"):
        atlas.cells(threads=[1, 4096])


# -------------------------------------------------------------------------------------------------------------- the routes
def test_the_cost_model_knows_how_every_timed_route_works():
    assert {timed.route for timed in atlas.ROUTES} == {route for route in ROUTES if route.work}


def test_without_a_gpu_its_routes_are_left_out_with_the_reason():
    found, left = atlas.usable_routes(has_gpu=False)
    assert found == CPU_ROUTES
    assert set(left) == {route.arm for route in atlas.ROUTES if route.route.gpu}
    assert all("no GPU" in why for why in left.values())


def test_gpu_arms_ask_for_the_proof():
    arms = atlas.arms_of(atlas.ROUTES, (4, 1, 4))
    assert {arm.name for arm in arms if arm.gpu} == {route.arm for route in atlas.ROUTES if route.route.gpu}


def test_a_compiled_sample_is_long_enough_for_a_clock():
    for route in CPU_ROUTES:
        for size in ((2, 1, 1), (12, 2, 128), (18, 2, 32)):
            (arm,) = atlas.arms_of([route], size)
            assert 1 <= arm.arguments["steps"] <= atlas.MOST_STEPS
            assert route.compiled or arm.arguments["steps"] == 1


@pytest.mark.parametrize("route", CPU_ROUTES, ids=lambda route: route.arm)
def test_every_route_does_a_step(route):
    (arm,) = atlas.arms_of([route], (2, 1, 3))
    given = {**arm.arguments, "steps": min(arm.arguments["steps"], 2)}
    assert 0 < steps.fit_step(**given)()["step"] < 60


def test_the_weights_have_to_be_on_the_device_that_was_asked_for():
    arguments = {"backend": "hybridbench.qubit", "diff_method": "adjoint", "mode": "graph", "steps": 1}
    step = steps.fit_step(2, 1, 2, **arguments, device="CPU:0")
    assert step()["step"] > 0
    with pytest.raises(Exception, match="GPU:0"):
        steps.fit_step(2, 1, 2, **arguments, device="GPU:0")()


# ------------------------------------------------------------------------------------------------------- limits and notes
def test_what_is_too_slow_has_a_note_and_no_time():
    own = cell(limit_seconds=1e-6)
    rows = atlas._time_cell(own)
    assert {row["arm"] for row in rows} == {arm.name for arm in own.arms}
    assert all("seconds" not in row and "not tried: a sample takes about" in row["note"] for row in rows)


def test_between_the_limits_the_second_call_decides(monkeypatch):
    asked = []
    monkeypatch.setattr(atlas, "_second_call", lambda arm: asked.append(arm.name) or 3.0)
    route = CPU_ROUTES[0]
    own = cell(routes=[route], limit_seconds=30 * route.step_seconds(2, 1, 2))
    (row,) = atlas._time_cell(own)
    assert asked == [route.arm]
    assert row["note"].startswith("not timed: a sample takes about 3 s, and 30 of them more than")


def test_states_that_do_not_fit_are_not_tried(monkeypatch):
    monkeypatch.setattr(atlas, "available_memory_bytes", lambda: 100)
    rows = atlas._time_cell(cell())
    assert all(row["note"].startswith("not tried: its states take about") for row in rows)


def test_default_qubit_keeps_the_states_of_all_gates():
    shipped = next(route for route in CPU_ROUTES if route.route.id == "shipped")
    assert shipped.memory_bytes(10, 2, 8) == 8 * (50 + 2) * 2**10 * 16


# ------------------------------------------------------------------------------------------------------------------ a run
class FakeChild:
    """Answers at once, and counts what it was asked."""

    started = 0
    asked: tuple = ()

    def __init__(self, command, threads, variables):
        type(self).started += 1
        self.closed = False

    def ask(self, given, seconds):
        own = atlas.AtlasCell(**{**given, "arms": tuple(atlas.Arm(**arm) for arm in given["arms"])})
        type(self).asked = (*type(self).asked, own)
        if own.n_qubits in (13, 15):
            self.closed = True
            raise ChildFailed("made up") if own.n_qubits == 13 else TimeLimitReached("made up")
        first = own.arms[0].name
        rows = [
            {"arm": first, "part": "step", "sample": i, "seconds": 0.1, "first_call_seconds": 1.0, "note": ""}
            for i in range(own.samples)
        ]
        rows += [{"arm": arm.name, "part": "step", "note": "not tried"} for arm in own.arms[1:]]
        for row in rows:
            row |= {"route": row["arm"].rpartition(", ")[0], "precision": row["arm"].rpartition(", ")[2]}
        return {"rows": rows, "proof": None, "polls": []}

    def close(self):
        self.closed = True


@pytest.fixture
def fake(monkeypatch):
    FakeChild.started, FakeChild.asked = 0, ()
    monkeypatch.setattr(atlas, "Child", FakeChild)
    return FakeChild


def test_a_run_passes_over_what_fails_and_goes_on_where_it_was_cut_off(tmp_path, fake):
    wanted = [cell((n, 1, 2)) for n in (2, 3, 13, 4)]
    store = RecordStore("atlas", tmp_path)
    first = atlas.run(wanted, store)
    ((failed, reason),) = first.failed
    assert failed is wanted[2]
    assert reason == "made up"
    assert [own.n_qubits for own in fake.asked] == [2, 3, 13, 4]
    assert fake.started == 2, "after a failure the next cell has a fresh process"
    assert first.left == []
    table = first.table()
    assert sorted(table["n_qubits"].unique()) == [2, 3, 4]
    assert set(table["role"]) == {"fit"}
    atlas.run(wanted, store)
    assert [own.n_qubits for own in fake.asked[4:]] == [13]


def test_what_was_measured_is_what_stands_in_the_record(tmp_path, fake):
    own = cell()
    table = atlas.run([own], RecordStore("atlas", tmp_path)).table()
    timed = table[table["seconds"].notna()]
    assert len(timed) == own.samples
    assert set(timed["route"]) == {"KerasLayer, hybridbench.qubit"}
    assert set(table["record"]) == {config_hash(own)}
    assert [arm["name"] for arm in json.loads(table["arms"].iloc[0])] == [arm.name for arm in own.arms]
    assert table.loc[table["note"] != "", "seconds"].isna().all()


def test_a_process_serves_some_cells_of_equal_threads(tmp_path, fake, monkeypatch):
    monkeypatch.setattr(atlas, "CELLS_A_PROCESS", 2)
    wanted = [cell((n, 1, 2)) for n in (2, 3, 4, 5, 6)]
    atlas.run(wanted, RecordStore("atlas", tmp_path))
    assert fake.started == 3


def test_a_process_never_serves_two_passes(tmp_path, fake):
    wanted = [cell((n, 1, 2), repetition=number) for number in (1, 2, 3) for n in (2, 3)]
    atlas.run(wanted, RecordStore("atlas", tmp_path))
    assert (len(fake.asked), fake.started) == (6, 3)


def test_cells_for_which_there_is_no_time_are_named_and_left(tmp_path, fake, monkeypatch):
    positions, minutes = [], 2.0
    wanted = [cell((2, 1, 2)), cell((14, 2, 32))]
    monkeypatch.setattr(atlas, "expected_seconds", lambda own: 1.0 if own.n_qubits == 2 else 9000.0)
    outcome = atlas.run(wanted, RecordStore("atlas", tmp_path), minutes, positions.append)
    assert outcome.left == [(wanted[1], "it did not fit into the time left")]
    assert [position.title for position in positions] == [wanted[0].title]
    assert 0 < positions[0].seconds_left <= 60 * minutes
    assert outcome.done == wanted[:1]
    for minutes in (-1, math.inf, math.nan):
        with pytest.raises(ConfigurationError, match=f"minutes is {minutes}"):
            atlas.run(wanted, RecordStore("atlas", tmp_path), minutes)


def test_a_folder_that_cannot_be_stops_before_anything_is_measured(tmp_path, fake):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        atlas.run([cell()], RecordStore("atlas", tmp_path / "file" / "atlas"))
    assert fake.started == 0


def test_a_cell_that_takes_too_long_is_left_and_the_next_has_a_fresh_process(tmp_path, fake):
    outcome = atlas.run([cell((n, 1, 2)) for n in (2, 15, 3)], RecordStore("atlas", tmp_path))
    assert [own.n_qubits for own, _ in outcome.left] == [15]
    assert [own.n_qubits for own in outcome.done] == [2, 3]
    assert fake.started == 2


def test_no_time_at_all_measures_nothing(tmp_path, fake):
    outcome = atlas.run([cell()], RecordStore("atlas", tmp_path), 1e-3)
    assert (len(outcome.table()), len(outcome.left), fake.started) == (0, 1, 0)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Two small cells in one real process."""
    store = RecordStore("atlas", tmp_path_factory.mktemp("atlas"))
    return atlas.run([cell((2, 1, 2)), cell((3, 1, 2), role="held_out")], store).table()


def test_a_real_process_times_cells_one_after_the_other(measured):
    assert measured["record"].nunique() == 2
    counts = measured.groupby(["record", "arm"])["sample"].nunique()
    assert (counts == atlas.MIN_SAMPLES).all()
    assert (measured["note"] == "").all()
    assert (measured["seconds"] > 0).all()
    assert np.isfinite(measured["first_call_seconds"]).all()
    # Interleaved: every sample has both arms.
    assert measured.groupby(["record", "sample"])["arm"].nunique().eq(2).all()
    assert set(measured["precision"]) == {"complex64", "complex128"}


def test_a_process_that_dies_says_with_what(tmp_path, monkeypatch):
    monkeypatch.setattr(atlas, "asdict", lambda own: {"arms": []})
    ((_, reason),) = atlas.run([cell()], RecordStore("atlas", tmp_path)).failed
    assert reason.startswith("exit code 1: TypeError")
    assert not list(tmp_path.glob("*.parquet"))


def test_the_short_grid_gives_every_route_enough_cells_for_a_model():
    fitted = [own for own in atlas.cells(full=False) if own.role != "held_out"]
    for route in CPU_ROUTES:
        timed = [own for own in fitted if atlas.too_slow(own, 1.2 * route.step_seconds(*own.size)) == ""]
        assert len(timed) >= costs.FEWEST_CELLS, route.arm


@pytest.mark.parametrize("timed", [True, False])
def test_gpu_rows_are_proven_and_a_cell_without_any_needs_no_proof(monkeypatch, timed):
    """The driver is made up; a GPU that did nothing is refused by the real watch, tested with it."""
    gpu = next(route for route in atlas.ROUTES if route.route.gpu)

    class Watch:
        log = ()

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def proof(self):
            return SimpleNamespace(as_dict=lambda: {"gpu": "Test GPU"})

    own = cell(routes=[CPU_ROUTES[0], gpu])
    row = {"arm": gpu.arm, "part": "step", "note": ""} | ({"seconds": 1.0, "sample": 0} if timed else {})
    monkeypatch.setattr(timing, "GpuWatch", Watch)
    given = json.loads(json.dumps(dataclasses.asdict(own)))
    found = timing.answer(given, atlas.AtlasCell, lambda *_: [row])
    assert found["proof"] == ({"gpu": "Test GPU"} if timed else None)
