"""The software stack that the suite needs, checked once on import with a sentence that says what to do.

KerasLayer exists up to PennyLane 0.41.1 and needs Keras 2 (`tf_keras`), which TensorFlow uses only where
TF_USE_LEGACY_KERAS=1 was set before TensorFlow was first imported.
"""

from __future__ import annotations

import os
import sys
from importlib import metadata

from hybridbench.errors import StackError

PENNYLANE = "0.41.1"


def prepare_stack() -> None:
    """Switch TensorFlow to Keras 2 and check the pinned PennyLane.

    Raises:
        StackError: TensorFlow was imported before the switch could be set, or PennyLane is another version.
    """
    found = metadata.version("pennylane")
    if found != PENNYLANE:
        raise StackError(
            f"PennyLane {found} is installed, and the suite needs {PENNYLANE}, the last with KerasLayer: "
            "run 'make setup', or 'pip install --require-hashes -r requirements.lock'."
        )
    if os.environ.get("TF_USE_LEGACY_KERAS") not in {"1", "True", "true"}:
        if "tensorflow" in sys.modules:
            raise StackError(
                "TensorFlow was imported before the switch to Keras 2 was set: restart Python and import hybridbench "
                "first, or set TF_USE_LEGACY_KERAS=1 in the environment."
            )
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
    # TensorFlow's start-up notices would land in every notebook; its errors still show.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
