"""A slow, dense interpreter of a Program, written for comparison: every instruction is a full matrix."""

import numpy as np

from hybridbench.engine.program import Kind


def value(angle, shared, sample):
    """An angle for one sample, radians."""
    parameter = {
        Kind.CONSTANT: lambda: 0.0,
        Kind.SHARED: lambda: shared[angle.index],
        Kind.SAMPLE: lambda: sample[angle.index],
    }
    return angle.offset + angle.scale * parameter[angle.kind]()


def parity(index, mask):
    return np.array([bin(int(i) & mask).count("1") % 2 for i in np.atleast_1d(index)])


def x_matrix(n, mask):
    matrix = np.zeros((2**n, 2**n), complex)
    matrix[np.arange(2**n) ^ mask, np.arange(2**n)] = 1
    return matrix


def z_matrix(n, mask):
    return np.diag((1 - 2 * parity(np.arange(2**n), mask)).astype(complex))


def pauli(n, x_mask, z_mask):
    """X, Y, Z of a virtual qubit."""
    x, z = x_matrix(n, x_mask), z_matrix(n, z_mask)
    return x, 1j * x @ z, z


def exponential(generator, angle):
    """exp(-i angle/2 generator) for a generator that squares to one."""
    return np.cos(angle / 2) * np.eye(len(generator)) - 1j * np.sin(angle / 2) * generator


def rotation(n, x_mask, z_mask, axis, angle):
    return exponential(sum(a * p for a, p in zip(axis, pauli(n, x_mask, z_mask), strict=True)), angle)


def block(n, item, shared, sample):
    gate = item.matrix
    if item.angle is not None:
        gate = gate @ np.diag(np.exp(-1j * value(item.angle, shared, sample) * item.eigenvalues)) @ gate.conj().T
    index, k = np.arange(2**n), len(item.qubits)
    column = sum(parity(index, z) << (k - 1 - q) for q, (_, z) in enumerate(item.qubits))
    matrix = np.zeros((2**n, 2**n), complex)
    for change in range(2**k):
        moved = index.copy()
        for q, (x, _) in enumerate(item.qubits):
            moved ^= x * (change >> (k - 1 - q) & 1)
        matrix[moved, index] += gate[column ^ change, column]
    return matrix


def layer_matrices(n, layer, shared, sample):
    for s in (*layer.strings, *layer.sample_strings):
        yield exponential(z_matrix(n, s.mask), value(s.angle, shared, sample))
    for run in layer.runs:
        for r in run.rotations:
            yield rotation(n, run.x_mask, run.z_mask, r.axis, value(r.angle, shared, sample))
    for r in layer.sample_rotations:
        yield rotation(n, r.x_mask, r.z_mask, (0, 1, 0), value(r.angle, shared, sample))
    for b in layer.blocks:
        yield block(n, b, shared, sample)


def physical_state(program, shared, sample, initial=None):
    """Amplitudes by physical index, without the global phase, shape (batch, 2**n)."""
    n = program.n_qubits
    states = []
    for s, row in enumerate(sample):
        if program.product is None:
            state = np.asarray(initial[s if len(initial) > 1 else 0], complex)
        else:
            state = np.ones(1, complex)
            for rotations in program.product:
                qubit = np.array([1, 0], complex)
                for r in rotations:
                    qubit = rotation(1, 1, 1, r.axis, value(r.angle, shared, row)) @ qubit
                state = np.kron(state, qubit)
        for layer in program.layers:
            for matrix in layer_matrices(n, layer, shared, row):
                state = matrix @ state
        states.append(state)
    return np.array(states).reshape(len(sample), 2**n)


def state(program, shared, sample, initial=None):
    """Amplitudes in wire order with the global phase, shape (batch, 2**n)."""
    n = program.n_qubits
    found = physical_state(program, shared, sample, initial)
    index = np.arange(2**n)
    basis = sum((parity(index, z) ^ flip) << (n - 1 - w) for w, (z, flip) in enumerate(program.frame))
    result = np.empty_like(found)
    result[:, basis] = found
    phases = [sum(value(angle, shared, row) for angle in program.phase) for row in sample]
    return result * np.exp(1j * np.array(phases, float))[:, None]


def expectations(program, shared, sample, initial=None):
    """Shape (batch, outputs)."""
    n = program.n_qubits
    found = physical_state(program, shared, sample, initial)
    columns = []
    for output in program.outputs:
        matrix = np.zeros((2**n, 2**n), complex)
        for term in output:
            matrix += term.coefficient * 1j**term.power * x_matrix(n, term.x_mask) @ z_matrix(n, term.z_mask)
        columns.append(np.einsum("bi,ij,bj->b", found.conj(), matrix, found))
    values = np.array(columns).reshape(len(program.outputs), len(sample)).T
    assert np.abs(values.imag).max(initial=0) < 1e-10
    return values.real
