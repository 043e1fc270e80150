"""The arms of the benchmark (`hybridbench.training.bench`): ways of doing one training step of workload W in float32.

Every factory takes the file of data and initial weights that all arms start from, and returns a function that does a step
and gives its loss. The arms that cannot run in this environment stand in `peers/`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pennylane as qml

import hybridbench
from hybridbench.circuits.layer import TracedKerasLayer
from hybridbench.circuits.qnode import build_qnode
from hybridbench.circuits.spec import CircuitSpec
from hybridbench.design.constants import FALL_BACKS
from hybridbench.design.workload import LEARNING_RATE
from hybridbench.engine import cpu
from hybridbench.engine.compiler import compile_tape
from hybridbench.errors import check_name
from hybridbench.stack import import_tensorflow
from hybridbench.training.optimizers import make_optimizer
from hybridbench.training.steps import FitClock, cross_entropy, hybrid_model, template_qnode

tf = import_tensorflow()

LAYERS = {
    "shipped": "PennyLane's KerasLayer on default.qubit",
    "graph": "the same, made traceable",
    "swapped": "PennyLane's KerasLayer on hybridbench.qubit",
    "compiled": "hybridbench.KerasLayer over the shipped QNode",
    "tensorflow": "the same with the TensorFlow engine",
    "none": "nothing: what Keras takes for itself",
}
CIRCUITS = ("plain", *FALL_BACKS)
SHOTS = 1000


def special_qnode(circuit: str, n_qubits: int) -> qml.QNode:
    """The circuit of W with one of `CIRCUITS` in it, on the simulator of PennyLane that runs it.

    Noise: 1 % depolarising on each wire. Mid-circuit measurement: of wire 0, which flips wire 1. Shots: `SHOTS` of them,
    differentiated by parameter-shift. Branch: one rotation more where the first feature is positive.
    """
    device = qml.device(
        "default.mixed" if circuit == "noise" else "default.qubit",
        wires=n_qubits + (circuit == "mid-circuit measurement"),
        shots=SHOTS if circuit == "shots" else None,
    )

    @qml.qnode(device, diff_method="parameter-shift" if circuit == "shots" else "backprop", interface="tf")
    def special(inputs: Any, weights: Any) -> list[qml.measurements.ExpectationMP]:
        if circuit == "shots":
            # Parameter-shift cannot shift a batch (PennyLane's issue 4462), so the inputs are numbers for it; and
            # default.qubit samples no probabilities of single precision.
            inputs, weights = tf.cast(tf.stop_gradient(inputs), tf.float64), tf.cast(weights, tf.float64)
        qml.AngleEmbedding(inputs, wires=range(n_qubits))
        if circuit == "branch" and bool(tf.reduce_all(inputs[..., 0] > 0)):
            qml.RX(0.1, wires=0)
        if circuit == "mid-circuit measurement":
            qml.cond(qml.measure(0), qml.X)(1)
        qml.StronglyEntanglingLayers(weights, wires=range(n_qubits))
        for wire in range(n_qubits if circuit == "noise" else 0):
            qml.DepolarizingChannel(0.01, wires=wire)
        return [qml.expval(qml.Z(wire)) for wire in range(n_qubits)]

    return special


def _layer(kind: str, n_qubits: int, n_layers: int, circuit: str) -> tf.keras.layers.Layer:
    if kind == "none":
        return tf.keras.layers.Activation("linear")
    shape = {"weights": (n_layers, n_qubits, 3)}
    if circuit != "plain":
        layer = qml.qnn.KerasLayer if kind == "shipped" else hybridbench.KerasLayer
        return layer(special_qnode(circuit, n_qubits), shape, n_qubits)
    if kind == "swapped":
        device, method = qml.device("hybridbench.qubit", wires=n_qubits, c_dtype=np.complex64), "best"
    else:
        device, method = qml.device("default.qubit", wires=n_qubits), "backprop"
    given = (template_qnode(n_qubits, device, method), shape, n_qubits)
    if kind == "graph":
        return TracedKerasLayer(*given)
    if kind in ("compiled", "tensorflow"):
        return hybridbench.KerasLayer(*given, engine="auto" if kind == "compiled" else "tensorflow")
    return qml.qnn.KerasLayer(*given)


def _model(
    layer: str, n_qubits: int, n_layers: int, given: dict[str, np.ndarray], circuit: str = "plain"
) -> tf.keras.Sequential:
    """W with the circuit as one of `LAYERS`, at the given weights."""
    tf.keras.backend.set_floatx("float32")
    quantum = _layer(check_name("layer", layer, LAYERS), n_qubits, n_layers, check_name("circuit", circuit, CIRCUITS))
    model = hybrid_model(quantum, n_qubits)
    front, _, head = model.layers
    front.build((None, given["x"].shape[1]))
    head.build((None, n_qubits))
    front.set_weights([given["front_kernel"], given["front_bias"]])
    if quantum.weights:  # PennyLane's layer has them from the start
        quantum.set_weights([given["weights"]])
    head.set_weights([given["head_kernel"], given["head_bias"]])
    return model


def fit_step(
    problem: str,
    n_qubits: int,
    n_layers: int,
    batch_size: int,
    layer: str,
    mode: str = "graph",
    steps: int = 1,
    epochs: int = 1,
    circuit: str = "plain",
) -> Callable[[], dict[str, Any]]:
    """Steps by `model.fit`, `epochs` epochs of `steps` steps; what it clocks is the mean step of the loop.

    Args:
        problem: file of data and initial weights.
        n_qubits, n_layers, batch_size: size of W.
        layer: one of `LAYERS`.
        mode: "eager", "graph", or "xla" (a graph that XLA compiles). Graphs do the steps of an epoch in one execution
            (`steps_per_execution`).
        steps: steps of an epoch.
        epochs: epochs of a call.
        circuit: one of `CIRCUITS`; all but the first need the layer "shipped" or "compiled".
    """
    check_name("mode", mode, ("eager", "graph", "xla"))
    given = dict(np.load(problem))
    model = _model(layer, n_qubits, n_layers, given, circuit)
    # The same batch again and again, as in the other arms: no arm's time holds the reading of data.
    data = tf.data.Dataset.from_tensors((given["x"], given["y"])).repeat()
    settings = {"run_eagerly": True} if mode == "eager" else {"steps_per_execution": steps, "jit_compile": mode == "xla"}
    model.compile(make_optimizer("adam", LEARNING_RATE), cross_entropy(), **settings)
    first = True

    def step() -> dict[str, Any]:
        nonlocal first
        clock = FitClock()
        if first:
            # Traces and compiles; two losses of single steps, to compare with the other arms'.
            first = False
            history = model.fit(data, steps_per_epoch=1, epochs=2, verbose=0, callbacks=[clock])
            return {"step": clock.seconds / 2, "loss": history.history["loss"]}
        history = model.fit(data, steps_per_epoch=steps, epochs=epochs, verbose=0, callbacks=[clock])
        model.trainable_variables[-1].numpy()
        return {"step": clock.seconds / (steps * epochs), "loss": history.history["loss"]}

    return step


def engine_step(problem: str, n_qubits: int, n_layers: int, batch_size: int) -> Callable[[], dict[str, float]]:
    """The engine alone, from NumPy: forward and adjoint of the circuit, with gradients by weights and inputs, in complex64.

    Args:
        problem: file of data and initial weights.
        n_qubits, n_layers, batch_size: size of W.
    """
    given = dict(np.load(problem))
    angles = np.pi * np.tanh(given["x"] @ given["front_kernel"] + given["front_bias"])
    spec = CircuitSpec("angle", "strongly_entangling", n_qubits, n_layers)
    circuit = build_qnode(spec, qml.device("default.qubit", wires=n_qubits), "backprop", "auto")
    tape = qml.workflow.construct_tape(circuit)(angles, given["weights"])
    compiled = compile_tape(tape, range(n_qubits))
    parameters = [[np.asarray(value) for value in operation.data] for operation in tape.operations]
    shared = np.array([parameters[op][index] for op, index in compiled.shared], np.float32)
    sample = np.stack([parameters[op][index] for op, index in compiled.sample], axis=1).astype(np.float32)
    assert sample.shape[0] == batch_size
    states = cpu.kept_states(compiled.program, batch_size, "complex64")
    arguments = compiled.program, shared, sample

    def step() -> dict[str, float]:
        begin = time.perf_counter()
        values = cpu.expectations(*arguments, precision="complex64", kept=states)
        cpu.expectations_vjp(*arguments, given["cotangent"], precision="complex64", kept=states)
        seconds = time.perf_counter() - begin
        logits = values @ given["head_kernel"] + given["head_bias"]
        chosen = logits[np.arange(batch_size), given["y"]]
        return {"step": seconds, "loss": float(np.mean(np.log(np.exp(logits).sum(axis=1)) - chosen))}

    return step
