"""Generated data sets, each from a published formula and a fixed seed.

All functions return a table of feature columns `x0`, `x1` … and `target` (0 or 1), floats rounded to `DECIMALS`, so that
the last bits of a platform's tanh or cosine do not reach the file. `numpy.random.RandomState` is used because NumPy
promises never to change its streams; the newer generators carry no such promise.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

DECIMALS = 6
SEED = 3  #: the seed of the published benchmark's scripts; the streams differ from theirs, the formulas do not
N_SAMPLES = 500


def _table(x: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    table = pd.DataFrame(np.round(x, DECIMALS) + 0.0, columns=[f"x{i}" for i in range(x.shape[1])])
    return table.assign(target=y.astype(np.int64))


def hidden_manifold(
    n_samples: int = N_SAMPLES, n_columns: int = 10, manifold_dimension: int = 6, seed: int = SEED
) -> pd.DataFrame:
    """Points on a curved sheet in a larger space, labelled by a small random network that sees the sheet's coordinates.

    With C of shape (n_samples, m), F (m, n_columns), W (m, m), v (m,) standard normal and b uniform in [-1, 1]:
    x = tanh(C F / sqrt(m) - b), s = v · tanh(W c) / sqrt(m), class 1 where s is at least its median.

    Source: Goldt, Mézard, Krzakala, Zdeborová, Phys. Rev. X 10, 041044 (2020); as a benchmark with m = 6: Bowles, Ahmed,
    Schuld, arXiv:2403.07059 (2024).
    """
    rng = np.random.RandomState(seed)
    sheet_to_space = rng.normal(size=(manifold_dimension, n_columns))
    coordinates = rng.normal(size=(n_samples, manifold_dimension))
    biases = rng.uniform(-1, 1, size=n_columns)
    hidden_weights = rng.normal(size=(manifold_dimension, manifold_dimension))
    output_weights = rng.normal(size=manifold_dimension)
    x = np.tanh(coordinates @ sheet_to_space / np.sqrt(manifold_dimension) - biases)
    score = np.tanh(coordinates @ hidden_weights.T) @ output_weights / np.sqrt(manifold_dimension)
    return _table(x, score >= np.median(score))


def two_curves(
    n_samples: int = N_SAMPLES,
    n_columns: int = 10,
    degree: int = 5,
    offset: float = 0.1,
    noise: float = 0.01,
    seed: int = SEED,
) -> pd.DataFrame:
    """Two copies of one winding curve, the second moved by `offset` along every axis; the class is the copy.

    x_i(t) = sum over k = 0..degree of a_ik cos(pi k t) + b_ik sin(pi k t), plus normal noise, t uniform in [0, 1]; a and b
    uniform in [0, 1], divided by the norm of all of them together (b_i0 takes part in the norm and moves nothing).

    Source: Buchanan, Gilboa, Wright, "Deep networks and the multiple manifold problem", ICLR 2021; as a benchmark with
    these settings: Bowles, Ahmed, Schuld, arXiv:2403.07059 (2024). That benchmark standardises all rows together; here
    scaling belongs to the training part (`prepare`).
    """
    rng = np.random.RandomState(seed)
    coefficients = rng.uniform(size=(2, n_columns, degree + 1))
    cosine, sine = coefficients / np.linalg.norm(coefficients)
    phases = np.pi * np.outer(rng.uniform(size=n_samples), np.arange(degree + 1))
    y = np.arange(n_samples) % 2
    x = np.cos(phases) @ cosine.T + np.sin(phases) @ sine.T + offset * y[:, None]
    return _table(x + rng.normal(scale=noise, size=x.shape), y)


def linearly_separable(
    n_samples: int = N_SAMPLES, n_columns: int = 10, margin: float = 2.0, seed: int = SEED
) -> pd.DataFrame:
    """Uniform points of the cube [-1, 1]^n_columns without a slab around the plane sum(x) = 0; the class is the side.

    Points with |sum(x)| <= margin are left out; class 1 where sum(x) > 0.

    Source: Bowles, Ahmed, Schuld, arXiv:2403.07059 (2024), with a margin of 0.02 per column there. With 0.2 per column
    the normal of the plane is the direction of greatest variance, so the set stays separable when PCA keeps few features.
    """
    rng = np.random.RandomState(seed)
    kept = np.empty((0, n_columns))
    while len(kept) < n_samples:
        cube = rng.uniform(-1, 1, size=(n_samples, n_columns))
        kept = np.vstack([kept, cube[np.abs(cube.sum(axis=1)) > margin]])
    kept = kept[:n_samples]
    return _table(kept, kept.sum(axis=1) > 0)


def moons(n_samples: int = N_SAMPLES, noise: float = 0.1, seed: int = SEED) -> pd.DataFrame:
    """Two interleaved half circles in the plane with normal noise: `sklearn.datasets.make_moons`."""
    from sklearn.datasets import make_moons

    return _table(*make_moons(n_samples=n_samples, noise=noise, random_state=seed))
