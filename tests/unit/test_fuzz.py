"""A minute of drawn circuits against `default.qubit`; HYBRIDBENCH_FUZZ_MINUTES=60 and `pytest -s` for an hour of them."""

import itertools
import os
import time

import fuzz_check
from fuzz_circuits import circuits
from hypothesis import HealthCheck, Phase, given, seed, settings

MINUTES = float(os.environ.get("HYBRIDBENCH_FUZZ_MINUTES", "1"))
FIRST = int(os.environ.get("HYBRIDBENCH_FUZZ_SEED", "20261130"))


def test_drawn_circuits_equal_pennylane_or_say_why_not():
    stop, drawn, numbers = time.monotonic() + 60 * MINUTES, 0, itertools.count()
    while time.monotonic() < stop:

        @seed(FIRST + drawn)
        @settings(
            max_examples=20,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink] if MINUTES > 1 else [Phase.generate],
        )
        @given(circuit=circuits())
        def some(circuit):
            if time.monotonic() < stop:
                fuzz_check.check(circuit, next(numbers))

        some()
        drawn += 20
    print(f"\n{next(numbers)} circuits drawn, seed {FIRST}")
    for outcome, count in sorted(fuzz_check.SEEN.items()):
        print(f"  {count:6d}  {outcome}")
    compared = sum(count for outcome, count in fuzz_check.SEEN.items() if "compared" in outcome)
    assert min(fuzz_check.SEEN["layer eager: compiled"], compared) >= 5  # a layer that never compiles is never wrong
