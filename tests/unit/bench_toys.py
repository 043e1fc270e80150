"""Toy arms for the interleaved timing: found by the worker processes through the folder that they are given."""

import os
import sys
import time


def clocked(step=0.25, loss=1.0, later=None, parent=0):
    """Clocks itself; the loss changes once."""
    losses = [loss]

    def call():
        return {"step": step, "loss": losses.pop() if losses else later if later is not None else loss}

    return call


def surroundings():
    """Reports its process, its cores and its threads as if they were seconds."""
    numbers = iter(
        [1.0, float(os.getpid()), float(len(os.sched_getaffinity(0))), float(os.environ["OMP_NUM_THREADS"])] + [0.0] * 99
    )
    return lambda: {"step": next(numbers), "loss": [1.0, 1.0]}


def talking(seconds=0.0):
    """Prints, as libraries do, and takes its time."""

    def call():
        print("a library's notice")
        sys.stdout.flush()
        time.sleep(seconds)
        return 1.0

    return call


def failing(after=0):
    calls = iter(range(after))

    def call():
        if next(calls, None) is None:
            raise ValueError("no such circuit")
        return 1.0

    return call


def dying():
    print("last words", file=sys.stderr, flush=True)
    os._exit(3)


def lazy():
    return lambda: object()


def large(gib):
    held = bytearray(int(gib * 2**30))

    def call():
        time.sleep(1.2)
        return float(len(held) > 0)

    return call
