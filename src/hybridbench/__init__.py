"""hybridbench: what speeds up the training of hybrid quantum-classical models, with evidence to re-run.

Importing the package sets up Keras 2 and checks the stack; it does not import TensorFlow itself.
"""

import sys
from typing import Any

from hybridbench.errors import StackError
from hybridbench.stack import is_command, prepare_stack

__version__ = "0.1.0"

try:
    prepare_stack()
except StackError as error:
    # The command's own handling of errors lies below this import.
    if not is_command():
        raise
    print(f"hybridbench: {error}", file=sys.stderr)
    raise SystemExit(2) from None


def __getattr__(name: str) -> Any:
    """`hybridbench.KerasLayer` and `NotVerified`, imported on first use because they bring TensorFlow and PennyLane."""
    if name == "KerasLayer":
        from hybridbench.circuits.layer import KerasLayer

        return KerasLayer
    if name == "NotVerified":
        from hybridbench.engine.verification import NotVerified

        return NotVerified
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
