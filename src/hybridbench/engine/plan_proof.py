"""The device's plans against `default.qubit`, before they are used: values, and a slope."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.operation import Operator
from pennylane.tape import QuantumScript
from pennylane.transforms.core import TransformProgram
from scipy.sparse import issparse

from hybridbench.engine import verification as V
from hybridbench.engine.compiler import UnsupportedCircuit
from hybridbench.engine.plan import Plan, shape


@dataclass(frozen=True)
class Runner:
    """How a device runs a plan."""

    name: str  #: of the device
    precision: str  #: complex type of the amplitudes
    plan: Callable[[QuantumScript], Plan]  #: a new plan that nobody has compared
    #: The value of each measurement, with a leading axis of rows.
    measured: Callable[[Plan, QuantumScript, Sequence[np.ndarray]], list[np.ndarray]]
    #: Gradients of Re(sum(cotangent * value)) with respect to all parameters.
    pull_back: Callable[[Plan, QuantumScript, Sequence[np.ndarray], Sequence[np.ndarray]], list[np.ndarray]]

    def values(self, plan: Plan, circuit: QuantumScript) -> V.Values:
        """The value of each measurement as PennyLane shapes it: without the axis of rows where there is no batch."""
        found = self.measured(plan, circuit, numbers_of(circuit))
        return [np.asarray(v) if plan.batched else np.asarray(v).reshape(np.shape(v)[1:]) for v in found]

    def allowed(self, plan: Plan, circuit: QuantumScript, wanted: V.Values) -> float:
        """How far rounding may bring the plan's values from `wanted`."""
        parameters = numbers_of(circuit)
        angles = [np.abs(plan.shared.read(parameters, 1)), np.abs(plan.sample.read(parameters, plan.rows(parameters)))]
        largest = max((float(np.max(a)) for a in angles if a.size), default=0.0)
        sizes = [float(np.max(np.abs(v), initial=0.0)) for v in wanted]
        sizes += [sum(abs(term.coefficient) for term in output) for output in plan.program.outputs]
        gates = sum(len(layer.runs) + len(layer.strings) + len(layer.sample_strings) + 4 * len(layer.blocks)
                    + len(layer.sample_rotations) for layer in plan.program.layers)  # fmt: skip
        gates += plan.shared.length + plan.sample.length
        return V.tolerance(self.precision, max(1.0, *sizes), gates, largest)


def prove(runner: Runner, plan: Plan, circuit: QuantumScript) -> None:
    """Compare a new plan: values at the numbers at hand, values and a slope at others.

    Raises:
        Mismatch: they differ.
    """
    rng = np.random.default_rng(0)
    if circuit.shots:
        circuit = circuit.copy(measurements=[qml.state()], shots=None)
    batched = {*plan.sample.parameters, *([plan.initial] if plan.batched and plan.initial is not None else [])}
    is_batch = [i in batched and (i != plan.initial or len(shape(v)) > 1) for i, v in enumerate(_parameters(circuit))]
    try:
        at_hand = _in_numbers(circuit, is_batch, rng, () if plan.initial is None else (plan.initial,))
    except V.Unbound as error:
        V.tell(f"{runner.name} did not compare a circuit with default.qubit: {error}.")
        return
    if not V.fits(len(plan.wires), plan.rows(_parameters(at_hand))):
        V.tell_of_memory(runner.name, len(plan.wires))
        return
    _compare_values(runner, plan, at_hand)
    states = [] if plan.initial is None else [plan.initial]
    at = sorted({*plan.shared.parameters, *plan.sample.parameters, *states})
    if not at:
        return
    given = [np.asarray(_parameters(at_hand)[i]) for i in at]
    away = [v if i in states else rng.uniform(-np.pi, np.pi, v.shape) for i, v in zip(at, given, strict=True)]
    try:
        try:
            point, start = V.bound(at_hand, away, at), away
            wanted = _compare_values(runner, plan, point)
        except ValueError:  # a template that takes no such numbers, as one that wants a norm of 1
            point, start = at_hand, given
            wanted = _compare_values(runner, plan, point)
        if not all(np.isfinite(v).all() for v in start):
            raise V.Unbound("a slope needs finite numbers")
        along = V.directions(start, [i in states for i in at], rng)
        cotangents = V.random_like(wanted, rng)
        found = runner.pull_back(plan, point, numbers_of(point), list(map(np.conj, cotangents)))
        V.compare_slopes(
            "The gradient's entries",
            sum(float(np.sum(np.real(found[i] * d))) for i, d in zip(at, along, strict=True)),
            lambda by: V.executed(V.bound(at_hand, [v + by * d for v, d in zip(start, along, strict=True)], at), plan.wires),
            cotangents,
            along,
            runner.allowed(plan, point, wanted),
        )
    except V.Unbound as error:
        V.tell(f"{runner.name} compared a circuit's values with default.qubit and not its gradient: {error}.")


def compare_call(runner: Runner, plan: Plan, circuit: QuantumScript) -> None:
    """Compare the values of one call, which has numbers and no shots.

    Raises:
        Mismatch: they differ.
    """
    given = list(map(_in_double, _parameters(circuit)))
    _compare_values(runner, plan, V.bound(circuit, given, range(len(given))))


def compare_rewritten(runner: Runner, tape: QuantumScript, steps: TransformProgram, wires: Sequence[Any]) -> None:
    """Compare what a circuit is rewritten to with the circuit itself: PennyLane's decompositions may be wrong too.

    Args:
        runner: how the device runs plans.
        tape: the circuit as it came in.
        steps: what rewrites it.
        wires: wire order of the circuit.

    Raises:
        Mismatch: the values differ.
    """
    rng, refusal = np.random.default_rng(0), None
    dimensions = [n for op in tape.operations for n in _dimensions(op)]
    dimensions += [None] * (len(_parameters(tape)) - len(dimensions))
    is_batch = [n is not None and len(shape(v)) > n for n, v in zip(dimensions, _parameters(tape), strict=True)]
    unknown = any(map(qml.math.is_abstract, _parameters(tape)))
    for kind in V.KINDS if unknown else V.KINDS[:1]:
        try:
            numeric = _in_numbers(tape, is_batch, rng, draw=kind)
            wanted = V.executed(numeric, wires)
        except (AttributeError, IndexError, TypeError, ValueError, qml.QuantumFunctionError, qml.DeviceError) as error:
            refusal = error  # PennyLane takes no such numbers, or cannot put them into an operation
            continue
        try:
            rewritten, join = steps((numeric,))
            plans = list(map(runner.plan, rewritten))
        except UnsupportedCircuit as error:
            if not unknown:
                raise
            refusal = error  # the circuit itself was rewritten: the engine takes only these random numbers not
            continue
        results = [runner.values(plan, part) for plan, part in zip(plans, rewritten, strict=True)]
        (found,) = join(tuple(values[0] if len(values) == 1 else tuple(values) for values in results))
        found = [np.asarray(value) for value in (found if isinstance(found, list | tuple) else [found])]
        allowed = max(runner.allowed(plan, part, wanted) for plan, part in zip(plans, rewritten, strict=True))
        V.compare("The values of a rewritten circuit", found, wanted, allowed)
        return
    V.tell(f"{runner.name} compared what a circuit was rewritten to with default.qubit, and not the rewriting: {refusal}")


def numbers_of(circuit: QuantumScript) -> list[np.ndarray]:
    """All parameters of a circuit as NumPy arrays."""
    return [v if type(v) is np.ndarray else np.asarray(qml.math.unwrap(v)) for v in _parameters(circuit)]


def _parameters(circuit: QuantumScript) -> list[Any]:
    return circuit.get_parameters(trainable_only=False)


def _in_double(value: Any) -> Any:
    return value if issparse(value) else V.in_double(np.asarray(qml.math.unwrap(value)))


def _in_numbers(
    circuit: QuantumScript,
    is_batch: Sequence[bool],
    rng: np.random.Generator,
    states: Sequence[int] = (),
    draw: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> QuantumScript:
    """The first samples of a circuit in double precision; random numbers stand for what is not known yet.

    Args:
        circuit: the circuit.
        is_batch: for each parameter whether its first axis is the batch.
        rng: of what is not known.
        states: positions of parameters whose last axis has norm 1.
        draw: what becomes of angles that are uniform between -pi and pi; matrices of gates are unitary whatever it is.
    """
    found, rows = [], V.rows_of(circuit.num_wires)
    owners = [owner for op in circuit.operations for owner in _owners(op)]
    for i, value in enumerate(_parameters(circuit)):
        if qml.math.is_abstract(value):
            size = tuple(rows if n is None else n for n in shape(value))
            is_complex = "complex" in qml.math.get_dtype_name(value)
            if i < len(owners) and isinstance(owners[i], qml.QubitUnitary):
                value = V.unitaries(size, is_complex, rng)
            elif i < len(owners) and isinstance(owners[i], qml.DiagonalQubitUnitary):
                value = V.phases(size, is_complex, rng)
            else:
                uniform = rng.uniform(-np.pi, np.pi, size)
                value = V.of_norm_one(uniform) if i in states else draw(uniform)
        else:
            value = _in_double(value)
        found.append(value[:rows] if is_batch[i] else value)
    changed = [i for i, old in enumerate(_parameters(circuit)) if found[i] is not old]
    return V.bound(circuit, [found[i] for i in changed], changed) if changed else circuit


def _compare_values(runner: Runner, plan: Plan, circuit: QuantumScript) -> V.Values:
    wanted = V.executed(circuit, plan.wires)
    V.compare(
        "The values of a compiled circuit", runner.values(plan, circuit), wanted, runner.allowed(plan, circuit, wanted)
    )
    return wanted


def _dimensions(op: Operator) -> list[int | None]:
    """Axes of each parameter of an operation without a batch; None where PennyLane does not say."""
    found = getattr(op, "ndim_params", ()) if not isinstance(op, qml.ops.CompositeOp | qml.ops.SymbolicOp) else ()
    return list(found) if len(found) == len(op.data) else [None] * len(op.data)


def _owners(op: Operator) -> list[Operator]:
    """For each parameter of an operation the operation that it belongs to, within controls, adjoints and products."""
    if isinstance(op, qml.ops.CompositeOp):
        found = [owner for part in op.operands for owner in _owners(part)]
    elif isinstance(op, qml.ops.SymbolicOp):
        found = _owners(op.base)
        found = [op] * (len(op.data) - len(found)) + found
    else:
        found = []
    return found if len(found) == len(op.data) else [op] * len(op.data)
