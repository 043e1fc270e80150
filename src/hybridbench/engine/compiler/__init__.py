"""From a PennyLane tape to a Program."""

from hybridbench.engine.compiler.gates import (
    MAX_BLOCK,
    Compiled,
    UnsupportedCircuit,
    are_angles,
    compile_tape,
    is_pennylanes,
    is_unitary,
    number_kind,
    structure_key,
    supports,
)

__all__ = [
    "MAX_BLOCK",
    "Compiled",
    "UnsupportedCircuit",
    "are_angles",
    "compile_tape",
    "is_pennylanes",
    "is_unitary",
    "number_kind",
    "structure_key",
    "supports",
]
