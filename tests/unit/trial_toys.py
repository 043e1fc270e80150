"""Problems that are small enough to be written out, for the tests of optimizers and trials."""

import numpy as np

from hybridbench.training.optimizers import tf
from hybridbench.training.problems import Problem

#: Two variables of different shape: updates have to keep them apart.
START = [np.array([[0.5, -1.5, 2.0], [1.0, 0.3, -0.7]]), np.array([0.2, -0.4])]


def flat(values):
    return np.concatenate([np.ravel(value) for value in values])


def toy_problem(loss, start=None):
    """`loss`: list of variables → scalar tensor. Batches are a row of zeros each, and are not looked at."""
    start = START if start is None else start
    variables = [tf.Variable(value, dtype=tf.float64) for value in start]

    def load(seed):
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)

    nothing = tf.constant(np.nan, tf.float64)
    return Problem(
        variables,
        lambda rows: loss(variables),
        lambda: tf.stack([loss(variables)] * 2 + [nothing] * 4),
        None,
        load,
        lambda seed, steps: np.zeros((steps, 1), int),
    )
