"""The PennyLane device `hybridbench.qubit`: every circuit and interface of PennyLane on the engines of this package."""

from __future__ import annotations

import inspect
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from threading import Lock
from typing import Any

import autograd
import numpy as np
import pennylane as qml
from autograd import numpy as anp
from autograd.extend import defvjp_argnums, primitive
from autograd.numpy.numpy_boxes import ArrayBox
from pennylane.devices import DefaultExecutionConfig, Device, ExecutionConfig
from pennylane.devices.default_qubit import accepted_analytic_measurement, accepted_sample_measurement
from pennylane.devices.modifiers import simulator_tracking, single_tape_support
from pennylane.devices.preprocess import (
    decompose,
    null_postprocessing,
    validate_adjoint_trainable_params,
    validate_device_wires,
    validate_measurements,
)
from pennylane.devices.qubit.measure import measure
from pennylane.devices.qubit.simulate import measure_final_state
from pennylane.math import Interface
from pennylane.measurements import (
    ClassicalShadowMP,
    DensityMatrixMP,
    ExpectationMP,
    MidMeasureMP,
    ShadowExpvalMP,
    StateMP,
)
from pennylane.operation import Channel, Operator
from pennylane.ops.functions import bind_new_parameters
from pennylane.tape import QuantumScript
from pennylane.transforms.core import TransformProgram
from scipy.sparse import issparse

from hybridbench.engine import verification as V
from hybridbench.engine.backends import check_memory, state_memory_bytes
from hybridbench.engine.compiler import UnsupportedCircuit
from hybridbench.engine.plan import Plan, draws, known, make_plan, plan_key, simpler, trace
from hybridbench.engine.plan_proof import Runner, compare_call, compare_rewritten, numbers_of, prove
from hybridbench.errors import BackendError, ConfigurationError
from hybridbench.stack import import_tensorflow

ENGINES = ("auto", "cpu", "tensorflow", "cuda")
TENSORFLOW = {Interface.TF, Interface.TF_AUTOGRAPH}
JAX = {Interface.JAX, Interface.JAX_JIT}
THROUGH_TENSORS = {*TENSORFLOW, *JAX, Interface.AUTOGRAD, Interface.TORCH}
NO_BACKPROP = {Interface.TORCH, *JAX}
OWN_METHODS = {"best", "adjoint", "device", "backprop"}
CACHE_SIZE = 256  #: plans that a device keeps
FLOATS = {np.dtype("float32"), np.dtype("float64")}
NUMBERS = (np.ndarray, np.number, int, float, complex)
SMALL = 2**17  #: amplitudes of a batch
CONSTANTS = (qml.QubitUnitary, qml.DiagonalQubitUnitary, qml.BasisState)  #: their parameter is part of the program


@simulator_tracking
@single_tape_support
class HybridbenchQubit(Device):
    """A state-vector simulator that runs whole batches through compiled circuits and differentiates by the adjoint method.

    Args:
        wires: number of wires or their labels; None takes the wires of each circuit.
        shots: default number of shots, None for exact results.
        c_dtype: type of the amplitudes, `numpy.complex64` or `numpy.complex128`. Results have the type of the circuit's
            parameters in TensorFlow, and the real type that belongs to `c_dtype` otherwise.
        engine: "cpu" (compiled kernels), "tensorflow" (TensorFlow's operations, also on its GPU), or "auto": "cpu", and
            "tensorflow" for `diff_method="backprop"`. "cuda" (this package's kernels on an NVIDIA GPU) needs numba-cuda
            and a GPU, and never computes anywhere else.
        seed: of the samples that are drawn with shots; None draws it from the operating system.
        verify: "first" compares every new structure of a circuit with `default.qubit` (above 16 qubits with
            `lightning.qubit`) before it is used, values and gradient, at the numbers at hand and at others; "always"
            compares the values of every call; "never" trusts.

    Raises:
        qml.DeviceError: an engine or a type that does not exist, or no GPU where engine is "cuda".

    Gradients: `diff_method` "best", "adjoint" and "device" are exact, cost about two more runs whatever the number of
    parameters, and take memory for a few states whatever the depth. "backprop" goes through the TensorFlow engine, for
    TensorFlow and autograd; it needs memory for the state after every layer, and can be differentiated again.
    """

    @property
    def name(self) -> str:
        """The name of the device in `qml.device`."""
        return "hybridbench.qubit"

    def __init__(
        self,
        wires: int | Iterable[Hashable] | None = None,
        shots: int | Sequence[int] | None = None,
        c_dtype: Any = np.complex128,
        engine: str = "auto",
        seed: Any = None,
        verify: str = "first",
    ) -> None:
        super().__init__(wires=wires, shots=shots)
        if engine not in ENGINES:
            raise qml.DeviceError(f"engine {engine!r} does not exist on {self.name}; choose one of {', '.join(ENGINES)}.")
        if engine == "cuda":
            try:
                _cuda().require()
            except BackendError as error:
                raise qml.DeviceError(str(error)) from error
        try:
            self._precision = np.dtype(c_dtype).name
        except TypeError:
            self._precision = str(c_dtype)
        if self._precision not in {"complex64", "complex128"}:
            raise qml.DeviceError(
                f"c_dtype {c_dtype!r} is not complex64 or complex128, the types that {self.name} computes in."
            )
        self._engine = engine
        try:
            self._verify = V.check_verify(verify)
        except ConfigurationError as error:
            raise qml.DeviceError(str(error)) from error
        self._rng = np.random.default_rng(seed)
        self._forget()

    def _forget(self) -> None:
        """Start without compiled circuits."""
        self._plans: OrderedDict[Hashable, Plan] = OrderedDict()
        self._compared: set[Hashable] = set()
        self._lock = Lock()
        self._orders: dict[tuple, tuple[Hashable, ...]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What a copy is made of: it compiles and compares its circuits anew, since locks cannot be copied."""
        own = {"_plans", "_compared", "_lock", "_orders"}
        return {name: value for name, value in vars(self).items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Fill a copy."""
        vars(self).update(state)
        self._forget()

    @property
    def c_dtype(self) -> type:
        """Type of the amplitudes."""
        return np.dtype(self._precision).type

    # --- what PennyLane asks before it runs ------------------------------------------------------------------------------

    def supports_derivatives(
        self, execution_config: ExecutionConfig | None = None, circuit: QuantumScript | None = None
    ) -> bool:
        """Whether the device itself differentiates this circuit in this way.

        Raises:
            qml.QuantumFunctionError: a method of its own was asked for that cannot work for this circuit; says what can.
        """
        if execution_config is None:
            return True
        method = execution_config.gradient_method
        if method not in OWN_METHODS:
            return False
        reason = _refusal(self._engine, execution_config, circuit)
        if reason and method != "best" and circuit is not None:
            raise qml.QuantumFunctionError(f"diff_method {method!r} of {self.name} {reason}")
        return not reason

    supports_vjp = supports_derivatives
    supports_jvp = supports_derivatives

    def setup_execution_config(
        self, config: ExecutionConfig | None = None, circuit: QuantumScript | None = None
    ) -> ExecutionConfig:
        """Decide how gradients are taken.

        Tensors of TensorFlow, autograd, PyTorch and JAX go through the circuit as one operation that has a gradient, which
        PennyLane calls "backprop"; the option "engine" says whether that operation's gradient is the adjoint method ("cpu")
        or TensorFlow's. So a derivative of a derivative is right or raises: what PennyLane itself makes of `compute_vjp`
        counts as a constant under autograd and PyTorch, and cannot be mapped over a batch by JAX.
        """
        config = config or DefaultExecutionConfig
        if config.mcm_config.mcm_method not in {None, "deferred"}:
            raise qml.DeviceError(
                f"mcm_method {config.mcm_config.mcm_method!r} is not available on {self.name}, which defers mid-circuit "
                "measurements to the end: use mcm_method='deferred', or run the circuit on default.qubit."
            )
        method = config.gradient_method
        if method not in OWN_METHODS:
            return config
        options = dict(config.device_options)
        if "engine" not in options:
            twice = config.derivative_order > 1 and config.interface in TENSORFLOW
            wants_tensorflow = method == "backprop" or twice
            options["engine"] = self._engine if self._engine != "auto" else "tensorflow" if wants_tensorflow else "cpu"
        through_tensors = config.interface in THROUGH_TENSORS
        return replace(
            config,
            gradient_method="backprop" if through_tensors or method == "backprop" else "adjoint",
            use_device_gradient=True,
            use_device_jacobian_product=not (through_tensors or method == "backprop"),
            grad_on_execution=False,
            device_options=options,
        )

    def preprocess_transforms(self, execution_config: ExecutionConfig | None = None) -> TransformProgram:
        """One transform, which lets a circuit pass that has the structure of an earlier one."""
        program = TransformProgram()
        program.add_transform(_prepare, device=self, config=execution_config or DefaultExecutionConfig)
        return program

    # --- values ----------------------------------------------------------------------------------------------------------

    def execute(
        self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig = DefaultExecutionConfig
    ) -> tuple:
        """Results of each circuit: a value for one measurement, else a tuple of values.

        Values of a broadcast circuit have a leading batch axis. Results are tensors of the interface, with gradients, where
        the configuration says "backprop" and an interface that has tensors, else NumPy arrays.
        """
        if self._verify == "always":
            for circuit in circuits:
                if not circuit.shots and not any(map(qml.math.is_abstract, circuit.get_parameters(trainable_only=False))):
                    plan = self._plan(circuit)
                    with _as_device_error():
                        compare_call(self._runner(), plan, circuit)
        if execution_config.gradient_method == "backprop":
            engine = execution_config.device_options.get("engine", "cpu")
            if execution_config.interface in TENSORFLOW:
                return tuple(self._tensors(c, engine, c.get_parameters(trainable_only=False)) for c in circuits)
            if execution_config.interface == Interface.AUTOGRAD:
                return tuple(self._on_autograd(circuit, engine) for circuit in circuits)
            if execution_config.interface == Interface.TORCH:
                return tuple(self._on_torch(circuit) for circuit in circuits)
            if execution_config.interface in JAX:
                return tuple(self._on_jax(circuit) for circuit in circuits)
        return tuple(self._values(circuit, execution_config.interface) for circuit in circuits)

    def _values(self, circuit: QuantumScript, interface: Interface) -> Any:
        plan, parameters = self._plan(circuit), numbers_of(circuit)
        real = np.dtype(self._precision).type(0).real.dtype
        if interface in TENSORFLOW:  # TensorFlow joins no float64 gradient to a float32 parameter
            given = [p.dtype for p in circuit.get_parameters(trainable_only=False) if getattr(p, "dtype", None) in FLOATS]
            real = np.result_type(*given) if given else real
        if circuit.shots:
            found = self._sampled(plan, circuit, parameters)
            return _cast(found, real) if interface in TENSORFLOW else found
        return _shaped(self._measured(plan, circuit, parameters), plan, real)

    def _measured(self, plan: Plan, circuit: QuantumScript, parameters: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The value of each measurement, without shots."""
        if plan.program.outputs:
            return list(self._call("expectations", plan, parameters).T)
        return _measure_state(self._call("state", plan, parameters), _standard(circuit, plan), plan.batched)

    def _sampled(self, plan: Plan, circuit: QuantumScript, parameters: Sequence[np.ndarray]) -> Any:
        state = np.asarray(self._call("state", plan, parameters), np.complex128)
        state /= np.linalg.norm(state, axis=1, keepdims=True)  # complex64 leaves more than the sampler's tolerance
        state = state.reshape(([-1] if plan.batched else []) + [2] * len(plan.wires))
        measured = QuantumScript([], _standard(circuit, plan), shots=circuit.shots)
        return measure_final_state(measured, state, plan.batched, rng=self._rng)

    def _call(self, task: str, plan: Plan, parameters: Sequence[np.ndarray], *cotangent: np.ndarray) -> Any:
        """One call of the engine on arrays."""
        rows = plan.rows(parameters)
        engine = {"tensorflow": lambda: _TensorflowOnArrays, "cuda": _cuda}.get(self._engine, _cpu)()
        if self._engine != "cuda" and (task.startswith("state") or self._engine == "tensorflow"):
            self._check_memory(plan, rows)
        return getattr(engine, task)(
            plan.program,
            plan.shared.read(parameters, 1)[0],
            plan.sample.read(parameters, rows),
            *cotangent,
            precision=self._precision,
            initial=plan.first_state(parameters),
        )

    def _check_memory(self, plan: Plan, rows: int, layers: int = 1) -> None:
        n = len(plan.wires)
        needed = rows * state_memory_bytes(n, "backprop", 1, layers, self._precision)
        if needed > 2**28:  # asking the machine costs more time than a small circuit
            check_memory(needed, f"{rows} states of {n} qubits in {self._precision}")

    # --- gradients -------------------------------------------------------------------------------------------------------

    def compute_vjp(
        self,
        circuits: Sequence[QuantumScript],
        cotangents: Sequence[Any],
        execution_config: ExecutionConfig = DefaultExecutionConfig,
    ) -> tuple:
        """Gradients of sum(cotangent * result) with respect to each circuit's trainable parameters, by the adjoint method.

        Args:
            circuits: broadcast circuits too.
            cotangents: for each circuit the same structure as its result.

        Returns:
            For each circuit a tuple with one array per trainable parameter, of that parameter's shape: a parameter that
            is shared by the batch gets the sum over the batch.
        """
        return tuple(self._vjp(c, given) for c, given in zip(circuits, cotangents, strict=True))

    def execute_and_compute_vjp(
        self,
        circuits: Sequence[QuantumScript],
        cotangents: Sequence[Any],
        execution_config: ExecutionConfig = DefaultExecutionConfig,
    ) -> tuple[tuple, tuple]:
        """Results and gradients."""
        values = tuple(self._values(circuit, execution_config.interface) for circuit in circuits)
        return values, tuple(self._vjp(c, given) for c, given in zip(circuits, cotangents, strict=True))

    def compute_derivatives(
        self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig = DefaultExecutionConfig
    ) -> tuple:
        """Jacobians: for each measurement and trainable parameter an array, result axes first."""
        return tuple(self._jacobian(circuit) for circuit in circuits)

    def execute_and_compute_derivatives(
        self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig = DefaultExecutionConfig
    ) -> tuple[tuple, tuple]:
        """Results and Jacobians."""
        values = tuple(self._values(circuit, execution_config.interface) for circuit in circuits)
        return values, tuple(self._jacobian(circuit) for circuit in circuits)

    def compute_jvp(
        self,
        circuits: Sequence[QuantumScript],
        tangents: Sequence[Any],
        execution_config: ExecutionConfig = DefaultExecutionConfig,
    ) -> tuple:
        """Changes of the results for given changes of the trainable parameters, through the Jacobian."""
        return tuple(self._jvp(circuit, given) for circuit, given in zip(circuits, tangents, strict=True))

    def execute_and_compute_jvp(
        self,
        circuits: Sequence[QuantumScript],
        tangents: Sequence[Any],
        execution_config: ExecutionConfig = DefaultExecutionConfig,
    ) -> tuple[tuple, tuple]:
        """Results and their changes."""
        values = tuple(self._values(circuit, execution_config.interface) for circuit in circuits)
        return values, tuple(self._jvp(circuit, given) for circuit, given in zip(circuits, tangents, strict=True))

    def _vjp(self, circuit: QuantumScript, cotangents: Any) -> tuple[np.ndarray, ...]:
        cotangents = (cotangents,) if len(circuit.measurements) == 1 else cotangents
        parameters = numbers_of(circuit)
        gradients = self._pull_back(self._plan(circuit), circuit, parameters, cotangents)
        return _Gradients(gradients[i] for i in circuit.trainable_params)

    def _pull_back(
        self, plan: Plan, circuit: QuantumScript, parameters: Sequence[np.ndarray], cotangents: Sequence[Any]
    ) -> list[np.ndarray]:
        """Gradients of Re(sum(cotangent * result)) with respect to all parameters; a complex one's is d/dRe - i d/dIm."""
        if plan.program.outputs:
            rows = [np.reshape(np.real(_array(c)), -1) for c in cotangents]
            d_shared, d_sample, d_initial = self._call("expectations_vjp", plan, parameters, np.stack(rows, axis=1))
        else:
            state = self._call("state", plan, parameters)
            d_state = _measurement_pull_back(state, _standard(circuit, plan), plan.batched, cotangents)
            d_shared, d_sample, d_initial = self._call("state_vjp", plan, parameters, d_state)
        found = [np.zeros(np.shape(p), complex if np.iscomplexobj(p) else float) for p in parameters]
        for gather, gradient in ((plan.shared, d_shared[None]), (plan.sample, d_sample)):
            for position, part in gather.spread(np.asarray(gradient, float)):
                found[position] += part.reshape(found[position].shape)
        if plan.initial is not None:
            target = found[plan.initial]
            gradient = np.conj(np.asarray(d_initial)[:, plan.places])
            gradient = gradient if target.ndim > 1 else gradient.sum(axis=0)
            target += gradient if np.iscomplexobj(target) else np.real(gradient)
        return found

    def _jacobian(self, circuit: QuantumScript) -> Any:
        plan, parameters = self._plan(circuit), numbers_of(circuit)
        values = [np.asarray(v) for v in self._measured(plan, circuit, parameters)]
        found = []
        for i, value in enumerate(values):
            columns = []
            for entry in range(value.size):
                cotangents = [np.zeros(v.shape) for v in values]
                cotangents[i].flat[entry] = 1
                real = self._pull_back(plan, circuit, parameters, cotangents)
                if np.iscomplexobj(value):
                    imaginary = self._pull_back(plan, circuit, parameters, [-1j * c for c in cotangents])
                    real = [a + 1j * b for a, b in zip(real, imaginary, strict=True)]
                columns.append(real)
            axes = value.shape if plan.batched else value.shape[1:]
            found.append(
                tuple(
                    np.reshape([column[p] for column in columns], (*axes, *np.shape(parameters[p])))
                    for p in circuit.trainable_params
                )
            )
        found = [rows[0] if len(rows) == 1 else rows for rows in found]
        return _one_or_all(found)

    def _jvp(self, circuit: QuantumScript, tangents: Any) -> Any:
        jacobian = self._jacobian(circuit)
        rows = (jacobian,) if len(circuit.measurements) == 1 else jacobian
        found = []
        for row in rows:
            blocks = (row,) if len(circuit.trainable_params) == 1 else row
            parts = [np.tensordot(b, t, axes=np.ndim(t)) for b, t in zip(blocks, map(_array, tangents), strict=True)]
            found.append(sum(parts))
        return _one_or_all(found)

    # --- TensorFlow ------------------------------------------------------------------------------------------------------

    def _tensors(self, circuit: QuantumScript, engine: str, parameters: Sequence[Any]) -> Any:
        """Results as tensors with gradients, eagerly or in a graph."""
        tf = _tf()
        plan = self._plan(circuit)
        wanted = self._result_type(tf, parameters)
        if engine == "cpu":
            # The operation keeps the final state for the gradient; called eagerly it costs more than a small circuit.
            small = tf.executing_eagerly() and plan.rows(parameters) * 2 ** len(plan.wires) <= SMALL
            if small or not plan.program.outputs:
                return self._through_numpy(tf, plan, circuit, parameters, wanted)
        run = {"cpu": _operation, "cuda": _cuda_operation}.get(engine, _tensorflow)()
        real = tf.float32 if self._precision == "complex64" else tf.float64
        shared = plan.shared.tensors(tf, parameters, real, False)
        sample = plan.sample.tensors(tf, parameters, real, True)
        initial = plan.first_state_tensor(tf, parameters, self.c_dtype)
        if plan.initial is not None and not plan.sample.parameters:
            sample = tf.zeros([tf.shape(initial)[0], 0], real)
        if engine == "tensorflow" and sample.shape[0] is not None:
            self._check_memory(plan, sample.shape[0], len(plan.program.layers))
        if plan.program.outputs:
            values = tf.cast(run.expectations(plan.program, shared, sample, initial=initial), wanted)
            found = tf.unstack(values, num=len(circuit.measurements), axis=1)
            return _one_or_all([v if plan.batched else tf.reshape(v, []) for v in found])
        state = run.state(plan.program, shared, sample, initial=initial)
        state = tf.reshape(state, ([-1] if plan.batched else []) + [2] * len(plan.wires))
        found = [measure(m, state, is_state_batched=plan.batched) for m in _standard(circuit, plan)]
        complex_ = tf.complex64 if wanted == tf.float32 else tf.complex128
        return _one_or_all([tf.cast(v, complex_ if v.dtype.is_complex else wanted) for v in found])

    def _result_type(self, tf: Any, parameters: Sequence[Any]) -> Any:
        """The type of the parameters, since TensorFlow joins no gradient of one type to a parameter of another one."""
        types = {p.dtype for p in parameters if tf.is_tensor(p)}
        for found in (tf.float64, tf.float32):
            if found in types:
                return found
        return tf.float32 if self._precision == "complex64" else tf.float64

    def _through_numpy(self, tf: Any, plan: Plan, circuit: QuantumScript, parameters: Sequence[Any], wanted: Any) -> Any:
        """All measurements on the CPU engine as one function of tensors whose gradient is the adjoint method."""
        complex_ = tf.complex64 if wanted == tf.float32 else tf.complex128
        kinds = [complex_ if _is_complex(m) else wanted for m in circuit.measurements]
        chosen = [i for i, p in enumerate(parameters) if tf.is_tensor(p)]
        drop = slice(None) if plan.batched else 0

        def numbers(values: Sequence[np.ndarray]) -> list[np.ndarray]:
            found = list(parameters)
            for i, value in zip(chosen, values, strict=True):
                found[i] = value
            return [np.asarray(value) for value in found]

        def forward(*values: np.ndarray) -> list[np.ndarray]:
            found = self._measured(plan, circuit, numbers(values))
            return [np.asarray(v[drop], kind.as_numpy_dtype) for v, kind in zip(found, kinds, strict=True)]

        def backward(*values: np.ndarray) -> list[np.ndarray]:
            values, cotangents = values[: len(chosen)], values[len(chosen) :]
            found = self._pull_back(plan, circuit, numbers(values), [np.conj(c) for c in cotangents])
            return [np.conj(found[i]).astype(p.dtype) for i, p in zip(chosen, values, strict=True)]

        def call(function: Callable, inputs: Sequence[Any], types: Sequence[Any], shapes: Sequence[Any]) -> tuple[Any, ...]:
            if tf.executing_eagerly():
                return tuple(map(tf.constant, function(*(tensor.numpy() for tensor in inputs))))
            found = _as_tuple(tf.numpy_function(function, inputs, types))
            for tensor, wanted_shape in zip(found, shapes, strict=True):
                tensor.set_shape(wanted_shape)
            return found

        @tf.custom_gradient
        def run(*tensors: Any) -> tuple[tuple[Any, ...], Callable]:
            batch = [None] if plan.batched else []
            values = call(forward, tensors, kinds, [[*batch, *_shape(m, plan)] for m in circuit.measurements])

            def gradient(*cotangents: Any) -> tuple[Any, ...]:
                return pull_back(*tensors, *cotangents)

            return values, gradient

        @tf.custom_gradient
        def pull_back(*inputs: Any) -> tuple[tuple[Any, ...], Callable]:
            found = call(
                backward, inputs, [t.dtype for t in inputs[: len(chosen)]], [t.shape for t in inputs[: len(chosen)]]
            )
            return found, lambda *upstream: self._second_derivative(tf, circuit, parameters, chosen, inputs, upstream)

        return _one_or_all(_as_tuple(run(*(tf.convert_to_tensor(parameters[i]) for i in chosen))))

    def _second_derivative(
        self,
        tf: Any,
        circuit: QuantumScript,
        parameters: Sequence[Any],
        chosen: Sequence[int],
        inputs: Sequence[Any],
        upstream: Sequence[Any],
    ) -> list[Any]:
        """Gradient of a gradient with respect to tensors and cotangents, by TensorFlow's engine."""
        n = len(chosen)

        # Symbolic gradients in a graph, and no tapes: TensorFlow holds these while it works out forward mode.
        @partial(tf.function, autograph=False)
        def second(*numbers: Any) -> list[Any]:
            inputs, upstream = [*map(tf.identity, numbers[:-n])], numbers[-n:]
            given = list(parameters)
            for i, tensor in zip(chosen, inputs[:n], strict=True):
                given[i] = tensor
            values = _as_tuple(self._tensors(circuit, "tensorflow", given))
            found = tf.gradients(list(values), inputs[:n], inputs[n:], unconnected_gradients="zero")
            return tf.gradients(found, inputs, list(upstream), stop_gradients=inputs, unconnected_gradients="zero")

        return second(*inputs, *map(tf.convert_to_tensor, upstream))

    def _on_autograd(self, circuit: QuantumScript, engine: str) -> Any:
        """Results as autograd arrays: first derivatives by the adjoint method, unless `engine` is "tensorflow".

        Derivatives of derivatives are always the TensorFlow engine's.
        """
        plan = self._plan(circuit)
        parameters = circuit.get_parameters(trainable_only=False)
        boxes = [i for i, p in enumerate(parameters) if isinstance(p, ArrayBox)]
        if not boxes:
            return self._values(circuit, Interface.AUTOGRAD)
        tf = _tf()
        parts = (anp.real, anp.imag)  # complex numbers cross as two real ones: the two frameworks conjugate differently
        inputs = [part(parameters[i]) for i in boxes for part in parts]
        plain = [_array(p) for p in parameters]
        batch = [plan.rows(plain)] if plan.batched else []
        axes = [(*batch, *_shape(m, plan)) for m in circuit.measurements]

        def placed(planes: Sequence[Any], join: Callable) -> list[Any]:
            given = list(plain)
            for k, i in enumerate(boxes):
                real, imaginary = planes[2 * k : 2 * k + 2]
                given[i] = join(real, imaginary) if np.iscomplexobj(given[i]) else real
            return given

        def values(*tensors: Any) -> Any:
            found = _as_tuple(self._tensors(circuit, "tensorflow", placed(tensors, tf.complex)))
            return tf.concat([tf.reshape(part(v), [-1]) for v in found for part in (tf.math.real, tf.math.imag)], axis=0)

        def on_arrays(*planes: np.ndarray) -> np.ndarray:
            found = self._measured(plan, circuit, placed(planes, lambda re, im: re + 1j * im))
            return np.concatenate([np.ravel(part(v)).astype(float) for v in found for part in (np.real, np.imag)])

        def gradients(cotangent: np.ndarray, *planes: np.ndarray) -> list[np.ndarray]:
            cotangents, start = [], 0
            for shape_ in axes:
                real, imaginary = cotangent[start : start + 2 * math.prod(shape_)].reshape(2, *shape_)
                cotangents.append(real - 1j * imaginary)
                start += 2 * math.prod(shape_)
            found = self._pull_back(plan, circuit, placed(planes, lambda re, im: re + 1j * im), cotangents)
            return [part for i in boxes for part in (np.real(found[i]), -np.imag(found[i]))]

        fast = (on_arrays, gradients) if engine != "tensorflow" else ()
        flat, results = _on_autograd(tf, values, *fast)(*inputs), []
        for m, shape_ in zip(circuit.measurements, axes, strict=True):
            n = math.prod(shape_)
            real, imaginary = anp.reshape(flat[:n], shape_), anp.reshape(flat[n : 2 * n], shape_)
            flat = flat[2 * n :]
            results.append(real + 1j * imaginary if _is_complex(m) else real)
        return _one_or_all(results)

    def _on_torch(self, circuit: QuantumScript) -> Any:
        """Results as PyTorch tensors; their gradient is the adjoint method, and a second one is refused."""
        import torch

        plan = self._plan(circuit)
        parameters = circuit.get_parameters(trainable_only=False)
        chosen = [i for i, p in enumerate(parameters) if isinstance(p, torch.Tensor) and p.requires_grad]
        plain = [_array(p.detach() if isinstance(p, torch.Tensor) else p) for p in parameters]
        kind = np.dtype(self._precision).type(0).real.dtype
        device = self

        def placed(tensors: Sequence[Any]) -> list[np.ndarray]:
            given = list(plain)
            for i, tensor in zip(chosen, tensors, strict=True):
                given[i] = tensor.detach().cpu().numpy()
            return given

        class Gradient(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *tensors: Any) -> tuple:
                inputs, cotangents = tensors[: len(chosen)], tensors[len(chosen) :]
                given = [np.conj(c.detach().cpu().resolve_conj().numpy()) for c in cotangents]
                found = device._pull_back(plan, circuit, placed(inputs), given)
                return tuple(
                    torch.as_tensor(np.conj(found[i])).to(t.dtype).to(t.device) for i, t in zip(chosen, inputs, strict=True)
                )

            @staticmethod
            def backward(ctx: Any, *upstream: Any) -> Any:
                raise qml.QuantumFunctionError(
                    f"{device.name} gives first derivatives only under PyTorch, and a derivative of a derivative was asked "
                    "for: use diff_method='backprop' on default.qubit, or TensorFlow or autograd with this device."
                )

        class Run(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *tensors: Any) -> tuple:
                ctx.save_for_backward(*tensors)
                found = _as_tuple(_shaped(device._measured(plan, circuit, placed(tensors)), plan, kind))
                return tuple(torch.as_tensor(np.array(value)) for value in found)

            @staticmethod
            def backward(ctx: Any, *cotangents: Any) -> Any:
                return Gradient.apply(*ctx.saved_tensors, *cotangents)

        return _one_or_all(Run.apply(*(parameters[i] for i in chosen)))

    def _on_jax(self, circuit: QuantumScript) -> Any:
        """Results as JAX arrays; their gradient is the adjoint method, and a second one is refused.

        Where JAX traces, it calls back. A batch that it maps over comes as leading axes of all arrays, and each sample of
        it is one call of the engine.
        """
        import jax

        plan = self._plan(circuit)
        parameters = circuit.get_parameters(trainable_only=False)
        chosen = [i for i, p in enumerate(parameters) if isinstance(p, jax.Array)]
        plain = {i: _array(p) for i, p in enumerate(parameters) if i not in chosen}
        sizes = [np.shape(parameters[i]) for i in chosen]
        real = np.dtype(self._precision).type(0).real.dtype
        kinds = [np.result_type(real, np.complex64) if _is_complex(m) else real for m in circuit.measurements]
        batch = (plan.rows(parameters),) if plan.batched else ()
        results = [
            jax.ShapeDtypeStruct((*batch, *_shape(m, plan)), jax.dtypes.canonicalize_dtype(kind))
            for m, kind in zip(circuit.measurements, kinds, strict=True)
        ]
        drop = slice(None) if plan.batched else 0

        def placed(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
            given = plain | dict(zip(chosen, arrays, strict=True))
            return [given[i] for i in range(len(parameters))]

        def values(*arrays: np.ndarray) -> list[np.ndarray]:
            return [np.asarray(v)[drop] for v in self._measured(plan, circuit, placed(arrays))]

        def gradients(*arrays: np.ndarray) -> list[np.ndarray]:
            found = self._pull_back(plan, circuit, placed(arrays[: len(chosen)]), arrays[len(chosen) :])
            return [found[i] for i in chosen]

        def call(function: Callable, wanted: Sequence[Any], arrays: Sequence[Any]) -> tuple:
            """`function` of arrays, at once where JAX knows them."""
            inner = [*sizes, *(r.shape for r in results)]

            def mapped(*given: Any) -> tuple:
                given = [*map(np.asarray, given)]
                outer = given[0].shape[: given[0].ndim - len(inner[0])]
                rows = [g.reshape(math.prod(outer), *size) for g, size in zip(given, inner, strict=False)]
                found = [function(*row) for row in zip(*rows, strict=True)]
                return tuple(
                    np.asarray([row[k] for row in found], w.dtype).reshape((*outer, *w.shape)) for k, w in enumerate(wanted)
                )

            if not any(isinstance(a, jax.core.Tracer) for a in arrays):
                return tuple(map(jax.numpy.asarray, mapped(*arrays)))
            return jax.pure_callback(mapped, tuple(wanted), *arrays, **_callback_options(jax))

        @jax.custom_vjp
        def run(*arrays: Any) -> tuple:
            return call(values, results, arrays)

        @jax.custom_vjp
        def pull_back(*arrays: Any) -> tuple:
            return call(gradients, [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays[: len(chosen)]], arrays)

        def refuse(_: None, upstream: Any) -> Any:
            raise qml.QuantumFunctionError(
                f"{self.name} gives first derivatives only under JAX, and a derivative of a derivative was asked for: use "
                "diff_method='backprop' on default.qubit, or TensorFlow or autograd with this device."
            )

        def backward(arrays: Any, cotangents: Any) -> tuple:
            found = pull_back(*arrays, *cotangents)
            differentiable = [np.issubdtype(a.dtype, np.inexact) for a in arrays]
            return tuple(g if is_number else None for g, is_number in zip(found, differentiable, strict=True))

        # JAX differentiates at Python's numbers too, which have no type.
        run.defvjp(lambda *arrays: (run(*arrays), tuple(map(jax.numpy.asarray, arrays))), backward)
        pull_back.defvjp(lambda *arrays: (pull_back(*arrays), None), refuse)
        if not chosen:
            return _one_or_all([jax.numpy.asarray(v, r.dtype) for v, r in zip(values(), results, strict=True)])
        return _one_or_all(run(*(parameters[i] for i in chosen)))

    # --- plans -----------------------------------------------------------------------------------------------------------

    def _plan(self, circuit: QuantumScript) -> Plan:
        wires = self._order(circuit)
        try:
            key = plan_key(circuit, wires)
        except UnsupportedCircuit:  # nothing says that another circuit is the same
            return self._new_plan(circuit, wires)
        with self._lock:
            found = self._plans.get(key)
            if found is not None:
                self._plans.move_to_end(key)
                return found
        found = self._new_plan(circuit, wires)
        with self._lock:
            self._plans[key] = found
            while len(self._plans) > CACHE_SIZE:
                self._plans.popitem(last=False)
        return found

    def _key(self, circuit: QuantumScript) -> Hashable:
        """The key of a circuit's plan, or one of its own where it has none."""
        try:
            return plan_key(circuit, self._order(circuit))
        except UnsupportedCircuit:
            return object()

    def _knows(self, circuit: QuantumScript) -> bool:
        if any(isinstance(op, MidMeasureMP) for op in circuit.operations) or not _has_constant_observables(circuit):
            return False
        try:
            key = plan_key(circuit, self._order(circuit))
        except UnsupportedCircuit:
            return False
        with self._lock:
            return key in self._plans

    def _new_plan(self, circuit: QuantumScript, wires: tuple[Hashable, ...]) -> Plan:
        with _as_device_error():
            found = self._made(circuit, wires)
            if self._verify != "never":
                prove(self._runner(), found, circuit)
        return found

    def _runner(self) -> Runner:
        return Runner(self.name, self._precision, lambda c: self._made(c, self._order(c)), self._measured, self._pull_back)

    def _prove_rewritten(self, tape: QuantumScript, tapes: Sequence[QuantumScript], steps: TransformProgram) -> None:
        if random := [op.name for op in tape.operations if draws(op)]:
            V.tell(
                f"The device did not compare how {random[0]} is written as gates, for it draws them at random at every "
                "call: give it a seed, or say verify='never'."
            )
            return
        key = tuple((type(op), op.wires.labels) for op in tape.operations), tuple(map(self._key, tapes))
        wires = self._order(tape)
        # Where there is no memory, the plans of `tapes` were not compared either, which was told.
        if key in self._compared or not V.fits(len(wires), V.rows_of(len(wires))):
            return
        with _as_device_error():
            compare_rewritten(self._runner(), tape, steps, wires)
        if len(self._compared) >= CACHE_SIZE:
            self._compared.clear()
        self._compared.add(key)

    @staticmethod
    def _made(circuit: QuantumScript, wires: tuple[Hashable, ...]) -> Plan:
        """A plan that nobody has compared yet."""
        found = None
        if not circuit.shots and all(isinstance(m, ExpectationMP) and m.obs is not None for m in circuit.measurements):
            found = make_plan(circuit, wires, from_state=False)
        if found is None or not found.program.outputs:
            found = make_plan(circuit, wires, from_state=True)
        return found

    def _order(self, circuit: QuantumScript) -> tuple[Hashable, ...]:
        """The wires of the state vector, most significant first: those of the circuit, or of the device where all count."""
        used = circuit.wires.labels
        if self.wires is None:  # PennyLane's rule: 0 to n - 1 in this order, other labels as they appear
            operated = circuit.op_wires.labels
            standard = set(operated) == set(range(len(operated))) and set(used) == set(range(len(used)))
            return tuple(range(len(used))) if standard else used
        everything = any(m.obs is None and m.mv is None and not m.wires for m in circuit.measurements)
        found = self._orders.get((used, everything))
        if found is None:
            own = [w for w in self.wires if everything or w in used]
            found = (*own, *(w for w in used if w not in own))  # measurements that are deferred take further wires
            self._orders[used, everything] = found
        return found


def _refuse_torch_func(circuit: QuantumScript, name: str) -> None:
    """Raise DeviceError where torch.func holds a parameter of a circuit: it hides the numbers of its tensors."""
    import torch

    # PyTorch has no public way to ask; without this one its own error names no transform.
    is_wrapped = getattr(getattr(torch._C, "_functorch", None), "is_functorch_wrapped_tensor", lambda _: False)
    if any(isinstance(p, torch.Tensor) and is_wrapped(p) for p in circuit.get_parameters(trainable_only=False)):
        raise qml.DeviceError(
            f"{name} does not support the transforms of torch.func (grad, jacrev, vmap and the like): use torch.autograd "
            "(backward, or torch.autograd.functional.jacobian) and broadcasting, or run this circuit on default.qubit."
        )


@contextmanager
def _as_device_error() -> Iterator[None]:
    """What the engine cannot run, or runs otherwise than PennyLane, as the error that PennyLane's devices raise."""
    try:
        yield
    except UnsupportedCircuit as error:
        raise qml.DeviceError(str(error)) from error


# --- before the run --------------------------------------------------------------------------------------------------------


def _refusal(engine: str, config: ExecutionConfig, circuit: QuantumScript | None) -> str:
    """Why the device cannot differentiate a circuit in this way, or "" where it can; without a circuit it can."""
    if circuit is None:
        return ""
    backprop = config.gradient_method == "backprop"
    if backprop and engine in {"cpu", "cuda"}:
        return f"needs the TensorFlow engine, and engine is {engine!r}: use diff_method='adjoint', or engine='auto'."
    if backprop and config.interface in NO_BACKPROP:
        return f"needs TensorFlow or autograd, and the interface is {config.interface.value!r}: use diff_method='adjoint'."
    if backprop and any(isinstance(m.obs, qml.SparseHamiltonian) for m in circuit.measurements):
        return "knows no sparse Hamiltonians: use diff_method='adjoint'."
    if circuit.shots:
        return (
            f"takes no shots, and there are {circuit.shots.total_shots}: use diff_method='parameter-shift', or shots=None."
        )
    twice = backprop or (config.interface in TENSORFLOW and engine not in {"cpu", "cuda"})
    if config.derivative_order > 1 and not twice:
        return f"gives first derivatives only, and max_diff is {config.derivative_order}: use diff_method='parameter-shift'."
    # "adjoint" has PennyLane's own rule there: a warning, and a gradient of zero.
    trained = any(_is_trained(m.obs, config.interface) for m in circuit.measurements)
    if trained and config.gradient_method in {"best", "backprop"}:
        return "does not reach the parameters of observables: use diff_method='parameter-shift'."
    return ""


def _is_trained(op: Operator | None, interface: Interface) -> bool:
    """Whether a gradient with respect to a parameter of `op` is being taken."""
    values = [] if op is None else op.data
    if interface == Interface.AUTOGRAD:  # an array of PennyLane's own NumPy calls itself trainable also where nobody asks
        return any(isinstance(value, ArrayBox) for value in values)
    return any(qml.math.get_interface(value) == interface.get_like() and qml.math.requires_grad(value) for value in values)


def _has_constant_observables(circuit: QuantumScript) -> bool:
    data = (value for m in circuit.measurements if m.obs is not None for value in m.obs.data)
    return all(isinstance(value, NUMBERS) or issparse(value) for value in data)


@qml.transform
def _prepare(
    tape: QuantumScript, device: HybridbenchQubit, config: ExecutionConfig
) -> tuple[Sequence[QuantumScript], Callable]:
    """Check a circuit and turn it into one that the device can run; one of a known structure passes as it is."""
    if config.interface == Interface.TORCH:
        _refuse_torch_func(tape, device.name)
    if device._knows(tape):
        return (tape,), null_postprocessing
    name = device.name
    validate_device_wires(tape, device.wires, name=name)
    validate_measurements(tape, accepted_analytic_measurement, accepted_sample_measurement, name=name)
    if any(qml.math.is_abstract(_fixed(v)) for m in tape.measurements if m.obs is not None for v in m.obs.data):
        raise qml.DeviceError(
            f"A parameter of an observable is not known while this graph is traced, and {name} compiles observables with "
            "their numbers: give them as constants, run the circuit outside of the graph, or on default.qubit."
        )
    steps = TransformProgram()
    if any(isinstance(op, MidMeasureMP) for op in tape.operations):
        if any(isinstance(op, MidMeasureMP) and op.postselect is not None for op in tape.operations):
            raise qml.DeviceError(
                f"Postselection is not available on {name}, whose states keep their norm: run this circuit on "
                "default.qubit, or measure without postselect."
            )
        steps.add_transform(qml.defer_measurements, allow_postselect=False)
    # PennyLane's shadows know no batch, and programs no batch of matrices.
    shadows = any(isinstance(m, ClassicalShadowMP | ShadowExpvalMP) for m in tape.measurements)
    if shadows or any(isinstance(op, CONSTANTS) and op.batch_size is not None for op in tape.operations):
        steps.add_transform(qml.transforms.broadcast_expand)
    steps.add_transform(_with_constants)
    steps.add_transform(_decomposed, name=name)
    if config.gradient_method in OWN_METHODS and any(_is_trained(m.obs, config.interface) for m in tape.measurements):
        validate_adjoint_trainable_params(QuantumScript([], tape.measurements))  # warns
    with _as_device_error():
        tapes, join = steps((tape,))
    for part in tapes:  # compiled, and compared with `default.qubit`
        device._plan(part)
    if device._verify != "never" and not tape.shots:
        device._prove_rewritten(tape, tapes, steps)
    return tapes, lambda results: join(results)[0]


@qml.transform
def _with_constants(tape: QuantumScript) -> tuple[Sequence[QuantumScript], Callable]:
    """Matrices and basis states that are not trained, and observables, as NumPy arrays."""
    operations = [_as_constant(op) for op in tape.operations]
    if any(new is not old for new, old in zip(operations, tape.operations, strict=True)):
        tape = tape.copy(operations=operations)
    if not _has_constant_observables(tape):
        tape = tape.copy(measurements=[_constant_measurement(m) for m in tape.measurements])
    return (tape,), null_postprocessing


def _constant_measurement(measurement: Any) -> Any:
    if measurement.obs is None or not measurement.obs.data:
        return measurement
    return type(measurement)(obs=bind_new_parameters(measurement.obs, [_array(_fixed(v)) for v in measurement.obs.data]))


def _as_constant(op: Operator) -> Operator:
    if isinstance(op, qml.QubitUnitary) and hasattr(op.data[0], "toarray"):
        return qml.QubitUnitary(op.data[0].toarray(), op.wires)
    if isinstance(op, qml.StatePrep) and getattr(op, "is_sparse", False):
        return qml.StatePrep(np.asarray(op.state_vector().todense()).reshape(-1), wires=op.wires)
    if not isinstance(op, CONSTANTS) or isinstance(op.data[0], np.ndarray):
        return op
    value = op.data[0] if qml.math.requires_grad(op.data[0]) else _fixed(op.data[0])
    if qml.math.is_abstract(value) or qml.math.requires_grad(value):
        return op
    return bind_new_parameters(op, [_array(value)])


def _fixed(value: Any) -> Any:
    """A constant of a TensorFlow graph as the array that it is; any other value as it stands."""
    if not qml.math.is_abstract(value) or qml.math.get_interface(value) != "tensorflow":
        return value
    found = _tf().get_static_value(value)
    return value if found is None else found


@qml.transform
def _decomposed(tape: QuantumScript, name: str) -> tuple[Sequence[QuantumScript], Callable]:
    """The same circuit of gates and templates that a plan can be made of; what is decomposed keeps its interface."""
    for op in tape.operations:
        if isinstance(op, Channel):
            raise qml.DeviceError(
                f"{op.name} is noise, and {name} computes state vectors: run this circuit on default.mixed."
            )
    n_prepared = 0
    for op in tape.operations:
        if not isinstance(op, qml.BasisState):
            break
        n_prepared += 1
    first = tape.operations[:1]
    leading = first if first and isinstance(first[0], qml.StatePrep) else tape.operations[:n_prepared]
    kept = {id(op) for op in leading}

    def stop(op: Operator) -> bool:
        if isinstance(op, qml.operation.StatePrepBase):
            return id(op) in kept
        return known(op) or trace(op) is not None

    sees_phase = any(isinstance(m, StateMP) and not isinstance(m, DensityMatrixMP) for m in tape.measurements)

    def parts(op: Operator) -> list[Operator]:
        if sees_phase and isinstance(op, qml.QubitUnitary) and len(op.wires) > 1:  # PennyLane's gates lose its phase
            raise qml.DeviceError(
                f"{name} gives no state vector of a circuit with {op.name} on {len(op.wires)} wires whose matrix is trained "
                "or not known: measure something else, or run this circuit on default.qubit."
            )
        return [_as_constant(part) for part in simpler(op)]  # a template may bring a matrix of its own

    return decompose(tape, stop, skip_initial_state_prep=False, decomposer=parts, name=name)


# --- measurements ----------------------------------------------------------------------------------------------------------


def _standard(circuit: QuantumScript, plan: Plan) -> list[Any]:
    """The measurements on the wires 0 to n - 1."""
    if plan.wires == tuple(range(len(plan.wires))):
        return circuit.measurements
    positions = {wire: i for i, wire in enumerate(plan.wires)}
    return [m.map_wires(positions) for m in circuit.measurements]


def _shape(measurement: Any, plan: Plan) -> tuple[int, ...]:
    return measurement.shape(shots=None, num_device_wires=len(plan.wires))


def _is_complex(measurement: Any) -> bool:
    return measurement.numeric_type is complex


def _measure_state(state: Any, measurements: Sequence[Any], batched: bool) -> list[Any]:
    """PennyLane's measurements of each row of `state`, (rows, 2**n): values with a leading axis of rows."""
    rows, n = len(state), state.shape[1].bit_length() - 1
    state = state.reshape(([rows] if batched else []) + [2] * n)
    values = [measure(m, state, is_state_batched=batched) for m in measurements]
    shapes = [tuple(qml.math.shape(v)) for v in values]
    # PennyLane drops the axis of a batch of one sample in some measurements.
    return [
        v if batched and s[:1] == (rows,) else qml.math.reshape(v, (rows, *s)) for v, s in zip(values, shapes, strict=True)
    ]


def _measurement_pull_back(
    state: np.ndarray, measurements: Sequence[Any], batched: bool, cotangents: Sequence[Any]
) -> np.ndarray:
    """Gradient of Re(sum(cotangent * value)) with respect to the state, d/dRe + i d/dIm, shape (rows, 2**n)."""
    state = np.asarray(state, np.complex128)
    gradient, dense, given = np.zeros_like(state), [], []
    for m, cotangent in zip(measurements, map(_array, cotangents), strict=True):
        if isinstance(m.obs, qml.SparseHamiltonian):  # autograd knows no sparse matrices
            matrix = m.obs.sparse_matrix(wire_order=range(state.shape[1].bit_length() - 1))
            gradient += 2 * np.reshape(np.real(cotangent), (-1, 1)) * (matrix @ state.T).T
        else:
            dense.append(m)
            given.append(cotangent)

    def values(planes: Any) -> Any:
        return autograd.builtins.tuple(_measure_state(planes[0] + 1j * planes[1], dense, batched))

    if dense:
        pull, shaped = autograd.make_vjp(values)(np.stack([state.real, state.imag]))
        planes = pull(tuple(np.reshape(c, np.shape(v)) for c, v in zip(given, shaped, strict=True)))
        gradient += planes[0] + 1j * planes[1]
    return gradient


def _on_autograd(
    tf: Any, function: Callable, on_arrays: Callable | None = None, gradient_on_arrays: Callable | None = None
) -> Callable:
    """A function of TensorFlow tensors as one of autograd arrays, which can be differentiated any number of times.

    Args:
        tf: TensorFlow.
        function: of tensors, to one tensor.
        on_arrays: the same function of NumPy arrays, where there is a faster one.
        gradient_on_arrays: its gradients from (cotangent, *arrays), one for each; further derivatives are TensorFlow's.
    """

    @primitive
    def run(*arrays: np.ndarray) -> np.ndarray:
        return function(*map(tf.constant, arrays)).numpy() if on_arrays is None else on_arrays(*arrays)

    def flat_gradient(cotangent: Any, *tensors: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            found = function(*tensors)
        gradients = tape.gradient(found, tensors, cotangent, unconnected_gradients="zero")
        return tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], axis=0)

    def flat_gradient_on_arrays(cotangent: np.ndarray, *arrays: np.ndarray) -> np.ndarray:
        return np.concatenate([np.ravel(gradient) for gradient in gradient_on_arrays(cotangent, *arrays)])

    def pull(argnums: Sequence[int], value: np.ndarray, arrays: Sequence[Any], options: dict) -> Callable:
        shapes = [np.shape(array) for array in arrays]
        stops = np.cumsum([math.prod(shape) for shape in shapes])

        def pulled(cotangent: Any) -> tuple:
            fast = None if gradient_on_arrays is None else flat_gradient_on_arrays
            flat = _on_autograd(tf, flat_gradient, fast)(cotangent, *arrays)
            return tuple(anp.reshape(flat[stops[a] - math.prod(shapes[a]) : stops[a]], shapes[a]) for a in argnums)

        return pulled

    defvjp_argnums(run, pull)
    return run


def _cast(value: Any, real: np.dtype) -> Any:
    """Results of shots with their floating numbers in another type."""
    if isinstance(value, list | tuple):
        return tuple(_cast(part, real) for part in value)
    return np.asarray(value, real) if getattr(value, "dtype", None) in FLOATS else value


def _shaped(values: Sequence[Any], plan: Plan, real: np.dtype) -> Any:
    """Results as PennyLane expects them: no batch axis where there is no batch, of the real type or its complex one."""
    complex_ = np.result_type(real, np.complex64)
    found = []
    for value in values:
        value = np.asarray(value)
        value = value.astype(complex_ if np.iscomplexobj(value) else real, copy=False)
        found.append(value if plan.batched else value.reshape(value.shape[1:]))
    return _one_or_all(found)


class _Gradients(tuple):
    """Arrays of different shapes that have a shape as a whole, for which PennyLane's torch interface asks NumPy."""

    __slots__ = ()

    def squeeze(self, axis: int | None = None) -> np.ndarray:
        """What `numpy.squeeze` calls: one entry for each array."""
        return np.empty(len(self))


def _one_or_all(values: Sequence[Any]) -> Any:
    """Results as PennyLane wants them: the value itself where there is one measurement."""
    return values[0] if len(values) == 1 else tuple(values)


def _as_tuple(value: Any) -> tuple:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _callback_options(jax: Any) -> dict[str, Any]:
    """How JAX maps a callback over a batch: in one call, or in many where it is too old to repeat what has no batch."""
    known = inspect.signature(jax.pure_callback).parameters
    return {"vmap_method": "broadcast_all"} if "vmap_method" in known else {"vectorized": False}


def _array(value: Any) -> np.ndarray:
    return np.asarray(qml.math.unwrap(value))


# --- engines, imported on first use ----------------------------------------------------------------------------------------


@lru_cache
def _tf() -> Any:
    return import_tensorflow()


def _cpu() -> Any:
    from hybridbench.engine import cpu

    return cpu


def _cuda() -> Any:
    from hybridbench.engine import cuda

    return cuda


def _cuda_operation() -> Any:
    from hybridbench.engine import cuda_operation

    return cuda_operation


def _operation() -> Any:
    from hybridbench.engine import operation

    return operation


def _tensorflow() -> Any:
    from hybridbench.engine import tensorflow

    return tensorflow


class _TensorflowOnArrays:
    """The TensorFlow engine with the interface of the CPU engine."""

    @staticmethod
    def _run(task: str, program: Any, shared: Any, sample: Any, precision: str, initial: Any, cotangent: Any = None) -> Any:
        tf = _tf()
        real = tf.float32 if precision == "complex64" else tf.float64

        def values() -> Any:
            return getattr(_tensorflow(), task)(program, *inputs[:2], initial=None if initial is None else inputs[2])

        with tf.init_scope():  # numbers are wanted also where PennyLane asks while TensorFlow traces a graph
            inputs = [tf.constant(shared, real), tf.constant(sample, real)]
            inputs += [] if initial is None else [tf.constant(initial, precision)]
            if cotangent is None:
                return values().numpy()
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            found = values()
        found = tape.gradient(found, inputs, tf.constant(cotangent, found.dtype), unconnected_gradients="zero")
        return *(tf.convert_to_tensor(g).numpy() for g in found), *([None] if initial is None else [])

    @classmethod
    def expectations(cls, program: Any, shared: Any, sample: Any, precision: str, initial: Any) -> Any:
        return cls._run("expectations", program, shared, sample, precision, initial)

    @classmethod
    def state(cls, program: Any, shared: Any, sample: Any, precision: str, initial: Any) -> Any:
        return cls._run("state", program, shared, sample, precision, initial)

    @classmethod
    def expectations_vjp(cls, program: Any, shared: Any, sample: Any, cotangent: Any, precision: str, initial: Any) -> Any:
        return cls._run("expectations", program, shared, sample, precision, initial, cotangent)

    @classmethod
    def state_vjp(cls, program: Any, shared: Any, sample: Any, cotangent: Any, precision: str, initial: Any) -> Any:
        return cls._run("state", program, shared, sample, precision, initial, cotangent)
