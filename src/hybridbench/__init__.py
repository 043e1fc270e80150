"""hybridbench: what speeds up the training of hybrid quantum-classical models, with evidence to re-run.

Importing the package sets up Keras 2 and checks the stack; it does not import TensorFlow itself.
"""

from typing import Any

from hybridbench.stack import prepare_stack

__version__ = "0.1.0"

prepare_stack()


def __getattr__(name: str) -> Any:
    """`hybridbench.KerasLayer`, imported on first use because it brings TensorFlow and PennyLane."""
    if name == "KerasLayer":
        from hybridbench.circuits.layer import KerasLayer

        return KerasLayer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
