"""Vectors of 16 numbers and other instructions that Python has no words for, for functions that `native` compiles.

Left to itself LLVM must prove that two rows of one array do not overlap before it vectorises a loop over them; explicit
vectors need no proof. 16 lanes are one AVX-512 register of float32; other widths are split or paired by LLVM.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

from hybridbench.engine.cpu.native import BIT, CONTRACT, DOUBLE, WORD, Intrinsic, Value, Writer

LANES = 16
_WORDS = f"<{LANES} x i64>"
_ORDER = f"<{LANES} x i32>"


def _vector(kind: str) -> str:
    return f"<{LANES} x {kind}>"


def _scalar(kind: str) -> str:
    return kind.removeprefix(f"<{LANES} x ").removesuffix(">")


def _order(distance: int) -> str:
    """The lanes in the order lane ^ distance."""
    return f"{_ORDER} <{', '.join(f'i32 {lane ^ distance}' for lane in range(LANES))}>"


def _all(kind: str, number: Any) -> str:
    """A constant vector."""
    return f"<{', '.join([f'{kind} {number}'] * LANES)}>"


@Intrinsic
def pointer(to: Writer, address: Value, like: Any) -> Value:
    """The address as a pointer to numbers of the type of `like`."""
    return to.emit(f"{to.value(like).kind}*", f"inttoptr i64 {address.text} to ptr")


@Intrinsic
def as_real(to: Writer, words: Value) -> Value:
    """The same address as a pointer to float64."""
    return Value(f"{DOUBLE}*", words.text)


@Intrinsic
def load(to: Writer, base: Value, index: Any) -> Value:
    """base[index : index + LANES]; must be aligned to 64 bytes."""
    kind = _vector(base.kind.removesuffix("*"))
    return to.emit(kind, f"load {kind}, ptr {to.element(base, index).text}, align 64")


@Intrinsic
def store(to: Writer, base: Value, index: Any, value: Value) -> None:
    """base[index : index + LANES] = value, aligned as in `load`."""
    to.do(f"store {value.kind} {value.text}, ptr {to.element(base, index).text}, align 64")


@Intrinsic
def splat(to: Writer, number: Any) -> Value:
    """The number in every lane."""
    item = to.value(number)
    kind = _vector(item.kind)
    if not isinstance(number, Value):
        return Value(kind, _all(item.kind, item.text))
    one = to.emit(kind, f"insertelement {kind} undef, {item.kind} {item.text}, i32 0")
    return to.emit(kind, f"shufflevector {kind} {one.text}, {kind} undef, {_ORDER} zeroinitializer")


@Intrinsic
def widen(to: Writer, value: Value) -> Value:
    """As float64."""
    kind = _vector(DOUBLE)
    return value if value.kind == kind else to.emit(kind, f"fpext {value.kind} {value.text} to {kind}")


@Intrinsic
def narrow(to: Writer, value: Value, like: Any) -> Value:
    """A float64 vector in the type of the number `like`."""
    kind = _vector(to.value(like).kind)
    return value if value.kind == kind else to.emit(kind, f"fptrunc {value.kind} {value.text} to {kind}")


def _swap(distance: int) -> Intrinsic:
    def swap(to: Writer, value: Value) -> Value:
        return to.emit(value.kind, f"shufflevector {value.kind} {value.text}, {value.kind} undef, {_order(distance)}")

    return Intrinsic(swap)


#: The vector with the number of lane ^ 1, 2, 4 or 8 in each lane.
swap1, swap2, swap4, swap8 = (_swap(distance) for distance in (1, 2, 4, 8))


def _walsh(distance: int) -> Intrinsic:
    def walsh(to: Writer, value: Value) -> Value:
        kind, number = value.kind, _scalar(value.kind)
        signs = ", ".join(f"{number} {-1.0 if lane & distance else 1.0}" for lane in range(LANES))
        other = to.emit(kind, f"shufflevector {kind} {value.text}, {kind} undef, {_order(distance)}")
        signed = to.emit(kind, f"fmul {CONTRACT} {kind} {value.text}, <{signs}>")
        return to.emit(kind, f"fadd {CONTRACT} {kind} {signed.text}, {other.text}")

    return Intrinsic(walsh)


#: Sum and difference of the lanes that differ in one bit: a stage of a Walsh-Hadamard transform within a vector.
walsh1, walsh2, walsh4, walsh8 = (_walsh(distance) for distance in (1, 2, 4, 8))


@Intrinsic
def total(to: Writer, value: Value) -> Value:
    """Sum over the lanes, pairwise in a fixed order."""
    kind = value.kind
    for distance in (8, 4, 2, 1):
        other = to.emit(kind, f"shufflevector {kind} {value.text}, {kind} undef, {_order(distance)}")
        value = to.emit(kind, f"fadd {CONTRACT} {kind} {value.text}, {other.text}")
    return to.emit(_scalar(kind), f"extractelement {kind} {value.text}, i32 0")


@Intrinsic
def below_one(to: Writer, value: Value) -> Value:
    """The lanes of a float64 vector whose size is below 1; not a number in the others."""
    kind = value.kind
    name = f"llvm.fabs.v{LANES}f64"
    to.module.declare(name, kind, kind)
    size = to.emit(kind, f"call {kind} @{name}({kind} {value.text})")
    test = to.emit(_vector(BIT), f"fcmp olt {kind} {size.text}, {_all(DOUBLE, 1.0)}")
    return to.emit(kind, f"select {test.kind} {test.text}, {kind} {value.text}, {kind} {_all(DOUBLE, '0x7FF8000000000000')}")


@Intrinsic
def any_beyond(to: Writer, value: Value, limit: float) -> Value:
    """1 where some lane of a float64 vector is larger in size than `limit`, or not a number; else 0."""
    kind = value.kind
    fabs, reduce = f"llvm.fabs.v{LANES}f64", f"llvm.vector.reduce.or.v{LANES}i1"
    to.module.declare(fabs, kind, kind)
    to.module.declare(reduce, BIT, _vector(BIT))
    size = to.emit(kind, f"call {kind} @{fabs}({kind} {value.text})")
    test = to.emit(_vector(BIT), f"fcmp ugt {kind} {size.text}, {_all(DOUBLE, limit)}")
    found = to.emit(BIT, f"call {BIT} @{reduce}({test.kind} {test.text})")
    return to.emit(WORD, f"zext {BIT} {found.text} to {WORD}")


@Intrinsic
def where_odd(to: Writer, whole: Value, odd: Value, even: Value) -> Value:
    """odd where the whole-numbered float64 `whole` is odd, else even."""
    integers = to.emit(_WORDS, f"fptosi {whole.kind} {whole.text} to {_WORDS}")
    last = to.emit(_WORDS, f"and {_WORDS} {integers.text}, {_all(WORD, 1)}")
    test = to.emit(_vector(BIT), f"icmp ne {_WORDS} {last.text}, zeroinitializer")
    return to.emit(odd.kind, f"select {test.kind} {test.text}, {odd.kind} {odd.text}, {even.kind} {even.text}")


@Intrinsic
def lowest_bit(to: Writer, number: Value) -> Value:
    """Number of zero bits below the lowest one bit of an integer that is not 0."""
    to.module.declare("llvm.cttz.i64", WORD, WORD, BIT)
    return to.emit(WORD, f"call i64 @llvm.cttz.i64(i64 {number.text}, i1 1)")


@Intrinsic
def parity(to: Writer, number: Any) -> Value:
    """1 where an integer has an odd number of one bits, else 0."""
    to.module.declare("llvm.ctpop.i64", WORD, WORD)
    ones = to.emit(WORD, f"call i64 @llvm.ctpop.i64(i64 {to.value(number, WORD).text})")
    return to.emit(WORD, f"and i64 {ones.text}, 1")


@Intrinsic
def itemsize(to: Writer, like: Any) -> int:
    """Bytes of a number of the type of `like`."""
    return 8 if to.value(like).kind == DOUBLE else 4


@Intrinsic
def call(to: Writer, address: Value, argument: Value, like: Any) -> Value:
    """Call the machine code at `address` as int64 function(int64 argument, number like)."""
    function = to.emit("ptr", f"inttoptr i64 {address.text} to ptr")
    number = to.value(like)
    return to.emit(WORD, f"call i64 {function.text}(i64 {argument.text}, {number.kind} {number.text})")


@Intrinsic
def address_of(to: Writer, function: FunctionType, *likes: Any) -> Value:
    """The address of a compiled function for arguments of the types of `likes`."""
    name, _ = to.module.function(function, tuple(to.value(like).kind for like in likes))
    return to.emit(WORD, f"ptrtoint ptr @{name} to i64")


@Intrinsic
def count_up(to: Writer, place: Value) -> Value:
    """Add 1 to the integer where `place` points and return what was there, as one step that no thread can interrupt."""
    return to.emit(WORD, f"atomicrmw add ptr {place.text}, i64 1 seq_cst")


@Intrinsic
def exchange(to: Writer, place: Value, value: Any) -> Value:
    """Write an integer where `place` points and return what was there, as one step that no thread can interrupt."""
    return to.emit(WORD, f"atomicrmw xchg ptr {place.text}, i64 {to.value(value, WORD).text} seq_cst")
