"""The CUDA engine: the CPU engine's functions on an NVIDIA GPU."""

from hybridbench.engine.cuda.sessions import (
    LOCK,
    Session,
    counters,
    expectations,
    expectations_vjp,
    memory_bytes,
    require,
    session,
    simulated,
    state,
    state_vjp,
    synchronize,
)

__all__ = [
    "LOCK",
    "Session",
    "counters",
    "expectations",
    "expectations_vjp",
    "memory_bytes",
    "require",
    "session",
    "simulated",
    "state",
    "state_vjp",
    "synchronize",
]
