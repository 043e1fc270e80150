"""The PennyLane device `hybridbench.qubit`: every circuit and interface of PennyLane on the engines of this package."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.devices import DefaultExecutionConfig, Device, ExecutionConfig
from pennylane.devices.modifiers import simulator_tracking, single_tape_support
from pennylane.devices.qubit.simulate import measure_final_state
from pennylane.math import Interface
from pennylane.measurements import ExpectationMP, MidMeasureMP
from pennylane.tape import QuantumScript
from pennylane.transforms.core import TransformProgram

from hybridbench.engine import verification as V
from hybridbench.engine.backends import check_memory, state_memory_bytes
from hybridbench.engine.compiler import UnsupportedCircuit
from hybridbench.engine.device.engines import engine_on_arrays
from hybridbench.engine.device.gradients import jacobian, jvp, parameter_gradients, vjp
from hybridbench.engine.device.interfaces.autograd import on_autograd
from hybridbench.engine.device.interfaces.jax import on_jax
from hybridbench.engine.device.interfaces.tensorflow import on_tensorflow
from hybridbench.engine.device.interfaces.torch import on_torch
from hybridbench.engine.device.measurements import FLOATS, cast, measure_state, shaped, standard
from hybridbench.engine.device.preprocessing import (
    JAX,
    OWN_METHODS,
    TENSORFLOW,
    as_device_error,
    has_constant_observables,
    prepare,
    refusal,
)
from hybridbench.engine.plan import Plan, draws, make_plan, plan_key
from hybridbench.engine.plan_proof import Runner, compare_call, compare_rewritten, numbers_of, prove
from hybridbench.errors import BackendError, ConfigurationError

ENGINES = ("auto", "cpu", "tensorflow", "cuda")
THROUGH_TENSORS = {*TENSORFLOW, *JAX, Interface.AUTOGRAD, Interface.TORCH}
CACHE_SIZE = 256  #: plans that a device keeps


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
                engine_on_arrays("cuda").require()
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
        reason = refusal(self._engine, execution_config, circuit)
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
        program.add_transform(prepare, device=self, config=execution_config or DefaultExecutionConfig)
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
                    with as_device_error():
                        compare_call(self._runner(), plan, circuit)
        if execution_config.gradient_method == "backprop":
            engine = execution_config.device_options.get("engine", "cpu")
            if execution_config.interface in TENSORFLOW:
                return tuple(on_tensorflow(self, c, engine, c.get_parameters(trainable_only=False)) for c in circuits)
            if execution_config.interface == Interface.AUTOGRAD:
                return tuple(on_autograd(self, circuit, engine) for circuit in circuits)
            if execution_config.interface == Interface.TORCH:
                return tuple(on_torch(self, circuit) for circuit in circuits)
            if execution_config.interface in JAX:
                return tuple(on_jax(self, circuit) for circuit in circuits)
        return tuple(self._values(circuit, execution_config.interface) for circuit in circuits)

    def _values(self, circuit: QuantumScript, interface: Interface) -> Any:
        plan, parameters = self._plan(circuit), numbers_of(circuit)
        real = np.dtype(self._precision).type(0).real.dtype
        if interface in TENSORFLOW:  # TensorFlow joins no float64 gradient to a float32 parameter
            given = [p.dtype for p in circuit.get_parameters(trainable_only=False) if getattr(p, "dtype", None) in FLOATS]
            real = np.result_type(*given) if given else real
        if circuit.shots:
            found = self._sampled(plan, circuit, parameters)
            return cast(found, real) if interface in TENSORFLOW else found
        return shaped(self._measured(plan, circuit, parameters), plan, real)

    def _measured(self, plan: Plan, circuit: QuantumScript, parameters: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The value of each measurement, without shots."""
        if plan.program.outputs:
            return list(self._call("expectations", plan, parameters).T)
        return measure_state(self._call("state", plan, parameters), standard(circuit, plan), plan.batched)

    def _sampled(self, plan: Plan, circuit: QuantumScript, parameters: Sequence[np.ndarray]) -> Any:
        state = np.asarray(self._call("state", plan, parameters), np.complex128)
        state /= np.linalg.norm(state, axis=1, keepdims=True)  # complex64 leaves more than the sampler's tolerance
        state = state.reshape(([-1] if plan.batched else []) + [2] * len(plan.wires))
        measured = QuantumScript([], standard(circuit, plan), shots=circuit.shots)
        return measure_final_state(measured, state, plan.batched, rng=self._rng)

    def _call(self, task: str, plan: Plan, parameters: Sequence[np.ndarray], *cotangent: np.ndarray) -> Any:
        """One call of the engine on arrays."""
        rows = plan.rows(parameters)
        engine = engine_on_arrays(self._engine)
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
        return tuple(vjp(self, c, given) for c, given in zip(circuits, cotangents, strict=True))

    def execute_and_compute_vjp(
        self,
        circuits: Sequence[QuantumScript],
        cotangents: Sequence[Any],
        execution_config: ExecutionConfig = DefaultExecutionConfig,
    ) -> tuple[tuple, tuple]:
        """Results and gradients."""
        values = tuple(self._values(circuit, execution_config.interface) for circuit in circuits)
        return values, tuple(vjp(self, c, given) for c, given in zip(circuits, cotangents, strict=True))

    def compute_derivatives(
        self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig = DefaultExecutionConfig
    ) -> tuple:
        """Jacobians: for each measurement and trainable parameter an array, result axes first."""
        return tuple(jacobian(self, circuit) for circuit in circuits)

    def execute_and_compute_derivatives(
        self, circuits: Sequence[QuantumScript], execution_config: ExecutionConfig = DefaultExecutionConfig
    ) -> tuple[tuple, tuple]:
        """Results and Jacobians."""
        values = tuple(self._values(circuit, execution_config.interface) for circuit in circuits)
        return values, tuple(jacobian(self, circuit) for circuit in circuits)

    def compute_jvp(
        self,
        circuits: Sequence[QuantumScript],
        tangents: Sequence[Any],
        execution_config: ExecutionConfig = DefaultExecutionConfig,
    ) -> tuple:
        """Changes of the results for given changes of the trainable parameters, through the Jacobian."""
        return tuple(jvp(self, circuit, given) for circuit, given in zip(circuits, tangents, strict=True))

    def execute_and_compute_jvp(
        self,
        circuits: Sequence[QuantumScript],
        tangents: Sequence[Any],
        execution_config: ExecutionConfig = DefaultExecutionConfig,
    ) -> tuple[tuple, tuple]:
        """Results and their changes."""
        values = tuple(self._values(circuit, execution_config.interface) for circuit in circuits)
        return values, tuple(jvp(self, circuit, given) for circuit, given in zip(circuits, tangents, strict=True))

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
        if any(isinstance(op, MidMeasureMP) for op in circuit.operations) or not has_constant_observables(circuit):
            return False
        try:
            key = plan_key(circuit, self._order(circuit))
        except UnsupportedCircuit:
            return False
        with self._lock:
            return key in self._plans

    def _new_plan(self, circuit: QuantumScript, wires: tuple[Hashable, ...]) -> Plan:
        with as_device_error():
            found = self._made(circuit, wires)
            if self._verify != "never":
                prove(self._runner(), found, circuit)
        return found

    def _runner(self) -> Runner:
        return Runner(
            self.name,
            self._precision,
            lambda c: self._made(c, self._order(c)),
            self._measured,
            partial(parameter_gradients, self),
        )

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
        with as_device_error():
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
