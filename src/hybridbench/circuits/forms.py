"""How the numbers of a graph follow from its inputs, read from the graph itself.

Each number of a tensor is offset + scale * one entry of the inputs, or opaque. Operations that only move numbers are run on
the numbers' identities; sums and products are worked out on the forms. Nothing is probed, so nothing is lost to rounding.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hybridbench.stack import import_tensorflow

tf = import_tensorflow()

LARGEST_OFFSET = 16.0  #: a larger one would cancel digits that the circuit, in its own order of operations, keeps
LARGEST_SCALE = 64.0  #: a larger one, put together from several factors, rounds otherwise than the circuit does
LARGEST_BETWEEN = 2.0**40  #: scales on the way there; its inverse is the smallest

#: Operations that only move numbers, and which of their inputs these are.
MOVES: dict[str, tuple[str, ...]] = {
    "BroadcastTo": ("input",),
    "ConcatV2": ("values",),
    "ExpandDims": ("input",),
    "Fill": ("value",),
    "GatherNd": ("params",),
    "GatherV2": ("params",),
    "Identity": ("input",),
    "Pack": ("values",),
    "Pad": ("input",),
    "PadV2": ("input", "constant_values"),
    "Reshape": ("tensor",),
    "ReverseV2": ("tensor",),
    "Slice": ("input",),
    "Split": ("value",),
    "SplitV": ("value",),
    "Squeeze": ("input",),
    "StridedSlice": ("input",),
    "Tile": ("input",),
    "Transpose": ("x",),
    "Unpack": ("value",),
    "ZerosLike": ("x",),
}
_ATTRIBUTES = {"squeeze_dims": "axis"}  #: names that differ between a graph and tf.raw_ops


class Form(NamedTuple):
    """offset + scale * entry of the inputs; `entry` is -1 for a constant."""

    offset: float
    scale: float
    entry: int


@dataclass(frozen=True)
class _Ids:
    """A tensor of floating-point numbers: for each its form, by place in the table."""

    value: np.ndarray


_ZERO, _OPAQUE = 0, 1  #: first places of the table


class Forms:
    """Forms of the tensors of a graph.

    Args:
        inputs: the graph's placeholders in order; the entries are theirs, flattened, one after the other.
    """

    def __init__(self, inputs: Sequence[tf.Tensor]) -> None:
        self._table: list[Form | None] = [Form(0.0, 0.0, -1), None]
        self._places: dict[Form, int] = {self._table[0]: _ZERO}
        self._found: dict[str, Any] = {}
        start = 0
        for tensor in inputs:
            size = int(np.prod(tensor.shape, dtype=int))
            ids = [self._place(Form(0.0, 1.0, entry)) for entry in range(start, start + size)]
            floating = tensor.dtype.is_floating
            self._found[tensor.name] = _Ids(np.array(ids if floating else [_OPAQUE] * size, int).reshape(tensor.shape))
            start += size

    def of(self, tensor: tf.Tensor) -> list[Form | None]:
        """The form of each number of a tensor, flattened; None for what has none, or one that would round otherwise."""
        found = self._value(tensor)
        if not isinstance(found, _Ids):
            return [None if v.dtype.kind not in "iuf" else Form(float(v), 0.0, -1) for v in np.ravel(found)]
        return [self._usable(self._table[i]) for i in found.value.ravel()]

    @staticmethod
    def _usable(form: Form | None) -> Form | None:
        return form if form is None or form.entry < 0 or abs(form.scale) <= LARGEST_SCALE else None

    def _place(self, form: Form | None) -> int:
        if form is None:
            return _OPAQUE
        if not np.isfinite(form.offset) or not np.isfinite(form.scale):
            return _OPAQUE
        if form.scale == 0:
            form = Form(form.offset, 0.0, -1)
        elif abs(form.offset) > LARGEST_OFFSET or not 1 / LARGEST_BETWEEN <= abs(form.scale) <= LARGEST_BETWEEN:
            return _OPAQUE
        if form not in self._places:
            self._places[form] = len(self._table)
            self._table.append(form)
        return self._places[form]

    def _value(self, tensor: tf.Tensor) -> Any:
        """`_Ids` of floating-point numbers; an array of others that no input decides; None for all else."""
        if tensor.name not in self._found:
            waiting = [tensor.op]
            while waiting:  # a graph may be deeper than Python's stack
                op = waiting[-1]
                missing = [t.op for t in op.inputs if t.name not in self._found]
                if missing:
                    waiting += missing
                    continue
                waiting.pop()
                if op.outputs and op.outputs[0].name not in self._found:
                    self._evaluate(op)
        return self._found[tensor.name]

    def _evaluate(self, op: tf.Operation) -> None:
        inputs = [self._found[t.name] for t in op.inputs]
        found = self._results(op, inputs)
        for tensor, value in zip(op.outputs, found or [None] * len(op.outputs), strict=True):
            real = tensor.dtype.is_floating or tensor.dtype.is_complex
            if value is None and real and tensor.shape.is_fully_defined():
                value = _Ids(np.full(tensor.shape, _OPAQUE))
            self._found[tensor.name] = value

    def _results(self, op: tf.Operation, inputs: list[Any]) -> list[Any] | None:
        """One value for each output, or None where nothing is known of them."""
        if op.type == "Const":
            return [self._constants(tf.get_static_value(op.outputs[0]))]
        if any(value is None for value in inputs):
            return None
        if op.type == "Cast":
            return self._cast(op, inputs[0])
        if op.type in ("Shape", "Size", "Rank", "Range") or all(not isinstance(value, _Ids) for value in inputs):
            return self._run(op, [v.value if isinstance(v, _Ids) else v for v in inputs])
        if op.type in MOVES:
            moved = self._run(op, [v.value if isinstance(v, _Ids) else v for v in inputs])
            return [_Ids(np.asarray(part)) for part in moved]
        function = _ARITHMETIC.get(op.type)
        if function is None or not all(isinstance(value, _Ids) for value in inputs):
            return None
        total = inputs[0].value
        if op.type == "Neg":
            return [_Ids(self._combine(function, total, total))]
        for other in inputs[1:]:  # AddN has many
            total = self._combine(function, total, other.value)
        return [_Ids(total)]

    def _constants(self, value: Any) -> Any:
        if value is None:
            return None
        value = np.asarray(value)
        if value.dtype.kind != "f":
            return value if value.dtype.kind in "iub" else None
        return _Ids(np.array([self._place(Form(float(v), 0.0, -1)) for v in value.ravel()], int).reshape(value.shape))

    def _cast(self, op: tf.Operation, value: Any) -> list[Any] | None:
        source, target = op.inputs[0].dtype, op.outputs[0].dtype
        if isinstance(value, _Ids):  # a cast to fewer digits, or to an integer, rounds
            widens = (target.is_floating and target.size >= source.size) or (target.is_complex and not source.is_complex)
            return [value] if widens else None
        if target.is_floating:
            return [self._constants(np.asarray(value).astype(target.as_numpy_dtype))]
        return [np.asarray(value).astype(target.as_numpy_dtype)] if target.is_integer or target.is_bool else None

    @staticmethod
    def _run(op: tf.Operation, values: list[Any]) -> list[np.ndarray] | None:
        """The operation itself on other numbers."""
        function = getattr(tf.raw_ops, op.type, None)
        if function is None:
            return None
        wanted, given, at = inspect.signature(function).parameters, {}, 0
        for argument in op.op_def.input_arg:
            count = op.get_attr(argument.number_attr) if argument.number_attr else 1
            part = [tf.constant(value) for value in values[at : at + count]]
            given[argument.name] = part if argument.number_attr else part[0]
            at += count
        for attribute in op.op_def.attr:
            name = _ATTRIBUTES.get(attribute.name, attribute.name)
            if name in wanted and name not in given:
                given[name] = op.get_attr(attribute.name)
        found = function(**given)
        return [tensor.numpy() for tensor in (found if isinstance(found, list | tuple) else [found])]

    def _combine(self, function: Callable[[Form, Form], Form | None], first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The forms of function(a, b) for all pairs, broadcast."""
        first, second = np.broadcast_arrays(first, second)
        pairs, inverse = np.unique(np.stack([first.ravel(), second.ravel()], axis=1), axis=0, return_inverse=True)
        made = [
            _OPAQUE if _OPAQUE in (a, b) else self._place(function(self._table[a], self._table[b]))
            for a, b in pairs.tolist()
        ]
        return np.array(made, int)[inverse.ravel()].reshape(first.shape) if made else np.zeros(first.shape, int)


def _add(a: Form, b: Form, sign: float = 1.0) -> Form | None:
    if a.entry >= 0 and b.entry >= 0 and a.entry != b.entry:
        return None
    return Form(a.offset + sign * b.offset, a.scale + sign * b.scale, max(a.entry, b.entry))


def _multiply(a: Form, b: Form) -> Form | None:
    if a.entry >= 0 and b.entry >= 0:
        return None
    by, line = (a.offset, b) if a.entry < 0 else (b.offset, a)
    return Form(by * line.offset, by * line.scale, line.entry if by else -1)


def _divide(a: Form, b: Form) -> Form | None:
    return None if b.entry >= 0 or b.offset == 0 else Form(a.offset / b.offset, a.scale / b.offset, a.entry)


_ARITHMETIC: Mapping[str, Callable[[Form, Form], Form | None]] = {
    "Add": _add,
    "AddV2": _add,
    "AddN": _add,
    "Sub": lambda a, b: _add(a, b, -1.0),
    "Mul": _multiply,
    "RealDiv": _divide,
    "Neg": lambda a, _: Form(-a.offset, -a.scale, a.entry),
}
