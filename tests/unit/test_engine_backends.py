"""Backends by name: memory is estimated first, and what is not there is an error, never a fall-back."""

import pytest

from hybridbench.engine import backends
from hybridbench.errors import BackendError, ConfigurationError, MemoryEstimateError


@pytest.mark.parametrize("name", ["default.qubit", "lightning.qubit"])
def test_cpu_backends_are_made(name):
    device = backends.make_device(name, 3)
    assert device.name == name
    assert len(device.wires) == 3
    assert backends.usable(name) == (True, "")


def test_precision_reaches_the_device():
    import numpy as np

    assert backends.make_device("lightning.qubit", 2, "complex64").c_dtype == np.complex64
    with pytest.raises(ConfigurationError, match=r"not available on default.qubit"):
        backends.make_device("default.qubit", 2, "complex64")


def test_a_gpu_that_is_not_there_is_an_error():
    works, reason = backends.usable("lightning.gpu")
    if works:
        pytest.skip("this machine has lightning.gpu")
    assert "requirements-gpu.lock" in reason
    with pytest.raises(BackendError, match="Nothing ran"):
        backends.make_device("lightning.gpu", 2)


def test_bad_requests_are_named():
    with pytest.raises(ConfigurationError, match=r"Did you mean 'lightning.qubit'"):
        backends.make_device("lightning.qbit", 2)
    with pytest.raises(ConfigurationError, match="at least one wire"):
        backends.make_device("default.qubit", 0)


def test_too_many_qubits_are_refused_with_the_estimate_before_anything_is_allocated():
    with pytest.raises(MemoryEstimateError, match=r"60 qubits in complex128 needs about 5\.15e\+10 GiB"):
        backends.make_device("default.qubit", 60)


def test_the_estimates_of_the_methods():
    assert backends.state_memory_bytes(10) == 3 * 2**10 * 16
    assert backends.state_memory_bytes(10, precision="complex64") == 3 * 2**10 * 8
    assert backends.state_memory_bytes(10, "backprop", batch_size=4, n_gates=7) == 4 * 9 * 2**10 * 16
    # adjoint: depth and batch do not matter
    assert backends.state_memory_bytes(10, "adjoint", 64, 1000) == backends.state_memory_bytes(10)
    backends.check_memory(10, "x", available=10)
    with pytest.raises(MemoryEstimateError):
        backends.check_memory(11, "x", available=10)
