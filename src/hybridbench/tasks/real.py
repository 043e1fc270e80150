"""Real data sets: those that come inside scikit-learn, and MNIST as an option that needs the network."""

from __future__ import annotations

import http.client
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd

from hybridbench.errors import DataError

MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"


def _images(pixels: np.ndarray, target: np.ndarray) -> pd.DataFrame:
    """Images of shape (n, rows, columns) with whole-numbered pixels, one column a pixel."""
    n, rows, columns = pixels.shape
    header = [f"pixel_{r}_{c}" for r in range(rows) for c in range(columns)]
    table = pd.DataFrame(pixels.reshape(n, -1).astype(np.int64), columns=header)
    return table.assign(target=target.astype(np.int64))


def _two_digits(pixels: np.ndarray, digit: np.ndarray, zero: int, one: int) -> pd.DataFrame:
    """Only the images of two digits; target 0 for the first, 1 for the second."""
    chosen = np.isin(digit, [zero, one])
    return _images(pixels[chosen], digit[chosen] == one)


def digits() -> pd.DataFrame:
    """8 × 8 images of handwritten digits, pixel values 0..16; target is the digit."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return _images(bunch.images, bunch.target)


def digits_3v5() -> pd.DataFrame:
    """The 3s (target 0) and 5s (target 1) of `digits`."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return _two_digits(bunch.images, bunch.target, 3, 5)


def breast_cancer() -> pd.DataFrame:
    """Thirty measurements of cell nuclei; target 0 malignant, 1 benign."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    header = [name.replace(" ", "_") for name in bunch.feature_names]
    return pd.DataFrame(bunch.data, columns=header).assign(target=bunch.target.astype(np.int64))


def wine() -> pd.DataFrame:
    """Thirteen chemical measurements of wines; target is the cultivator, 0..2."""
    from sklearn.datasets import load_wine

    bunch = load_wine()
    header = [name.replace("/", "_") for name in bunch.feature_names]
    return pd.DataFrame(bunch.data, columns=header).assign(target=bunch.target.astype(np.int64))


def diabetes() -> pd.DataFrame:
    """Ten measurements of patients in their original units; target is the disease progression after one year."""
    from sklearn.datasets import load_diabetes

    # The default of scikit-learn is scaled over all rows, test rows included; the raw values are not.
    bunch = load_diabetes(scaled=False)
    return pd.DataFrame(bunch.data, columns=bunch.feature_names).assign(target=bunch.target)


def _mnist_cache() -> Path:
    """Where Keras 2 keeps MNIST once it was downloaded."""
    return Path.home() / ".keras" / "datasets" / "mnist.npz"


def mnist_3v5() -> pd.DataFrame:
    """The 3s (target 0) and 5s (target 1) of MNIST, 28 × 28 pixels 0..255, through `tf.keras.datasets`.

    Raises:
        DataError: it was never downloaded here and the network does not answer.
    """
    if not _mnist_cache().is_file():
        # Keras turns every download error into a bare Exception, so whether the network answers is asked before.
        try:
            urllib.request.urlopen(urllib.request.Request(MNIST_URL, method="HEAD"), timeout=10).close()
        except (OSError, http.client.HTTPException) as error:
            raise DataError(
                "Task 'mnist_3v5' needs the network, since MNIST is downloaded once and not shipped, and the network did "
                f"not answer ({type(error).__name__}): use the task 'digits_3v5', which comes with the suite, or try again "
                "with a connection."
            ) from error
    import tensorflow as tf

    (x_train, y_train), (x_test, y_test) = tf.keras.datasets.mnist.load_data()
    return _two_digits(np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test]), 3, 5)
