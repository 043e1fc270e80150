"""Optimizers: every one is its formula, its settings reach the update, fused Adam is Adam, NAdam is right in graph mode."""

import json

import numpy as np
import pytest
from trial_toys import START, flat, toy_problem

from hybridbench.errors import ConfigurationError
from hybridbench.report.style import family
from hybridbench.training.config import EnergyConfig, TrainingConfig, TrialConfig
from hybridbench.training.optimizers import OPTIMIZERS, FusedAdam, Knob, Nadam, keras_optimizers, make_optimizer, tf
from hybridbench.training.trial import Stepper
from hybridbench.workflow import parameters, profiles

BY_GRADIENT = keras_optimizers()
#: Settings far from the defaults, so that one that is not used shows.
OTHER = {"momentum": 0.6, "rho": 0.7, "beta_1": 0.6, "beta_2": 0.9, "weight_decay": 0.1}


@pytest.fixture(autouse=True)
def _float64():
    before = tf.keras.backend.floatx()
    tf.keras.backend.set_floatx("float64")
    yield
    tf.keras.backend.set_floatx(before)


def gradient(x):
    """Of `objective`: both signs, and small as well as large entries."""
    return 2 * np.sin(x) + 0.1 * x


def objective(x):
    return float(np.sum(-2 * np.cos(x) + 0.05 * x**2))


def tensor_objective(variables):
    return tf.add_n([tf.reduce_sum(-2 * tf.cos(x) + 0.05 * x**2) for x in variables])


def trajectory(optimizer, graph=True, steps=60):
    """By plain Keras."""
    variables = [tf.Variable(value) for value in START]
    optimizer.build(variables)

    def step():
        gradients = [2 * tf.sin(variable) + 0.1 * variable for variable in variables]
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    step = tf.function(step) if graph else step
    path = []
    for _ in range(steps):
        step()
        path.append(flat(variable.numpy() for variable in variables))
    return np.array(path)


def knobs_of(name, values):
    return {knob.name: values.get(knob.name, knob.default) for knob in OPTIMIZERS[name].knobs}


def trial_trajectory(name, rate, knobs, steps=60):
    """By the stepper of a trial, whose settings are variables of one traced step, in the order given."""
    problem = toy_problem(tensor_objective)
    stepper = Stepper(problem, name, steps)
    step = tf.function(lambda number: stepper.step(tf.zeros((1,), tf.int64), number), autograph=False)
    paths = []
    for given in knobs:
        problem.load(0)
        stepper.reset(rate, given, 0)
        path = []
        for number in range(steps):
            step(tf.constant(number))
            path.append(flat(variable.numpy() for variable in problem.variables))
        paths.append(np.array(path))
    return paths


def rounded(value):
    """What tf.cast makes of a plain number: float64 of the nearest float32."""
    return float(np.float32(value))


def written_out(name, rate, plain=False, momentum=0.9, rho=0.9, beta_1=0.9, beta_2=0.999, weight_decay=0.004, steps=60):
    """The formulas, by the documentation of Keras 2 and PyTorch 2; `plain`: with settings rounded as plain numbers are.

    torch.optim.RMSprop (docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html): v = alpha v + (1 - alpha) g^2,
    theta -= lr g / (sqrt(v) + eps), alpha 0.99, eps 1e-8. torch.optim.Adagrad: sum += g^2, theta -= lr g / (sqrt(sum) +
    eps), the sum from 0, eps 1e-10.
    """
    power_1, power_2, decay = beta_1, beta_2, rounded(0.96)
    if plain:
        momentum, weight_decay, power_1, power_2 = (rounded(given) for given in (momentum, weight_decay, beta_1, beta_2))
        if name == "nadam":
            beta_1, beta_2 = power_1, power_2
        if name in ("rmsprop_corrected", "rmsprop_torch"):
            rho = rounded(rho)
    x = flat(START)
    m, v, highest, product = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x), 1.0
    total = np.full_like(x, 0.1 if name == "adagrad" else 0.0)
    path = []
    for t in range(1, steps + 1):
        g = gradient(x)
        if name == "sgd":
            x = x - rate * g
        elif name in ("momentum", "nesterov"):
            m = momentum * m - rate * g
            x = x + (momentum * m - rate * g if name == "nesterov" else m)
        elif name.startswith("rmsprop"):
            v = rho * v + (1 - rho) * g**2
            root = {
                "rmsprop": np.sqrt(v + 1e-7),
                "rmsprop_corrected": np.sqrt(v / (1 - rho**t) + 1e-7),
                "rmsprop_torch": np.sqrt(v) + 1e-8,
            }[name]
            x = x - rate * g / root
        elif name.startswith("adagrad"):
            total = total + g**2
            x = x - rate * g / (np.sqrt(total + 1e-7) if name == "adagrad" else np.sqrt(total) + 1e-10)
        else:
            if name == "adamw":
                x = x - rate * weight_decay * x
            m, v = beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g**2
            highest = np.maximum(highest, v)
            if name == "nadam":
                here, after = (power_1 * (1 - 0.5 * decay**k) for k in (t, t + 1))
                product *= here
                mean = after * m / (1 - product * after) + (1 - here) * g / (1 - product)
                x = x - rate * mean / (np.sqrt(v / (1 - power_2**t)) + 1e-7)
            else:
                corrected = rate * np.sqrt(1 - power_2**t) / (1 - power_1**t)
                x = x - corrected * m / (np.sqrt(highest if name == "amsgrad" else v) + 1e-7)
        path.append(x)
    return np.array(path)


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_every_optimizer_is_its_formula_with_default_and_other_settings(name):
    """One traced step serves all settings, in any order."""
    default, other = knobs_of(name, {}), knobs_of(name, OTHER)
    first, changed, again = trial_trajectory(name, 0.07, [default, other, default])
    np.testing.assert_allclose(first, written_out(name, 0.07, **default), atol=1e-12, rtol=0)
    np.testing.assert_allclose(changed, written_out(name, 0.07, **other), atol=1e-12, rtol=0)
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize(("name", "knob"), [(n, k.name) for n in BY_GRADIENT for k in OPTIMIZERS[n].knobs])
def test_every_setting_alone_changes_the_formula(name, knob):
    """So that the comparison above sees each of them."""
    default = knobs_of(name, {})
    changed = written_out(name, 0.07, **{**default, knob: OTHER[knob]})
    assert np.abs(changed - written_out(name, 0.07, **default)).max() > 1e-4


def test_no_two_formulas_are_the_same_but_those_of_adam_and_fused_adam():
    # A second mean that forgets quickly: otherwise AMSGrad is Adam as long as gradients grow.
    paths = {name: written_out(name, 0.07, **knobs_of(name, {"beta_2": 0.9})) for name in BY_GRADIENT}
    alike = {frozenset((a, b)) for a in paths for b in paths if a != b and np.abs(paths[a] - paths[b]).max() < 1e-7}
    assert alike == {frozenset(("adam", "fused_adam"))}


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_default_settings_are_the_frameworks_optimizer_but_for_its_rounding(name):
    """Keras rounds plain numbers to float32: 1 - beta_2 of 0.999 by 1e-5 of itself, and so the first steps of Adam."""
    (path,) = trial_trajectory(name, 0.07, [{}])
    keras = trajectory(make_optimizer(name, 0.07))
    np.testing.assert_allclose(keras, written_out(name, 0.07, plain=True, **knobs_of(name, {})), atol=1e-12, rtol=0)
    np.testing.assert_allclose(path, keras, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", [name for name in BY_GRADIENT if not name.endswith("_torch")])
def test_default_settings_are_kerass_own(name):
    classes = {"momentum": "SGD", "nesterov": "SGD", "rmsprop_corrected": "RMSprop", "fused_adam": "Adam", "amsgrad": "Adam"}
    names = {"sgd": "SGD", "rmsprop": "RMSprop", "adagrad": "Adagrad", "adam": "Adam", "nadam": "Nadam", "adamw": "AdamW"}
    framework = getattr(tf.keras.optimizers, (classes | names)[name])()
    assert float(framework.learning_rate) == OPTIMIZERS[name].default_rate
    for knob in OPTIMIZERS[name].knobs:
        if knob.name != "momentum":  # Keras has none unless one asks for it
            assert getattr(framework, knob.name) == knob.default


def test_a_knobs_range_is_searched_evenly_in_the_logarithm():
    assert Knob("a", 1.0, 0.01, 100.0).at(0.5) == pytest.approx(1.0)
    assert Knob("b", 0.9, 0.001, 0.1, from_one=True).at(0.5) == pytest.approx(0.99)
    for optimizer in OPTIMIZERS.values():
        for knob in optimizer.knobs:
            assert min(knob.at(0), knob.at(1)) < knob.default < max(knob.at(0), knob.at(1))


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_every_optimizer_goes_downhill(name):
    path = written_out(name, 0.05, **knobs_of(name, {}))
    assert objective(path[-1]) < objective(flat(START)) - 0.1


@pytest.mark.parametrize("rate", [1e-4, 0.01, 0.5])
def test_fused_adam_follows_adam(rate):
    fused, adam = trajectory(FusedAdam(rate)), trajectory(make_optimizer("adam", rate))
    np.testing.assert_allclose(fused, adam, atol=1e-12, rtol=0)


def test_fused_adam_is_not_trivially_equal():
    """The comparison above can fail: another epsilon already shows."""
    other = trajectory(FusedAdam(0.01, epsilon=1e-3))
    assert np.abs(other - trajectory(make_optimizer("adam", 0.01))).max() > 1e-6


def test_nadam_is_the_same_traced_and_eager_and_equals_keras_where_keras_is_right():
    eager = trajectory(tf.keras.optimizers.Nadam(0.05), graph=False)
    np.testing.assert_allclose(trajectory(Nadam(0.05)), eager, atol=1e-12, rtol=0)
    np.testing.assert_allclose(trajectory(Nadam(0.05), graph=False), eager, atol=1e-12, rtol=0)


def test_keras_own_nadam_still_differs_when_traced():
    """Once this fails, Keras has mended its counter and our subclass can go."""
    eager, traced = (trajectory(tf.keras.optimizers.Nadam(0.05), graph) for graph in (False, True))
    assert np.abs(eager - traced).max() > 1e-6


def test_an_unknown_optimizer_names_the_nearest():
    with pytest.raises(ConfigurationError, match="Did you mean 'adam"):
        make_optimizer("adan", 0.1)


@pytest.mark.parametrize("name", ["qng", "spsa"])
def test_an_optimizer_that_takes_more_than_a_gradient_is_refused_before_any_work(name):
    refused = f"Optimizer '{name}' takes more than a gradient"
    with pytest.raises(ConfigurationError, match=refused):
        make_optimizer(name, 0.1)
    with pytest.raises(ConfigurationError, match=refused):
        TrainingConfig("wine", optimizer=name)
    with pytest.raises(ConfigurationError, match=refused):
        EnergyConfig(name, 0.1, 0)
    assert TrialConfig("wine", optimizer=name).optimizer == name


def test_a_notebook_that_trains_by_keras_refuses_the_others_by_its_parameters():
    spec = parameters.parse(
        'names: list[str] = ["adam"]  # arms [allowed: names of hybridbench.training.optimizers:keras_optimizers]', "toy"
    )["names"]
    assert spec.check(["sgd", "fused_adam"], "toy") == ["sgd", "fused_adam"]
    with pytest.raises(ConfigurationError, match=r"Notebook toy, parameter names: Unknown names 'qng'.*Known: adagrad"):
        spec.check(["adam", "qng"], "toy")
    schema = parameters.schema("05_optimizer_comparison")
    if schema["optimizers"].registry.endswith(":keras_optimizers"):
        line = f"05_optimizer_comparison.optimizers={json.dumps(['adam', 'spsa'])}"
        with pytest.raises(ConfigurationError, match="'spsa'"):
            profiles.override(profiles.load("quick"), [line])


def test_every_optimizer_has_its_colour_marker_and_dash():
    assert set(OPTIMIZERS) <= set(family("optimizer"))
