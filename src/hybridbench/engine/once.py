"""Results that are made once, whatever the number of threads that ask first."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from threading import RLock
from typing import Any


def once(function: Callable) -> Callable:
    """A function whose result for each set of arguments is made once in a process; other threads wait for it.

    `functools.lru_cache` alone lets two threads make the same result at once.
    """
    cached, lock = lru_cache(maxsize=256)(function), RLock()

    @wraps(function)
    def locked(*arguments: Any) -> Any:
        with lock:
            return cached(*arguments)

    return locked
