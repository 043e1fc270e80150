"""A compiled circuit against PennyLane's own execution of it, in double precision: see `executed`.

Values are compared as they are. A vector-Jacobian product is compared along one direction: with a random cotangent c and a
random direction d it gives the slope of sum(c * result) along d, which central differences of PennyLane's values give too,
whatever the measurement and without a second way of differentiating.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.ops.functions import bind_new_parameters
from pennylane.tape import QuantumScript

from hybridbench.engine.compiler import UnsupportedCircuit
from hybridbench.errors import check_name
from hybridbench.measurement.machine import available_memory_bytes

VERIFY = ("first", "never", "always")
STEP = 1e-4  #: of a central difference, over the sum of the direction's sizes
WIDE_STEP = 1e-3  #: the same where one difference does not do, and two of them say how far they are off
LARGE = 14  #: qubits above which PennyLane's executions take longer than everything else, and are fewer
WIDE = 16  #: qubits above which `lightning.qubit` is the reference, where it runs the circuit: several times as fast
STATES = 8  #: state vectors of double precision that `default.qubit` may hold at once

#: What `lightning.qubit` raises for what it does not run.
NOT_RUN = (
    *(qml.DeviceError, qml.QuantumFunctionError, qml.operation.OperatorPropertyUndefined, qml.wires.WireError),
    *(ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
)

Values = list[np.ndarray]


class Mismatch(UnsupportedCircuit):
    """The compiled circuit gives other numbers than PennyLane."""


class Unbound(TypeError):
    """PennyLane cannot put other numbers into an operation."""


class NotVerified(UserWarning):
    """A compiled circuit is used although nothing compared it with PennyLane."""


def tell(what: str) -> None:
    """Warn that a circuit is used although it, or a part of what it does, was not compared."""
    warnings.warn(what, NotVerified, stacklevel=2)


def tell_of_memory(subject: str, n_qubits: int) -> None:
    """The same where there is no memory: `subject` says who did not compare it."""
    tell(
        f"{subject} did not compare a circuit of {n_qubits} qubits with default.qubit, which has no memory for it here: "
        "compare a smaller one, or say verify='never'."
    )


def check_verify(verify: str) -> str:
    """The setting, if it is one of `VERIFY`; else ConfigurationError."""
    return check_name("verify", verify, VERIFY)


def executed(tape: QuantumScript, wires: Sequence[Hashable] | None) -> Values:
    """Results of a circuit of NumPy numbers on PennyLane's simulator: one array for each measurement.

    That is `default.qubit`, and for circuits of more than `WIDE` qubits `lightning.qubit`, where it runs them.

    Args:
        tape: without shots.
        wires: wire order, most significant first; None for that of the circuit.
    """
    if wires is not None and len(wires) > WIDE:
        with suppress(*NOT_RUN):  # default.qubit runs it, or refuses it with the error that counts
            return _executed(tape, qml.device("lightning.qubit", wires=list(wires)))
    return _executed(tape, qml.device("default.qubit", wires=None if wires is None else list(wires)))


def _executed(tape: QuantumScript, device: qml.devices.Device) -> Values:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        (found,) = qml.execute([tape], device, diff_method=None, cache=False)
    return [np.asarray(value) for value in (found if len(tape.measurements) > 1 else [found])]


def bound(tape: QuantumScript, values: Sequence[Any], at: Sequence[int]) -> QuantumScript:
    """The circuit with other parameters; `at` are their positions among all of the circuit's.

    Raises:
        Unbound: PennyLane cannot put other numbers into one of its operations.
    """
    operations, measured = list(tape.operations), []
    by_operation: dict[int, dict[int, Any]] = {}
    for value, position in zip(values, at, strict=True):
        info = tape.par_info[position]
        if info["op_idx"] >= len(operations):
            measured.append((value, position))
        else:
            by_operation.setdefault(info["op_idx"], {})[info["p_idx"]] = value
    for number, new in by_operation.items():
        op = operations[number]
        data = [new.get(i, old) for i, old in enumerate(op.data)]
        # PennyLane's own function leaves an evolution and its Trotter product as they are, and forgets control values.
        if isinstance(op, qml.ops.Evolution):
            operations[number] = type(op)(op.base, data[0])
        elif isinstance(op, qml.TrotterProduct):
            base = bind_new_parameters(op.hyperparameters["base"], data[:-1])
            n, order = op.hyperparameters["n"], op.hyperparameters["order"]
            operations[number] = qml.TrotterProduct(base, data[-1], n=n, order=order, check_hermitian=False)
        elif isinstance(op, qml.ControlledQubitUnitary):
            operations[number] = type(op)(data[0], wires=op.wires, control_values=op.control_values)
        elif isinstance(op, qml.StatePrep):  # a slope may lead away from norm 1
            operations[number] = qml.StatePrep(data[0], wires=op.wires, validate_norm=False)
        else:
            try:
                operations[number] = bind_new_parameters(op, data)
                operations[number].batch_size  # noqa: B018  (some are left without what their own properties need)
            except (AttributeError, IndexError, TypeError) as error:
                raise Unbound(f"{op.name} takes no other numbers: {error}") from error
    tape = tape.copy(operations=operations)
    return tape.bind_new_parameters([v for v, _ in measured], [p for _, p in measured]) if measured else tape


def in_double(value: Any) -> Any:
    """An array or number in double precision; `default.qubit` would compute in the precision of its parameters."""
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fc":
        return value.astype(complex if value.dtype.kind == "c" else float, copy=False)
    return value


def rows_of(n_qubits: int) -> int:
    """Samples of a batch that are compared."""
    return 3 if n_qubits <= LARGE else 2 if n_qubits <= WIDE else 1


def fits(n_qubits: int, rows: int) -> bool:
    """Whether `default.qubit` has the memory for some states of a circuit."""
    return STATES * rows * 16 * 2**n_qubits < available_memory_bytes()


def tolerance(precision: str, scale: float, gates: int, largest_angle: float) -> float:
    """How far rounding may bring a value from the exact one.

    Args:
        precision: "complex64" or "complex128", of the amplitudes.
        scale: size of the values, at least 1: for an observable the sum of its coefficients' sizes.
        gates: how many gates round.
        largest_angle: size of the largest angle, which is known to one part in 2**24 or 2**53 only.
    """
    eps = np.finfo(np.float32 if precision == "complex64" else np.float64).eps
    # Below the first number an error of rounding and an error of a circuit cannot be told apart by anybody.
    least = 2e-5 if precision == "complex64" else 1e-9
    return float(scale * max(least, eps * (16 * gates + 8 * np.sqrt(gates + 1) * largest_angle)))


def compare_slopes(
    what: str,
    mine: float,
    evaluate: Callable[[float], Values],
    cotangents: Values,
    moves: Sequence[np.ndarray],
    allowed: float,
) -> None:
    """Raise Mismatch where a slope from compiled gradients is not that of PennyLane's values.

    Args:
        what: the gradients.
        mine: the derivative of Re(sum(conj(cotangent) * value)) along a direction, from the gradients.
        evaluate: PennyLane's values at a distance along that direction.
        cotangents: one for each value.
        moves: how far each parameter of a gate moves along the direction.
        allowed: how far the values may be apart.
    """

    def total(at: float) -> float:
        return sum(float(np.sum(np.real(np.conj(c) * v))) for c, v in zip(cotangents, evaluate(at), strict=True))

    def slope(step: float) -> float:
        return (total(step) - total(-step)) / (2 * step)

    distance = max(sum(float(np.sum(np.abs(move))) for move in moves), 1e-12)
    length = math.sqrt(sum(float(np.sum(np.abs(move) ** 2)) for move in moves))
    size = max(1.0, sum(float(np.sum(np.abs(c))) for c in cotangents)) * max(1.0, length)
    theirs = slope(STEP / distance)
    off = allowed * size + 1e-8 * max(size, abs(theirs))
    if abs(mine - theirs) <= off:
        return
    wide, narrow = slope(WIDE_STEP / distance), slope(WIDE_STEP / 2 / distance)
    theirs = (4 * narrow - wide) / 3  # Richardson: the error of order step**2 goes
    if np.isfinite(theirs) and np.isfinite(mine):  # the values say what is no number
        compare(what, [np.array(mine)], [np.array(theirs)], off + 10 * abs(theirs - narrow))


def random_like(values: Sequence[np.ndarray], rng: np.random.Generator) -> Values:
    """Random cotangents for values, complex where these are."""
    return [
        rng.normal(size=v.shape) + (1j * rng.normal(size=v.shape) if np.iscomplexobj(v) else 0.0)
        for v in map(np.asarray, values)
    ]


def compare(what: str, found: Sequence[Any], wanted: Sequence[Any], allowed: float) -> None:
    """Raise Mismatch where two lists of arrays differ in shape, by more than `allowed`, or in what is no number."""
    shapes = [[np.shape(v) for v in values] for values in (found, wanted)]
    if shapes[0] != shapes[1]:
        raise Mismatch(f"{what} have the shapes {shapes[0]}, and PennyLane's have {shapes[1]}")
    for mine, theirs in zip(map(np.asarray, found), map(np.asarray, wanted), strict=True):
        if np.allclose(mine, theirs, rtol=0, atol=allowed, equal_nan=True):
            continue
        place = np.unravel_index(np.argmax(np.nan_to_num(np.abs(mine - theirs), nan=np.inf)), mine.shape)
        example = f"{mine[place]:.6g} for {theirs[place]:.6g}"
        raise Mismatch(f"{what} differ from PennyLane's by more than {allowed:.1e}, for example {example}")


def of_norm_one(uniform: np.ndarray) -> np.ndarray:
    """Positive numbers whose squares sum up to 1 along the last axis, as amplitudes have to."""
    positive = _positive(uniform)
    return positive / np.linalg.norm(positive, axis=-1, keepdims=True) if positive.ndim else positive


def of_sum_one(uniform: np.ndarray) -> np.ndarray:
    """Positive numbers that sum up to 1 along the last axis, as probabilities have to."""
    positive = _positive(uniform)
    return positive / np.sum(positive, axis=-1, keepdims=True) if positive.ndim else positive


def _positive(uniform: np.ndarray) -> np.ndarray:
    return np.abs(uniform) + 0.1


#: What circuits take, tried in this order where their own numbers are not known: from angles between -pi and pi.
KINDS = (np.asarray, of_norm_one, of_sum_one, lambda uniform: (uniform > 0).astype(float))


def unitaries(shape: Sequence[int], is_complex: bool, rng: np.random.Generator) -> np.ndarray:
    """Random unitary matrices over the last two axes; orthogonal ones where they are real."""
    gauss = rng.normal(size=shape) + (1j * rng.normal(size=shape) if is_complex else 0.0)
    return np.linalg.qr(gauss)[0]


def phases(shape: Sequence[int], is_complex: bool, rng: np.random.Generator) -> np.ndarray:
    """Random numbers of size 1; signs where they are real."""
    angles = rng.uniform(-np.pi, np.pi, shape)
    return np.exp(1j * angles) if is_complex else np.where(angles < 0, -1.0, 1.0)


def directions(values: Sequence[np.ndarray], states: Sequence[bool], rng: np.random.Generator) -> Values:
    """A random direction of length 1 for each parameter; for a state one that keeps its norm."""
    found = random_like(values, rng)
    for i, (value, is_state) in enumerate(zip(values, states, strict=True)):
        if is_state:
            part = np.sum(np.real(np.conj(value) * found[i]), axis=-1, keepdims=True)
            found[i] = found[i] - value * part / np.sum(np.abs(value) ** 2, axis=-1, keepdims=True)
    length = np.sqrt(sum(float(np.sum(np.abs(d) ** 2)) for d in found))
    return [d / length for d in found] if length else found
