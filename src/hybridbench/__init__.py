"""hybridbench: what speeds up the training of hybrid quantum-classical models, with evidence to re-run.

Importing the package sets up Keras 2 and checks the stack; it does not import TensorFlow itself.
"""

from hybridbench.stack import prepare_stack

__version__ = "0.1.0"

prepare_stack()
