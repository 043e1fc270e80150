"""Compare a drawn circuit with PennyLane on every road: the layer (eager, graph, XLA) and the device (each interface).

Three outcomes are allowed: equal to a tolerance, refused as PennyLane refuses it, or told: a fall-back with a warning, or on
the device an error that names what it cannot do.
"""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pennylane as qml
from fuzz_circuits import N_WEIGHTS, qnode
from pennylane import numpy as pnp

import hybridbench
from hybridbench.circuits.layer import tf
from hybridbench.errors import HybridbenchError

SEEN = Counter()
REFUSALS = (qml.DeviceError, qml.QuantumFunctionError, HybridbenchError)


class Different(AssertionError):
    """Another number than PennyLane's, or an outcome that is not allowed."""


def parts(result):
    return list(result) if isinstance(result, list | tuple) else [result]


def largest_angle(circuit, x, w):
    made = qml.QNode(circuit.function, qml.device("default.qubit", wires=circuit.n_wires))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tape = made.construct((), {"inputs": x, "weights": w})
    numbers = [np.abs(np.asarray(v, complex)) for v in tape.get_parameters(trainable_only=False) if not hasattr(v, "tocsr")]
    return max([1.0, *(float(np.max(v)) for v in numbers if v.size)])


def is_exact(circuit, interface):
    """Whether double precision is kept throughout.

    A matrix in complex64 is unitary to 1e-7 only, and PennyLane pads amplitudes in float32 under TensorFlow and PyTorch.
    """
    said = " ".join(circuit.says)
    return "complex64" not in said and not ("(pad" in said and interface in {"tensorflow", "torch"})


def allowed(circuit, x, w, double):
    """How far values and gradients may be apart by rounding."""
    eps = 2.3e-16 if double else 1.2e-7
    return eps * 2000 * (1 + 0.05 * largest_angle(circuit, x, w)) + (1e-9 if double else 1e-5)


def compare(road, found, wanted, tolerance):
    for mine, theirs in zip(found, wanted, strict=True):
        mine, theirs = np.asarray(mine), np.asarray(theirs)
        if mine.shape != theirs.shape:
            raise Different(f"{road}: shape {mine.shape} for {theirs.shape}")
        scale = max(1.0, float(np.max(np.abs(theirs[np.isfinite(theirs)]), initial=0.0)))
        if not np.allclose(mine, theirs, rtol=0, atol=tolerance * scale, equal_nan=True):
            raise Different(f"{road}: {mine.ravel()[:6]} for {theirs.ravel()[:6]}, allowed {tolerance * scale:.1e}")


def compare_gradients(road, circuit, found, wanted, tolerance):
    """Columns apart, since a raw feature's gradient is as small as its numbers are large; only finite ones."""
    scales = [np.array([column.scale for column in circuit.columns]), 1.0]
    for mine, theirs, scale in zip(found, wanted, scales, strict=True):
        mine, theirs = np.atleast_2d(np.asarray(mine)) * scale, np.atleast_2d(np.asarray(theirs)) * scale
        if mine.shape != theirs.shape:
            raise Different(f"{road}: gradient of shape {mine.shape} for {theirs.shape}")
        for a, b in zip(mine.T, theirs.T, strict=True):
            if np.all(np.isfinite(b)) and not np.allclose(
                a, b, rtol=0, atol=20 * tolerance * max(float(np.max(np.abs(b))), FLOOR)
            ):
                raise Different(f"{road}: gradient {a[:4]} for {b[:4]}")


FLOOR = 1.0


def attempt(work):
    """(result, None, warnings) or (None, error, warnings)."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            return work(), None, said
        except Exception as error:  # noqa: BLE001  (any error is an outcome)
            return None, error, said


def total(result, real, xp=np):
    found = 0.0
    for k, value in enumerate(parts(result)):
        shape = tuple(value.shape)
        weights = np.cos(np.arange(int(np.prod(shape))) + k).reshape(shape)
        found = found + real(value, weights)
    return found


# --- the layer -------------------------------------------------------------------------------------------------------------


def layer_outcome(kind, circuit, x, w, mode, **options):
    def work():
        layer = kind(qnode(circuit, "default.qubit"), {"weights": (N_WEIGHTS,)}, None, **options)
        layer.qnode_weights["weights"].assign(w)

        def both(inputs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                value = layer(inputs)
                flat = tf.reshape(value, [-1])
                flat = tf.math.real(flat) + tf.math.imag(flat) if flat.dtype.is_complex else flat
                loss = tf.reduce_sum(flat * tf.cos(tf.cast(tf.range(tf.size(flat)), flat.dtype)))
            return value, tape.gradient(loss, [inputs, layer.qnode_weights["weights"]], unconnected_gradients="zero")

        rows = tf.constant(x)
        if mode == "graph":
            both = tf.function(both, input_signature=[tf.TensorSpec((None, x.shape[1]), rows.dtype)])
        elif mode == "xla":
            both = tf.function(both, jit_compile=True)
        value, gradients = both(rows)
        return value.numpy(), [tf.convert_to_tensor(g).numpy() for g in gradients]

    return attempt(work)


def check_layer(circuit, x, w, modes):
    floatx = "float64" if circuit.dtype == "float64" else "float32"
    before = tf.keras.backend.floatx()
    tf.keras.backend.set_floatx(floatx)
    try:
        x, w = x.astype(circuit.dtype).astype(floatx), w.astype(floatx)
        wanted, error, _ = layer_outcome(qml.qnn.KerasLayer, circuit, x, w, "eager")
        for mode in modes:
            found, mine, said = layer_outcome(hybridbench.KerasLayer, circuit, x, w, mode)
            road, told = f"layer {mode}", any("not compiled" in str(s.message) for s in said)
            if mine is not None:
                if (
                    error is None
                    and not (mode != "eager" and told)
                    and not (mode == "xla" and isinstance(mine, HybridbenchError))
                ):
                    raise Different(f"{road}: {type(mine).__name__}: {mine}, where PennyLane gives values") from mine
                SEEN[f"{road}: refused" if error is not None else f"{road}: told"] += 1
                continue
            SEEN[f"{road}: {'told' if told else 'compiled'}"] += 1
            if error is not None:
                check_alone(road, circuit, x, w, [found[0]], error, floatx == "float64")
                continue
            if np.max(np.abs(wanted[0]), initial=0) > 1e6 or not np.isfinite(wanted[0]).all():
                continue
            if told and mode == "graph" and found[0].shape != wanted[0].shape:
                continue  # PennyLane's layer itself returns another shape in a graph where it has no batch
            tolerance = allowed(circuit, x, w, floatx == "float64" and is_exact(circuit, "tensorflow"))
            try:
                compare(road, [found[0]], [wanted[0]], tolerance)
            except Different:
                # PennyLane's TensorFlow and NumPy do not agree on every operation (PCPhase of all states): NumPy is right.
                rows, refusal, _ = attempt(lambda: alone(circuit, x.astype(float), w.astype(float)))
                if refusal is not None or np.size(rows) != np.size(found[0]):
                    raise
                compare(road, [np.reshape(found[0], -1)], [np.reshape(rows, -1)], tolerance)
                SEEN["PennyLane's TensorFlow is wrong"] += 1
                continue
            if "entropy" not in circuit.says[-1]:
                compare_gradients(f"{road} gradient", circuit, found[1], wanted[1], tolerance)
    finally:
        tf.keras.backend.set_floatx(before)


def check_alone(road, circuit, x, w, found, error, double):
    """Where PennyLane raises an error for a batch, a value has to be the one of each sample alone."""
    rows, refusal, _ = attempt(lambda: alone(circuit, x.astype(float), w.astype(float)))
    if refusal is not None:
        raise Different(f"{road}: a value, where PennyLane raises {type(error).__name__}: {error}") from error
    if np.size(rows) == np.size(found[0]):
        compare(f"{road}, each sample alone", [np.reshape(found[0], -1)], [np.reshape(rows, -1)], 1e-7 if double else 1e-2)


def alone(circuit, x, w):
    made = qnode(circuit, "default.qubit")
    return np.stack([np.hstack([np.ravel(p) for p in parts(made(inputs=row, weights=w))]) for row in x])


# --- the device ------------------------------------------------------------------------------------------------------------


def device_outcome(name, interface, circuit, x, w):
    def autograd():
        made = qnode(circuit, name)
        inputs, weights = pnp.array(x, requires_grad=True), pnp.array(w, requires_grad=True)
        value = [np.asarray(p) for p in parts(made(inputs=inputs, weights=weights))]

        def loss(inputs, weights):
            return total(made(inputs=inputs, weights=weights), lambda v, c: pnp.sum((pnp.real(v) + pnp.imag(v)) * c))

        return value, list(qml.grad(loss, argnum=[0, 1])(inputs, weights))

    def tensorflow():
        made = qnode(circuit, name, interface="tf")
        inputs, weights = tf.Variable(x), tf.Variable(w)
        with tf.GradientTape() as tape:
            value = parts(made(inputs=inputs, weights=weights))
            loss = total(
                value,
                lambda v, c: tf.reduce_sum(
                    (tf.cast(tf.math.real(v), tf.float64) + tf.cast(tf.math.imag(v), tf.float64)) * c
                ),
            )
        found = tape.gradient(loss, [inputs, weights], unconnected_gradients="zero")
        return [p.numpy() for p in value], [np.asarray(tf.convert_to_tensor(g)) for g in found]

    def torch():
        import torch as module

        made = qnode(circuit, name, interface="torch")
        inputs, weights = (module.tensor(v, requires_grad=True) for v in (x, w))
        value = parts(made(inputs=inputs, weights=weights))
        loss = total(
            value,
            lambda v, c: module.sum((module.real(v) + (module.imag(v) if module.is_complex(v) else 0)) * module.tensor(c)),
        )
        if loss.requires_grad:
            loss.backward()
        gradients = [v.grad if v.grad is not None else module.zeros_like(v) for v in (inputs, weights)]
        return [p.detach().numpy() for p in value], [g.numpy() for g in gradients]

    def jax():
        import jax as module

        module.config.update("jax_enable_x64", True)
        made, jnp = qnode(circuit, name, interface="jax"), module.numpy

        def loss(inputs, weights):
            return total(made(inputs=inputs, weights=weights), lambda v, c: jnp.sum((jnp.real(v) + jnp.imag(v)) * c))

        inputs, weights = jnp.array(x), jnp.array(w)
        value = [np.asarray(p) for p in parts(made(inputs=inputs, weights=weights))]
        return value, [np.asarray(g) for g in module.grad(loss, argnums=(0, 1))(inputs, weights)]

    return attempt({"autograd": autograd, "tensorflow": tensorflow, "torch": torch, "jax": jax}[interface])


def check_device(circuit, x, w, roads):
    x, w = x.astype(circuit.dtype).astype(float), w.astype(float)
    wanted, error, _ = device_outcome("default.qubit", "autograd", circuit, x, w)
    for interface in roads:
        theirs, theirs_error = wanted, error
        if interface != "autograd":  # an interface of PennyLane has errors of its own
            theirs, theirs_error, _ = device_outcome("default.qubit", interface, circuit, x, w)
        found, mine, _ = device_outcome("hybridbench.qubit", interface, circuit, x, w)
        road = f"device {interface}"
        if mine is not None:
            if theirs_error is None and not isinstance(mine, REFUSALS):
                raise Different(f"{road}: {type(mine).__name__}: {mine}, where PennyLane gives values") from mine
            SEEN[f"{road}: refused" if theirs_error is not None else f"{road}: told ({str(mine)[:60]})"] += 1
            continue
        SEEN[f"{road}: compared"] += 1
        known = theirs if theirs_error is None else wanted
        if known is None:
            # A measurement without a row per sample (a wire that no input reaches) is the same for each.
            rows = [
                p if len(p) == len(x) else np.broadcast_to(p, (len(x), *np.shape(p))) for p in map(np.atleast_1d, found[0])
            ]
            check_alone(road, circuit, x, w, [np.hstack([np.reshape(p, (len(x), -1)) for p in rows])], error, True)
            continue
        if any(np.max(np.abs(v), initial=0) > 1e6 or not np.isfinite(v).all() for v in known[0]):
            continue
        tolerance = allowed(circuit, x, w, is_exact(circuit, interface))
        try:
            compare(road, found[0], known[0], tolerance)
        except Different:  # PennyLane's other interfaces than NumPy's take constants and transforms in single precision
            if interface == "autograd":
                raise
            compare(road, found[0], known[0] if wanted is None else wanted[0], max(tolerance, 1e-6))
            SEEN[f"PennyLane's {interface} is less exact"] += 1
            continue
        if "entropy" not in circuit.says[-1]:
            try:
                compare_gradients(f"{road} gradient", circuit, found[1], known[1], tolerance)
            except Different:  # PyTorch's of a broadcast MultiRZ is 0 in PennyLane
                others = (agrees(other, circuit, x, w, found[1], tolerance) for other in interfaces() if other != interface)
                if not any(others) and not is_slope(circuit, x, w, found[1]):
                    raise
                SEEN[f"PennyLane's {interface} gives another gradient than PennyLane's other interfaces"] += 1


def agrees(interface, circuit, x, w, gradients, tolerance):
    """Whether PennyLane under another interface gives these gradients."""
    theirs, error, _ = device_outcome("default.qubit", interface, circuit, x, w)
    try:
        if error is None:
            compare_gradients("", circuit, gradients, theirs[1], tolerance)
    except Different:
        return False
    return error is None


def is_slope(circuit, x, w, gradients):
    """Whether gradients are the slope of PennyLane's own values: its backpropagation may be less exact than these."""
    rng = np.random.default_rng(0)
    along = rng.normal(size=x.shape) * [column.scale for column in circuit.columns], rng.normal(size=w.shape)

    def loss(step):
        moved = (v + step * d for v, d in zip((x, w), along, strict=True))
        return total(device_outcome("default.qubit", "autograd", circuit, *moved)[0][0], summed)

    def summed(value, weights):
        return float(np.sum((np.real(value) + np.imag(value)) * weights))

    step = 1e-3
    slope = (8 * (loss(step) - loss(-step)) - (loss(2 * step) - loss(-2 * step))) / (12 * step)
    mine = sum(float(np.sum(np.real(g) * d)) for g, d in zip(gradients, along, strict=True))
    return abs(mine - slope) < 1e-9 * max(1.0, abs(slope)) * 20


def interfaces():
    found = ["autograd", "tensorflow"]
    for name in ("torch", "jax"):
        try:
            __import__(name)
            found.append(name)
        except ImportError:
            continue
    return found


def check(circuit, number=0, all_roads=False):
    """Compare one circuit; `number` chooses which roads are taken besides the usual ones."""
    x, w = circuit.data()
    modes = ["eager", *(["graph"] if all_roads or number % 2 else []), *(["xla"] if number % 40 == 39 else [])]
    check_layer(circuit, x, w, modes)
    roads = interfaces()
    check_device(circuit, x, w, roads if all_roads else [roads[number % len(roads)]])
