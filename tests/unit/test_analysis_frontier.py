"""Exponents of the frontier study: planted ones are recovered, intervals cover, and the regions end where they must."""

import dataclasses
import math

import frontier_tables
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hybridbench.analysis import frontier
from hybridbench.analysis.statistics import Interval
from hybridbench.analysis.tables import NotMeasured
from hybridbench.errors import ConfigurationError, MemoryEstimateError


def batches(law, rng, n_batches=20, n_points=50):
    """Mean squares of normal derivatives of a variance that follows `law`, batch by batch."""
    return {n: law(n) * (rng.standard_normal((n_batches, n_points, 1)) ** 2).mean(axis=1) for n in frontier_tables.QUBITS}


@pytest.mark.parametrize("cost", frontier.COSTS)
@pytest.mark.parametrize("n_qubits", [2, 3])
def test_the_deep_limit_is_that_of_haar_random_unitaries(cost, n_qubits):
    d = 2**n_qubits
    weights = np.array([bin(x).count("1") / n_qubits for x in range(d)])
    observable = np.diag(weights if cost == "local" else 1.0 - (np.arange(d) == 0))
    y = np.kron(np.array([[0, -1j], [1j, 0]]), np.eye(d // 2))
    rho = np.zeros((d, d))
    rho[0, 0] = 1
    x = -0.5j * (y @ rho - rho @ y)  # d rho / d angle of an RY on wire 0 of |0...0>
    unitaries = stats.unitary_group.rvs(d, size=8000, random_state=1)
    slopes = np.einsum("nji,jk,nkl,li->n", unitaries.conj(), observable, unitaries, x).real
    squares = slopes**2
    error = squares.std() / math.sqrt(len(squares))
    assert abs(squares.mean() - frontier.deep_variance(cost, n_qubits)) < 4 * error
    assert abs(squares.mean() - 1.2 * frontier.deep_variance(cost, n_qubits)) > 4 * error


def test_limits_for_many_qubits():
    assert frontier.deep_variance("local", 20) == pytest.approx(2.0**-20 / 160, rel=1e-6)
    assert frontier.deep_variance("global", 20) == pytest.approx(4.0**-20 / 2, rel=1e-5)
    # One shot has 1 / (4 n) and about 2^-n: both need 2^n shots.
    for cost, one_shot in (("local", 1 / 80), ("global", 2.0**-20)):
        needed = frontier.shots_needed(np.array([one_shot, frontier.deep_variance(cost, 20)]))
        assert needed == pytest.approx(frontier.deep_shots(20), rel=1e-5)
    with pytest.raises(ConfigurationError, match="Unknown cost"):
        frontier.deep_variance("gobal", 3)


@pytest.mark.parametrize(
    ("law", "better", "base", "power"),
    [
        (lambda n: 0.1 * 4.0**-n, "exponential", 4.0, None),
        (lambda n: 0.1 * 2.0**-n, "exponential", 2.0, None),
        (lambda n: 0.1 * n**-2.0, "power", None, 2.0),
    ],
)
def test_planted_laws_are_recovered_and_told_apart(law, better, base, power):
    found = frontier.growth(batches(law, np.random.default_rng(0)))
    assert found.better == better
    assert found.best is (found.exponential if base else found.power)
    if base:
        assert found.base.map(lambda b: 1 / b, "1").holds(base)
        assert not found.base.map(lambda b: 1 / b, "1").holds(1.1 * base)
    else:
        assert found.power.slope.holds(-power)
        assert not found.power.slope.holds(-power - 0.3)


def test_few_noisy_points_decide_nothing():
    rng = np.random.default_rng(3)
    data = {n: 0.1 / n * (rng.standard_normal((20, 3, 1)) ** 2).mean(axis=1) for n in (4, 5, 6, 7)}
    assert frontier.growth(data).better == "open"


def test_the_interval_covers_a_planted_base():
    held = 0
    for seed in range(150):
        found = frontier.growth(batches(lambda n: 0.1 * 4.0**-n, np.random.default_rng(seed)))
        held += found.base.holds(0.25)
    # 95 % of 150 is 142.5 with a standard deviation of 2.7.
    assert 134 <= held <= 149


def test_a_curve_of_another_shape_gets_a_wide_interval():
    rng = np.random.default_rng(0)
    straight = frontier.growth(batches(lambda n: 2.0**-n, rng))
    bent = frontier.growth(batches(lambda n: 2.0 ** -(n + 0.08 * (n - 10) ** 2), rng))
    width = [fit.exponential.slope.high - fit.exponential.slope.low for fit in (straight, bent)]
    assert straight.exponential.misfit < 3 < 20 < bent.exponential.misfit
    assert width[1] > 3 * width[0]


def test_where_a_curve_passes_a_value():
    found = frontier.growth(batches(lambda n: 2.0**-n, np.random.default_rng(0)))
    assert found.exponential.passes(2.0**-20, rising=False).holds(20)
    assert found.exponential.passes(2.0**-20, rising=True).value == math.inf
    assert found.exponential.passes(100.0, rising=False).value == 0
    up = frontier.growth(batches(lambda n: 3.0 * n**2, np.random.default_rng(1)))
    assert up.power.passes(300.0, rising=True).holds(10)
    assert float(up.power.at(10)) == pytest.approx(300, rel=0.1)
    with pytest.raises(NotMeasured, match="2 numbers of qubits"):
        frontier.growth({n: np.ones((5, 1)) for n in (4, 5)})


def test_shots_and_epsilon_say_from_where_on_a_gradient_is_gone():
    # Variance 2 * 2^-n for all parameters with one-shot variance 2: shots_needed = 2 / (2 * 2^-n) = 2^n.
    table = frontier_tables.gradients(lambda cost, n, depth: 2 * 2.0**-n, lambda cost, n: 2.0)
    gone = frontier.gone_by_shots(table, "strongly_entangling", "global", 2, 10**4)
    assert gone.qubits.value == pytest.approx(math.log2(10**4), abs=0.2)
    assert gone.qubits.low < gone.qubits.value < gone.qubits.high < gone.qubits.low + 0.5
    assert gone.first == 14
    assert not gone.extrapolated
    assert gone.curve == "exponential"
    more = frontier.gone_by_shots(table, "strongly_entangling", "global", 2, 10**6)
    assert more.qubits.value == pytest.approx(math.log2(10**6), abs=0.3)
    assert more.extrapolated
    adam = frontier.gone_for_adam(table, "strongly_entangling", "global", 2)
    assert adam.qubits.value == pytest.approx(-2 * math.log2(frontier.ADAM_EPSILON), abs=0.8)
    flat = frontier_tables.gradients(lambda cost, n, depth: 0.1)
    assert frontier.gone_by_shots(flat, "strongly_entangling", "local", 1, 10**6).first == math.inf


def test_cells_hold_moments_limits_and_what_is_resolved():
    found = frontier.cells(frontier_tables.gradients(lambda cost, n, depth: frontier.deep_variance(cost, n)))
    assert len(found) == len(frontier_tables.QUBITS) * 2 * 2
    assert found["n"].eq(1000).all()
    assert found["resolved"].all()
    assert (found["variance"] / found["deep"]).between(0.8, 1.2).all()
    assert found["rounding"].to_numpy() == pytest.approx(1e-6 * math.sqrt(2))
    heavy = frontier_tables.gradients(lambda cost, n, depth: 1.0)
    heavy.loc[heavy["seed"] > 0, "gradient_variance"] = 1e-6
    assert not frontier.cells(heavy)["resolved"].any()
    assert frontier.growths(heavy) == {}


def test_the_depth_of_saturation_is_the_first_from_which_all_are_deep():
    factors = {1: 9.0, 2: 1.0, 4: 3.0, 8: 1.2, 16: 1.0}
    law = lambda cost, n, depth: frontier.deep_variance(cost, n) * factors[depth]  # noqa: E731
    found = frontier.saturation(frontier.cells(frontier_tables.gradients(law, depths=tuple(factors))))
    assert found["depth"].eq(8).all()
    never = frontier.saturation(frontier.cells(frontier_tables.gradients(lambda cost, n, depth: 1.0, depths=(1, 2))))
    assert never["depth"].isna().all()


def test_as_many_layers_as_qubits_is_a_series_of_its_own():
    table = frontier_tables.gradients(lambda cost, n, depth: 3.0**-n * depth**0.0, depths=frontier_tables.QUBITS)
    assert frontier.depths(table)[-1] == "n"
    assert frontier.growth_of(table, "strongly_entangling", "local", "n").base.holds(1 / 3)
    assert "n" not in frontier.depths(frontier_tables.gradients(lambda *_: 1.0, depths=(1,)))


def test_descents_count_what_trained():
    found = frontier.descents(frontier_tables.descents())
    assert len(found) == 2 * 3 * 2 * 3
    row = found.iloc[0]
    assert (row.trained, row.seeds, row.start, row.final, row.share) == (15, 20, 1.0, 0.05, 0.75)
    bounds = stats.beta.ppf([0.025, 0.975], [15, 16], [6, 5])  # Clopper and Pearson
    assert [row.share_low, row.share_high] == pytest.approx(bounds)


def test_longer_descents_stand_apart():
    longer = frontier_tables.descents(trained=20).query("shots == 0 and n_qubits == 8").assign(record="longer")
    longer = longer.assign(step=longer["step"] * 10, steps=300)
    both = frontier.descents(pd.concat([frontier_tables.descents(), longer]))
    assert both.groupby("steps")["share"].unique().map(list).to_dict() == {30: [0.75], 300: [1.0]}
    gradients = frontier_tables.gradients(lambda *_: 1.0, depths=(2, 16), qubits=(4, 6, 8))
    assert frontier.criterion(frontier.cells(gradients), both)["exact"].eq(0.75).all()


def test_the_criterion_is_held_against_training():
    gradients = frontier_tables.gradients(
        lambda cost, n, depth: 2 * 2.0**-n, lambda cost, n: 2.0, depths=(2, 16), qubits=(4, 6, 8)
    )
    found = frontier.criterion(frontier.cells(gradients), frontier.descents(frontier_tables.descents()))
    assert len(found) == 2 * 3 * 2 * 2
    widest = found[(found["n_qubits"] == 8) & (found["shots"] == 100)]
    assert widest["ratio"].to_numpy() == pytest.approx(2.56, rel=0.15)
    assert found["exact"].eq(0.75).all()


def test_memory_exponents_are_recovered():
    found = frontier.memory(frontier_tables.memory())
    for arm in ("compiled", "shipped"):
        assert frontier.memory_growth(found, arm).holds(2.0)
        assert not frontier.memory_growth(found, arm).holds(2.5)
    assert frontier.memory_per_layer(found, "compiled").holds(0.0)
    assert frontier.memory_per_layer(found, "shipped").holds(120.0 / frontier.batch_mib(12, 16))
    assert not frontier.memory_per_layer(found, "shipped").holds(0.0)
    assert frontier.batch_mib(20, 16) == 128
    with pytest.raises(NotMeasured, match="needs three"):
        frontier.memory_growth(found, "compiled", 8)
    assert frontier.adjoint_bytes(20, 16) == 2 * 16 * 8 * 2**20


def toy(per_step, memory_bytes=1e30, **more):
    def step(n, layers, batch):
        value = per_step(n, layers, batch)
        return Interval(value, value / 2, 2 * value, 9, "s")

    return frontier.Machine("toy", step, memory_bytes, **{"measured": True, **more})


def test_what_trains_in_an_hour_ends_by_time_or_memory():
    fast = toy(lambda n, layers, batch: 1e-6 * 2**n * layers)
    found = frontier.largest_in_an_hour(fast, 2)
    assert found.n_qubits == math.floor(math.log2(3600 / 300 / 2e-6)) == 22
    assert found.ends_by == "time"
    assert found.seconds.value <= 3600 < 2 * found.seconds.value
    small = dataclasses.replace(fast, memory_bytes=frontier.adjoint_bytes(12, 32))
    assert frontier.largest_in_an_hour(small, 2) == dataclasses.replace(
        frontier.largest_in_an_hour(small, 2), n_qubits=12, ends_by="memory"
    )
    blocks = dataclasses.replace(small, samples_at_once=16)
    assert frontier.largest_in_an_hour(blocks, 2).n_qubits == 13
    never = frontier.largest_in_an_hour(toy(lambda *_: 1e9), 2)
    assert (never.n_qubits, never.ends_by) == (0, "time")
    assert frontier.largest_in_an_hour(toy(lambda n, *_: 1e-9), 2).n_qubits == frontier.MOST_QUBITS


def test_a_model_that_knows_more_of_memory_is_believed():
    def step(n, layers, batch):
        if n > 9:
            raise MemoryEstimateError("10 qubits do not fit.")
        return Interval(1e-3, 1e-4, 1e-2, 3, "s")

    found = frontier.largest_in_an_hour(frontier.Machine("toy", step, 1e30, measured=False), 2)
    assert (found.n_qubits, found.ends_by) == (9, "memory")


def test_machines_of_the_cost_model_are_labelled_by_where_they_come_from():
    class Near:
        near = False

    class Model:
        machine, threads = "m1", 2

        def predict(self, n, layers, batch):
            return Interval(1.0, 0.5, 2.0, 9, "s")

        def nearest(self, n, layers, batch):
            return Near

    class Card:
        name, memory_bytes = "T4", 16e9

    class Guess:
        interval = Interval(2.0, -math.inf, math.inf, 0, "s")

    own, card = frontier.machines([Model()], [Card], lambda hardware, n, layers, batch: Guess, 8e9)
    assert own.label == "m1, 2 threads (measured)"
    assert card.label == "T4 (predicted, not measured)"
    assert own.samples_at_once == 32
    assert not own.near(4, 2, 32)
    assert card.seconds(4, 2, 32).value == 2.0
    assert card.seconds(40, 2, 32) is None


def test_time_grows_above_the_crossover_only():
    times = pd.DataFrame(
        [{"n_qubits": n, "seconds": 1e-3 + 1e-7 * 2.1**n} for n in (2, 4, 6, 8, 10, 12, 14, 16, 18) for _ in range(3)]
    )
    factor, crossover = frontier.time_growth(times)
    assert crossover == 14
    assert factor.value == pytest.approx(2.1, rel=0.01)
    with pytest.raises(NotMeasured, match="above the crossover"):
        frontier.time_growth(times[times["n_qubits"] < 14])


def test_records_that_are_not_there_are_not_measured():
    table = frontier_tables.gradients(lambda *_: 1.0)
    with pytest.raises(NotMeasured, match="cell 'memory'"):
        frontier.rows_of(table, "memory")
    other = pd.concat([table.assign(machine="m2"), table])
    assert set(frontier.rows_of(other, "gradient")["machine"]) == {"m1"}
