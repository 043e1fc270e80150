"""The compiler of the CPU engine's inner loops: compiled functions do what Python does, and machine code is kept safely."""

import ctypes
import itertools
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridbench.engine.cpu import native
from hybridbench.engine.cpu.kernels import angles, layout
from hybridbench.engine.cpu.native import BYTE, DOUBLE, FLOAT, INT, NOTHING, WORD, External, machine_code
from hybridbench.engine.cpu.simd import (
    LANES,
    count_up,
    exchange,
    itemsize,
    load,
    lowest_bit,
    narrow,
    parity,
    pointer,
    splat,
    store,
    swap1,
    swap2,
    swap4,
    swap8,
    total,
    walsh1,
    walsh2,
    walsh4,
    walsh8,
    where_odd,
    widen,
)

SEVEN, HALF, MASK = 7, 0.5, (1 << 40) - 1
WORDS, REALS = f"{WORD}*", f"{DOUBLE}*"
INTEGERS = st.integers(-(2**40), 2**40)
SMALL = st.integers(-30, 30)
# Some libraries make the processor flush numbers near the smallest ones to zero, and then the C library errs there.
NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda value: value if abs(value) > 1e-150 else 0.0)
_absolute = External("labs", WORD, (WORD,))
_small_absolute = External("abs", INT, (INT,))


# --- functions that run in Python and compiled; each writes its results to `out` -------------------------------------------


def _divide(out, a, b):
    out[0], out[1] = a // b, a % b
    out[2], out[3] = a, a
    out[2] //= b
    out[3] %= b
    out[4] = a // 3
    out[5] = a % -7


def _bits(out, a, b):
    out[0], out[1], out[2] = a & b, a | b, a ^ b
    out[3], out[4] = a >> 3, (b & 1023) << 5
    a <<= 2
    a -= -b
    out[5] = a
    out[6] = (1 << 40) if a < b else -a


def _loops(out, start, stop, step):
    found = 0
    for i in range(stop):
        found = (found * 31 + i) & MASK
    out[0], found = found, 0
    for i in range(start, stop):
        i += 2  # changes no later round
        found = (found * 31 + i) & MASK
    out[1], found = found, 0
    for i in range(start, stop, 3):
        found = (found * 31 + i) & MASK
    out[2], found = found, 0
    for i in range(start, stop, -1):
        found = (found * 31 + i) & MASK
    out[3], found = found, 0
    for i in range(start, stop, -4):
        if i % 3 == 0:
            continue
        if found > 10_000:
            break
        found = (found * 31 + i) & MASK
    out[4], found = found, 0
    for i in range(start, stop, step):
        for j in range(i):
            if j == 5:
                break
            found = (found * 31 + j) & MASK
    out[5] = found


def _branches(out, a, b):
    steps = 0
    while a != b:
        if a > b:
            if a - b > 10:
                a -= 7
            elif b % 2:
                a -= 1
            else:
                b += 1
        else:
            while a < b:
                a += 1
                steps += 100
        steps += 1
        if steps > 5000:
            break
    out[0], out[1], out[2] = a, b, steps


def _choices(out, real, a, b):
    x, y = (a, 2 * b) if a < b else (b, a if a > 3 else 5)
    out[0], out[1] = x, y
    real[0] = a if a > b else 0.5
    real[1], real[2] = (1, 2.5) if b else (real[0], a)
    out[2] = (1 if a > 0 else 2) if b > 0 else (3 if a > 0 else 4)
    out[3], out[4] = min(a, b), max(a, 3)
    x, y = y, x
    out[5], out[6] = x, y


def _note(out, value):
    out[0] = 10 * out[0] + 1
    return value


def _short_circuit(out, a, b):
    out[0] = 0
    if _note(out, a > 0) and _note(out, b > 0) and _note(out, a > b):
        out[1] = 1
    out[2], out[0] = out[0], 0
    if _note(out, a > 0) or _note(out, b > 0) or not _note(out, a == b):
        out[3] = 1
    out[4], out[0] = out[0], 0
    out[5] = _note(out, a > 0) and (_note(out, b > 0) or not _note(out, a > b))
    out[6] = (a < b) < (b < a)
    out[7] = -(a < b) + (a == b)
    out[8] = not a


def _pair(a, x):
    """Two values of two types, from several places."""
    if a < 0:
        return -a, 0.5 * x
    for i in range(a):
        if i == 4:
            return i, x - i
    return 100, float(a)


def _several(out, real, a, x):
    count, y = _pair(a, x)
    out[0], real[0] = count, y
    real[1] = _pair(a + 1, x + 1.0)[1]


def _constants(out, real, a):
    out[0], out[1] = SEVEN * a, np.int64(1) << layout.TABLE_BITS
    real[0], real[1] = a * math.pi, HALF
    real[2] = a / 3
    real[3] = SEVEN / 2 - a
    real[4] = math.sqrt(2.0) * float(a)


def _mathematics(real, x, y):
    real[0], real[1], real[2] = math.sin(x), math.cos(x), math.atan2(x, y)
    real[3] = math.sqrt(x * x + y * y)
    real[4], real[5] = x + y * 2 - 1, -x / (y * y + 1.0)
    real[6] = x * y if x < y else x - y
    real[7], real[8] = min(x, y), max(x, y)
    real[9] = 1 if x else 2
    real[10] = (x == y) + 2 * (x != y) + 4 * (x <= y) + 8 * (x >= y)


PLAIN = {
    _divide: (WORDS, WORD, WORD),
    _bits: (WORDS, WORD, WORD),
    _loops: (WORDS, WORD, WORD, WORD),
    _branches: (WORDS, WORD, WORD),
    _choices: (WORDS, REALS, WORD, WORD),
    _short_circuit: (WORDS, WORD, WORD),
    _several: (WORDS, REALS, WORD, DOUBLE),
    _constants: (WORDS, REALS, WORD),
    _mathematics: (REALS, DOUBLE, DOUBLE),
}


# --- functions with instructions that Python does not have -----------------------------------------------------------------


def _vectors(v, w, out):
    a, b = load(v, 0), load(w, 0)
    store(out, 0, swap1(a))
    store(out, 16, swap2(a))
    store(out, 32, swap4(a))
    store(out, 48, swap8(a))
    store(out, 64, walsh1(a))
    store(out, 80, walsh2(a))
    store(out, 96, walsh4(a))
    store(out, 112, walsh8(a))
    store(out, 128, a + b)
    store(out, 144, a - b)
    store(out, 160, a * b)
    store(out, 176, a / b)
    store(out, 192, -a)
    store(out, 208, splat(v[3]))
    store(out, 224, narrow(splat(0.1), v[0]))
    store(out, 240, narrow(widen(a) * widen(b), v[0]))
    out[256] = total(a)
    out[257] = itemsize(v[0])


def _odd(whole, out):
    a = load(whole, 0)
    store(out, 0, where_odd(a, splat(1.0), splat(0.0)))


def _integers(out, a):
    out[0], out[1], out[2] = parity(a), lowest_bit(a), parity(5)
    out[3] = exchange(pointer(kernels_word(out), 1), a)
    out[5] = exchange(out, 77)
    out[6] = _absolute(a)
    out[9] = count_up(out)
    out[7] = _small_absolute(-3)


def kernels_word(out):
    return out[8]


def _bytes(octets, numbers, out):
    out[0], out[1], out[2] = octets[0] + octets[1], octets[0] < octets[1], -octets[0]
    octets[2] = 300
    octets[3] += 1
    out[3] = min(octets[0], octets[1]) // 3
    out[4] = numbers[0] * 2
    numbers[1] = numbers[0] - 1


def _single(numbers, x, y):
    numbers[0] = x * y
    numbers[1] = x + 0.1
    numbers[2] = -x


def _turned(x, cosine, sine, n):
    for i in range(0, n, 16):
        c, s = angles.cos_sin(load(x, i))
        store(cosine, i, c)
        store(sine, i, s)


SPECIAL = {
    "_vectors.double": (_vectors, (REALS,) * 3),
    "_vectors.float": (_vectors, (f"{FLOAT}*",) * 3),
    "_odd": (_odd, (REALS,) * 2),
    "_integers": (_integers, (WORDS, WORD)),
    "_bytes": (_bytes, (f"{BYTE}*", f"{INT}*", WORDS)),
    "_single": (_single, (f"{FLOAT}*", FLOAT, FLOAT)),
    "_turned": (_turned, (REALS, REALS, REALS, WORD)),
}
C_TYPES = {WORD: ctypes.c_int64, FLOAT: ctypes.c_float, DOUBLE: ctypes.c_double}


def callable_at(address, kinds):
    return ctypes.CFUNCTYPE(None, *(C_TYPES.get(kind, ctypes.c_void_p) for kind in kinds))(address)


@pytest.fixture(scope="module")
def compiled():
    """Every function above as machine code: name -> a function of addresses and numbers."""
    entries = {function.__name__: (function, kinds) for function, kinds in PLAIN.items()} | SPECIAL
    entries = {name.replace(".", "_"): entry for name, entry in entries.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_cache_folder", lambda: Path(os.devnull))  # nothing is kept
        addresses = machine_code("tests", {f"test{name}": entry for name, entry in entries.items()})
    return {name: callable_at(addresses[f"test{name}"], kinds) for name, (_, kinds) in entries.items()}


def aligned(values, dtype=float):
    """An array at an address that 64 divides."""
    values = np.asarray(values, dtype)
    room = np.zeros(values.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    array = room[start : start + values.nbytes].view(dtype).reshape(values.shape)
    array[...] = values
    return array


def agree(compiled, function, *numbers):
    """Run `function` both ways; its outputs are equal, to a rounding for those that are real."""
    kinds = PLAIN[function]
    found, want = [], []
    for kind in kinds:
        if kind.endswith("*"):
            found.append(np.zeros(12, np.int64 if kind == WORDS else float))
            want.append([0] * 12)
    compiled[function.__name__](*(array.ctypes.data for array in found), *numbers)
    function(*want, *numbers)
    for array, values in zip(found, want, strict=True):
        if array.dtype == np.int64:
            assert array.tolist() == [int(value) for value in values]
        else:
            np.testing.assert_allclose(array, np.array(values, float), rtol=4e-16, atol=1e-300)


# --- the same as in Python -------------------------------------------------------------------------------------------------

few = settings(max_examples=60, deadline=None, derandomize=True)


@few
@given(INTEGERS, INTEGERS.filter(bool))
def test_quotients_round_down_and_remainders_have_the_sign_of_the_divisor(compiled, a, b):
    agree(compiled, _divide, a, b)


@pytest.mark.parametrize(("a", "b"), list(itertools.product((-7, -6, -1, 0, 1, 6, 7), (-7, -3, -1, 1, 3, 7))))
def test_small_quotients(compiled, a, b):
    agree(compiled, _divide, a, b)


@few
@given(INTEGERS, INTEGERS)
def test_bits(compiled, a, b):
    agree(compiled, _bits, a, b)


@few
@given(SMALL, SMALL, st.integers(1, 9))
def test_ranges_up_and_down_with_steps_breaks_and_jumps(compiled, start, stop, step):
    agree(compiled, _loops, start, stop, step)


@few
@given(SMALL, SMALL)
def test_nested_branches_loops_choices_and_short_circuits(compiled, a, b):
    agree(compiled, _branches, a, b)
    agree(compiled, _choices, a, b)
    agree(compiled, _short_circuit, a, b)


@few
@given(SMALL, NUMBERS)
def test_several_values_come_back_from_several_places(compiled, a, x):
    agree(compiled, _several, a, x)


@few
@given(SMALL)
def test_names_outside_a_function_are_constants(compiled, a):
    agree(compiled, _constants, a)


@few
@given(NUMBERS, NUMBERS)
def test_real_arithmetic(compiled, x, y):
    agree(compiled, _mathematics, x, y)


@pytest.mark.parametrize(("x", "y"), list(itertools.product((0.0, -0.0, 1.5, math.nan, math.inf), repeat=2)))
def test_comparisons_of_zeros_infinities_and_nan(compiled, x, y):
    found, want = np.zeros(12), [0] * 12
    compiled["_mathematics"](found.ctypes.data, x if math.isfinite(x) else 1.0, y if math.isfinite(y) else 1.0)
    _mathematics(want, x if math.isfinite(x) else 1.0, y if math.isfinite(y) else 1.0)
    np.testing.assert_allclose(found, want, rtol=4e-16)
    compiled["_mathematics"](found.ctypes.data, x, y)
    assert found[9] == (1 if x else 2)
    assert found[10] == (x == y) + 2 * (x != y) + 4 * (x <= y) + 8 * (x >= y)
    for place, function in ((7, min), (8, max)):
        assert str(found[place]) == str(float(function(x, y)))


def test_single_precision_rounds_once_per_operation_and_meets_double_in_double(compiled):
    found, x, y = np.zeros(3, np.float32), np.float32(0.1), np.float32(1.7)
    compiled["_single"](found.ctypes.data, x, y)
    assert found.tolist() == [x * y, np.float32(float(x) + 0.1), -x]


def test_bytes_and_32_bit_integers_widen_when_they_are_read(compiled):
    octets, numbers, out = np.array([200, 100, 0, 255], np.uint8), np.array([-5, 0], np.int32), np.zeros(5, np.int64)
    compiled["_bytes"](octets.ctypes.data, numbers.ctypes.data, out.ctypes.data)
    assert out.tolist() == [300, 0, -200, 33, -10]
    assert octets.tolist() == [200, 100, 300 % 256, 0]
    assert numbers.tolist() == [-5, -6]


# --- vectors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_instructions_on_vectors(compiled, dtype):
    rng = np.random.default_rng(3)
    a, b, out = (aligned(rng.normal(size=n), dtype) for n in (LANES, LANES, 258))
    compiled["_vectors_float" if dtype == np.float32 else "_vectors_double"](*(x.ctypes.data for x in (a, b, out)))
    lanes, tiny = np.arange(LANES), float(np.finfo(dtype).eps)
    rows = out[:256].reshape(-1, LANES)
    for row, distance in enumerate((1, 2, 4, 8)):
        np.testing.assert_array_equal(rows[row], a[lanes ^ distance])
        signs = np.where(lanes & distance, -1, 1)
        np.testing.assert_allclose(rows[4 + row], signs * a + a[lanes ^ distance], atol=4 * tiny)
    np.testing.assert_array_equal(rows[8:13], [a + b, a - b, a * b, a / b, -a])
    np.testing.assert_array_equal(rows[13:15], [[a[3]] * LANES, [dtype(0.1)] * LANES])
    np.testing.assert_array_equal(rows[15], (a.astype(float) * b).astype(dtype))
    assert out[256] == pytest.approx(a.sum(), abs=32 * tiny)
    assert out[257] == dtype().itemsize


def test_odd_lanes(compiled):
    whole, out = (
        aligned([0, 1, 2, 3, -1, -2, -3, -4, 2**40, 2**40 + 1, -(2**40) - 1, 7, 8, 9, 10, 11]),
        aligned(np.zeros(16)),
    )
    compiled["_odd"](whole.ctypes.data, out.ctypes.data)
    np.testing.assert_array_equal(out, whole % 2)


@few
@given(st.integers(-(2**62), 2**62).filter(bool))
def test_bit_counts_and_exchange(compiled, a):
    out, word = np.zeros(10, np.int64), np.array([-41])
    out[0], out[8] = 5, word.ctypes.data
    compiled["_integers"](out.ctypes.data, a)
    ones = bin(a & (2**64 - 1)).count("1")
    # The last exchange returns and replaces what the first statement wrote, and the counter counts that on.
    assert out[9] == 77
    assert out[:8].tolist() == [78, (a & -a).bit_length() - 1, 0, -41, 0, ones % 2, abs(a), 3]
    assert word[0] == a


def cos_sin(compiled, x):
    padded = aligned(np.resize(np.asarray(x, float), -(-len(x) // LANES) * LANES))
    cosine, sine = aligned(np.zeros(len(padded))), aligned(np.zeros(len(padded)))
    compiled["_turned"](padded.ctypes.data, cosine.ctypes.data, sine.ctypes.data, len(padded))
    return cosine[: len(x)], sine[: len(x)]


@few
@given(
    st.lists(
        st.floats(-1e5, 1e5, allow_subnormal=False) | st.integers(-60_000, 60_000).map(lambda k: k * math.pi / 4),
        min_size=1,
        max_size=40,
    )
)
def test_cosines_and_sines_of_vectors_are_those_of_numpy(compiled, x):
    cosine, sine = cos_sin(compiled, x)
    np.testing.assert_allclose(cosine, np.cos(x), rtol=0, atol=2.3e-16)
    np.testing.assert_allclose(sine, np.sin(x), rtol=0, atol=2.3e-16)


def test_cosines_and_sines_near_multiples_of_pi_at_the_ends_and_of_nan(compiled):
    k = np.arange(-70_000, 70_001, 7) * (math.pi / 2)
    x = np.concatenate([k, np.nextafter(k, 1e9), k * 0.999999, [0.0, -0.0, 1e5, -1e5, 9.9e5, -9.9e5, 5e-324, 1e-160]])
    cosine, sine = cos_sin(compiled, x)
    np.testing.assert_allclose(cosine, np.cos(x), rtol=0, atol=2.3e-16)
    np.testing.assert_allclose(sine, np.sin(x), rtol=0, atol=2.3e-16)
    np.testing.assert_allclose(sine[-2:], x[-2:])
    cosine, sine = cos_sin(compiled, [math.nan, 1.0, -math.nan, math.inf])
    np.testing.assert_array_equal(np.isnan([cosine, sine]), [[True, False, True, True]] * 2)


# --- what cannot be compiled -----------------------------------------------------------------------------------------------


def _comprehension(out, a):
    out[0] = sum([2 * i for i in range(a)])


def _chain(out, a):
    out[0] = 0 < a < 3


def _power(out, a):
    out[0] = a**2


def _constant_power(out, _a):
    out[0] = 2**0.5 + 2**3


def _becomes_real(out, a):
    x = 1
    x = a / 2
    out[0] = x


def _becomes_constant(out, a):
    a = 0.5
    out[0] = a


def _rounds(out, a):
    out[0] = int(a / 2)


def _keyword(out, a):
    out[0] = min(a, 3, key=None)


def _no_value(out, a):
    if a > 100:
        out[0] = unheard_of  # noqa: F821


def _while_else(out, a):
    while a > 0:
        a -= 1
    else:
        out[0] = a


def _for_else(out, a):
    for i in range(a):
        out[1] = i
    else:
        out[0] = a


def _elements(out, a):
    for i in (a, 2):
        out[0] = i


def _no_step(out, a):
    for i in range(0, a, 0):
        out[0] = i


def _targets(out, a):
    for i, _j in range(a):
        out[0] = i


def _index_of_number(out, a):
    out[0] = a[1]


def _falls_through(a):
    if a > 0:
        return 1


def _calls_it(out, a):
    out[0] = _falls_through(a)


def _sometimes_two(a):
    if a > 0:
        return 1
    return 1, 2


def _calls_two(out, a):
    out[0] = _sometimes_two(a)


def _three_names(out, a):
    out[0], out[1] = a, a, a


def _again(out, a):
    out[0] = _again(out, a - 1)


def _calls_short(out, a):
    out[0] = _falls_through(a, 2)


def _too_large(out, _a):
    out[0] = 1 << 64


def _compares_vectors(out, a):
    out[0] = 1 if splat(a) < splat(a + 1) else 0


def _text(out, _a):
    out[0] = "one"


def _with(out, a):
    with a:
        out[0] = 1


#: function -> (where the error is, the code that it shows).
UNSUPPORTED = {
    _comprehension: "[2 * i for i in range(a)]",
    _chain: "0 < a < 3",
    _power: "a ** 2",
    _constant_power: "out[0] = 2 ** 0.5 + 2 ** 3",
    _becomes_real: "x = a / 2",
    _becomes_constant: "a = 0.5",
    _rounds: "out[0] = int(a / 2)",
    _keyword: "min(a, 3, key=None)",
    _no_value: "unheard_of",
    _while_else: "while a > 0:",
    _for_else: "for i in range(a):",
    _elements: "for i in (a, 2):",
    _no_step: "for i in range(0, a, 0):",
    _targets: "for i, _j in range(a):",
    _index_of_number: "out[0] = a[1]",
    _calls_it: "def _falls_through(a):",
    _calls_two: "return (1, 2)",
    _three_names: "out[0], out[1] = (a, a, a)",
    _again: "out[0] = _again(out, a - 1)",
    _calls_short: "def _falls_through(a):",
    _too_large: "out[0] = 1 << 64",
    _compares_vectors: "out[0] = 1 if splat(a) < splat(a + 1) else 0",
    _text: "out[0] = 'one'",
    _with: "with a:",
}


@pytest.mark.parametrize("function", UNSUPPORTED, ids=lambda function: function.__name__)
def test_what_is_not_of_the_language_is_named_with_file_and_line(function):
    shown = UNSUPPORTED[function]
    with pytest.raises(TypeError) as caught:
        native._compile({function.__name__: (function, (WORDS, WORD))})
    found = re.fullmatch(r"test_engine_native\.py:(\d+), (\w+): `(.*)` .+\.", str(caught.value))
    assert found, caught.value
    line, name, code = int(found[1]), found[2], found[3]
    assert code == shown
    where = {"_calls_it": _falls_through, "_calls_short": _falls_through, "_calls_two": _sometimes_two}
    inner = where.get(function.__name__, function)
    assert name == inner.__name__
    first = inner.__code__.co_firstlineno
    assert first <= line <= max(number for *_, number in inner.__code__.co_lines() if number) + 1


def test_a_variable_that_changes_type_names_both_types():
    with pytest.raises(TypeError, match=r"_becomes_real: `x = a / 2` uses a floating-point value as i64\.$"):
        native._compile({"x": (_becomes_real, (WORDS, WORD))})
    with pytest.raises(TypeError, match=r"_becomes_constant: `a = 0.5` uses 0.5 as a 64-bit integer\.$"):
        native._compile({"x": (_becomes_constant, (WORDS, WORD))})


def test_instructions_and_c_functions_exist_in_compiled_code_only():
    with pytest.raises(TypeError, match="in compiled code only"):
        splat(1.0)
    with pytest.raises(TypeError, match="use ctypes"):
        External("free", NOTHING, (WORD,))(0)


# --- machine code that is kept ---------------------------------------------------------------------------------------------


def _square(out, a):
    out[0] = a * a


ENGINES = []  # whose machine code is in use


@pytest.fixture
def process(monkeypatch):
    """Calls that act as new processes with an engine of their own; how often they compiled."""
    compilations, compile_ = [], native._compile

    def counted(entries):
        compilations.append(entries)
        return compile_(entries)

    def square(number):
        ENGINES.append(native_machine())
        monkeypatch.setattr(native, "_machine", lambda: ENGINES[-1])
        address = machine_code("square", {"square": (_square, (WORDS, WORD))})["square"]
        out = np.zeros(1, np.int64)
        callable_at(address, (WORDS, WORD))(out.ctypes.data, number)
        return int(out[0]), len(compilations)

    native_machine = native._machine.__wrapped__
    monkeypatch.setattr(native, "_compile", counted)
    return square


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HYBRIDBENCH_CACHE_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_the_second_process_does_not_compile(process, folder):
    assert process(3) == (9, 1)
    assert process(-5) == (25, 1)
    assert [path.suffix for path in folder.iterdir()] == [".o"]


@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "other"])
def test_a_damaged_file_is_compiled_again_and_mended(process, folder, damage):
    process(3)
    (path,) = folder.iterdir()
    sound = path.read_bytes()
    middle = len(sound) // 2
    spoilt = {
        "flipped": sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :],
        "short": sound[:-1],
        "empty": b"",
        "other": b"no machine code" * 10,
    }
    path.write_bytes(spoilt[damage])
    assert process(3) == (9, 2)
    assert path.read_bytes() == sound
    assert process(3) == (9, 2)


def test_other_sources_are_compiled_anew(process, folder, monkeypatch, tmp_path):
    assert process(3) == (9, 1)
    copy, digest = tmp_path / "engine", native._state_of.__wrapped__
    copy.mkdir()
    (copy / "a.py").write_text("A = 1\n")
    (copy / "b.py").write_text("B = 1\n")
    states = [digest(copy)]
    (copy / "b.py").write_text("B = 2\n")
    states.append(digest(copy))
    (copy / "c.txt").write_text("no source")
    assert states[0] != states[1] == digest(copy)
    (copy / "d").mkdir()
    (copy / "d" / "e.py").write_text("E = 1\n")
    assert digest(copy) not in states
    for state in states:
        monkeypatch.setattr(native, "_state_of", lambda _, state=state: state)
        before = process(3)[1]
        assert process(3) == (9, before)
    assert before == 3
    assert len(list(folder.iterdir())) == 1


def test_another_processor_has_a_file_of_its_own(process, folder, monkeypatch):
    assert process(3) == (9, 1)
    monkeypatch.setattr(native.llvmlite, "__version__", "another")
    assert process(3) == (9, 2)
    assert len(list(folder.iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_no_hindrance(process, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HYBRIDBENCH_CACHE_DIR", str(tmp_path / "file" / "kept"))
    assert process(3) == (9, 1)
    assert process(4) == (16, 2)


@pytest.fixture
def read_only(monkeypatch):
    """A package that belongs to somebody else: chmod does not hinder root, who runs tests in containers."""
    monkeypatch.delenv("HYBRIDBENCH_CACHE_DIR", raising=False)
    package = Path(native.__file__).parent
    allowed = os.access

    def access(path, mode):
        return allowed(path, mode) and not (mode & os.W_OK and Path(path).is_relative_to(package))

    monkeypatch.setattr(native.os, "access", access)


def test_beside_a_read_only_package_the_users_cache_is_taken(process, read_only, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert process(3) == (9, 1)
    assert process(3) == (9, 1)
    assert sorted(path.suffix for path in (tmp_path / "cache" / "hybridbench").iterdir()) == ["", ".o"]  # the key too
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert native._cache_folder() == tmp_path / ".cache" / "hybridbench"


def test_a_user_without_a_home_compiles_each_time(process, read_only, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(native.Path, "home", no_home)
    assert process(3) == (9, 1)
    assert process(3) == (9, 2)


def test_machine_code_lies_beside_the_sources_unless_another_place_is_chosen(monkeypatch, tmp_path):
    monkeypatch.delenv("HYBRIDBENCH_CACHE_DIR", raising=False)
    if os.access(Path(native.__file__).parent / "__pycache__", os.W_OK):
        assert native._cache_folder() == Path(native.__file__).parent / "__pycache__"
    monkeypatch.setenv("HYBRIDBENCH_CACHE_DIR", str(tmp_path))
    assert native._cache_folder() == tmp_path


# --- a folder that somebody else can write to ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_chosen_folder_that_others_can_write_to_is_told_of_and_not_used(process, monkeypatch, tmp_path, mode):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    monkeypatch.setenv("HYBRIDBENCH_CACHE_DIR", str(shared))
    with pytest.warns(UserWarning, match="where other users can write"):
        assert process(3) == (9, 1)
    assert list(shared.iterdir()) == []


def test_a_folder_below_one_that_others_can_write_to_is_not_used(process, monkeypatch, tmp_path):
    (tmp_path / "open" / "kept").mkdir(parents=True, mode=0o700)
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setenv("HYBRIDBENCH_CACHE_DIR", str(tmp_path / "open" / "kept"))
    with pytest.warns(UserWarning, match="where other users can write"):
        assert process(3) == (9, 1)


def test_a_file_that_others_could_have_written_is_not_run(process, folder):
    process(3)
    (path,) = folder.iterdir()
    path.chmod(0o666)
    assert process(3) == (9, 2)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_is_not_followed(process, folder, tmp_path):
    process(3)
    (path,) = folder.iterdir()
    path.rename(tmp_path / "elsewhere.o")
    path.symlink_to(tmp_path / "elsewhere.o")
    assert process(3) == (9, 2)
    assert not path.is_symlink()


def test_a_file_under_another_key_is_not_run(process, folder, monkeypatch, tmp_path):
    """A digest that anybody can compute proves nothing: the file of another user has another code."""
    process(3)
    (path,) = folder.iterdir()
    forged = path.read_bytes()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another user"))
    assert process(3) == (9, 2)
    assert path.read_bytes() != forged
    path.write_bytes(native.hashlib.sha256(native._state_of(native.SOURCES) + forged[32:]).digest() + forged[32:])
    assert process(3) == (9, 3)


def test_what_a_killed_process_left_goes(process, folder):
    process(3)
    (path,) = folder.iterdir()
    old, new = path.with_name(f"{path.name}.1-1.tmp"), path.with_name(f"{path.name}.2-2.tmp")
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (0, 0))
    path.unlink()
    process(3)
    assert not old.exists()
    assert new.exists()  # its process may still be writing


def test_the_key_is_this_users_alone(process, folder, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    process(3)
    key = tmp_path / "cache" / "hybridbench" / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_bytes()) == 32
