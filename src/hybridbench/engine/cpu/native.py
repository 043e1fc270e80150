"""Plain Python functions to machine code: a compiler for the small language of the CPU engine's inner loops.

numba compiles the same functions to the same speed, but takes 12 s of CPU time for them, most of it in type inference and in
passing each helper function through LLVM on its own. This one knows a few types and no objects, writes one LLVM module for
an entry function and all that it calls (0.1 s), and lets LLVM optimise that once (2 s).

The language: functions of any module, with `if`, `while`, `for ... in range(...)`, arithmetic, comparisons, calls of other
such functions, and of `Intrinsic` and `External` ones. Names outside a function are constants. A value is a 64-bit integer,
a float32 or float64, a vector of simd.LANES of them, an address with the type of what lies there (indexed like an array,
never checked), or a tuple of those (to return several). What differs from Python: integers must stay within 64 bits and
divisors must not be 0 (neither is checked), a variable keeps the type of its first assignment, `and`, `or` and `not` are
true or false, and a step of `range` that is no constant must be positive.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import hmac
import math
import operator
import os
import secrets
import stat
import struct
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import llvmlite
import llvmlite.binding as llvm
import numpy as np

from hybridbench.engine.once import once

#: Types, as LLVM writes them; an address has the type of what lies there and a star.
BIT, BYTE, INT, WORD, FLOAT, DOUBLE, NOTHING = "i1", "i8", "i32", "i64", "float", "double", "void"
CONTRACT = "nsz contract"  # a * b + c may be one instruction
_INTEGER = {
    ast.Add: "add nsw", ast.Sub: "sub nsw", ast.Mult: "mul nsw", ast.LShift: "shl", ast.RShift: "ashr",
    ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor",
}  # fmt: skip
_FLOATING = {ast.Add: "fadd", ast.Sub: "fsub", ast.Mult: "fmul", ast.Div: "fdiv"}
_CONSTANT = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.LShift: operator.lshift, ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor,
}  # fmt: skip
_COMPARISON = {ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"}
_LIBM = {math.sin: "sin", math.cos: "cos", math.sqrt: "sqrt", math.atan2: "atan2"}

SOURCES = Path(__file__).parents[1]  #: all that machine code is made of
STALE_SECONDS = 3600  #: age of a half-written file whose process is surely gone
_LLVM = threading.RLock()  #: LLVM's engine takes one caller at a time

#: Functions by the name that they get, with the types of their arguments.
Entries = dict[str, tuple[FunctionType, tuple[str, ...]]]


class Value(NamedTuple):
    """A number that is known when the code runs: its type, and its name in LLVM's text."""

    kind: str
    text: str


class Intrinsic(NamedTuple):
    """A function that writes instructions: emit(writer, *values) returns a Value."""

    emit: Callable[..., Any]

    def __call__(self, *values: Any) -> Any:
        """Exists for compiled code only."""
        raise TypeError("an intrinsic exists in compiled code only")


class External(NamedTuple):
    """A C function of this process."""

    name: str
    returned: str
    arguments: tuple[str, ...]

    def __call__(self, *values: Any) -> Any:
        """Exists for compiled code only."""
        raise TypeError("an external function is for compiled code; use ctypes")


def _llvm(kind: str) -> str:
    return "ptr" if kind.endswith("*") else kind


def _is_constant(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.number))


@lru_cache
def _definitions(path: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


class Module:
    """An LLVM module that grows with each function that is needed."""

    def __init__(self) -> None:
        self.functions: dict[tuple[FunctionType, tuple[str, ...]], tuple[str, Any]] = {}
        self.declarations: dict[str, str] = {}
        self.text: list[str] = []

    def declare(self, name: str, returned: str, *arguments: str) -> None:
        """A function that is defined elsewhere."""
        self.declarations[name] = f"declare {_llvm(returned)} @{name}({', '.join(map(_llvm, arguments))})"

    def function(self, function: FunctionType, kinds: tuple[str, ...], name: str = "") -> tuple[str, Any]:
        """Name and returned type (a tuple of types for several values) of `function` for arguments of these types."""
        key = (function, kinds)
        if key not in self.functions:
            linkage = "" if name else "internal "
            name = name or f"{function.__name__}.{len(self.functions)}"
            self.functions[key] = (name, None)  # a function that calls itself would find no type
            writer = Writer(self, function, kinds)
            returned = writer.translate()
            arguments = ", ".join(f"{_llvm(kind)} %arg{i}" for i, kind in enumerate(kinds))
            head = f"define {linkage}{_returned(returned)} @{name}({arguments}) nounwind {{\nentry:"
            self.text.append("\n".join([head, *writer.slots, *writer.lines, "}"]))
            self.functions[key] = (name, returned)
        return self.functions[key]

    def __str__(self) -> str:
        return "\n".join([*self.declarations.values(), *self.text])


def _returned(kind: Any) -> str:
    return "{" + ", ".join(map(_llvm, kind)) + "}" if isinstance(kind, tuple) else _llvm(kind)


def _count(returned: Any) -> int:
    """How many values a function returns."""
    return len(returned) if isinstance(returned, tuple) else int(returned != NOTHING)


class Writer:
    """Translates one function for arguments of given types.

    An expression becomes a Value, a tuple of them, or, where it is known now, the Python object itself.
    """

    def __init__(self, module: Module, function: FunctionType, kinds: tuple[str, ...]) -> None:
        self.module, self.function, self.kinds = module, function, kinds
        self.slots: list[str] = []  # the memory of variables, which LLVM's first pass turns into registers
        self.lines: list[str] = []
        self.variables: dict[str, Value] = {}
        self.count = 0
        self.block = "entry"
        self.open = True  # whether the block at work has not ended in a jump
        self.loops: list[tuple[str, str]] = []  # where `continue` and `break` go
        self.returned: Any = None
        self.node: ast.AST = _definitions(function.__code__.co_filename)[function.__name__]  # at work

    def translate(self) -> Any:
        """Write the whole function; its returned type."""
        node = self.node
        if len(node.args.args) != len(self.kinds):
            raise self.unsupported(node, f"is called with {len(self.kinds)} values")
        for number, (argument, kind) in enumerate(zip(node.args.args, self.kinds, strict=True)):
            self.assign(argument.arg, Value(kind, f"%arg{number}"))
        self.statements(node.body)
        if self.open:
            if self.returned not in {None, NOTHING}:
                raise self.unsupported(node, "ends without returning a value")
            self.returned = NOTHING
            self.jump("ret void")
        return self.returned

    def unsupported(self, node: ast.AST, why: str = "is not part of the language of compiled functions") -> TypeError:
        """The error of a line that cannot be compiled."""
        place = f"{Path(self.function.__code__.co_filename).name}:{getattr(node, 'lineno', '?')}"
        return TypeError(f"{place}, {self.function.__name__}: `{ast.unparse(node).splitlines()[0]}` {why}.")

    # ------------------------------------------------------------------------------------------------------ instructions

    def name(self) -> str:
        """A new name."""
        self.count += 1
        return f"%v{self.count}"

    def emit(self, kind: str, instruction: str) -> Value:
        """Write an instruction with a result."""
        name = self.name()
        self.lines.append(f"{name} = {instruction}")
        return Value(kind, name)

    def do(self, instruction: str) -> None:
        """Write an instruction without one."""
        self.lines.append(instruction)

    def label(self) -> str:
        """The name of a new block."""
        self.count += 1
        return f"b{self.count}"

    def start(self, label: str) -> None:
        """Go on in the block `label`."""
        if self.open:
            self.do(f"br label %{label}")
        self.do(f"{label}:")
        self.block, self.open = label, True

    def jump(self, instruction: str) -> None:
        """End the block."""
        self.do(instruction)
        self.open = False

    def branch(self, condition: Value, yes: str, no: str) -> None:
        """End the block in a choice."""
        self.jump(f"br i1 {condition.text}, label %{yes}, label %{no}")

    def value(self, item: Any, kind: str = "") -> Value:
        """A Value for a constant or a Value, of type `kind` if that is given."""
        if not isinstance(item, Value):
            item = self.constant(item, kind)
        return item if not kind or item.kind == kind else self.convert(item, kind)

    def constant(self, item: Any, kind: str) -> Value:
        """A number that is known now; without a `kind` it has that of the Python object."""
        if not _is_constant(item):
            raise self.unsupported(self.node, f"uses {item!r} as a number")
        if isinstance(item, (bool, np.bool_)):
            own = BIT
        elif isinstance(item, np.uint8):
            own = BYTE
        elif isinstance(item, (int, np.integer)):
            own = WORD
        else:
            own = FLOAT if isinstance(item, np.float32) else DOUBLE
        kind = kind or own
        if kind in {FLOAT, DOUBLE}:
            number = np.float32(item) if kind == FLOAT else item
            return Value(kind, f"0x{struct.pack('>d', float(number)).hex()}")
        if own in {FLOAT, DOUBLE} or not -(2**63) <= item < 2**63:
            raise self.unsupported(self.node, f"uses {item!r} as a 64-bit integer")
        return Value(kind, str(int(item)))

    def convert(self, item: Value, kind: str) -> Value:
        """The same number in another type."""
        order = (BIT, BYTE, INT, WORD, FLOAT, DOUBLE)
        if item.kind not in order or kind not in order:
            raise self.unsupported(self.node, f"uses a value of type {item.kind} as {kind}")
        up = order.index(kind) > order.index(item.kind)
        if kind in {FLOAT, DOUBLE}:
            how = (
                ("fpext" if up else "fptrunc")
                if item.kind in {FLOAT, DOUBLE}
                else "uitofp"
                if item.kind == BIT
                else "sitofp"
            )
        elif item.kind in {FLOAT, DOUBLE}:
            raise self.unsupported(self.node, f"uses a floating-point value as {kind}")
        else:
            how = ("sext" if item.kind == INT else "zext") if up else "trunc"
        return self.emit(kind, f"{how} {item.kind} {item.text} to {kind}")

    def truth(self, item: Any) -> Value:
        """Whether a number is not 0."""
        item = self.value(item)
        return item if item.kind == BIT else self.compare("ne", item, 0)

    def common(self, *items: Any) -> list[Value]:
        """The values in the one type that holds them all."""
        kind = self.kind_of(*items)
        return [self.value(item, kind) for item in items]

    def kind_of(self, *items: Any) -> str:
        """The type that holds all these values."""
        kinds = {(item if isinstance(item, Value) else self.constant(item, "")).kind for item in items}
        if len(kinds) == 1:
            return kinds.pop()
        return WORD if kinds <= {BIT, BYTE, WORD} else DOUBLE

    def element(self, base: Value, index: Any) -> Value:
        """The address base + index."""
        kind = base.kind.removesuffix("*")
        if kind == base.kind:
            raise self.unsupported(self.node, f"indexes a value of type {kind}")
        return self.emit(
            base.kind, f"getelementptr inbounds {_llvm(kind)}, ptr {base.text}, i64 {self.value(index, WORD).text}"
        )

    # -------------------------------------------------------------------------------------------------------- statements

    def statements(self, nodes: list[ast.stmt]) -> None:
        """Write statements up to one that ends the block."""
        for node in nodes:
            if self.open:
                self.node = node
                try:
                    getattr(self, f"_on_{type(node).__name__}", self.unknown)(node)
                except (AttributeError, LookupError, ValueError) as error:  # a form that no translation expects
                    raise self.unsupported(node) from error

    def unknown(self, node: ast.AST) -> None:
        """Anything else."""
        raise self.unsupported(node)

    def assign(self, name: str, item: Any) -> None:
        """Set a variable."""
        if name not in self.variables:
            kind = self.value(item).kind
            kind = kind if kind != BYTE else WORD
            self.slots.append(f"%{name}.slot = alloca {_llvm(kind)}")
            self.variables[name] = Value(kind, f"%{name}.slot")
        kind, slot = self.variables[name]
        self.do(f"store {_llvm(kind)} {self.value(item, kind).text}, ptr {slot}")

    def put(self, target: ast.expr, item: Any) -> None:
        """Assign to whatever may stand on the left."""
        if isinstance(target, ast.Name):
            self.assign(target.id, item)
        elif isinstance(target, ast.Tuple):
            for part, value in zip(target.elts, item, strict=True):
                self.put(part, value)
        elif isinstance(target, ast.Subscript):
            self.write(self.element(self.visit(target.value), self.visit(target.slice)), item)
        else:
            raise self.unsupported(target)

    def write(self, where: Value, item: Any) -> None:
        """Store at an address."""
        kind = where.kind.removesuffix("*")
        self.do(f"store {kind} {self.value(item, kind).text}, ptr {where.text}")

    def read(self, where: Value) -> Value:
        """Load from an address."""
        kind = where.kind.removesuffix("*")
        found = self.emit(kind, f"load {kind}, ptr {where.text}")
        return self.value(found, WORD) if kind in {BYTE, INT} else found

    def _on_Assign(self, node: ast.Assign) -> None:
        item = self.visit(node.value)
        for target in node.targets:
            self.put(target, item)

    def _on_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            old = self.visit(ast.Name(node.target.id, ast.Load()))
            self.assign(node.target.id, self.binary(node, node.op, old, self.visit(node.value)))
        elif isinstance(node.target, ast.Subscript):
            where = self.element(self.visit(node.target.value), self.visit(node.target.slice))
            self.write(where, self.binary(node, node.op, self.read(where), self.visit(node.value)))
        else:
            raise self.unsupported(node)

    def _on_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.visit(node.value)

    def _on_Return(self, node: ast.Return) -> None:
        item = None if node.value is None else self.visit(node.value)
        if item is None:
            kind: Any = NOTHING
        else:
            kind = tuple(self.value(part).kind for part in item) if type(item) is tuple else self.value(item).kind
        self.returned = self.returned or kind
        if _count(kind) != _count(self.returned):
            raise self.unsupported(node, "returns another number of values than the return before")
        if item is None:
            self.jump("ret void")
        elif type(item) is tuple:
            found = Value("", "undef")
            text = _returned(self.returned)
            for i, (part, want) in enumerate(zip(item, self.returned, strict=True)):
                value = self.value(part, want)
                found = self.emit("", f"insertvalue {text} {found.text}, {_llvm(want)} {value.text}, {i}")
            self.jump(f"ret {text} {found.text}")
        else:
            self.jump(f"ret {_llvm(self.returned)} {self.value(item, self.returned).text}")

    def _on_If(self, node: ast.If) -> None:
        yes, no, end = self.label(), self.label(), self.label()
        self.branch(self.truth(self.visit(node.test)), yes, no if node.orelse else end)
        self.start(yes)
        self.statements(node.body)
        if node.orelse:
            reached = self.open
            if reached:
                self.jump(f"br label %{end}")
            self.start(no)
            self.statements(node.orelse)
            if not self.open and not reached:
                return
        self.start(end)

    def _on_While(self, node: ast.While) -> None:
        if node.orelse:
            raise self.unsupported(node, "has an `else`, which no loop of a compiled function may have")
        test, body, end = self.label(), self.label(), self.label()
        self.start(test)
        self.branch(self.truth(self.visit(node.test)), body, end)
        self.start(body)
        self.repeat(node.body, test, end)
        if self.open:
            self.jump(f"br label %{test}")
        self.start(end)

    def _on_For(self, node: ast.For) -> None:
        call = node.iter
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range"):
            raise self.unsupported(node)
        if node.orelse:
            raise self.unsupported(node, "has an `else`, which no loop of a compiled function may have")
        limits = [self.visit(argument) for argument in call.args]
        start, stop = (0, limits[0]) if len(limits) == 1 else limits[:2]
        step = limits[2] if len(limits) == 3 else 1
        down = not isinstance(step, Value) and step < 0
        if not isinstance(step, Value) and step == 0:
            raise self.unsupported(node, "has a step of 0")
        stop, step = self.value(stop, WORD), self.value(step, WORD)
        self.count += 1
        counter = f"{node.target.id}.{self.count}"  # apart from the variable, which the loop may change
        self.assign(counter, self.value(start, WORD))
        test, body, again, end = self.label(), self.label(), self.label(), self.label()
        self.start(test)
        now = self.load_variable(counter)
        self.branch(self.emit(BIT, f"icmp {'sgt' if down else 'slt'} i64 {now.text}, {stop.text}"), body, end)
        self.start(body)
        self.assign(node.target.id, now)
        self.repeat(node.body, again, end)
        self.start(again)
        self.assign(counter, self.emit(WORD, f"add nsw i64 {now.text}, {step.text}"))
        self.jump(f"br label %{test}")
        self.start(end)

    def repeat(self, body: list[ast.stmt], again: str, end: str) -> None:
        """Write the body of a loop."""
        self.loops.append((again, end))
        self.statements(body)
        self.loops.pop()

    def _on_Continue(self, _: ast.Continue) -> None:
        self.jump(f"br label %{self.loops[-1][0]}")

    def _on_Break(self, _: ast.Break) -> None:
        self.jump(f"br label %{self.loops[-1][1]}")

    # ------------------------------------------------------------------------------------------------------- expressions

    def visit(self, node: ast.expr) -> Any:
        """Write an expression."""
        return getattr(self, f"_on_{type(node).__name__}", self.unknown)(node)

    def load_variable(self, name: str) -> Value:
        """The value of a variable."""
        kind, slot = self.variables[name]
        return self.emit(kind, f"load {_llvm(kind)}, ptr {slot}")

    def _on_Name(self, node: ast.Name) -> Any:
        if node.id in self.variables:
            return self.load_variable(node.id)
        if node.id in self.function.__globals__:
            return self.function.__globals__[node.id]
        if hasattr(builtins, node.id):
            return getattr(builtins, node.id)
        raise self.unsupported(node, "has no value yet")

    def _on_Constant(self, node: ast.Constant) -> Any:
        return node.value

    def _on_Attribute(self, node: ast.Attribute) -> Any:
        owner = self.visit(node.value)
        if isinstance(owner, Value):
            raise self.unsupported(node)
        return getattr(owner, node.attr)

    def _on_Tuple(self, node: ast.Tuple) -> tuple:
        return tuple(self.visit(part) for part in node.elts)

    def _on_Subscript(self, node: ast.Subscript) -> Any:
        base, index = self.visit(node.value), self.visit(node.slice)
        return self.read(self.element(base, index)) if isinstance(base, Value) else base[index]

    def _on_UnaryOp(self, node: ast.UnaryOp) -> Any:
        item = self.visit(node.operand)
        if isinstance(node.op, ast.Not):
            return self.emit(BIT, f"xor i1 {self.truth(item).text}, 1")
        if not isinstance(node.op, ast.USub):
            raise self.unsupported(node)
        if not isinstance(item, Value):
            return -item
        if item.kind in {BIT, WORD}:
            return self.emit(WORD, f"sub nsw i64 0, {self.value(item, WORD).text}")
        return self.emit(item.kind, f"fneg {item.kind} {item.text}")

    def _on_BinOp(self, node: ast.BinOp) -> Any:
        return self.binary(node, node.op, self.visit(node.left), self.visit(node.right))

    def binary(self, node: ast.AST, op: ast.operator, left: Any, right: Any) -> Any:
        """Arithmetic."""
        if not isinstance(left, Value) and not isinstance(right, Value):
            return _CONSTANT[type(op)](left, right)
        left, right = self.common(left, right)
        kind = left.kind
        operands = f"{left.text}, {right.text}"
        if kind == BIT or (kind == WORD and isinstance(op, ast.Div)):
            kind = DOUBLE if isinstance(op, ast.Div) else WORD
            operands = f"{self.value(left, kind).text}, {self.value(right, kind).text}"
        if kind == WORD:
            if type(op) in _INTEGER:
                return self.emit(WORD, f"{_INTEGER[type(op)]} i64 {operands}")
            if isinstance(op, (ast.FloorDiv, ast.Mod)):
                return self.floor(isinstance(op, ast.Mod), operands, right)
        elif type(op) in _FLOATING:
            flags = CONTRACT if kind.startswith("<") else ""
            return self.emit(kind, f"{_FLOATING[type(op)]} {flags} {kind} {operands}")
        raise self.unsupported(node)

    def floor(self, remainder: bool, operands: str, right: Value) -> Value:
        """Quotient rounded down, or its remainder, which has the sign of the divisor."""
        rest = self.emit(WORD, f"srem i64 {operands}")
        sign = self.emit(WORD, f"xor i64 {rest.text}, {right.text}")
        differs, some = self.emit(BIT, f"icmp slt i64 {sign.text}, 0"), self.truth(rest)
        wrong = self.emit(BIT, f"and i1 {differs.text}, {some.text}")
        if remainder:
            more = self.emit(WORD, f"add i64 {rest.text}, {right.text}")
            return self.emit(WORD, f"select i1 {wrong.text}, i64 {more.text}, i64 {rest.text}")
        quotient = self.emit(WORD, f"sdiv i64 {operands}")
        return self.emit(WORD, f"sub i64 {quotient.text}, {self.value(wrong, WORD).text}")

    def _on_Compare(self, node: ast.Compare) -> Any:
        if len(node.ops) != 1 or type(node.ops[0]) not in _COMPARISON:
            raise self.unsupported(node)
        return self.compare(_COMPARISON[type(node.ops[0])], *map(self.visit, (node.left, node.comparators[0])))

    def compare(self, how: str, left: Any, right: Any) -> Value:
        """How two numbers compare."""
        left, right = self.common(left, right)
        if left.kind == BIT:  # whose 1 would be -1
            left, right = self.value(left, WORD), self.value(right, WORD)
        if left.kind.startswith("<"):
            raise self.unsupported(self.node, "compares vectors")
        if left.kind in {FLOAT, DOUBLE}:
            test = f"fcmp {'u' if how == 'ne' else 'o'}{how}"
        else:
            test = f"icmp {how if how in {'eq', 'ne'} else 's' + how}"
        return self.emit(BIT, f"{test} {_llvm(left.kind)} {left.text}, {right.text}")

    def _on_BoolOp(self, node: ast.BoolOp) -> Value:
        """Each operand after the first is written in a block of its own, which only some values of the others reach."""
        end, stops = self.label(), []
        short = isinstance(node.op, ast.Or)
        for number, part in enumerate(node.values):
            item = self.truth(self.visit(part))
            if number < len(node.values) - 1:
                stops.append(f"[{int(short)}, %{self.block}]")
                more = self.label()
                self.branch(item, *((end, more) if short else (more, end)))
                self.start(more)
            else:
                stops.append(f"[{item.text}, %{self.block}]")
        self.start(end)
        return self.emit(BIT, f"phi i1 {', '.join(stops)}")

    def _on_IfExp(self, node: ast.IfExp) -> Any:
        yes, no, end = self.label(), self.label(), self.label()
        self.branch(self.truth(self.visit(node.test)), yes, no)
        self.start(yes)
        first, first_block, first_end = self.visit(node.body), self.block, len(self.lines)
        self.open = False
        self.start(no)
        second, second_block = self.visit(node.orelse), self.block
        one = type(first) is not tuple
        pairs = [(first, second)] if one else list(zip(first, second, strict=True))
        kinds = [self.kind_of(*pair) for pair in pairs]
        seconds = [self.value(pair[1], kind) for pair, kind in zip(pairs, kinds, strict=True)]
        # The first side converts to the common type at its own end, known only now.
        written, self.lines = self.lines, []
        firsts = [self.value(pair[0], kind) for pair, kind in zip(pairs, kinds, strict=True)]
        self.do(f"br label %{end}")
        self.lines = written[:first_end] + self.lines + written[first_end:]
        self.start(end)
        found = tuple(
            self.emit(kind, f"phi {_llvm(kind)} [{a.text}, %{first_block}], [{b.text}, %{second_block}]")
            for kind, a, b in zip(kinds, firsts, seconds, strict=True)
        )
        return found[0] if one else found

    def _on_Call(self, node: ast.Call) -> Any:
        if node.keywords:
            raise self.unsupported(node)
        called = self.visit(node.func)
        items = [self.visit(argument) for argument in node.args]
        if isinstance(called, Intrinsic):
            return called.emit(self, *items)
        if isinstance(called, External):
            return self.call_external(called, items)
        if isinstance(called, FunctionType):
            return self.call(called, [self.value(item) for item in items])
        if not any(isinstance(item, Value) for item in items):
            return called(*items)
        if called in {min, max} and len(items) == 2:
            left, right = self.common(*items)
            other = self.compare("lt" if called is min else "gt", right, left)  # as Python treats zeros and nan
            return self.emit(left.kind, f"select i1 {other.text}, {left.kind} {right.text}, {left.kind} {left.text}")
        if called in {int, float}:
            return self.value(items[0], WORD if called is int else DOUBLE)
        if called in _LIBM:
            return self.call_external(External(_LIBM[called], DOUBLE, (DOUBLE,) * len(items)), items)
        raise self.unsupported(node)

    def call(self, function: FunctionType, items: list[Value]) -> Any:
        """Call another compiled function."""
        name, returned = self.module.function(function, tuple(item.kind for item in items))
        arguments = ", ".join(f"{_llvm(item.kind)} {item.text}" for item in items)
        called = f"call {_returned(returned)} @{name}({arguments})"
        if returned == NOTHING:
            return self.do(called)
        found = self.emit(returned, called)
        if not isinstance(returned, tuple):
            return found
        text = _returned(returned)
        return tuple(self.emit(kind, f"extractvalue {text} {found.text}, {i}") for i, kind in enumerate(returned))

    def call_external(self, function: External, items: list[Any]) -> Any:
        """Call a C function."""
        name, returned, kinds = function
        self.module.declare(name, returned, *kinds)
        values = [self.value(item, kind) for item, kind in zip(items, kinds, strict=True)]
        called = f"call {returned} @{name}({', '.join(f'{value.kind} {value.text}' for value in values)})"
        if returned == NOTHING:
            return self.do(called)
        found = self.emit(returned, called)
        return self.value(found, WORD) if returned == INT else found


# ------------------------------------------------------------------------------------------------------------ machine code


@once
def _machine() -> tuple[Any, Any]:
    """LLVM's target for this processor, and the engine that keeps the machine code of this process."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    machine = target.create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="static" if target.name.startswith("x86") else "default",
        codemodel="jitdefault",
        jit=True,
    )
    empty = llvm.parse_assembly("")
    empty.triple = machine.triple
    return machine, llvm.create_mcjit_compiler(empty, machine)


def _compile(entries: Entries) -> bytes:
    """An object file of the functions and of all that they call."""
    machine, _ = _machine()
    written = Module()
    for name, (function, kinds) in entries.items():
        written.function(function, kinds, name)
    module = llvm.parse_assembly(str(written))
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    module.verify()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(module, builder)
    return machine.emit_object(module)


def _is_own(status: os.stat_result) -> bool:
    """Whether only this user and root could have written there."""
    return status.st_uid in {os.getuid(), 0} and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _is_private(folder: Path) -> bool:
    """Whether no other user can put a file into a folder, or another folder in its place."""
    try:
        found = folder.resolve(strict=True)
        # A shared folder as /tmp lets nobody move what belongs to others.
        return _is_own(found.stat()) and all(_is_own(p.stat()) or p.stat().st_mode & stat.S_ISVTX for p in found.parents)
    except OSError:
        return False


def _user_folder() -> Path | None:
    """This user's folder for caches, made on first use; None for a user without a home, as in some containers."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hybridbench"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return folder if _is_private(folder) else None


def _cache_folder() -> Path | None:
    """Where machine code is kept: HYBRIDBENCH_CACHE_DIR, beside this file, or in the user's cache; None for nowhere."""
    chosen, beside = os.environ.get("HYBRIDBENCH_CACHE_DIR"), Path(__file__).parent / "__pycache__"
    if chosen:
        folder = Path(chosen)
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_dir() and not _is_private(folder):
            warnings.warn(
                f"HYBRIDBENCH_CACHE_DIR is {chosen}, where other users can write: no machine code is kept there or read "
                "from it. Choose a folder that is yours alone (chmod 700).",
                stacklevel=2,
            )
            return None
        return folder if folder.is_dir() else None
    if os.access(beside, os.W_OK) and _is_private(beside):
        return beside
    return _user_folder()


def _secret() -> bytes | None:
    """A key of this user alone, so that a file which somebody else made is not taken for one of ours."""
    folder = _user_folder()
    if folder is None:
        return None
    path = folder / "key"
    with suppress(OSError):
        if not path.exists():
            _write(path, secrets.token_bytes(32), replace=False)
        return _read(path) or None
    return None


def _read(path: Path) -> bytes:
    """Content of a regular file that only this user and root could have written; nothing where it is not that."""
    with suppress(OSError), open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        return file.read() if stat.S_ISREG(status.st_mode) and _is_own(status) else b""
    return b""


def _write(path: Path, content: bytes, replace: bool = True) -> None:
    """Write a file of this user alone, whole or not at all; what an earlier process left half-written goes."""
    for old in path.parent.glob(f"{path.name}.*.tmp"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > STALE_SECONDS:
                old.unlink()
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(content)
        if replace:
            os.replace(part, path)
        else:
            with suppress(FileExistsError):
                os.link(part, path)
    finally:
        part.unlink(missing_ok=True)


@once
def _state_of(folder: Path) -> bytes:
    """A digest of the Python files of a folder and of those in it."""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sorted(folder.rglob("*.py")))).digest()


def machine_code(name: str, entries: Entries) -> dict[str, int]:
    """Addresses of compiled functions, which live as long as the process.

    Object files are kept under `name`, one for each processor. A file starts with a code of all of the engine's sources
    and of its own content under this user's key: another version of them, a damaged file and a stranger's are never run.
    """
    with _LLVM:
        return _machine_code(name, entries)


def _machine_code(name: str, entries: Entries) -> dict[str, int]:
    machine, engine = _machine()
    processor = "\n".join(
        [machine.triple, llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), llvmlite.__version__]
    )
    folder, key = _cache_folder(), _secret()
    if folder is None or key is None:  # without a place to keep it the next process compiles again
        code = _compile(entries)
    else:
        path = folder / f"{name}-{hashlib.sha256(processor.encode()).hexdigest()[:12]}.o"

        def signature(code: bytes) -> bytes:
            return hmac.digest(key, _state_of(SOURCES) + code, "sha256")

        kept = _read(path)
        code = kept[32:]
        if not hmac.compare_digest(kept[:32], signature(code)):
            code = _compile(entries)
            with suppress(OSError):
                _write(path, signature(code) + code)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return {entry: engine.get_function_address(entry) for entry in entries}
