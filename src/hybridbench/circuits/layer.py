"""Circuits as Keras layers: PennyLane's as shipped, a subclass that compiles the circuit, and one that only traces it."""

from __future__ import annotations

import copy
import math
import re
import warnings
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from threading import RLock
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from hybridbench.circuits.compiled import NOT_OF_NORM_ONE, CompiledCircuit
from hybridbench.circuits.first_call import first_numbers
from hybridbench.circuits.proof import Reference, RefusedByPennylane
from hybridbench.circuits.python_call import call_from_graph
from hybridbench.circuits.qnode import build_qnode
from hybridbench.circuits.reads import Same, reads
from hybridbench.circuits.spec import CircuitSpec
from hybridbench.circuits.tracing import ChangingCircuit, tf
from hybridbench.engine.backends import BACKENDS, check_memory, make_device, state_memory_bytes
from hybridbench.engine.compiler import UnsupportedCircuit
from hybridbench.engine.verification import check_verify, compare
from hybridbench.errors import ConfigurationError, check_name
from hybridbench.stack import refuse_keras_3

import pennylane as qml  # isort: skip  (TensorFlow first, with its start-up notices held back)
from tensorflow.python.saved_model.save_context import in_save_context  # isort: skip
from tf_keras.src.utils.control_flow_util import GraphOrParentsInXlaContext  # isort: skip

ENGINES = ("auto", "cpu", "tensorflow", "cuda")
MAX_CIRCUITS = 32  #: compiled circuits that a layer keeps
#: What a quantum function raises for inputs that it was not made for.
USERS_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)

# AutoGraph would translate the whole simulator line by line: 42-58 s for a first step instead of 2-5 s.
_without_autograph = tf.autograph.experimental.do_not_convert
_call_as_shipped = _without_autograph(qml.qnn.KerasLayer.call)


class _Kept:
    """What a layer keeps that is no part of it: Keras does not save it, and a copy of the layer starts without.

    Attributes:
        circuits: for each kind of inputs the compiled circuit, or why there is none.
        told: whether the user knows that it is not compiled.
        told_untraced: whether the user knows that PennyLane's layer cannot be traced either.
    """

    def __init__(self) -> None:
        self.circuits: OrderedDict[tuple, CompiledCircuit | Exception] = OrderedDict()
        self.lock = RLock()
        self.told = False
        self.told_untraced = False

    def __reduce__(self) -> tuple:
        return _Kept, ()


class _Recurring(Exception):
    """An error that came twice in a row."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class KerasLayer(qml.qnn.KerasLayer):
    """`qml.qnn.KerasLayer` whose circuit is compiled: same signature, weights, results and saved files, and far faster.

    The circuit is traced and compiled at the first call. The engine then computes it whatever simulator the QNode names
    (`default.qubit`, `lightning.qubit` or `hybridbench.qubit`), with exact gradients, in the layer's own precision: float32
    models in complex64, float64 models in complex128. `model.fit` runs it in graph mode, with `steps_per_execution` and with
    `jit_compile=True`.

    Before it is used, a compiled circuit is compared with `default.qubit` (see `verify`). One that differs, or cannot be
    compiled (noise, mid-circuit measurement, shots, gates that the engine does not know, Python branches on the values of
    inputs or weights), runs as PennyLane's layer runs it; a warning says why, once per layer. In graph mode it is traced
    where it differentiates by backprop, and otherwise called from the graph as Python code. Clips, absolute values and the
    like are computed as the circuit writes them. A circuit that draws random numbers is never compiled.

    A weight that the circuit does not use has the gradient 0, and not none, as PennyLane's layer gives it.

    The gradient can be differentiated again, in eager and graph mode; forward mode works too. A first state that is not of
    norm 1 is refused with PennyLane's ValueError, or in a graph that runs with TensorFlow's InvalidArgumentError.

    Values that the quantum function reads from its module, its closure and the objects that it uses are looked at at each
    eager call: where they change, the circuit is compiled anew. Where they change by the call itself (counters, iterators,
    clocks, random numbers), or cannot be compared, the circuit is not compiled. In a graph, and so in `fit` and `predict`,
    they and the QNode are read while it is traced, as under `tf.function`: call `model.compile` again after a change. A
    device's tracker does not see compiled calls. A model saved as SavedModel holds the circuit as TensorFlow operations, so
    that it loads without this package.

    Args:
        qnode: as for `qml.qnn.KerasLayer`.
        weight_shapes: as for `qml.qnn.KerasLayer`.
        output_dim: as for `qml.qnn.KerasLayer`.
        weight_specs: as for `qml.qnn.KerasLayer`.
        engine: "cpu" for the compiled kernels; "cuda" for those of an NVIDIA GPU; "tensorflow" for TensorFlow operations,
            which run on any device and can be differentiated again; "auto" for the CPU's kernels, and TensorFlow operations
            under XLA.
        verify: "first" compares a circuit with `default.qubit` (above 16 qubits with `lightning.qubit`) before it is used:
            values and gradient, at the first inputs and at others; "always" compares the values of every call; "never"
            trusts.
        **kwargs: as for `qml.qnn.KerasLayer`.

    Raises:
        ConfigurationError: an unknown engine; on a call, engine "cpu" or "cuda" under XLA, or a circuit that is not compiled
            under XLA or with engine "cuda".
        BackendError: engine is "cuda", and there is no GPU for it.
    """

    def __init__(
        self,
        qnode: qml.QNode,
        weight_shapes: dict,
        output_dim: Any,
        weight_specs: dict | None = None,
        engine: str = "auto",
        verify: str = "first",
        **kwargs: Any,
    ) -> None:
        super().__init__(qnode, weight_shapes, output_dim, weight_specs, **kwargs)
        self.verify = check_verify(verify)
        self.engine = check_name("engine", engine, ENGINES)
        if engine == "cuda":
            from hybridbench.engine import cuda

            cuda.require()
        self._dynamic = False
        self._kept = _Kept()

    def __format__(self, how: str) -> str:
        # Keras 3 refuses the layer with this text in its sentence; there is no other way to tell its user why.
        return f"{super().__format__(how)}, a layer of Keras 2: build its model with tf.keras, not with keras"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Check that the inputs are not symbols of Keras 3, and evaluate the circuit as any Keras layer does.

        Raises:
            StackError: they are.
        """
        refuse_keras_3((*args, *kwargs.values()))
        return super().__call__(*args, **kwargs)

    def call(self, inputs: Any) -> Any:
        """Evaluate the circuit.

        Args:
            inputs: shape (..., n_features).

        Returns:
            Shape (..., n_outputs); (...) where the QNode returns one expectation value that is not in a list.
        """
        return self._call(inputs)

    @_without_autograph
    def _call(self, inputs: tf.Tensor) -> tf.Tensor:
        x = tf.reshape(inputs, (-1, inputs.shape[-1])) if len(inputs.shape) > 2 else inputs
        circuit = self._circuit(x)
        if isinstance(circuit, CompiledCircuit):
            weights = list(self.qnode_weights.values())
            try:
                results = circuit(x, weights, self._engine())
                if self.verify == "always" and not (_under_xla() or in_save_context()):
                    results = self._compared(results, x, weights)
                return _with_batch_of(inputs, results)
            except UnsupportedCircuit as error:
                circuit = error
            except tf.errors.InvalidArgumentError as error:
                if not tf.executing_eagerly() or NOT_OF_NORM_ONE not in str(error):
                    raise
                return _call_as_shipped(self, inputs)  # PennyLane says it itself
        if isinstance(circuit, RefusedByPennylane):
            if tf.executing_eagerly():
                return _call_as_shipped(self, inputs)
            raise circuit.__cause__
        if self.engine == "cuda":  # nothing computes elsewhere than asked
            raise ConfigurationError(
                f"engine 'cuda' runs compiled circuits only, and layer {self.name!r} is not compiled: {_short(circuit)}"
            )
        self._tell(circuit)
        if tf.executing_eagerly() or in_save_context():
            return _call_as_shipped(self, inputs)
        if self._traceable(circuit):
            try:
                return _call_as_shipped(self, inputs)
            except Exception as error:  # noqa: BLE001  (whatever stops the trace, the same call works as Python code)
                self._tell_untraced(circuit, error)
        return _with_batch_of(inputs, self._called_from_graph(x))

    def get_config(self) -> dict:
        """The layer's configuration, without the QNode."""
        return {**super().get_config(), "engine": self.engine, "verify": self.verify}

    def _circuit(self, x: tf.Tensor) -> CompiledCircuit | Exception:
        """The circuit compiled for inputs like `x`, on first use; or why it cannot be."""
        try:
            key = self._key(x)
        except UnsupportedCircuit as error:
            return ChangingCircuit(str(error))  # a graph that holds one trace of it would freeze it
        with self._kept.lock:  # threads that come first wait for one another
            found = self._kept.circuits.get(key)
            if isinstance(found, _Recurring):
                return found.error
            if isinstance(found, CompiledCircuit | UnsupportedCircuit):
                return found
            names, weights = [self.input_arg, *self.qnode_weights], list(self.qnode_weights.values())
            try:
                made: Any = CompiledCircuit(self.qnode, names, x, weights)
                if self.verify != "never":
                    rows = x if tf.executing_eagerly() else first_numbers(x)
                    made.prove(rows, weights, _module_of(self.engine))
                if self._key(x) != key:
                    raise ChangingCircuit(
                        "its quantum function changes what it reads, and is another one at every call (it was called some "
                        "times to find that out)"
                    )
            except RefusedByPennylane as error:  # these inputs, not the circuit
                return error
            except UnsupportedCircuit as error:
                made = error
            except Exception as error:  # noqa: BLE001  (whatever the circuit raises, PennyLane's layer shall raise or mend)
                # An error of circumstance, as of memory, goes; one that comes again is the circuit's.
                same = isinstance(found, Exception) and _short(found) == _short(error)
                self._kept.circuits[key] = _Recurring(error) if same else error
                return error
            self._kept.circuits[key] = made
            while len(self._kept.circuits) > MAX_CIRCUITS:
                self._kept.circuits.popitem(last=False)
            return made

    def _key(self, x: tf.Tensor) -> Hashable:
        """All that decides the circuit: the QNode, shapes and types, and what its function reads besides its arguments."""
        qnode = self.qnode
        transforms = tuple(map(Same, qnode.transform_program))
        weights = tuple((tuple(weight.shape), weight.dtype) for weight in self.qnode_weights.values())
        inputs = x.dtype, x.shape.rank, x.shape[-1:]
        return Same(qnode), Same(qnode.device), qnode.diff_method, transforms, inputs, weights, reads(qnode.func)

    def _compared(self, results: tf.Tensor, x: tf.Tensor, weights: Sequence[tf.Tensor]) -> tf.Tensor:
        """The results, compared with PennyLane's whenever they are computed."""
        names = [self.input_arg, *self.qnode_weights]

        def check(found: np.ndarray, *arguments: np.ndarray) -> np.ndarray:
            given = dict(zip(names, map(tf.constant, arguments), strict=True))
            wanted = Reference(self.qnode, given, {}, arguments[0].ndim == 2).values()
            compare(f"the values of layer {self.name!r}", [found], wanted, 1e-3 if found.dtype.itemsize == 4 else 1e-8)
            return found

        given = [results, x, *map(tf.convert_to_tensor, weights)]
        if tf.executing_eagerly():
            check(*(tensor.numpy() for tensor in given))
            return results
        checked = tf.numpy_function(check, given, results.dtype)
        with tf.control_dependencies([checked]):
            return tf.identity(results)

    def _tell(self, error: Exception) -> None:
        if self._kept.told:
            return
        self._kept.told = True
        known = isinstance(error, UnsupportedCircuit)
        why = _reason(error).strip().partition("\n")[0] if known else f"tracing it raises {_short(error)}"
        if isinstance(error, tf.errors.OperatorNotAllowedInGraphError):
            why += " (a Python 'if' or loop over values of inputs or weights: tf.where is compiled)"
        warnings.warn(f"Layer {self.name!r} is not compiled and runs as qml.qnn.KerasLayer does: {why}", stacklevel=2)

    def _tell_untraced(self, why: Exception, error: Exception) -> None:
        # Where compiling failed for the trace's own error, that was told.
        same = not isinstance(why, UnsupportedCircuit) or _short(error).partition(":")[0] in str(why)
        if self._kept.told_untraced or same:
            return
        self._kept.told_untraced = True
        warnings.warn(
            f"Layer {self.name!r} is called from the graph as Python code, for tracing it raises {_short(error)}",
            stacklevel=2,
        )

    def _engine(self) -> ModuleType:
        """The module that computes the circuit where this call is made."""
        under_xla = _under_xla()
        if under_xla and self.engine in ("cpu", "cuda"):
            raise ConfigurationError(
                f"engine {self.engine!r} cannot run under XLA (jit_compile=True): use 'auto' or 'tensorflow'."
            )
        return _module_of("tensorflow" if under_xla or in_save_context() else self.engine)

    def _traceable(self, why: Exception) -> bool:
        """Whether PennyLane's layer can be traced for a circuit that is not compiled."""
        if isinstance(why, ChangingCircuit) or self.qnode.device.shots:
            return False
        return qml.QNode.get_gradient_fn(self.qnode.device, "tf", self.qnode.diff_method)[0] == "backprop"

    def _returns_one_value(self, x: tf.Tensor) -> bool:
        """Whether the QNode returns a measurement and no list of them: PennyLane's results have no axis of outputs then."""
        qnode = copy.copy(self.qnode)
        with tf.init_scope(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            row = tf.ones([2 if size is None else size for size in x.shape], x.dtype)
            try:
                qnode.construct((), {self.input_arg: row, **self.qnode_weights})
            except (*USERS_ERRORS, tf.errors.OpError):  # these come again where the circuit runs on the user's own numbers
                return False
        return isinstance(qnode._qfunc_output, qml.measurements.MeasurementProcess)

    def _called_from_graph(self, x: tf.Tensor) -> tf.Tensor:
        """PennyLane's layer as Python code that a graph calls, in the layer's type and of shape (batch, *output_dim)."""
        if _under_xla():
            raise ConfigurationError(
                f"Layer {self.name!r} is not compiled, and XLA (jit_compile=True) cannot call Python: leave jit_compile off."
            )
        shape = None if self.output_dim is None else x.shape[:-1].concatenate(self.output_dim)
        if shape is not None and shape[-1] == 1 and self._returns_one_value(x):
            shape = shape[:-1]

        def evaluate(x: tf.Tensor, weights: Sequence[tf.Tensor]) -> tf.Tensor:
            given = dict(zip(self.qnode_weights, weights, strict=True))
            layer = SimpleNamespace(qnode=self.qnode, input_arg=self.input_arg, qnode_weights=given)
            try:
                results = qml.qnn.KerasLayer._evaluate_qnode(layer, x)
            except tf.errors.InvalidArgumentError as error:  # which leaves a graph as an error of its own only so
                raise ValueError(error.message) from error
            if results.dtype.is_complex:
                raise ConfigurationError("A circuit that is not compiled returns complex numbers in eager mode only.")
            if shape is None:
                return results
            wanted = (*x.shape[:-1], *shape[x.shape.rank - 1 :])
            if math.prod(results.shape) != math.prod(wanted):
                raise ConfigurationError(
                    f"output_dim is {self.output_dim}, and the circuit returns shape {results.shape} for inputs of shape "
                    f"{x.shape}: set output_dim to what it returns for one sample."
                )
            return tf.reshape(results, wanted)

        weights = [tf.convert_to_tensor(weight) for weight in self.qnode_weights.values()]
        return call_from_graph(evaluate, x, weights, tf.as_dtype(self.compute_dtype), shape)


def _module_of(engine: str) -> ModuleType:
    """The module of an engine, imported on first use."""
    if engine == "tensorflow":
        from hybridbench.engine import tensorflow

        return tensorflow
    if engine == "cuda":
        from hybridbench.engine.cuda import operation

        return operation
    from hybridbench.engine import operation

    return operation


def _short(error: Exception) -> str:
    """Type and first sentence of an error."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0].partition('. ')[0]}"


def _reason(circuit: Exception) -> str:
    """Why a circuit is not compiled, without the device's advice to take the simulator that the layer falls back to."""
    return re.sub(r"[;:,]( or)? run (this circuit|it) on default\.qubit", "", str(circuit))


def _with_batch_of(inputs: tf.Tensor, results: tf.Tensor) -> tf.Tensor:
    """Results of the inputs with one batch dimension at most, in the batch dimensions that the inputs have."""
    if len(inputs.shape) < 3:
        return results
    return tf.reshape(results, tf.concat([tf.shape(inputs)[:-1], tf.shape(results)[1:]], 0))


def _under_xla() -> bool:
    """Whether a function is being traced for XLA (jit_compile=True)."""
    return not tf.executing_eagerly() and GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


class TracedKerasLayer(qml.qnn.KerasLayer):
    """`qml.qnn.KerasLayer` that can be traced by `tf.function`, with the same signature, weights and results.

    PennyLane's class declares itself dynamic, so that Keras runs every step of it eagerly. With a QNode whose simulator is
    made of TensorFlow operations (`default.qubit` with backprop) there is no need for that. The simulation itself stays
    PennyLane's, unlike in `KerasLayer`: this is the layer of the timing arms "graph" and "xla".

    Raises:
        ConfigurationError: the QNode does not differentiate by backprop, so that it cannot be part of a graph.
    """

    def __init__(self, qnode: qml.QNode, *args: Any, **kwargs: Any) -> None:
        super().__init__(qnode, *args, **kwargs)
        if qnode.diff_method != "backprop":
            raise ConfigurationError(
                f"A QNode with diff_method {qnode.diff_method!r} cannot be traced into a graph: use 'backprop' on "
                "default.qubit, or qml.qnn.KerasLayer, which runs eagerly."
            )
        self._dynamic = False

    def call(self, inputs: Any) -> Any:
        """Evaluate the circuit for inputs of shape (..., n_features); returns shape (..., n_qubits)."""
        return _call_as_shipped(self, inputs)


def keras_layer(
    spec: CircuitSpec,
    backend: str = "default.qubit",
    diff_method: str = "backprop",
    precision: str | None = None,
    graph: bool = False,
    batch_size: int = 1,
) -> qml.qnn.KerasLayer:
    """The circuit of `spec` as a Keras layer from (batch, n_features) to (batch, n_qubits).

    Args:
        spec: the circuit; its weights become the layer's one trainable weight.
        backend: a name of `hybridbench.engine.backends.BACKENDS`.
        diff_method: one of the backend's differentiation methods.
        precision: complex type of the state vector; None for complex128, or for that of Keras's `floatx` where the compiled
            layer is asked for.
        graph: False for PennyLane's class as shipped. True for the subclass that graph mode takes: `KerasLayer`, compiled,
            with backend "hybridbench.qubit"; `TracedKerasLayer` with the others (backprop only).
        batch_size: samples per step, for the memory estimate.

    Raises:
        ConfigurationError: an unknown backend, or a differentiation method that the backend does not have.
        MemoryEstimateError: a training step would not fit into the free memory.
        BackendError: the backend cannot be used here.
    """
    methods = BACKENDS[check_name("backend", backend, BACKENDS)].diff_methods
    if diff_method not in methods:
        raise ConfigurationError(f"diff_method {diff_method!r} does not work on {backend}; it has {', '.join(methods)}.")
    compiled = graph and backend == "hybridbench.qubit"
    if precision is None:
        precision = "complex64" if compiled and tf.keras.backend.floatx() == "float32" else "complex128"
    gates = spec.n_parameters + spec.n_qubits * (spec.n_layers + 1)
    needed = state_memory_bytes(spec.n_qubits, diff_method, batch_size, gates, precision)
    check_memory(needed, f"A training step of {spec.n_qubits} qubits, batch {batch_size}, with {diff_method}")
    device = make_device(backend, spec.n_qubits, precision)
    qnode = build_qnode(spec, device, diff_method, interface="tf")
    given = {"output_dim": spec.n_qubits, "name": "quantum"}
    if compiled:
        return KerasLayer(qnode, spec.weight_shapes, **given, dtype="float32" if precision == "complex64" else "float64")
    return (TracedKerasLayer if graph else qml.qnn.KerasLayer)(qnode, spec.weight_shapes, **given)
