"""Arrays handed over between libraries without a copy, by DLPack (https://dmlc.github.io/dlpack, version 0.8).

numba reads and writes no DLPack capsules itself; TensorFlow does. A capsule holds the address of a DLManagedTensor: where
the numbers are, their shape and type, and a function that is called when they are needed no more.
"""

from __future__ import annotations

import ctypes
import math
from collections import deque
from typing import Any

import numpy as np

CPU, CUDA = 1, 2  #: kinds of devices
_FLOAT, _COMPLEX, _BITS = 2, 5, 8
_NAME, _USED = b"dltensor", b"used_dltensor"


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("number", ctypes.c_int32))


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("rank", ctypes.c_int32),
        ("type", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))

_api = ctypes.pythonapi
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p
_api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]


class Borrowed:
    """What a capsule holds; it is given back when this object goes.

    Attributes:
        address: of the first number.
        device: kind and number of the device that it lies on.
        shape, dtype: of the array, whose rows follow each other.
    """

    def __init__(self, capsule: Any) -> None:
        address = _api.PyCapsule_GetPointer(capsule, _NAME)
        self._managed = ctypes.cast(address, ctypes.POINTER(_Managed))
        _api.PyCapsule_SetName(capsule, _USED)
        tensor = self._managed.contents.tensor
        self.shape = tuple(tensor.shape[i] for i in range(tensor.rank))
        if tensor.strides:
            expected = [math.prod(self.shape[i + 1 :]) for i in range(tensor.rank)]
            if math.prod(self.shape) > 1 and [tensor.strides[i] for i in range(tensor.rank)] != expected:
                raise ValueError("the array's rows do not follow each other")
        kind = {_FLOAT: "f", _COMPLEX: "c"}.get(tensor.type.code)
        if kind is None or tensor.type.lanes != 1:
            raise ValueError(f"numbers of DLPack type {tensor.type.code} with {tensor.type.lanes} lanes are not supported")
        self.dtype = np.dtype(f"{kind}{tensor.type.bits // _BITS}")
        self.address = (tensor.data or 0) + tensor.byte_offset
        self.device = (tensor.device.kind, tensor.device.number)

    def __del__(self) -> None:
        managed = getattr(self, "_managed", None)
        if managed and managed.contents.deleter:
            managed.contents.deleter(managed)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The array as numba takes it in."""
        data = (self.address, False)
        return {"shape": self.shape, "typestr": self.dtype.str, "data": data, "version": 3, "strides": None, "stream": None}


class _Lent:
    """An array that another library has, until that one calls the deleter."""

    def __init__(self, owner: Any, address: int, shape: tuple[int, ...], dtype: np.dtype, device: tuple[int, int]) -> None:
        self._owner = owner
        self._shape = (ctypes.c_int64 * max(len(shape), 1))(*shape)
        code = _COMPLEX if dtype.kind == "c" else _FLOAT
        self.managed = _Managed()
        tensor = self.managed.tensor
        tensor.data, tensor.device, tensor.rank = address, _Device(*device), len(shape)
        tensor.type, tensor.shape = _Type(code, dtype.itemsize * _BITS, 1), self._shape
        self.managed.deleter = _give_back


_lent: dict[int, _Lent] = {}
_given_back: deque[int] = deque()


@_Deleter
def _give_back(managed: Any) -> None:
    # The receiver may call from any thread, also one on which the GPU's memory cannot be freed: `let_go` does it.
    _given_back.append(ctypes.addressof(managed.contents))


def let_go() -> None:
    """Free what receivers have given back."""
    while _given_back:
        del _lent[_given_back.popleft()]


def capsule(owner: Any, address: int, shape: tuple[int, ...], dtype: np.dtype, device: tuple[int, int]) -> Any:
    """A capsule of an array whose rows follow each other.

    Args:
        owner: what keeps the array alive; let go when the receiver is done.
        address: of the first number.
        shape: of the array.
        dtype: floating or complex.
        device: kind (`CPU` or `CUDA`) and number.
    """
    let_go()
    lent = _Lent(owner, address, shape, np.dtype(dtype), device)
    place = ctypes.addressof(lent.managed)
    _lent[place] = lent
    return _api.PyCapsule_New(place, _NAME, None)
