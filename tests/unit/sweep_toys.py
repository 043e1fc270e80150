"""Configurations that learn nothing, for the tests of sweeps; worker processes import this module."""

import os
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Toy:
    task: str
    seed: int = 0


class Unsendable(Exception):
    """Cannot be unpickled."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def run(config, log, seconds=0.0):
    """Rows of a toy; every call is a line "process task seed" of `log`."""
    with open(log, "a") as file:
        file.write(f"{os.getpid()} {config.task} {config.seed}\n")
    time.sleep(seconds)
    if config.task == "fails" and config.seed == 3:
        raise Unsendable("no", "luck")
    return [{"step": step, "train_loss": config.seed / 10 + step} for step in range(2)]


def threads(config):
    """The threads that libraries of this process may start, as they were told."""
    from hybridbench.measurement.child import THREAD_VARIABLES

    return [{"threads": int(os.environ.get(name, 0)), "part": name} for name in THREAD_VARIABLES]


def kill_process(config):
    """As the kernel does where memory runs out."""
    os.kill(os.getpid(), 9)


def calls(log):
    """(process, task, seed) of every call."""
    return [(int(a), b, int(c)) for a, b, c in (line.split() for line in log.read_text().splitlines())]


def plan(task, n, told):
    """First `n` seeds, then one that follows from the best of them, then two more; `told` gets every table."""
    told.append((yield [Toy(task, seed) for seed in range(n)]))
    best = int(told[-1].set_index("seed")["train_loss"].idxmax())
    told.append((yield [Toy(task, best + 100)]))
    told.append((yield [Toy(task, best + 200), Toy(task, 0)]))
