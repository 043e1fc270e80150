"""The frontier study's measurements: against default.qubit, against closed forms, and resumed where they stopped."""

import numpy as np
import pennylane as qml
import pytest

from hybridbench.circuits.spec import CircuitSpec
from hybridbench.errors import ConfigurationError
from hybridbench.measurement.columns import COLUMNS
from hybridbench.measurement.records import RecordStore, config_hash
from hybridbench.training import frontier

SIZES = [
    ("hardware_efficient", 1, 2),
    ("hardware_efficient", 3, 2),
    ("strongly_entangling", 2, 1),
    ("strongly_entangling", 4, 3),
]


def operator(cost, n_qubits):
    """The cost as an observable, written as in Cerezo et al. 2021."""
    if cost == "global":
        return qml.Identity(0) - qml.Projector([0] * n_qubits, wires=range(n_qubits))
    return qml.Identity(0) - sum(qml.Projector([0], wires=[wire]) for wire in range(n_qubits)) / n_qubits


@pytest.mark.parametrize("cost", frontier.COSTS)
@pytest.mark.parametrize(("ansatz", "n_qubits", "n_layers"), SIZES)
def test_values_gradients_and_shots_are_those_of_default_qubit(ansatz, n_qubits, n_layers, cost):
    from pennylane import numpy as pnp

    circuit = frontier.CostCircuit(ansatz, n_qubits, n_layers)
    weights = frontier.random_weights(circuit, 5, seed=3)
    states = circuit.states(weights)
    values, shot_variance = frontier.cost_and_shot_variance(cost, states)
    gradient = circuit.gradient(cost, weights, states)
    spec = CircuitSpec("none", ansatz, n_qubits, n_layers)
    device = qml.device("default.qubit", wires=n_qubits)

    @qml.qnode(device, diff_method="backprop", interface="autograd")
    def reference(flat):
        spec.apply(None, flat.reshape(spec.weight_shape))
        return qml.expval(operator(cost, n_qubits))

    @qml.qnode(device, diff_method=None)
    def spread(flat):
        spec.apply(None, flat.reshape(spec.weight_shape))
        return qml.probs(wires=range(n_qubits))

    diagonal = np.diag(qml.matrix(operator(cost, n_qubits), wire_order=range(n_qubits))).real
    for i, flat in enumerate(weights):
        assert values[i] == pytest.approx(float(reference(flat)), abs=1e-12)
        expected = qml.grad(reference)(pnp.array(flat, requires_grad=True))
        np.testing.assert_allclose(gradient[i], expected, atol=1e-12)
        p = spread(flat)
        assert shot_variance[i] == pytest.approx(p @ diagonal**2 - (p @ diagonal) ** 2, abs=1e-12)


def pooled(config):
    rows = config.measure()
    return {cost: np.array([row["gradient_variance"] for row in rows if row["cost"] == cost]) for cost in frontier.COSTS}


def close(values, expected, errors=4.0):
    """Whether the mean of independent batches is `expected` to within so many of its standard errors."""
    return abs(values.mean() - expected) < errors * values.std(ddof=1) / np.sqrt(len(values))


@pytest.mark.parametrize("n_qubits", [3, 5])
def test_one_layer_has_the_variance_of_its_closed_form(n_qubits):
    """One strongly entangling layer: rotations, then a ring of CNOTs with reach 1.

    The ring maps |0...0> to itself, so that P(0...0) = product of cos^2(w/2), as in Cerezo et al. 2021 (section "warm-up
    example"): variance 1/8 (3/8)^(n-1). It maps Z_j to Z_0...Z_j and Z_0 to Z_1...Z_{n-1}; each is a product of cosines, and
    those with wire 0 give 1/(4 n^2) sum over j of 2^-(j+1).
    """
    config = frontier.GradientConfig("strongly_entangling", n_qubits, 1, n_points=400)
    found = pooled(config)
    assert close(found["global"], (3 / 8) ** (n_qubits - 1) / 8)
    assert close(found["local"], sum(2.0 ** -(j + 1) for j in range(1, n_qubits)) / (4 * n_qubits**2))
    assert not close(found["global"], 1.3 * (3 / 8) ** (n_qubits - 1) / 8)


@pytest.mark.parametrize("ansatz", frontier.CIRCUITS)
def test_a_deep_circuit_has_the_variance_of_a_random_one(ansatz):
    """E[(d cost)^2] = (Tr O^2 - (Tr O)^2 / d) / (2 (d^2 - 1)) behind the first rotation (see analysis.frontier)."""
    from hybridbench.analysis.frontier import deep_variance

    n_qubits = 4
    found = pooled(frontier.GradientConfig(ansatz, n_qubits, 48, n_points=100))
    for cost in frontier.COSTS:
        assert close(found[cost], deep_variance(cost, n_qubits))
        assert not close(found[cost], 1.3 * deep_variance(cost, n_qubits))


def test_the_first_rotation_is_the_first_that_lives():
    for ansatz, index in (("hardware_efficient", 0), ("strongly_entangling", 1)):
        circuit = frontier.CostCircuit(ansatz, 3, 2)
        weights = frontier.random_weights(circuit, 8, 0)
        largest = np.abs(circuit.gradient("local", weights, circuit.states(weights))).max(axis=0)
        assert circuit.first_rotation == index == int(np.argmax(largest > 1e-10))
    with pytest.raises(ConfigurationError, match="'basic_entangler' has no RY"):
        _ = frontier.CostCircuit("basic_entangler", 3, 2).first_rotation


def test_records_repeat_and_depend_on_the_seed():
    config = frontier.GradientConfig("hardware_efficient", 3, 2, 8, seeds=(0, 1))
    first, again = config.measure(), config.measure()
    assert first[0] == first[0] | again[0]
    assert first[0]["gradient_variance"] != first[2]["gradient_variance"]
    assert first[0]["rounding_error"] > 0
    assert np.isnan(first[2]["rounding_error"])
    assert {name for row in first for name in row} <= set(COLUMNS)


def test_single_precision_changes_the_variance_by_rounding_only():
    single = frontier.GradientConfig("strongly_entangling", 6, 16, 16, seeds=(0,)).measure()
    double = frontier.GradientConfig("strongly_entangling", 6, 16, 16, seeds=(0,), precision="float64").measure()
    for a, b in zip(single, double, strict=True):
        assert a["gradient_variance"] == pytest.approx(b["gradient_variance"], rel=1e-4)
        assert b["rounding_error"] == 0
        assert a["rounding_error"] < 1e-4 * np.sqrt(a["gradient_mean_square"])


def test_descent_learns_with_exact_gradients_and_noise_hurts():
    def final(shots):
        config = frontier.DescentConfig("hardware_efficient", 3, 2, "global", shots, steps=60, every=30, seeds=(0, 1, 2, 3))
        rows = config.measure()
        assert [row["step"] for row in rows] == [step for step in (0, 30, 60) for _ in range(4)]
        return np.array([row["train_loss"] for row in rows]).reshape(3, 4)

    exact, noisy = final(0), final(1)
    np.testing.assert_array_equal(exact[0], noisy[0])
    assert exact[-1].max() < 0.05 < 0.2 < exact[0].mean()
    assert noisy[-1].mean() > 3 * exact[-1].mean()


def test_the_noise_has_the_variance_of_the_parameter_shift_rule(monkeypatch):
    """Var of (C+ - C-)/2 with S shots each is (s+^2 + s-^2) / (4 S); at equal one-shot variances s^2 / (2 S)."""
    seen = []
    monkeypatch.setattr(frontier.CostCircuit, "gradient", lambda self, cost, weights, *_: np.zeros(weights.shape))
    config = frontier.DescentConfig("hardware_efficient", 2, 40, "local", 50, steps=1, seeds=tuple(range(40)))
    import hybridbench.training.optimizers as optimizers

    class Spy:
        def apply_gradients(self, pairs):
            seen.append(pairs[0][0].numpy())

    monkeypatch.setattr(optimizers, "make_optimizer", lambda *_: Spy())
    config.measure()
    circuit = frontier.CostCircuit("hardware_efficient", 2, 40)
    weights = np.concatenate([frontier.random_weights(circuit, 1, seed) for seed in config.seeds])
    _, shot = frontier.cost_and_shot_variance("local", circuit.states(weights))
    assert (seen[0] ** 2).mean() == pytest.approx(shot.mean() / 100, rel=0.1)


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    store = RecordStore("frontier", tmp_path)
    wanted = [frontier.GradientConfig("hardware_efficient", n, 1, 4, seeds=(0, 1)) for n in (2, 3)]
    wanted.append(frontier.DescentConfig("hardware_efficient", 2, 1, "local", steps=2, every=1, seeds=(0, 1)))
    positions = []
    frontier.run(wanted[:1], store, positions.append)
    assert len(list(tmp_path.iterdir())) == 1
    table = frontier.run(wanted, store, positions.append)
    assert [(position.number, position.of) for position in positions] == [(1, 1), (1, 2), (2, 2)]
    assert table["record"].nunique() == 3
    assert set(table["cell"]) == {"gradient", "descent"}
    monkeypatch.setattr(frontier.GradientConfig, "measure", lambda self: pytest.fail("made again"))
    assert len(frontier.run(wanted, store)) == len(table)


def test_the_study_is_what_was_asked_for():
    every = frontier.configs()
    assert [c.cell for c in frontier.configs(["memory"])] == ["memory"] * len(frontier.memory_configs())
    assert {c.cell for c in every} == set(frontier.CELLS)
    assert len({config_hash(c) for c in every}) == len(every)
    gradients = [c for c in every if c.cell == "gradient"]
    assert all(c.n_points * len(c.seeds) >= 200 for c in gradients)
    assert {(c.n_qubits, c.n_layers) for c in gradients} >= {(n, n) for n in frontier.QUBITS}
    assert all(c.title and c.expected_seconds > 0 for c in every)
    with pytest.raises(ConfigurationError, match="Unknown cell 'memroy'"):
        frontier.configs(["memroy"])
    with pytest.raises(ConfigurationError, match="Unknown cost 'gobal'"):
        frontier.outcome_values("gobal", 2)
    with pytest.raises(ConfigurationError, match=r"shape \(2, 3\)"):
        frontier.CostCircuit("hardware_efficient", 2, 1).states(np.zeros((2, 3)))
