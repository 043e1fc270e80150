"""What the arms of a timing cell say of themselves, and when the harness refuses them.

A function that a factory returns may carry attributes, and for a GPU arm the first two are a must:

- `evidence()` → {"devices": names of the devices that its tensors and its simulator are on, "kernels": kernels launched so
  far, "compilations": programs compiled so far, "traffic_bytes": device memory that one step reads and writes}; all but the
  devices may be left out.
- `synchronize()` returns when all that the arm has started is done.
- `losses()` → its loss before its first step and after it, as far as other arms of the cell have to agree.
- `steps`: how many steps one call does; 1 unless given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hybridbench.errors import HybridbenchError

#: Relative difference up to which two arms' losses are those of the same work in single precision.
SAME_LOSS = 2e-3
KEYS = ("devices", "kernels", "compilations", "traffic_bytes")


class TimingError(HybridbenchError, RuntimeError):
    """A measurement broke one of the rules, or the timed process failed."""


@dataclass(frozen=True)
class Evidence:
    """An arm's own account, at one moment."""

    devices: tuple[str, ...] = ()  #: names of the devices that hold its tensors and run its simulator
    kernels: int | None = None  #: kernels launched so far; None where nobody counts them
    compilations: int | None = None  #: programs compiled so far; None where nobody counts them
    traffic_bytes: float | None = None  #: device memory that one step reads and writes, bytes


#: "/device:GPU:0", "GPU:1", "lightning.gpu"; not "a simulator of a GPU".
_GPU_NAME = re.compile(r"(^|[:/.])gpu(:\d+)?$", re.IGNORECASE)


def _is_gpu(name: str, gpus: Sequence[str]) -> bool:
    # A part of a card (MIG) has a longer name in CUDA than the driver gives the card.
    return bool(_GPU_NAME.search(name)) or any(name.startswith(gpu) for gpu in gpus)


def check_attributes(arm: str, call: Callable) -> None:
    """Refuse a GPU arm whose function lacks `evidence` or `synchronize`.

    Raises:
        TimingError: says what is missing.
    """
    for needed in ("evidence", "synchronize"):
        if not callable(getattr(call, needed, None)):
            what = "the clock would stop before the work is done" if needed == "synchronize" else "nothing says where it ran"
            raise TimingError(f"GPU arm {arm!r} has no `{needed}`, so {what}; give its function that attribute.")


def gathered(arm: str, gpu: bool, call: Callable, gpus: Sequence[str] = ()) -> Evidence:
    """The evidence of one arm after its first call, checked against what the cell says that it is.

    Args:
        arm: its name.
        gpu: whether the cell calls it a GPU arm.
        call: the function that its factory returned.
        gpus: names that the driver gives its GPUs; a device named so is one.

    Raises:
        TimingError: a GPU arm that names a CPU or nothing; a CPU arm that names a GPU; an account with other keys.
    """
    if not hasattr(call, "evidence"):
        return Evidence()
    account: Mapping[str, Any] = call.evidence()
    if strange := set(account) - set(KEYS):
        raise TimingError(f"The evidence of arm {arm!r} has {sorted(strange)}; known are {', '.join(KEYS)}.")
    found = Evidence(**{**account, "devices": tuple(account.get("devices", ()))})
    others = [name for name in found.devices if _is_gpu(name, gpus) != gpu]
    if gpu and (others or not found.devices):
        named = f"names {', '.join(others)}" if others else "names no device"
        raise TimingError(f"GPU arm {arm!r} {named} as the place of its work, which is no GPU; the row is refused.")
    if not gpu and others:
        raise TimingError(
            f"CPU arm {arm!r} works on {', '.join(others)}: a GPU would be timed under a CPU's name, so the row is refused; "
            "make its tensors on the CPU."
        )
    return found


def check_timed(arm: str, gpu: bool, before: Evidence, after: Evidence) -> None:
    """Compare the evidence of an arm from before and after its timed calls.

    Raises:
        TimingError: it compiled something meanwhile, or its count of kernels stood still.
    """
    if before.compilations is not None and after.compilations != before.compilations:
        raise TimingError(
            f"Arm {arm!r} compiled {after.compilations - before.compilations} times while it was timed: compile time would "
            "be counted as step time, so the row is refused; compile in the first call, or warm up longer."
        )
    if gpu and before.kernels is not None and after.kernels <= before.kernels:
        raise TimingError(
            f"GPU arm {arm!r} launched no kernel while it was timed ({after.kernels} in all): something else did its work, "
            "so the row is refused."
        )


def check_same_work(losses: Mapping[str, Sequence[float]]) -> None:
    """Compare what the arms computed in their first calls, with the same data and the same initial weights.

    Args:
        losses: arm → its loss before the first step and after it, as far as it has to agree.

    Raises:
        TimingError: two arms differ: they do not do the same work.
    """
    for index, what in enumerate(("at the start", "after one step")):
        found = {name: values[index] for name, values in losses.items() if len(values) > index}
        for name, loss in found.items():
            first = next(iter(found))
            if not math.isclose(loss, found[first], rel_tol=SAME_LOSS):
                raise TimingError(
                    f"The loss {what} is {loss:.6g} in arm {name!r} and {found[first]:.6g} in {first!r}: the arms do not do "
                    "the same work, so nothing was recorded; mend the arm."
                )


def declared_losses(calls: Mapping[str, Callable]) -> dict[str, list[float]]:
    """The losses of the arms that declare them, for `check_same_work`."""
    return {name: [float(loss) for loss in call.losses()] for name, call in calls.items() if hasattr(call, "losses")}


def refuse_simulator(environment: Mapping[str, str], gpu_arms: Iterable[str]) -> None:
    """Refuse GPU arms where numba's simulator would run their kernels on the CPU.

    Raises:
        TimingError: NUMBA_ENABLE_CUDASIM is set.
    """
    arms = list(gpu_arms)
    if arms and environment.get("NUMBA_ENABLE_CUDASIM", "0") not in {"", "0"}:
        raise TimingError(
            f"NUMBA_ENABLE_CUDASIM is set, which runs CUDA kernels on the CPU: GPU arm {arms[0]!r} is not timed; unset it."
        )
