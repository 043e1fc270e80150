import math
from dataclasses import replace
from functools import cache

import atlas_tables
import numpy as np
import pandas as pd
import pytest

from hybridbench.analysis import costs, tables
from hybridbench.analysis.tables import NotMeasured
from hybridbench.errors import ConfigurationError, MemoryEstimateError

COMPILED = (costs.COMPILED, "complex64")
SHIPPED = (costs.SHIPPED, "complex128")
LIGHTNING = ("KerasLayer, lightning.qubit", "complex128")
TABLE = atlas_tables.atlas()


def rows_of(table, key):
    return table[(table["route"] == key[0]) & (table["precision"] == key[1])]


@cache
def fitted(key):
    return costs.fit(rows_of(TABLE, key), 40)


def model_of(key, table=None):
    return fitted(key) if table is None else costs.fit(rows_of(table, key), 40)


# --------------------------------------------------------------------------------------------------------------- counting
def test_counts_by_hand():
    # 3 qubits, 2 layers: 3 RX, 6 rotations, 6 CNOTs.
    broadcast = costs.work_of("broadcast", 3, 2, 5, "complex128")
    assert broadcast.launches == 3 * 15
    assert broadcast.bytes == 3 * 15 * 5 * 8 * 2 * 16
    assert broadcast.operations == 3 * 15 * 5 * 8 * 14
    assert broadcast.working_set == 5 * 8 * 16
    loop = costs.work_of("loop", 3, 2, 5, "complex64")
    assert loop.launches == 3 * 15 * 5
    assert loop.bytes == (3 + 2) * 15 * 5 * 8 * 2 * 8
    assert loop.working_set == 4 * 8 * 8
    fused = costs.work_of("fused", 3, 2, 32, "complex64")
    assert fused.launches == 2 * ((3 + 1) * 2 + 1)
    assert fused.bytes == 3 * 9 * 32 * 8 * 2 * 8
    assert fused.working_set == 2 * 16 * 8 * 8
    kernels = costs.work_of("kernels", 3, 2, 32, "complex64")
    assert (kernels.launches, kernels.operations) == (8, fused.operations)
    assert kernels.bytes == 2 * 32 * 8 * 8  # written forward, read back
    assert kernels.working_set == 2 * 32 * 8 * 8
    wide = costs.work_of("kernels", 20, 3, 16, "complex64")
    assert (wide.launches, wide.bytes) == (6 + 2 * 9, 6 * 9 * 16 * 2**20 * 8)  # 60 rotations, 7 a pass
    assert costs.work_of("broadcast", 1, 4, 1, "complex64").launches == 3 * 5  # one qubit has no CNOT


def test_bytes_count_beyond_the_cache_only():
    work = costs.work_of("broadcast", 10, 2, 16, "complex128")
    assert work.terms(work.working_set)[-1] == 0
    assert work.terms(2 * work.working_set)[-1] == 0
    assert work.terms(work.working_set / 4)[-1] == pytest.approx(0.75 * work.bytes)


@pytest.mark.parametrize(("kind", "precision"), [("fusd", "complex64"), ("fused", "complex32")])
def test_unknown_kind_or_precision(kind, precision):
    with pytest.raises(ConfigurationError, match="Did you mean"):
        costs.work_of(kind, 3, 2, 1, precision)


# -------------------------------------------------------------------------------------------------------------------- fit
@pytest.mark.parametrize("key", [COMPILED, (costs.COMPILED, "complex128"), LIGHTNING, SHIPPED])
def test_planted_coefficients_come_back(key):
    exact = atlas_tables.atlas(scatter=0.0, noise=1e-4)
    own = rows_of(exact, key).copy()
    own["seconds"] = [
        atlas_tables.planted_seconds(*key, size) if value == value else value
        for size, value in zip(own[list(costs.AXES)].itertuples(index=False), own["seconds"], strict=True)
    ]
    found = costs.fit(own, 5)
    planted, cache = atlas_tables.PLANTED[key]
    assert found.cache_bytes == cache
    for name, value, true in zip(costs.TERMS, found.coefficients, planted, strict=True):
        if true:
            assert value == pytest.approx(true, rel=0.02), name
        else:
            # A term that was not planted explains next to nothing of any cell.
            assert (
                value * np.max([found.work(*s).terms(cache) for s in atlas_tables.FIT], axis=0)[costs.TERMS.index(name)]
                < 1e-4
            )
    assert found.scatter < 1e-3


def test_coefficients_are_never_negative_and_times_positive():
    for key in atlas_tables.PLANTED:
        found = model_of(key)
        assert (found.coefficients >= 0).all()
        assert (found.draws >= 0).all()
        assert found.seconds(2, 1, 1) > 0
        assert sum(found.parts(9, 3, 40).values()) == pytest.approx(found.seconds(9, 3, 40))


def test_a_disturbed_cell_does_not_spoil_the_fit():
    own = rows_of(TABLE, COMPILED)
    at = (own["n_qubits"] == 10) & (own["batch_size"] == 3)
    spoiled = own.assign(seconds=own["seconds"].where(~at, own["seconds"] * 20))
    size = (10, 2, 24)
    assert costs.fit(spoiled, 5).seconds(*size) == pytest.approx(costs.fit(own, 5).seconds(*size), rel=0.25)


def test_prediction_intervals_hold_what_they_promise():
    """Over simulated machines: new measurements lie in the 95 % interval about that often, in the 50 % interval half."""
    held = {0.95: [], 0.5: []}
    for seed in range(10):
        table = atlas_tables.atlas(scatter=0.15, seed=seed, samples=6, planted={COMPILED: atlas_tables.PLANTED[COMPILED]})
        found = costs.fit(table, 20)
        rng = np.random.default_rng(1000 + seed)
        for size in [*atlas_tables.HELD_OUT, (9, 2, 64), (7, 3, 12)]:
            new = atlas_tables.planted_seconds(*COMPILED, size) * rng.lognormal(0, 0.15)
            for level, hits in held.items():
                hits.append(found.predict(*size, level=level).holds(new))
    assert 0.88 <= np.mean(held[0.95]) <= 1.0
    assert 0.35 <= np.mean(held[0.5]) <= 0.75


def test_more_confidence_is_a_wider_interval():
    found = model_of(COMPILED)
    narrow, wide = found.predict(9, 2, 50, 0.5), found.predict(9, 2, 50, 0.95)
    assert wide.low < narrow.low < narrow.value == wide.value < narrow.high < wide.high
    assert wide.unit == "s"


def test_the_same_records_give_the_same_model():
    one, two = model_of(COMPILED), model_of(COMPILED, TABLE.sample(frac=1, random_state=3))
    np.testing.assert_array_equal(one.coefficients, two.coefficients)
    np.testing.assert_array_equal(one.draws, two.draws)


def test_held_out_cells_are_not_fitted():
    found = model_of(COMPILED, atlas_tables.atlas(spoil=("held_out",)))
    np.testing.assert_array_equal(found.coefficients, model_of(COMPILED).coefficients)


def test_what_cannot_be_fitted_says_why():
    with pytest.raises(ConfigurationError, match="of one route, and the table holds 4"):
        costs.fit(TABLE)
    own = rows_of(TABLE, COMPILED)
    few = own[own["record"].isin(own["record"].unique()[:5])]
    with pytest.raises(NotMeasured, match="and a cost model needs 6"):
        costs.fit(few)
    with pytest.raises(ConfigurationError, match="Unknown route 'a quantum computer, complex64'"):
        costs.fit(own.assign(route="a quantum computer"))


def test_models_leave_out_what_is_too_little():
    own = TABLE[~((TABLE["route"] == costs.SHIPPED) & (TABLE["n_qubits"] > 3))]
    assert {key[1] for key in costs.models(own, 3)} == set(TABLE["route"]) - {costs.SHIPPED}


# ------------------------------------------------------------------------------------------------------------------- near
def test_near_and_far():
    found = model_of(COMPILED)
    assert found.nearest(8, 2, 32) == costs.Nearest(True, True, (8, 2, 32), 1.0)
    assert found.nearest(12, 3, 64).near
    assert found.nearest(20, 4, 4).near  # a factor of 2 in layers and batch
    assert not found.nearest(22, 2, 2).near
    assert not found.nearest(20, 2, 32).near
    assert not found.nearest(8, 64, 32).near
    far = found.nearest(26, 2, 2)
    assert (far.near, far.measured, far.cell, far.factor) == (False, False, (20, 2, 2), 64.0)


def test_inside_the_region_is_near_even_between_cells():
    assert model_of(COMPILED).nearest(9, 3, 70).near


def test_a_slow_route_is_near_less_often():
    assert model_of(COMPILED).nearest(16, 2, 40).near
    assert not model_of(SHIPPED).nearest(16, 2, 40).near


def test_few_cells_on_a_line_have_no_inside():
    own = rows_of(TABLE, COMPILED)
    line = own[(own["n_layers"] == 2) & (own["batch_size"] == 32)]
    found = costs.fit(line, 3)
    assert found.nearest(9, 2, 32).near
    assert not found.nearest(9, 2, 200).near


@pytest.mark.parametrize("size", [(0, 2, 32), (8, -1, 32), (8, 2, 0), (8, 2.5, 32), (True, 2, 32)])
def test_sizes_are_whole_numbers_from_one(size):
    found = model_of(COMPILED)
    for ask in (found.predict, found.nearest):
        with pytest.raises(ConfigurationError, match="whole number of at least 1"):
            ask(*size)


# ------------------------------------------------------------------------------------------------------------- validation
def test_a_good_model_passes_its_validation():
    found = costs.validate(costs.models(TABLE, 20))
    assert len(found) > 30
    share = costs.share_within(found)
    assert share.value > 90
    assert share.low < share.value <= share.high
    assert share.n == len(found)


def test_a_bad_model_is_found_out():
    found = costs.validate(costs.models(atlas_tables.atlas(spoil=("held_out",)), 10))
    assert costs.share_within(found).value == 0
    assert costs.share_within(found, "inside").value < 20


def test_a_cost_that_the_model_does_not_know_is_found_out():
    """Planted: wide circuits swap memory. The fit has narrow ones only."""
    own = rows_of(TABLE, COMPILED)
    narrow = own[(own["n_qubits"] <= 10) | (own["role"] == "held_out")]
    wide = narrow["n_qubits"] > 10
    found = costs.validate(costs.fit(narrow.assign(seconds=narrow["seconds"].where(~wide, 5 * narrow["seconds"])), 5))
    assert not found.loc[found["n_qubits"] > 10, "within"].any()
    assert not found.loc[found["n_qubits"] == 14, "near"].any()


def test_without_held_out_cells_there_is_no_share():
    found = costs.validate(model_of(COMPILED, TABLE[TABLE["role"] != "held_out"]))
    with pytest.raises(NotMeasured, match="no held-out cells"):
        costs.share_within(found)


# --------------------------------------------------------------------------------------------- speed-ups and break-evens
def test_speedups_are_paired_ratios():
    found = costs.speedups(TABLE)
    here = found[(found["n_qubits"] == 8) & (found["n_layers"] == 2) & (found["batch_size"] == 32)].set_index("arm")
    own = TABLE[(TABLE["n_qubits"] == 8) & (TABLE["n_layers"] == 2) & (TABLE["batch_size"] == 32)]
    medians = own.groupby("arm")["seconds"].median()
    arm = "hybridbench.KerasLayer, complex64"
    expected = medians["KerasLayer, default.qubit, complex128"] / medians[arm]
    assert here.loc[arm, "value"] == pytest.approx(expected)
    assert here.loc[arm, "low"] < expected < here.loc[arm, "high"]
    assert (found["arm"] != "KerasLayer, default.qubit, complex128").all()
    # Cells without the baseline give no ratio.
    assert found["n_qubits"].max() < TABLE["n_qubits"].max()


def test_break_even_on_the_planted_line():
    shipped, lightning = model_of(SHIPPED), model_of(LIGHTNING)
    at = {"n_qubits": 8, "n_layers": 2}
    values = list(range(1, 129))
    found = costs.break_even(shipped, lightning, "batch_size", at, values)
    truth = next(
        b
        for b in values
        if atlas_tables.planted_seconds(*SHIPPED, (8, 2, b)) < atlas_tables.planted_seconds(*LIGHTNING, (8, 2, b))
    )
    assert found.low <= truth <= found.high
    assert found.low < found.high
    assert 0.5 < found.value / truth < 2


def test_break_even_that_never_comes_is_infinite_and_one_that_is_always_there_is_the_first():
    compiled, shipped = model_of(COMPILED), model_of(SHIPPED)
    at = {"n_layers": 2, "batch_size": 32}
    assert costs.break_even(shipped, compiled, "n_qubits", at, range(2, 13)).value == math.inf
    assert costs.break_even(compiled, shipped, "n_qubits", at, range(2, 13)).value == 2
    with pytest.raises(NotMeasured, match="no measurement near this of both"):
        costs.break_even(compiled, shipped, "n_qubits", {"n_layers": 2, "batch_size": 10**6}, range(2, 13))
    with pytest.raises(ConfigurationError, match="Unknown axis 'qubits'"):
        costs.break_even(compiled, shipped, "qubits", at, range(2, 13))


def test_a_win_that_does_not_last_is_no_break_even():
    assert costs._first_for_good(np.array([True, False, True, True]), [2, 3, 4, 5]) == 4
    assert costs._first_for_good(np.array([False, True, False, True]), [2, 3, 4, 5]) == 5
    assert costs._first_for_good(np.array([True, True, False]), [2, 3, 4]) == math.inf


# ---------------------------------------------------------------------------------------------------- never measured, GPU
def test_the_roofline_by_hand():
    hardware = costs.Hardware("toy", 1e9, 1e12, 5e11, 1e-6, 1e9, "made up")
    work = costs.work_of("kernels", 14, 2, 16, "complex64")
    found = costs.predict_unmeasured(hardware, 14, 2, 16)
    assert found.parts["launches"] == pytest.approx(work.launches * 1e-6)
    assert found.parts["bytes"] == pytest.approx(work.bytes / 1e9)
    assert found.interval.value == pytest.approx(work.launches * 1e-6 + work.bytes / 1e9)
    assert found.label == "predicted, not measured"
    assert not found.interval.bounded
    doubled = costs.predict_unmeasured(hardware, 14, 2, 16, calibration=[2.0] * 9, host_seconds=1.0)
    assert doubled.interval.value == pytest.approx(2 * found.interval.value + 1)
    assert doubled.interval.low == pytest.approx(doubled.interval.high)


def test_what_does_not_fit_into_the_memory_is_refused():
    with pytest.raises(MemoryEstimateError, match="T4 has 16 GB: use fewer qubits or a smaller batch"):
        costs.predict_unmeasured(costs.HARDWARE["T4"], 26, 2, 32)


def test_datasheets_name_their_source_and_are_in_order():
    assert list(costs.HARDWARE) == ["T4", "V100", "A100", "H100", "H200"]
    speeds = [each.bytes_per_second for each in costs.HARDWARE.values()]
    assert speeds == sorted(speeds)
    assert all("datasheet" in each.source for each in costs.HARDWARE.values())


@pytest.mark.parametrize(
    ("planted", "expected"), [((5e-4, 4e-6, 0.0, 0.0, 1e-13), "low"), ((1e-6, 1e-9, 0.0, 3e-11, 1e-10), "high")]
)
def test_share_of_traffic(planted, expected):
    key = (f"{costs.COMPILED}, cuda", "complex64")
    found = costs.fit(atlas_tables.atlas(planted={key: (planted, 2.0**22)}), 30)
    share = costs.traffic_share(found, 8, 1, 100)
    assert share.unit == "%"
    assert (share.high < 50) if expected == "low" else (share.low > 50)


def test_rows_without_times_are_no_cells():
    own = rows_of(TABLE, SHIPPED)
    assert own["seconds"].isna().any()
    found = costs.cells_of(own)
    assert len(found) == own.loc[own["seconds"].notna(), "record"].nunique()
    assert isinstance(found, pd.DataFrame)


# -------------------------------------------------------------------------------------------------- several processes
CELL = (8, 2, 32)


def at_centre(table):
    return table[(table[list(costs.AXES)] == CELL).all(axis=1) & table["seconds"].notna()]


def test_a_slow_process_hardly_moves_a_cell_and_widens_its_interval():
    steady, slow = (atlas_tables.passes(factor, scatter=0.01) for factor in (1.0, 2.0))
    before, after = (costs.measured(costs.cells_of(rows_of(table, COMPILED)), CELL) for table in (steady, slow))
    assert after.value == pytest.approx(before.value, rel=0.15)
    # What the interval rests on are the processes, however many samples they gave.
    assert (before.n, after.n) == (3, 3)
    assert before.high / before.low < 1.4
    assert after.high > 1.7 * before.value
    cells = costs.cells_of(rows_of(slow, COMPILED))
    assert (cells["processes"] == 3).all()
    assert cells["log_error"].mean() > 2 * costs.cells_of(rows_of(steady, COMPILED))["log_error"].mean()


def test_a_slow_process_leaves_ratios_as_they_are():
    steady, slow = (at_centre(atlas_tables.passes(factor, scatter=0.0)) for factor in (1.0, 3.0))
    arms = ", ".join(COMPILED), ", ".join(SHIPPED)
    before, after = costs.ratio_of(steady, *arms), costs.ratio_of(slow, *arms)
    assert (before.n, after.n) == (3, 3)
    assert after.value == pytest.approx(before.value, rel=0.05)
    assert after.high / after.low < 1.2


def test_one_or_two_processes_have_the_interval_of_their_samples():
    two = at_centre(atlas_tables.passes(count=2))
    own = two[two["arm"] == ", ".join(COMPILED)]
    assert costs.measured(costs.cells_of(own), CELL).n == len(own) == 24
    assert costs.ratio_of(two, ", ".join(COMPILED), ", ".join(SHIPPED)).n == 24


def test_arms_that_no_process_timed_together_have_no_ratio():
    both = at_centre(atlas_tables.passes(count=2))
    first = both["record"] == both["record"].min()
    apart = both[first == (both["route"] == SHIPPED[0])]
    assert costs.ratio_of(apart, ", ".join(COMPILED), ", ".join(SHIPPED)) is None


def test_process_spread_is_the_longest_median_over_the_shortest():
    found = costs.process_spread(atlas_tables.passes(2.0, scatter=0.0, noise=0.001))
    assert found.median() == pytest.approx(2.0, rel=0.15)
    table = atlas_tables.passes(2.0, scatter=0.0, noise=0.001)
    table.loc[table.index[table["record"] == "m1-2-8-2-32-2"], "seconds"] = np.nan  # too slow in one of its processes
    assert len(costs.process_spread(table)) == len(found) - len(at_centre(table)["arm"].unique())
    assert costs.process_spread(TABLE).empty


def test_two_processes_that_differ_show_it_in_their_interval():
    two = at_centre(atlas_tables.passes(2.0, count=2, scatter=0.0))
    own = two[two["arm"] == ", ".join(COMPILED)]
    medians = own.groupby("record")["seconds"].median()
    found = costs.measured(costs.cells_of(own), CELL)
    assert found.low <= medians.min() < medians.max() <= found.high


def test_a_cell_that_was_too_slow_in_one_process_is_not_the_median_of_the_fast_ones():
    table = rows_of(atlas_tables.passes(), COMPILED)
    last = (table["record"] == "m1-2-8-2-32-2") & (table["sample"] == 0)
    assert last.sum() == 1
    spoilt = table.drop(table.index[(table["record"] == "m1-2-8-2-32-2") & (table["sample"] > 0)])
    spoilt.loc[last, ["seconds", "note"]] = [np.nan, "not timed: a sample takes too long"]
    assert costs.measured(costs.cells_of(table), CELL).n == 3
    assert costs.measured(costs.cells_of(spoilt), CELL) is None
    assert len(costs.cells_of(spoilt)) == len(costs.cells_of(table)) - 1


def test_speedups_have_one_row_a_cell_and_arm_however_many_processes():
    one, three = costs.speedups(TABLE), costs.speedups(atlas_tables.passes())
    assert len(one) == len(three)
    assert set(three["n"]) == {3}


def test_a_prediction_is_for_one_more_process():
    """Cells are medians of three: one process scatters by more than they do."""
    rng = np.random.default_rng(3)
    table = rows_of(atlas_tables.passes(scatter=0.0, noise=0.01), COMPILED)
    each = {record: rng.lognormal(0, 0.2) for record in sorted(table["record"].unique())}
    found = costs.fit(table.assign(seconds=table["seconds"] * table["record"].map(each)), 30)
    assert found.process_scatter == pytest.approx(0.2, rel=0.25)
    assert found.scatter < 0.17
    predicted = found.predict(*CELL)
    alone = replace(found, process_scatter=0.0).predict(*CELL)
    assert predicted.high / predicted.low > 1.2 * alone.high / alone.low
    assert model_of(COMPILED).process_scatter == 0.0


def test_a_machine_is_chosen_by_its_cells_and_not_by_how_often_they_were_measured():
    often = atlas_tables.passes(machine="m1")
    often = often[often["n_qubits"] < 10]
    table = pd.concat([often, atlas_tables.atlas(machine="m2")], ignore_index=True)
    assert often["record"].nunique() > table.loc[table["machine"] == "m2", "record"].nunique()
    assert set(tables.one_machine(table)["machine"]) == {"m2"}
