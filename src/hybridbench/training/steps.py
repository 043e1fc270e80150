"""The arms of timing cells: each factory builds one way of doing a training step and returns it as a function to clock.

Most steps train on the ten handwritten digits. Workload W(n, L, B) is the classical-quantum-classical model of
`step_model`: dense 64 → n with pi·tanh, RX angle embedding, L strongly entangling layers, <Z> on each wire, dense n → 10.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from hybridbench.circuits.layer import KerasLayer, keras_layer
from hybridbench.circuits.qnode import build_qnode, original_circuit
from hybridbench.circuits.spec import CircuitSpec
from hybridbench.design.routes import is_route, route_of
from hybridbench.design.workload import LEARNING_RATE, N_CLASSES
from hybridbench.engine.backends import BACKENDS, make_device
from hybridbench.errors import BackendError, ConfigurationError, MemoryEstimateError, check_name
from hybridbench.measurement.machine import available_memory_bytes
from hybridbench.measurement.timing import Arm, TimingCell
from hybridbench.stack import import_tensorflow
from hybridbench.tasks import prepare, read_table
from hybridbench.training.config import TrialConfig
from hybridbench.training.engine_arms import wait_for_cuda
from hybridbench.training.optimizers import keras_optimizers, make_optimizer
from hybridbench.training.problems import build
from hybridbench.training.trial import Stepper

tf = import_tensorflow()
import pennylane as qml  # noqa: E402  (TensorFlow first, with its start-up notices held back)

Step = Callable[[], Any]
TRIAL_STEPS = 60  #: steps of a sample of the cell "optimizers", and most updates of one of the cell "update"
LARGEST_LOOPED = 10_000_000  #: parameters that a sample of the cell "update" changes, one after the other, or at once
N_VARIABLES = 8  #: the parameters of a model lie in several variables; so do those of the cell "update"
HERE = "hybridbench.training.steps"


def scaled_tanh(x: tf.Tensor) -> tf.Tensor:
    """pi·tanh(x): any real number to an angle."""
    return np.pi * tf.tanh(x)


def _pixels(batch_size: int, precision: str) -> tuple[tf.Tensor, tf.Tensor]:
    table = read_table("digits")
    x = table.drop(columns="target").to_numpy()[:batch_size] / 16.0
    return tf.constant(x, precision), tf.constant(table["target"].to_numpy()[:batch_size])


def _spec(n_qubits: int, n_layers: int) -> CircuitSpec:
    return CircuitSpec("angle", "strongly_entangling", n_qubits, n_layers)


def cross_entropy() -> tf.keras.losses.Loss:
    """The loss of W: softmax cross-entropy of logits."""
    return tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def hybrid_model(quantum: tf.keras.layers.Layer, n_qubits: int, front: bool = True) -> tf.keras.Sequential:
    """The layers of W around a quantum layer of `n_qubits`; without `front` the circuit takes its features directly."""
    before = [tf.keras.layers.Dense(n_qubits, activation=scaled_tanh, name="front")] if front else []
    return tf.keras.Sequential([*before, quantum, tf.keras.layers.Dense(N_CLASSES, name="head")])


def step_model(
    n_qubits: int,
    n_layers: int,
    backend: str = "default.qubit",
    diff_method: str = "backprop",
    precision: str = "complex128",
    graph: bool = False,
    front: bool = True,
) -> tf.keras.Sequential:
    """The model of workload W; without `front` the circuit takes n_qubits features directly."""
    tf.keras.utils.set_random_seed(0)
    tf.keras.backend.set_floatx("float64")
    return hybrid_model(keras_layer(_spec(n_qubits, n_layers), backend, diff_method, precision, graph), n_qubits, front)


def keras_step(
    n_qubits: int,
    n_layers: int,
    batch_size: int,
    backend: str = "default.qubit",
    diff_method: str = "backprop",
    precision: str = "complex128",
    mode: str = "eager",
    front: bool = True,
    device: str = "CPU:0",
) -> Step:
    """A whole step through Keras: `model.train_on_batch` with Adam.

    Args:
        n_qubits: wires.
        n_layers: strongly entangling layers.
        batch_size: samples of the step.
        backend: a name of `BACKENDS`.
        diff_method: one of the backend's.
        precision: complex type of the state vector; the Keras model is in float64 throughout.
        mode: "eager" (PennyLane's KerasLayer as shipped), "graph" (traced) or "xla" (traced and compiled).
        front: whether a dense layer stands before the circuit, so that gradients of the circuit's inputs are needed.
        device: TensorFlow's device for everything that TensorFlow computes, "CPU:0" or "GPU:0".

    Raises:
        BackendError: TensorFlow does not have the device, or put the weights elsewhere.
    """
    check_name("mode", mode, ("eager", "graph", "xla"))
    _check_device(device)
    with tf.device(device):
        model = step_model(n_qubits, n_layers, backend, diff_method, precision, mode != "eager", front)
        if front:
            x, y = _pixels(batch_size, "float64")
        else:
            task = prepare("digits", n_qubits, 0)
            x, y = tf.constant(task.x_train[:batch_size]), tf.constant(task.y_train[:batch_size])
        model.compile(
            make_optimizer("adam", LEARNING_RATE), cross_entropy(), run_eagerly=mode == "eager", jit_compile=mode == "xla"
        )

    losses: list[float] = []

    def step() -> list[Any]:
        with tf.device(device):
            loss = model.train_on_batch(x, y)
        if len(losses) < 2:
            losses.append(float(loss))
        weights = model.trainable_variables[-1]
        if not weights.device.endswith(device):
            raise BackendError(f"TensorFlow put the weights on {weights.device}, not on {device}; the timing is refused.")
        # The weights are read back too: the loss is known before the update is done.
        return [loss, weights.numpy()]

    return _with_evidence(step, losses, backend, device, lambda: _places(model, x, device), lambda: _traces(model))


def _check_device(device: str) -> None:
    if device not in [found.name.removeprefix("/device:") for found in tf.config.list_logical_devices()]:
        raise BackendError(f"TensorFlow sees no device {device} in this process; nothing ran.")


def _places(model: tf.keras.Model, x: tf.Tensor, device: str) -> list[str]:
    """TensorFlow's names of the devices that hold the model's weights and its results."""
    with tf.device(device):
        return sorted({tensor.device for tensor in (*model.trainable_variables, model(x))})


def _traces(model: tf.keras.Model) -> int:
    """How often Keras has traced, and XLA compiled, the model's step; 0 where it runs eagerly."""
    function = getattr(model, "train_tf_function", None)
    return function.experimental_get_tracing_count() if function is not None else 0


def _with_evidence(
    step: Step,
    losses: list[float],
    backend: str,
    device: str,
    places: Callable[[], list[str]],
    traces: Callable[[], int] = lambda: 0,
) -> Step:
    """Give a step what the harness asks of it (`hybridbench.measurement.evidence`).

    Args:
        step: the function that does it.
        losses: its first losses, once they are there.
        backend: a name of `BACKENDS`.
        device: TensorFlow's device.
        places: names of the devices that hold the step's tensors; asked once, for it takes a forward pass.
        traces: how often something was compiled.
    """
    found: list[str] = []

    def account() -> dict[str, Any]:
        if not found:
            # A GPU simulator does the work of an arm whose tensors are on the CPU.
            found.extend([backend] if BACKENDS[backend].needs_gpu else places())
        return {"devices": found, "compilations": traces()}

    step.losses = lambda: losses
    step.evidence = account
    if BACKENDS[backend].needs_gpu:
        step.synchronize = wait_for_cuda
    elif "GPU" in device:
        step.synchronize = tf.test.experimental.sync_devices
    return step


def step_parts(
    n_qubits: int, n_layers: int, batch_size: int, backend: str, diff_method: str
) -> Callable[[], dict[str, float]]:
    """A step of W taken apart: seconds of dense layers and circuit, forward and backward, of the update, and the rest.

    "step" is a whole `train_on_batch`. Then the same work is done piece by piece, each piece under its own gradient tape and
    clock. "python" is what the pieces do not explain: Keras's own work around them.
    """
    model = step_model(n_qubits, n_layers, backend, diff_method)
    front, quantum, head = model.layers
    x, y = _pixels(batch_size, "float64")
    loss_function = cross_entropy()
    model.compile(make_optimizer("adam", LEARNING_RATE), loss_function, run_eagerly=True)

    def parts() -> dict[str, float]:
        clock = [time.perf_counter()]
        float(model.train_on_batch(x, y))
        clock.append(time.perf_counter())
        whole = clock[1] - clock[0]
        with tf.GradientTape() as front_tape:
            angles = front(x)
        angles.numpy()
        clock.append(time.perf_counter())
        with tf.GradientTape() as quantum_tape:
            quantum_tape.watch(angles)
            values = quantum(angles)
        values.numpy()
        clock.append(time.perf_counter())
        with tf.GradientTape() as head_tape:
            head_tape.watch(values)
            loss = loss_function(y, head(values))
        float(loss)
        clock.append(time.perf_counter())
        value_gradient, *head_gradients = head_tape.gradient(loss, [values, *head.trainable_variables])
        value_gradient.numpy()
        clock.append(time.perf_counter())
        angle_gradient, *quantum_gradients = quantum_tape.gradient(
            values, [angles, *quantum.trainable_variables], output_gradients=value_gradient
        )
        angle_gradient.numpy()
        clock.append(time.perf_counter())
        front_gradients = front_tape.gradient(angles, front.trainable_variables, output_gradients=angle_gradient)
        front_gradients[0].numpy()
        clock.append(time.perf_counter())
        gradients = [*front_gradients, *quantum_gradients, *head_gradients]
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        model.trainable_variables[-1].numpy()
        clock.append(time.perf_counter())
        front_f, quantum_f, head_f, head_b, quantum_b, front_b, update = np.diff(clock[1:])
        pieces = {
            "classical forward": front_f + head_f,
            "quantum forward": quantum_f,
            "quantum backward": quantum_b,
            "classical backward": head_b + front_b,
            "update": update,
        }
        return {"step": whole, **pieces, "python": whole - sum(pieces.values())}

    return parts


def batching_step(n_qubits: int, n_layers: int, batch_size: int, mode: str) -> Step:
    """Value and gradient of the circuit for a batch: "loop" calls it once per sample, "broadcast" once for all."""
    check_name("mode", mode, ("loop", "broadcast"))
    spec = _spec(n_qubits, n_layers)
    circuit = build_qnode(spec, make_device("default.qubit", n_qubits), "backprop", "tf")
    rng = np.random.default_rng(0)
    weights = tf.Variable(rng.uniform(0, 2 * np.pi, spec.weight_shape))
    x = tf.constant(prepare("digits", n_qubits, 0).x_train[:batch_size])

    def step() -> np.ndarray:
        with tf.GradientTape() as tape:
            if mode == "loop":
                total = tf.add_n([tf.add_n(circuit(sample, weights)) for sample in x])
            else:
                total = tf.reduce_sum(tf.add_n(circuit(x, weights)))
        return tape.gradient(total, weights).numpy()

    return step


def optimizer_step(
    n_qubits: int, n_layers: int, batch_size: int, optimizer: str, learning_rate: float
) -> Callable[[], dict[str, float]]:
    """The mean step of a trial of the optimizer study (`hybridbench.training.trial`), `TRIAL_STEPS` of them in one graph.

    Every sample is the beginning of the same run, so that a diverging arm does not go on with numbers out of range.

    Args:
        n_qubits: wires.
        n_layers: strongly entangling layers.
        batch_size: samples of the step.
        optimizer: a name of `OPTIMIZERS`.
        learning_rate: its learning rate; its other settings are the framework's.
    """
    size = {"n_qubits": n_qubits, "n_layers": n_layers, "batch_size": batch_size}
    problem = build(TrialConfig("digits_3v5", optimizer=optimizer, **size))
    stepper = Stepper(problem, optimizer, TRIAL_STEPS)
    rows = tf.constant(problem.rows(0, TRIAL_STEPS))

    @tf.function(autograph=False)
    def run() -> tf.Tensor:
        def one(number: tf.Tensor, loss: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return number + 1, stepper.step(rows[number], number)

        start = (tf.constant(0), tf.constant(0.0, tf.float64))
        return tf.while_loop(lambda number, _: number < TRIAL_STEPS, one, start, parallel_iterations=1)[1]

    def step() -> dict[str, float]:
        problem.load(0)
        stepper.reset(learning_rate, {}, 0)
        begin = time.perf_counter()
        run().numpy()
        problem.variables[-1].numpy()  # the loss is known before the last update is done
        return {"step": (time.perf_counter() - begin) / TRIAL_STEPS}

    return step


@lru_cache(maxsize=1)
def _given_gradients(n_parameters: int) -> list[tf.Tensor]:
    values = np.random.default_rng(0).normal(size=n_parameters)
    return [tf.constant(part) for part in np.array_split(values, N_VARIABLES)]


def update_step(n_parameters: int, optimizer: str) -> Callable[[], dict[str, float]]:
    """The mean update of `n_parameters` float64 numbers in `N_VARIABLES` variables, by gradients that all arms share.

    Many small updates are one graph, as the steps of a trial are: the time of a call would be most of theirs. One call goes
    before the clocked one: after an arm of ten million parameters the caches hold nothing of a small arm's, and the clock
    would show that instead.
    """
    gradients = _given_gradients(n_parameters)
    variables = [tf.Variable(tf.zeros_like(gradient)) for gradient in gradients]
    keras_optimizer = make_optimizer(optimizer, 0.001)
    keras_optimizer.build(variables)

    updates = max(1, min(TRIAL_STEPS, LARGEST_LOOPED // n_parameters))

    @tf.function(autograph=False)
    def update(grads: list[tf.Tensor]) -> tf.Tensor:
        def one(number: tf.Tensor) -> list[tf.Tensor]:
            with tf.control_dependencies([keras_optimizer.apply_gradients(zip(grads, variables, strict=True))]):
                return [number + 1]

        done = tf.while_loop(lambda number: number < updates, one, [tf.constant(0)], parallel_iterations=1)
        # One number comes back: the call returns when all variables are written, and copying them out would be clocked too.
        with tf.control_dependencies(done):
            return variables[-1][-1]

    def step() -> dict[str, float]:
        float(update(gradients))
        begin = time.perf_counter()
        float(update(gradients))
        return {"step": (time.perf_counter() - begin) / updates}

    return step


def original_step(
    backend: str,
    mode: str,
    n_qubits: int = 8,
    batch_size: int = 100,
    optimizer: str = "adam",
    device: str = "CPU:0",
) -> Step:
    """A step of the original study's timing cell: maximise the mean <Z0 Z1> of (batch, wires) parameters, learning rate 0.1.

    Args:
        backend: a name of `BACKENDS`.
        mode: "broadcast" passes the batch at once; "loop" calls the circuit for one set after the other, as the study did.
        n_qubits: wires.
        batch_size: parameter sets.
        optimizer: a name of `OPTIMIZERS`.
        device: TensorFlow's device, "CPU:0" or "GPU:0".

    Raises:
        BackendError: TensorFlow does not have the device, or the backend is not there.
    """
    check_name("mode", mode, ("loop", "broadcast"))
    _check_device(device)
    diff_method = "backprop" if backend == "default.qubit" else "adjoint"
    circuit = original_circuit(n_qubits, make_device(backend, n_qubits), diff_method, "tf")
    with tf.device(device):
        theta = tf.Variable(np.random.default_rng(0).normal(size=(batch_size, n_qubits)))
        keras_optimizer = make_optimizer(optimizer, 0.1)
    losses: list[float] = []
    places: list[str] = []
    comparable = 2 if optimizer == "adam" else 1  # after a step by another rule the loss is another

    def step() -> list[Any]:
        with tf.device(device):
            with tf.GradientTape() as tape:
                energy = tf.stack([circuit(row) for row in tf.unstack(theta)]) if mode == "loop" else circuit(theta)
                loss = -tf.reduce_mean(energy)
            gradient = tape.gradient(loss, theta)
            keras_optimizer.apply_gradients([(gradient, theta)])
        if len(losses) < comparable:
            losses.append(float(loss))
            places[:] = sorted({theta.device, energy.device, gradient.device})
        return [float(loss), theta.numpy()]

    return _with_evidence(step, losses, backend, device, lambda: places)


def layer_step(
    n_qubits: int, n_layers: int, batch_size: int, layer: str, steps: int = 1, floatx: str = "float32", device: str = "CPU:0"
) -> Step:
    """Steps of W in `model.fit` with Adam: PennyLane's layer as shipped, eagerly, or the compiled layer in a graph.

    Args:
        n_qubits: wires.
        n_layers: strongly entangling layers.
        batch_size: samples of a step.
        layer: what records call a route with a Keras layer.
        steps: steps of one call, which graphs do in one execution; the harness divides by it.
        floatx: Keras's type of numbers; the state vector has the complex type that belongs to it.
        device: TensorFlow's device, "CPU:0" or "GPU:0".

    Raises:
        BackendError: TensorFlow does not have the device, or the backend is not there.
    """
    route = route_of(layer)
    compiled = route.layer == "hybridbench.KerasLayer"
    # A compiled layer takes the QNode as most users have it, and simulates with its own engine.
    backend, method = ("default.qubit", "backprop") if compiled else (route.backend, route.diff_method)
    engine = (route.engine or "cpu") if compiled else None
    _check_device(device)
    tf.keras.backend.set_floatx(floatx)
    simulator = make_device(backend, n_qubits, "complex64" if floatx == "float32" and engine is None else "complex128")
    qnode = template_qnode(n_qubits, simulator, method)
    shape = {"weights": (n_layers, n_qubits, 3)}
    losses: list[float] = []
    with tf.device(device):
        if engine is None:
            circuit = qml.qnn.KerasLayer(qnode, shape, output_dim=n_qubits)
        else:
            circuit = KerasLayer(qnode, shape, output_dim=n_qubits, engine=engine)
        x, y = _pixels(batch_size, floatx)
        model = hybrid_model(circuit, n_qubits)
        front, _, head = model.layers
        front.build(x.shape)
        head.build((None, n_qubits))
        # The layers draw their weights in an order of their own; given ones are the same in every arm.
        rng = np.random.default_rng(0)
        for part in (front, circuit, head):
            part.set_weights([rng.uniform(-0.5, 0.5, weight.shape) for weight in part.weights])
        data = tf.data.Dataset.from_tensors((x, y)).repeat()
        settings = (
            {"run_eagerly": True} if engine is None else {"steps_per_execution": steps, "jit_compile": route.mode == "xla"}
        )
        model.compile(make_optimizer("adam", LEARNING_RATE), cross_entropy(), **settings)

    def step() -> list[Any]:
        with tf.device(device):
            if not losses:  # two single steps, whose losses are the other arms'
                losses.extend(model.fit(data, steps_per_epoch=1, epochs=2, verbose=0).history["loss"])
            history = model.fit(data, steps_per_epoch=steps, verbose=0)
        return [*history.history["loss"], model.trainable_variables[-1].numpy()]

    step.steps = steps
    step = _with_evidence(step, losses, backend, device, lambda: _places(model, x, device), lambda: _traces(model))
    if engine == "cuda":
        from hybridbench.engine import cuda

        def account() -> dict[str, Any]:
            found = cuda.counters()
            return {
                "devices": [found["device"]],
                "kernels": found["launches"],
                "compilations": found["compilations"] + _traces(model),
            }

        step.evidence, step.synchronize = account, cuda.synchronize
    return step


def methods_cell(n_qubits: int, n_layers: int, batch_size: int, methods: list[str], **settings: Any) -> TimingCell:
    """Whole steps through KerasLayer as shipped, one arm per "backend/diff_method", without a dense layer in front.

    Parameter-shift cannot differentiate a batch with respect to its inputs (PennyLane issue 4462), so no arm has to.
    """
    arms = []
    for method in methods:
        route = route_of(method)
        given = {"backend": route.backend, "diff_method": route.diff_method, "front": False}
        arms.append(_arm(method, keras_step, n_qubits, n_layers, batch_size, **given))
    return TimingCell("methods", n_qubits, n_layers, batch_size, tuple(arms), **settings)


def parts_cell(n_qubits: int, n_layers: int, batch_size: int, methods: list[str], **settings: Any) -> TimingCell:
    """A step of W taken apart, one arm per "backend/diff_method"."""
    arms = []
    for method in methods:
        given = {"backend": route_of(method).backend, "diff_method": route_of(method).diff_method}
        arms.append(_arm(method, step_parts, n_qubits, n_layers, batch_size, **given))
    return TimingCell("parts", n_qubits, n_layers, batch_size, tuple(arms), **settings)


def batching_cell(n_qubits: int, n_layers: int, batch_size: int, **settings: Any) -> TimingCell:
    """One circuit per sample against one call for the batch, on default.qubit with backprop."""
    arms = tuple(_arm(mode, batching_step, n_qubits, n_layers, batch_size, mode=mode) for mode in ("loop", "broadcast"))
    return TimingCell("batching", n_qubits, n_layers, batch_size, arms, **settings)


def compile_cell(n_qubits: int, n_layers: int, batch_size: int, modes: list[str], **settings: Any) -> TimingCell:
    """The same step of W eagerly, as a graph and, where asked, compiled by XLA."""
    arms = tuple(_arm(mode, keras_step, n_qubits, n_layers, batch_size, mode=mode) for mode in modes)
    return TimingCell("compile", n_qubits, n_layers, batch_size, arms, **settings)


def template_qnode(n_qubits: int, device: qml.devices.Device, diff_method: str) -> qml.QNode:
    """The circuit of W as most users write it, with PennyLane's templates."""

    @qml.qnode(device, diff_method=diff_method, interface="tf")
    def circuit(inputs: Any, weights: Any) -> list[qml.measurements.ExpectationMP]:
        qml.AngleEmbedding(inputs, wires=range(n_qubits))
        qml.StronglyEntanglingLayers(weights, wires=range(n_qubits))
        return [qml.expval(qml.Z(wire)) for wire in range(n_qubits)]

    return circuit


#: The fast path rung by rung, each of which changes one thing of one before it: route → steps of a sample of `fit_step`.
RUNGS = {"as shipped": 1, "device swapped": 10, "compiled layer": 50, "XLA instead": 50, "single precision": 50}


class FitClock(tf.keras.callbacks.Callback):
    """Clocks the loop of a `fit`, from before its first epoch until after its last."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Start."""
        self.begin = time.perf_counter()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Stop: `seconds`."""
        self.seconds = time.perf_counter() - self.begin


def fit_step(
    n_qubits: int,
    n_layers: int,
    batch_size: int,
    backend: str,
    diff_method: str,
    steps: int,
    mode: str = "eager",
    floatx: str = "float64",
    engine: str = "auto",
    device: str = "",
) -> Callable[[], dict[str, float]]:
    """The mean step of W in the loop of `model.fit`, with Adam; graphs do all steps of a sample in one execution.

    Args:
        n_qubits: wires.
        n_layers: strongly entangling layers.
        batch_size: samples of the step.
        backend: a name of `BACKENDS`.
        diff_method: one of the backend's.
        steps: steps of a sample.
        mode: "eager" (PennyLane's KerasLayer), "graph" (the compiled layer) or "xla" (the same under XLA).
        floatx: Keras's type of numbers; the state vector has the complex type that belongs to it.
        engine: the compiled layer's engine, where the mode is not "eager".
        device: TensorFlow's device for all that TensorFlow computes, "CPU:0"; TensorFlow's own choice where empty.
    """
    check_name("mode", mode, ("eager", "graph", "xla"))
    tf.keras.utils.set_random_seed(0)
    tf.keras.backend.set_floatx(floatx)
    simulator = make_device(backend, n_qubits, "complex64" if floatx == "float32" else "complex128")
    layer, more = (qml.qnn.KerasLayer, {}) if mode == "eager" else (KerasLayer, {"engine": engine})
    qnode = template_qnode(n_qubits, simulator, diff_method)
    with tf.device(device or None):
        quantum = layer(qnode, {"weights": (n_layers, n_qubits, 3)}, output_dim=n_qubits, **more)
        model = hybrid_model(quantum, n_qubits)
        data = tf.data.Dataset.from_tensors(_pixels(batch_size, floatx)).repeat()
        settings = {"run_eagerly": True} if mode == "eager" else {"steps_per_execution": steps, "jit_compile": mode == "xla"}
        model.compile(make_optimizer("adam", LEARNING_RATE), cross_entropy(), **settings)

    def step() -> dict[str, float]:
        clock = FitClock()
        with tf.device(device or None):
            model.fit(data, steps_per_epoch=steps, verbose=0, callbacks=[clock])
        weights = model.trainable_variables[-1]
        if not weights.device.endswith(device):
            raise BackendError(f"TensorFlow put the weights on {weights.device}, not on {device}; the timing is refused.")
        weights.numpy()
        return {"step": clock.seconds / steps}

    return step


def rungs_cell(n_qubits: int, n_layers: int, batch_size: int, rungs: list[str], **settings: Any) -> TimingCell:
    """The same step of W from PennyLane's layer as shipped to the compiled layer in single precision, one arm a rung."""
    arms = []
    for name in rungs:
        steps, route = RUNGS[check_name("rung", name, RUNGS)], route_of(name)
        given = {"backend": route.backend, "diff_method": route.diff_method, "steps": steps}
        given |= {} if route.mode == "eager" else {"mode": route.mode}
        given |= {"floatx": "float32"} if route.precision == "complex64" else {}
        arms.append(_arm(name, fit_step, n_qubits, n_layers, batch_size, **given))
    return TimingCell("rungs", n_qubits, n_layers, batch_size, tuple(arms), **settings)


def precision_cell(n_qubits: int, n_layers: int, batch_size: int, **settings: Any) -> TimingCell:
    """The same step of W on lightning.qubit with double and with single precision."""
    arms = tuple(
        _arm(
            precision,
            keras_step,
            n_qubits,
            n_layers,
            batch_size,
            backend="lightning.qubit",
            diff_method="adjoint",
            precision=precision,
        )
        for precision in ("complex128", "complex64")
    )
    return TimingCell("precision", n_qubits, n_layers, batch_size, arms, **settings)


def optimizers_cell(n_qubits: int, n_layers: int, batch_size: int, optimizers: list[str], **settings: Any) -> TimingCell:
    """The same step of a trial with each optimizer, and with Adam at two more learning rates."""
    given = {name: (name, 0.01) for name in optimizers}
    given |= {"adam, lr 0.001": ("adam", 0.001), "adam, lr 0.1": ("adam", 0.1)}
    arms = tuple(
        _arm(arm, optimizer_step, n_qubits, n_layers, batch_size, optimizer=name, learning_rate=rate)
        for arm, (name, rate) in given.items()
    )
    return TimingCell("optimizers", n_qubits, n_layers, batch_size, arms, **settings)


def update_cell(sizes: list[int], **settings: Any) -> TimingCell:
    """The update alone by Adam and by FusedAdam, arms "adam, 1000" and "fused_adam, 1000" for 1000 parameters.

    No circuit is run: the cell has 0 qubits, 0 layers and batch 1.

    Args:
        sizes: numbers of parameters, at least one a variable (`N_VARIABLES`).
        settings: threads, samples, warmup.

    Raises:
        ConfigurationError: a size that leaves a variable empty.
        MemoryEstimateError: the arms, which are all in one process, do not fit into the free memory.
    """
    if min(sizes) < N_VARIABLES:
        raise ConfigurationError(
            f"{min(sizes)} parameters do not fill {N_VARIABLES} variables; give at least {N_VARIABLES}."
        )
    # Each size keeps its gradients and, for either arm, variables and two moments; the largest update needs temporaries.
    needed = 8 * (7 * sum(sizes) + 12 * max(sizes))
    if needed > (available := available_memory_bytes()):
        raise MemoryEstimateError(
            f"Updates of {', '.join(map(str, sizes))} parameters need about {needed / 2**30:.3g} GiB, and "
            f"{available / 2**30:.3g} GiB are free: leave out the largest size."
        )
    arms = tuple(
        Arm(f"{name}, {size}", f"{HERE}:{update_step.__name__}", {"n_parameters": size, "optimizer": name})
        for size in sizes
        for name in ("adam", "fused_adam")
    )
    return TimingCell("update", 0, 0, 1, arms, **settings)


def original_cells(**settings: Any) -> list[TimingCell]:
    """The original study's exact workload, 8 wires and 100 parameter sets: by simulator, and by optimizer."""
    arms = (
        Arm("default.qubit/broadcast", f"{HERE}:original_step", {"backend": "default.qubit", "mode": "broadcast"}),
        Arm("lightning.qubit/loop", f"{HERE}:original_step", {"backend": "lightning.qubit", "mode": "loop"}),
    )
    broadcast = {"backend": "default.qubit", "mode": "broadcast"}
    by_optimizer = tuple(Arm(name, f"{HERE}:original_step", {**broadcast, "optimizer": name}) for name in keras_optimizers())
    return [
        TimingCell("original", 8, 1, 100, arms, **settings),
        TimingCell("original_optimizers", 8, 1, 100, by_optimizer, **settings),
    ]


def frontier_cells(n_qubits: int, n_layers: int, **settings: Any) -> list[TimingCell]:
    """Steps of lightning.qubit on as many wires as it can take: of the cell "methods" and of the study's own workload.

    The two differ by more than an order of magnitude: the adjoint method walks the circuit back once for every expectation
    value, of which the layer has one a wire and the study's circuit one. Batches are 1 and 2, for these steps take seconds.

    Args:
        n_qubits: wires.
        n_layers: strongly entangling layers of the layer's circuit.
        settings: threads, samples, warmup.
    """
    arm = Arm(
        "lightning.qubit/loop",
        f"{HERE}:original_step",
        {"backend": "lightning.qubit", "mode": "loop", "n_qubits": n_qubits, "batch_size": 2},
    )
    return [
        methods_cell(n_qubits, n_layers, 1, ["lightning.qubit/adjoint"], **settings),
        TimingCell("original", n_qubits, 1, 2, (arm,), **settings),
    ]


def _arm(name: str, factory: Callable, n_qubits: int, n_layers: int, batch_size: int, **arguments: Any) -> Arm:
    size = {"n_qubits": n_qubits, "n_layers": n_layers, "batch_size": batch_size}
    # Work of a GPU needs the driver's proof in whatever cell it stands; arms of optimizers are all on the CPU.
    return Arm(name, f"{HERE}:{factory.__name__}", {**size, **arguments}, is_route(name) and route_of(name).gpu)
