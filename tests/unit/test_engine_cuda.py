"""The CUDA engine on numba's simulator: the same numbers as the CPU engine, which test_engine_cpu.py holds to default.qubit.

The simulator runs every thread of a kernel as Python, so sizes are tiny; tiles smaller than the GPU's make several passes.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys

import numpy as np
import pennylane as qml
import pytest

from hybridbench.engine.compiler import compile_tape
from hybridbench.engine.cuda import dlpack, passes
from hybridbench.engine.encoding import parity
from hybridbench.errors import ConfigurationError
from hybridbench.stack import import_tensorflow

tf = import_tensorflow()
TOLERANCE = {"complex64": 2e-5, "complex128": 1e-10}


def layered(n, n_layers=2, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0, 6, (n_layers, n, 3))
    gates = [qml.RX(rng.normal(size=batch), wire) for wire in range(n)]
    for layer in weights:
        gates += [qml.Rot(*angles, wires=wire) for wire, angles in enumerate(layer)]
        gates += [qml.CNOT([wire, (wire + 1) % n]) for wire in range(n)]
    return gates


def mixed(n, batch=2, seed=1):
    """A gate of every kind that a program has: strings, runs, both per sample, blocks."""
    rng = np.random.default_rng(seed)
    gates = [qml.RX(rng.normal(size=batch), wire) for wire in range(n)]
    gates += [qml.CRZ(rng.normal(), [wire, wire + 1]) for wire in range(n - 1)]
    gates += [qml.IsingXX(rng.normal(size=batch), [0, n - 1]), qml.RZ(rng.normal(size=batch), 0), qml.RY(0.3, 1)]
    gates += [qml.RY(rng.normal(size=batch), wire) for wire in range(n)]
    gates += [qml.QubitUnitary(qml.matrix(qml.SISWAP([0, 1])) @ np.kron(qml.RX(0.3, 0).matrix(), np.eye(2)), [0, 1])]
    gates += [qml.SingleExcitation(rng.normal(size=batch), [0, 1]), qml.Toffoli([0, 1, n - 1]), qml.PhaseShift(0.4, 0)]
    return gates + [qml.RX(rng.normal(), wire) for wire in range(n)]


def case(gates, n, observables="Z", batch=2, seed=2):
    """A program with numbers for it."""
    rng = np.random.default_rng(seed)
    measured = [qml.expval(qml.Z(wire)) for wire in range(n)]
    if observables == "X":
        words = [qml.X(0) @ qml.Y(1), qml.Z(0), qml.Y(n - 1)]
        measured = [qml.expval(qml.dot([0.3, 0.7, 0.2], words)), qml.expval(qml.Z(0) @ qml.Z(1))]
    program = compile_tape(qml.tape.QuantumScript(gates, measured), range(n)).program
    initial = None
    if program.product is None:
        initial = rng.normal(size=(batch, 2**n)) + 1j * rng.normal(size=(batch, 2**n))
        initial /= np.linalg.norm(initial, axis=1, keepdims=True)
    numbers = rng.normal(size=program.n_shared), rng.normal(size=(batch, program.n_sample))
    return program, *numbers, rng.normal(size=(batch, len(measured))), initial


PREPARED = [qml.StatePrep(np.eye(8)[0], wires=range(3))]
CASES = {
    "layers": (layered(3), 3, "Z"),
    "mixed": (mixed(3), 3, "Z"),
    "off-diagonal": (mixed(3), 3, "X"),
    "first state": (PREPARED + mixed(3), 3, "X"),
    "one qubit": ([qml.RX(np.array([0.1, 0.2]), 0), qml.RZ(0.3, 0)], 1, "Z"),
    "no samples": ([qml.RX(0.4, 0), qml.CNOT([0, 1]), qml.RY(0.1, 1)], 2, "Z"),
}
#: name, tile bits and low bits (None for the GPU's own), precision
RUNS = [
    *((name, None, None, "complex128") for name in CASES),
    ("layers", None, None, "complex64"),
    ("layers", 2, 0, "complex128"),
    ("layers", 2, 1, "complex64"),
    ("off-diagonal", 2, 0, "complex128"),
    ("first state", 2, 0, "complex128"),
]


@pytest.fixture(scope="module")
def on_simulator(tmp_path_factory):
    """What a process with numba's simulator computes for RUNS, beside the CPU engine."""
    code = """
import json, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import test_engine_cuda as here
from hybridbench.engine import cpu, cuda

found = {}
for name, tile, low, precision in here.RUNS:
    gates, n, observables = here.CASES[name]
    program, shared, sample, cotangent, initial = here.case(gates, n, observables)
    one = cuda.Session(program, len(sample), precision, tile, low)
    real = np.float32 if precision == "complex64" else np.float64
    if initial is not None:
        one.start_from(initial)
    values, d_shared, d_sample = one.step(shared.astype(real), sample.astype(real), cotangent.astype(real))
    expected = cpu.expectations_vjp(program, shared, sample, cotangent, "complex128", initial)
    pairs = [(values, cpu.expectations(program, shared, sample, "complex128", initial))]
    pairs += [(d_shared, expected[0]), (d_sample, expected[1])]
    if initial is not None:
        pairs.append((one.initial_gradient(), expected[2]))
    distances = [float(np.max(np.abs(a - b), initial=0)) for a, b in pairs if a.shape == b.shape]
    assert len(distances) == len(pairs), [(a.shape, b.shape) for a, b in pairs]
    again = one
    if initial is not None:
        again.start_from(initial)
    repeated = again.step(shared.astype(real), sample.astype(real), cotangent.astype(real))
    same = all(np.array_equal(a, b) for a, b in zip(repeated, (values, d_shared, d_sample)))
    found[f"{name} {tile} {low} {precision}"] = {"distances": distances, "same": same, "passes": len(one._plans)}
    if tile is None and precision == "complex128" and name != "one qubit":
        states = cuda.state(program, shared, sample, precision, initial)
        rng = np.random.default_rng(3)
        given = rng.normal(size=states.shape) + 1j * rng.normal(size=states.shape)
        expected = cpu.state_vjp(program, shared, sample, given, precision, initial)
        gradients = cuda.state_vjp(program, shared, sample, given, precision, initial)
        pairs = [(states, cpu.state(program, shared, sample, precision, initial))]
        pairs += [pair for pair in zip(gradients, expected) if pair[1] is not None]
        found[f"state {name}"] = {"distances": [float(np.max(np.abs(a - b), initial=0)) for a, b in pairs], "same": True}
found["counters"] = cuda.counters()
json.dump(found, open(sys.argv[2], "w"))
"""
    target = tmp_path_factory.mktemp("cuda") / "found.json"
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    command = [sys.executable, "-c", code, os.path.dirname(__file__), str(target)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(target.read_text())


@pytest.mark.parametrize(("name", "tile", "low", "precision"), RUNS)
def test_values_and_gradients(on_simulator, name, tile, low, precision):
    found = on_simulator[f"{name} {tile} {low} {precision}"]
    assert max(found["distances"]) < TOLERANCE[precision]
    assert found["same"]  # to the last bit
    assert (found["passes"] > 1) == (tile is not None)


@pytest.mark.parametrize("name", [name for name in CASES if name != "one qubit"])
def test_states_and_their_gradients(on_simulator, name):
    assert max(on_simulator[f"state {name}"]["distances"]) < TOLERANCE["complex128"]


def test_the_simulator_is_named_as_what_it_is(on_simulator):
    counters = on_simulator["counters"]
    assert "simulator" in counters["device"]
    assert counters["launches"] > 0


def run_in_a_process(code, **environment):
    cleaned = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={**cleaned, **environment}, capture_output=True, text=True, check=False)


def test_without_a_gpu_device_and_layer_refuse():
    """Hiding all GPUs from the driver makes any machine one without."""
    code = """
import pennylane as qml, hybridbench
from hybridbench.errors import BackendError
for make in (lambda: qml.device("hybridbench.qubit", wires=2, engine="cuda"),
             lambda: hybridbench.KerasLayer(qml.QNode(lambda inputs, w: qml.expval(qml.Z(0)),
                                            qml.device("default.qubit", wires=1)), {"w": 1}, 1, engine="cuda")):
    try:
        make()
    except (qml.DeviceError, BackendError) as error:
        print(type(error).__name__, error)
    else:
        print("made")
"""
    done = run_in_a_process(code, CUDA_VISIBLE_DEVICES="-1")
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 2
    assert all("Nothing ran; use engine='cpu'" in line for line in lines), lines


def test_device_and_layer_on_the_simulator():
    code = """
import numpy as np, pennylane as qml, hybridbench
from hybridbench.stack import import_tensorflow
tf = import_tensorflow()
from hybridbench.engine import cuda
from hybridbench.errors import ConfigurationError

def function(inputs, weights):
    qml.AngleEmbedding(inputs, wires=range(2))
    qml.StronglyEntanglingLayers(weights, wires=range(2))
    return [qml.expval(qml.Z(wire)) for wire in range(2)]

x = tf.constant([[0.1, 0.2], [0.3, -0.4]])
w = np.random.default_rng(0).uniform(0, 6, (1, 2, 3))
found = []
for engine in ("cpu", "cuda"):
    tf.keras.utils.set_random_seed(0)
    device = qml.device("hybridbench.qubit", wires=2, engine=engine, c_dtype=np.complex64)
    layer = hybridbench.KerasLayer(qml.QNode(function, device, interface="tf"), {"weights": (1, 2, 3)}, 2, engine=engine)
    layer(x); layer.qnode_weights["weights"].assign(w)
    rows = []
    for call in (layer, tf.function(lambda x: layer(x))):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(call(x) ** 2)
        rows += [loss.numpy(), *(g.numpy().ravel() for g in tape.gradient(loss, [x, layer.trainable_variables[0]]))]
    circuit = qml.QNode(function, device, interface="tf", diff_method="adjoint")
    weights = tf.Variable(w, dtype=tf.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.stack(circuit(x, weights)) ** 2)
    rows += [loss.numpy(), tape.gradient(loss, weights).numpy().ravel()]
    found.append(np.concatenate([np.ravel(r) for r in rows]))
    if engine == "cpu":
        before = cuda.counters()["launches"]
    elif cuda.counters()["launches"] <= before:
        raise SystemExit("nothing was launched")
print("distance", np.max(np.abs(found[0] - found[1])))
try:
    tf.function(lambda x: layer(x), jit_compile=True)(x)
except Exception as error:  # TensorFlow's, around the layer's own
    print(" ".join(str(error).split()))
device = qml.device("default.mixed", wires=1)
def noisy(inputs, weights):
    qml.RX(weights[0], 0); qml.BitFlip(0.1, 0)
    return qml.expval(qml.Z(0))
layer = hybridbench.KerasLayer(qml.QNode(noisy, device), {"weights": 1}, 1, engine="cuda")
try:
    layer(x)
except ConfigurationError as error:
    print(" ".join(str(error).split()))
"""
    done = run_in_a_process(code, NUMBA_ENABLE_CUDASIM="1")
    assert done.returncode == 0, done.stderr[-3000:]
    distance, xla, noise = done.stdout.strip().splitlines()
    assert float(distance.split()[1]) < TOLERANCE["complex64"] * 10
    assert "engine 'cuda' cannot run under XLA" in xla
    assert "engine 'cuda' runs compiled circuits only" in noise


# --- passes: no GPU and no simulator ---------------------------------------------------------------------------------------


def index(one, base, local):
    for bit, vector in enumerate(one.vectors):
        base ^= int(vector) if local >> bit & 1 else 0
    return base


def bases(one):
    return [
        sum((number >> j & 1) << int(bit) for j, bit in enumerate(one.free_bits))
        for number in range(2 ** len(one.free_bits))
    ]


@pytest.mark.parametrize(("n", "tile", "low"), [(4, 4, 0), (5, 3, 1), (6, 4, 2), (9, 5, 2), (12, 11, 4)])
def test_tiles_cover_every_amplitude_once_and_hold_their_gates(n, tile, low):
    program = compile_tape(qml.tape.QuantumScript(layered(n, 3), [qml.expval(qml.Z(w)) for w in range(n)]), range(n)).program
    found = passes.passes(program, tile, low, True)
    gates = []
    for one in found:
        assert len(one.vectors) == min(n, tile)
        covered = [index(one, base, local) for base in bases(one) for local in range(2 ** len(one.vectors))]
        assert sorted(covered) == list(range(2**n))
        neighbours = 2 ** (n if n <= tile else low)
        assert [index(one, 0, local) for local in range(neighbours)] == list(range(neighbours))
        for op in one.operations:
            gates.append(tuple(op[:2]))
            if op[passes.KIND] == passes.ROTATIONS and op[passes.SECOND] != op[passes.INDEX]:
                gates.append((passes.ROTATIONS, op[passes.SECOND]))
            for q in range(op[passes.QUBITS]):
                x, z = int(op[passes.LOCAL_X + q]), int(op[passes.LOCAL_Z + q])
                assert parity(x & z) == 1  # a qubit's X and Z anticommute
                base, physical = bases(one)[-1], int(op[passes.PHYSICAL_Z + q])
                for local in (0, 1, 2 ** len(one.vectors) - 1):
                    assert parity(index(one, base, local) & physical) == parity(base & physical) ^ parity(local & z)
    runs = sum(len(layer.runs) for layer in program.layers)
    assert sorted(i for kind, i in gates if kind == passes.ROTATIONS) == list(range(runs))
    assert sorted(i for kind, i in gates if kind == passes.WIRE) == list(range(n))
    assert (len(found) == 1) == (n <= tile)


def test_the_cost_model_counts_the_engines_tiles():
    from hybridbench.analysis.costs import TILE
    from hybridbench.engine.cuda.sessions import LOW_BITS, TILE_BITS

    assert {name: (TILE_BITS[name], LOW_BITS[name]) for name in TILE} == TILE


def test_a_tile_without_room_for_a_gate():
    tape = qml.tape.QuantumScript([qml.Hadamard(0), qml.DoubleExcitation(0.3, range(4))], [qml.expval(qml.Z(0))])
    program = compile_tape(tape, range(4)).program
    if any(layer.blocks for layer in program.layers):
        with pytest.raises(ConfigurationError, match="no room for a gate"):
            passes.passes(program, 2, 0, True)


# --- DLPack ----------------------------------------------------------------------------------------------------------------


def test_tensors_are_read_where_they_are():
    tensor = tf.constant([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], tf.float64)
    borrowed = dlpack.Borrowed(tf.experimental.dlpack.to_dlpack(tensor))
    assert (borrowed.shape, borrowed.dtype, borrowed.device[0]) == ((2, 3), np.dtype(float), dlpack.CPU)
    seen = np.ctypeslib.as_array(ctypes.cast(borrowed.address, ctypes.POINTER(ctypes.c_double)), (2, 3))
    assert np.array_equal(seen, tensor.numpy())
    interface = borrowed.__cuda_array_interface__
    assert interface["data"] == (borrowed.address, False)
    assert interface["typestr"] == "<f8"


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_arrays_are_handed_over_and_given_back(dtype):
    array = (np.arange(24, dtype=dtype) - 3).reshape(2, 12)[:, :]
    aligned = np.zeros(64 + array.nbytes, np.uint8)
    start = -aligned.ctypes.data % 64
    aligned = aligned[start : start + array.nbytes].view(dtype).reshape(array.shape)
    aligned[:] = array
    before = len(dlpack._lent)
    capsule = dlpack.capsule(aligned, aligned.ctypes.data, aligned.shape, aligned.dtype, (dlpack.CPU, 0))
    tensor = tf.experimental.dlpack.from_dlpack(capsule)
    assert len(dlpack._lent) == before + 1
    assert np.array_equal(tensor.numpy(), array)
    del tensor, capsule
    gc.collect()
    dlpack.let_go()
    assert len(dlpack._lent) == before


def test_whole_numbers_are_refused():
    with pytest.raises(ValueError, match="not supported"):
        dlpack.Borrowed(tf.experimental.dlpack.to_dlpack(tf.constant([1, 2])))
