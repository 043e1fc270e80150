"""From a PennyLane tape to a Program: gates become rotations, phases and changes of masks, packed into few layers.

Three steps. `gates.lower` turns a gate into a short list of instructions on wires: rotations about an axis or a Pauli word,
flips, swaps, matrices and phases, each with any number of control wires. `frame.Frame` moves them into the physical frame,
where CNOT, SWAP and X only change masks. `schedule.Schedule` puts each into the earliest layer that commutation allows. No
value of an angle is read, so that one program serves all calls of the same structure, and symbolic tensors too.
"""

from hybridbench.engine.compiler.frame import MAX_BLOCK
from hybridbench.engine.compiler.gates import is_unitary
from hybridbench.engine.compiler.instructions import UnsupportedCircuit
from hybridbench.engine.compiler.keys import is_pennylanes, structure_key
from hybridbench.engine.compiler.tapes import Compiled, are_angles, compile_tape, number_kind, supports

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
