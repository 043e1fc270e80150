"""The CPU engine as TensorFlow operations, so that graphs run it without Python and without its global lock.

The operations are registered through TensorFlow's C API for operations and kernels (tensorflow/c/ops.h and kernels.h). Their
kernel is machine code of `native`: it takes its inputs, allocates its outputs and calls the engine. A node of the graph
holds the whole circuit in its attribute `code` (`hybridbench.engine.encoding`), so that nothing outside the graph has to
live on.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import replace
from typing import Any

import llvmlite.binding
import numpy as np

from hybridbench.engine import encoding as E
from hybridbench.engine.cpu import POOL, engine, n_threads
from hybridbench.engine.cpu.kernels import layout as K
from hybridbench.engine.cpu.native import INT, NOTHING, WORD, External, machine_code
from hybridbench.engine.cpu.simd import call, pointer
from hybridbench.engine.once import once
from hybridbench.engine.program import Kind, Program
from hybridbench.measurement.machine import available_memory_bytes
from hybridbench.stack import import_tensorflow

tf = import_tensorflow()

KEEP_BYTES = 2**28  #: states of a batch up to this size are kept from the forward to the backward pass
_TASKS = ("Expectations", "State", "ExpectationsGrad", "StateGrad")
_PRECISIONS = ("complex64", "complex128")
_OUT_OF_MEMORY, _INVALID, _INTERNAL = 8, 3, 13  # codes of TF_Status
_ENUM = {"complex64": (tf.float32.as_datatype_enum, tf.complex64.as_datatype_enum),
         "complex128": (tf.float64.as_datatype_enum, tf.complex128.as_datatype_enum)}  # fmt: skip

# ------------------------------------------------------------------------------------------------------------ the kernel

#: Words of a kernel's own memory, before the circuit's code.
(
    IS_STATE, IS_BACKWARD, IS_DOUBLE, REAL_ENUM, COMPLEX_ENUM, ENGINE, MAX_THREADS, FREE_BYTES, MESSAGES, SCRATCH_POOL
) = range(10)  # fmt: skip
CODE_AT = 16
_MESSAGES = tuple(
    ctypes.create_string_buffer(text)
    for text in (
        b"hybridbench: the parameters of the circuit have the wrong shapes: shared (n_shared,), sample (batch, n_sample).",
        b"hybridbench: the states of this batch need about ########## MiB, and ########## MiB were free. Use fewer qubits, "
        b"a smaller batch or complex64.",
        b"hybridbench: the starting state must have the shape (1 or batch, 2**n_qubits).",
        b"hybridbench: the gradient handed over must have the shape of the results.",
    )
)
_PLACES = (_MESSAGES[1].value.index(b"#"), _MESSAGES[1].value.rindex(b"#") - 9)
_MESSAGE_TABLE = np.array([ctypes.addressof(text) for text in _MESSAGES], np.int64)

_library = ctypes.CDLL(os.path.join(os.path.dirname(tf.__file__), "libtensorflow_framework.so.2"))


def _function(name: str, returned: str, *arguments: str) -> External:
    """A function of TensorFlow's C API for compiled code."""
    llvmlite.binding.add_symbol(name, ctypes.cast(getattr(_library, name), ctypes.c_void_p).value)
    return External(name, returned, arguments)


_new_status = _function("TF_NewStatus", WORD)
_delete_status = _function("TF_DeleteStatus", NOTHING, WORD)
_set_status = _function("TF_SetStatus", NOTHING, WORD, INT, WORD)
_fail = _function("TF_OpKernelContext_Failure", NOTHING, WORD, WORD)
_get_input = _function("TF_GetInput", NOTHING, WORD, INT, WORD, WORD)
_allocate_output = _function("TF_AllocateOutput", WORD, WORD, INT, INT, WORD, INT, WORD, WORD)
_delete_tensor = _function("TF_DeleteTensor", NOTHING, WORD)
_data = _function("TF_TensorData", WORD, WORD)
_rank = _function("TF_NumDims", INT, WORD)
_size = _function("TF_Dim", WORD, WORD, INT)
_count = _function("TF_TensorElementCount", WORD, WORD)
_malloc = External("malloc", WORD, (WORD,))
_free = External("free", NOTHING, (WORD,))


def _write_number(text, at, number):  # noqa: ANN001, ANN202
    """Write a number over the place in a message that is held free for it: the ten digits from `at` on."""
    for place in range(9, -1, -1):
        text[at + place] = 48 + number % 10 if number or place == 9 else 32
        number //= 10


def _compute(kernel: int, context: int) -> None:
    """The kernel of all four operations.

    Inputs: shared (n_shared,), sample (batch, n_sample), initial (rows, 2**n) or empty; backward also the kept states and
    the cotangent. Outputs: results and kept states, or the three gradients.
    """
    k = pointer(kernel, 1)
    code = pointer(kernel + 8 * CODE_AT, 1)
    itemsize = 8 if k[IS_DOUBLE] else 4
    status = _new_status()
    words = _malloc(8 * (K.WORDS + 32))
    ctx = pointer(words, 1)
    tensors = pointer(words + 8 * K.WORDS, 1)  # 0-4 inputs, 5-7 outputs
    shape = words + 8 * (K.WORDS + 8)
    dims = pointer(shape, 1)
    for i in range(K.WORDS + 32):
        ctx[i] = 0
    n_inputs = 5 if k[IS_BACKWARD] else 3
    for i in range(n_inputs):
        _get_input(context, i, words + 8 * (K.WORDS + i), status)
    n, n_shared, n_sample, n_outputs = code[E.N_QUBITS], code[E.N_SHARED], code[E.N_SAMPLE], code[E.N_OUTPUTS]
    size = np.int64(1) << n
    problem = -1
    batch = np.int64(0)
    if _rank(tensors[1]) != 2 or _size(tensors[1], 1) != n_sample or _count(tensors[0]) != n_shared:
        problem = 0
    else:
        batch = _size(tensors[1], 0)
    if problem < 0 and not code[E.HAS_PRODUCT]:
        rows = _size(tensors[2], 0) if _rank(tensors[2]) == 2 else np.int64(0)
        if _count(tensors[2]) != rows * size or (rows != 1 and rows != batch):
            problem = 2
        ctx[K.INITIAL], ctx[K.INITIAL_ROWS] = _data(tensors[2]), rows
    if problem < 0 and k[IS_BACKWARD] and _count(tensors[4]) != batch * (size if k[IS_STATE] else n_outputs):
        problem = 3
    q = K.lane_qubits(code, batch)
    samples = np.int64(16) >> q
    kept_bytes = (batch + samples - 1) // samples * (size >> q) * 32 * itemsize
    # Two states of a block for each thread, the kept ones, and results where they are states.
    needed = 2 * (size >> q) * 32 * itemsize * min(k[MAX_THREADS], (batch + samples - 1) // samples)
    if k[IS_STATE]:
        needed += batch * size * 2 * itemsize
    if needed > k[FREE_BYTES]:
        problem = 1
    if problem < 0:
        ctx[K.TASK], ctx[K.CODE], ctx[K.BATCH] = k[IS_BACKWARD], kernel + 8 * CODE_AT, batch
        ctx[K.SHARED], ctx[K.SAMPLE] = _data(tensors[0]), _data(tensors[1])
        ctx[K.THREADS], ctx[K.POOL] = k[MAX_THREADS], k[SCRATCH_POOL]
        if k[IS_BACKWARD]:
            dims[0] = n_shared
            tensors[5] = _allocate_output(context, 0, k[REAL_ENUM], shape, 1, n_shared * itemsize, status)
            dims[0], dims[1] = batch, n_sample
            tensors[6] = _allocate_output(context, 1, k[REAL_ENUM], shape, 2, batch * n_sample * itemsize, status)
            dims[1] = 0 if code[E.HAS_PRODUCT] else size
            tensors[7] = _allocate_output(context, 2, k[COMPLEX_ENUM], shape, 2, batch * dims[1] * 2 * itemsize, status)
            ctx[K.D_SHARED], ctx[K.D_SAMPLE], ctx[K.D_INITIAL] = _data(tensors[5]), _data(tensors[6]), _data(tensors[7])
            ctx[K.COTANGENT] = _data(tensors[4])
            ctx[K.KEPT] = _data(tensors[3]) if _count(tensors[3]) else 0
            if k[IS_STATE]:
                ctx[K.STATE] = ctx[K.COTANGENT]
            if batch == 0:
                gradient = pointer(ctx[K.D_SHARED], np.uint8(0))
                for i in range(n_shared * itemsize):
                    gradient[i] = 0
        else:
            dims[0], dims[1] = batch, size if k[IS_STATE] else n_outputs
            length = batch * dims[1] * itemsize * (2 if k[IS_STATE] else 1)
            enum = k[COMPLEX_ENUM] if k[IS_STATE] else k[REAL_ENUM]
            tensors[5] = _allocate_output(context, 0, enum, shape, 2, length, status)
            dims[0] = kept_bytes // itemsize if kept_bytes <= KEEP_BYTES else 0
            length = dims[0] * itemsize
            tensors[6] = _allocate_output(context, 1, k[REAL_ENUM], shape, 1, length, status)
            ctx[K.KEPT] = _data(tensors[6]) if length else 0
            if k[IS_STATE]:
                ctx[K.STATE] = _data(tensors[5])
            else:
                ctx[K.OUTPUT] = _data(tensors[5])
        if batch > 0:
            failed = call(k[ENGINE], words, 0.0) if k[IS_DOUBLE] else call(k[ENGINE], words, np.float32(0.0))
            if failed:
                problem = 1
    if problem >= 0:
        message = pointer(k[MESSAGES], 1)[problem]
        if problem == 1:
            _write_number(pointer(message, np.uint8(0)), _PLACES[0], needed >> 20)
            _write_number(pointer(message, np.uint8(0)), _PLACES[1], k[FREE_BYTES] >> 20)
        _set_status(status, _OUT_OF_MEMORY if problem == 1 else _INVALID, message)
        _fail(context, status)
    for i in range(8):
        if tensors[i]:
            _delete_tensor(tensors[i])
    _free(words)
    _delete_status(status)


# ------------------------------------------------------------------------------------------------------------ registration


def _c(name: str, returned: Any, *arguments: Any) -> Any:
    function = getattr(_library, name)
    function.restype, function.argtypes = returned, list(arguments)
    return function


_address, _text = ctypes.c_void_p, ctypes.c_char_p
_CREATE = ctypes.CFUNCTYPE(_address, _address)
_LIBC = ctypes.CDLL(None)
_LIBC.malloc.restype, _LIBC.malloc.argtypes = _address, [ctypes.c_size_t]


def _creator(task: str, precision: str) -> Any:
    """The function that TensorFlow calls to make a kernel for a node: its words, then the node's code."""
    state, backward = "State" in task, task.endswith("Grad")
    attribute_size = _c(
        "TF_OpKernelConstruction_GetAttrSize", None, _address, _text, _address, _address, _address
    )  # fmt: skip
    attribute = _c("TF_OpKernelConstruction_GetAttrInt64List", None, _address, _text, _address, ctypes.c_int, _address)
    new_status, delete_status = _c("TF_NewStatus", _address), _c("TF_DeleteStatus", None, _address)
    set_status = _c("TF_SetStatus", None, _address, ctypes.c_int, _text)
    fail = _c("TF_OpKernelConstruction_Failure", None, _address, _address)

    @_CREATE
    def create(construction: int) -> int | None:
        status = new_status()
        try:
            length, unused = ctypes.c_int32(), ctypes.c_int32()
            attribute_size(construction, b"code", ctypes.byref(length), ctypes.byref(unused), status)
            code = np.zeros(length.value, np.int64)
            attribute(construction, b"code", code.ctypes.data, length.value, status)
            if code.tobytes() not in _programs:  # what it says would be done, whatever memory that reads or writes
                message = b"hybridbench: the graph holds a circuit that this process did not compile, and a circuit is not "
                message += (
                    b"taken from a file: compile the same one first, or load the model from a .keras or SavedModel file."
                )
                set_status(status, _INVALID, message)
                fail(construction, status)
                return None
            words = np.zeros(CODE_AT + len(code), np.int64)
            words[IS_STATE], words[IS_BACKWARD], words[IS_DOUBLE] = state, backward, precision == "complex128"
            words[REAL_ENUM], words[COMPLEX_ENUM] = _ENUM[precision]
            words[ENGINE], words[MAX_THREADS] = engine(precision), n_threads()
            words[FREE_BYTES], words[MESSAGES] = available_memory_bytes(), _MESSAGE_TABLE.ctypes.data
            words[SCRATCH_POOL] = POOL.ctypes.data
            words[CODE_AT:] = code
            kernel = _LIBC.malloc(words.nbytes)
            ctypes.memmove(kernel, words.ctypes.data, words.nbytes)
            return kernel
        except Exception as error:  # noqa: BLE001  (an exception cannot cross into C: it becomes the operation's failure)
            set_status(status, _INTERNAL, f"hybridbench: {error}".encode())
            fail(construction, status)
            return None
        finally:
            delete_status(status)

    return create


_KEPT_ALIVE: list[Any] = []


@once
def register() -> None:
    """Register the four operations and their kernels; once in a process.

    A saved graph needs them to load, and runs where the process has compiled the same circuit itself.
    """
    compute = machine_code("operation", {"compute": (_compute, (WORD, WORD))})["compute"]
    free = ctypes.cast(_LIBC.free, _address)
    status = _c("TF_NewStatus", _address)()
    code_of, message = _c("TF_GetCode", ctypes.c_int, _address), _c("TF_Message", _text, _address)
    new = _c("TF_NewOpDefinitionBuilder", _address, _text)
    add = {what: _c(f"TF_OpDefinitionBuilderAdd{what}", None, _address, _text) for what in ("Attr", "Input", "Output")}
    register = _c("TF_RegisterOpDefinition", None, _address, _address)
    builder_of = _c("TF_NewKernelBuilder", _address, _text, _text, _address, _address, _address)
    constrain = _c("TF_KernelBuilder_TypeConstraint", None, _address, _text, ctypes.c_int, _address)
    register_kernel = _c("TF_RegisterKernelBuilder", None, _text, _address, _address)
    for task in _TASKS:
        name = f"Hybridbench{task}".encode()
        definition = new(name)
        for spec in (b"T: {float, double}", b"C: {complex64, complex128}", b"code: list(int)"):
            add["Attr"](definition, spec)
        result = b"C" if "State" in task else b"T"
        for spec in (b"shared: T", b"sample: T", b"initial: C"):
            add["Input"](definition, spec)
        if task.endswith("Grad"):
            add["Input"](definition, b"kept: T")
            add["Input"](definition, b"cotangent: " + result)
            for spec in (b"d_shared: T", b"d_sample: T", b"d_initial: C"):
                add["Output"](definition, spec)
        else:
            add["Output"](definition, b"values: " + result)
            add["Output"](definition, b"kept: T")
        register(definition, status)
        for precision in _PRECISIONS:
            create = _creator(task, precision)
            builder = builder_of(name, b"CPU", ctypes.cast(create, _address), compute, free)
            constrain(builder, b"T", _ENUM[precision][0], status)
            register_kernel(name + precision.encode(), builder, status)
            _KEPT_ALIVE.append(create)
        if code_of(status):
            raise RuntimeError(f"TensorFlow did not accept the operation {name.decode()}: {message(status).decode()}")
    for task in ("Expectations", "State"):
        tf.RegisterGradient(f"Hybridbench{task}")(_gradient)
        tf.RegisterGradient(f"Hybridbench{task}Grad")(_second_gradient)


# ------------------------------------------------------------------------------------------------------------------ graphs


def _node(task: str, inputs: list[tf.Tensor], code: list[int], types_: list[tf.DType]) -> list[tf.Tensor]:
    real = inputs[0].dtype
    attributes = {
        "T": tf.compat.v1.AttrValue(type=real.as_datatype_enum),
        "C": tf.compat.v1.AttrValue(type=inputs[2].dtype.as_datatype_enum),
        "code": tf.compat.v1.AttrValue(list=tf.compat.v1.AttrValue.ListValue(i=code)),
    }
    graph = tf.compat.v1.get_default_graph()
    with tf.device("CPU:0"):
        return graph.create_op(f"Hybridbench{task}", inputs, types_, attrs=attributes).outputs


def _gradient(op: tf.Operation, cotangent: tf.Tensor, _: tf.Tensor) -> list[tf.Tensor]:
    shared, sample, initial = op.inputs
    types_ = [shared.dtype, sample.dtype, initial.dtype]
    inputs = [shared, sample, initial, op.outputs[1], cotangent]
    code = op.get_attr("code")
    d_shared, d_sample, d_initial = _node(f"{op.type[11:]}Grad", inputs, code, types_)
    d_shared.set_shape(shared.shape)
    d_sample.set_shape(sample.shape)
    if code[E.HAS_PRODUCT]:
        d_initial = tf.zeros_like(initial)
    else:  # one starting state for the whole batch gets the sum; only the running graph knows how many there are
        rows = tf.shape(initial)[0]
        d_initial = tf.math.unsorted_segment_sum(d_initial, tf.minimum(tf.range(tf.shape(sample)[0]), rows - 1), rows)
    return [d_shared, d_sample, d_initial]


#: The programs of this process, by their code: what nodes may run, and what second derivatives are taken from.
_programs: dict[bytes, Program] = {}


def _second_gradient(op: tf.Operation, *upstream: tf.Tensor) -> list[tf.Tensor | None]:
    """Gradient of the gradient, by the TensorFlow engine, which can be differentiated any number of times."""
    program = _programs.get(np.array(op.get_attr("code"), np.int64).tobytes())
    if program is None:
        raise LookupError(
            f"{op.type} has no gradient in a graph that was loaded: derivatives of derivatives need the model in the "
            "process that made it, or a model saved with engine='tensorflow'."
        )
    from hybridbench.engine import tensorflow

    # The operation may belong to another graph than the one that is being built: these are the latter's.
    shared, sample, initial, _, cotangent = map(tf.identity, op.inputs)
    shared, sample = tf.ensure_shape(shared, (program.n_shared,)), tf.ensure_shape(sample, (None, program.n_sample))
    function = tensorflow.state if "State" in op.type else tensorflow.expectations
    prepared = program.product is None
    # The operation's third gradient has a row for each sample, also where all samples start from one state.
    start = tf.broadcast_to(initial, [tf.shape(sample)[0], 2**program.n_qubits]) if prepared else None
    sources = [shared, sample, *([start] if prepared else [])]
    # Symbolic gradients, and no tapes: TensorFlow holds these while it works out forward mode.
    found = tf.gradients(function(program, shared, sample, start), sources, cotangent, unconnected_gradients="zero")
    targets = [shared, sample, cotangent, *([initial] if prepared else [])]
    given = [tf.convert_to_tensor(part) for part in upstream[: len(sources)]]
    # The cotangent may itself follow from the parameters: partial derivatives are wanted.
    d_shared, d_sample, d_cotangent, *rest = tf.gradients(
        found, targets, given, stop_gradients=targets, unconnected_gradients="zero"
    )
    return [d_shared, d_sample, rest[0] if prepared else tf.zeros_like(initial), None, d_cotangent]


@once
def _traced(task: str, program: Program, real: tf.DType) -> Any:
    """The operation as a function of (shared, sample, initial): a tape records functions, but not nodes made by hand."""
    register()
    complex_ = tf.complex64 if real == tf.float32 else tf.complex128
    signature = [tf.TensorSpec((None,), real), tf.TensorSpec((None, None), real), tf.TensorSpec((None, None), complex_)]
    words = E.encode(program)
    code = words.tolist()
    _programs[words.tobytes()] = replace(program, phase=())  # the operation leaves the phase out
    result = [complex_ if task == "State" else real, real]

    @tf.function(input_signature=signature, autograph=False)
    def run(shared: tf.Tensor, sample: tf.Tensor, initial: tf.Tensor) -> tf.Tensor:
        return _node(task, [shared, sample, initial], code, result)[0]

    return run


def _apply(task: str, program: Program, shared: Any, sample: Any, initial: Any) -> tf.Tensor:
    shared, sample = tf.convert_to_tensor(shared), tf.convert_to_tensor(sample)
    complex_ = tf.complex64 if shared.dtype == tf.float32 else tf.complex128
    start = tf.zeros((1, 0), complex_) if initial is None else tf.cast(initial, complex_)
    values = _traced(task, program, shared.dtype)(shared, sample, start)
    values.set_shape((sample.shape[0], 2**program.n_qubits if task == "State" else len(program.outputs)))
    return values


def expectations(program: Program, shared: tf.Tensor, sample: tf.Tensor, initial: tf.Tensor | None = None) -> tf.Tensor:
    """Expectation values (batch, n_outputs) on the CPU; arguments as in `hybridbench.engine.tensorflow.expectations`."""
    return _apply("Expectations", program, shared, sample, initial)


def state(program: Program, shared: tf.Tensor, sample: tf.Tensor, initial: tf.Tensor | None = None) -> tf.Tensor:
    """State vectors (batch, 2**n_qubits) with their global phase; arguments as in `expectations`."""
    amplitudes = _apply("State", program, shared, sample, initial)
    angle = tf.zeros((1,), shared.dtype)
    for part in program.phase:
        value = {Kind.SHARED: shared[None, :], Kind.SAMPLE: sample}.get(part.kind)
        angle += part.offset if value is None else part.offset + part.scale * value[:, part.index]
    return amplitudes * tf.complex(tf.cos(angle), tf.sin(angle))[:, None]
