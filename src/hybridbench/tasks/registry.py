"""The list of tasks. To add one: write a loader that returns its table, and add a `Task` to `_ALL` below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from hybridbench.errors import check_name
from hybridbench.tasks import generated, real

CLASSIFICATION, REGRESSION = "classification", "regression"

_BOWLES = "J. Bowles, S. Ahmed, M. Schuld, Better than classical? arXiv:2403.07059 (2024)"
_UCI = "CC BY 4.0 (UCI Machine Learning Repository); this copy: scikit-learn, BSD-3-Clause"
_OURS = "Apache-2.0 (made by this suite)"
_DIGITS = (
    "Optical Recognition of Handwritten Digits, E. Alpaydin, C. Kaynak, UCI, 1998, doi:10.24432/C50P49; the copy of its "
    "test part in scikit-learn (load_digits)"
)


@dataclass(frozen=True, eq=False)
class Task:
    """One data set: what it is, where it comes from, and how its table is made."""

    name: str  #: how it is called in parameters and records
    kind: Literal["classification", "regression"]
    classes: tuple[str, ...]  #: what target 0, 1 … mean; empty for regression
    n_columns: int  #: feature columns of the table; `prepare` gives at most as many features
    source: str  #: origin with citation
    licence: str
    description: str  #: one line
    made: str  #: how the table comes about
    limits: str  #: what one should know before drawing conclusions
    load: Callable[[], pd.DataFrame]  #: makes the table: feature columns and `target`
    shipped: bool = True  #: whether the table lies in `data/tasks`

    @property
    def n_classes(self) -> int:
        """Number of classes; 1 for regression."""
        return len(self.classes) or 1


_ALL = [
    Task(
        name="digits_3v5",
        kind=CLASSIFICATION,
        classes=("digit 3", "digit 5"),
        n_columns=64,
        source=_DIGITS,
        licence=_UCI,
        description="Handwritten 3s against 5s, 8 × 8 pixels: the small real task that needs no network.",
        made="The rows of `digits` with digit 3 or 5, in their order; pixel values 0..16.",
        limits="Small and easy: a linear model gets most of it. Thirteen writers made all images, and their names are not "
        "known, so train and test share writers.",
        load=real.digits_3v5,
    ),
    Task(
        name="digits",
        kind=CLASSIFICATION,
        classes=tuple(f"digit {d}" for d in range(10)),
        n_columns=64,
        source=_DIGITS,
        licence=_UCI,
        description="All ten handwritten digits, 8 × 8 pixels.",
        made="As scikit-learn gives it, in its order; pixel values 0..16.",
        limits="Thirteen writers made all images, and their names are not known, so train and test share writers. Three "
        "border pixels are 0 in every image.",
        load=real.digits,
    ),
    Task(
        name="breast_cancer",
        kind=CLASSIFICATION,
        classes=("malignant", "benign"),
        n_columns=30,
        source="Breast Cancer Wisconsin (Diagnostic), W. H. Wolberg, O. L. Mangasarian, W. N. Street, UCI, 1995, "
        "doi:10.24432/C5DW2B; the copy in scikit-learn (load_breast_cancer)",
        licence=_UCI,
        description="Malignant or benign, from thirty measurements of cell nuclei.",
        made="As scikit-learn gives it, in its order and units.",
        limits="Uneven classes (37 % malignant). One hospital, 1990s: a benchmark, not a diagnosis. Many columns measure "
        "nearly the same thing.",
        load=real.breast_cancer,
    ),
    Task(
        name="wine",
        kind=CLASSIFICATION,
        classes=("cultivator 0", "cultivator 1", "cultivator 2"),
        n_columns=13,
        source="Wine, S. Aeberhard, M. Forina, UCI, 1991, doi:10.24432/C5PC7J; the copy in scikit-learn (load_wine)",
        licence=_UCI,
        description="Which of three cultivators made a wine, from thirteen chemical measurements.",
        made="As scikit-learn gives it, in its order and units.",
        limits="Very small: the test part has 36 rows, so one row is 2.8 points of accuracy. Nearly separable.",
        load=real.wine,
    ),
    Task(
        name="diabetes",
        kind=REGRESSION,
        classes=(),
        n_columns=10,
        source="B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, Least Angle Regression, Annals of Statistics 32, 407 "
        "(2004); the copy in scikit-learn (load_diabetes)",
        licence="None stated by the source; this copy: scikit-learn, BSD-3-Clause",
        description="Disease progression after one year, from ten measurements of 442 patients (regression).",
        made="The raw values of scikit-learn (`scaled=False`): its default is scaled over all rows, test rows included.",
        limits="Noisy: linear models reach an R squared of about 0.5 and nothing does much better. `sex` is coded 1 and 2.",
        load=real.diabetes,
    ),
    Task(
        name="hidden_manifold",
        kind=CLASSIFICATION,
        classes=("score below the median", "score from the median up"),
        n_columns=10,
        source="S. Goldt, M. Mézard, F. Krzakala, L. Zdeborová, Modeling the influence of data structure on learning in "
        f"neural networks, Phys. Rev. X 10, 041044 (2020); {_BOWLES}",
        licence=_OURS,
        description="A 6-dimensional sheet bent into 10 dimensions, labelled by a small random network.",
        made=f"`hidden_manifold()` with its defaults: seed {generated.SEED}, {generated.N_SAMPLES} rows, manifold "
        f"dimension 6, rounded to {generated.DECIMALS} decimals.",
        limits="One draw of the network and the sheet; the formula is the published one, the numbers are not its files. "
        "Fewer than 6 features cannot hold the sheet.",
        load=generated.hidden_manifold,
    ),
    Task(
        name="two_curves",
        kind=CLASSIFICATION,
        classes=("first curve", "second curve"),
        n_columns=10,
        source="S. Buchanan, D. Gilboa, J. Wright, Deep networks and the multiple manifold problem, ICLR (2021); " + _BOWLES,
        licence=_OURS,
        description="Two parallel winding curves in 10 dimensions: easy with curved borders, hard with a straight one.",
        made=f"`two_curves()` with its defaults: seed {generated.SEED}, {generated.N_SAMPLES} rows, degree 5, offset 0.1, "
        f"noise 0.01, rounded to {generated.DECIMALS} decimals.",
        limits="One draw of the curve. With few features a linear model is barely better than chance.",
        load=generated.two_curves,
    ),
    Task(
        name="linearly_separable",
        kind=CLASSIFICATION,
        classes=("sum below 0", "sum above 0"),
        n_columns=10,
        source=_BOWLES,
        licence=_OURS,
        description="A cube cut by a plane with a wide margin: what every model must learn.",
        made=f"`linearly_separable()` with its defaults: seed {generated.SEED}, {generated.N_SAMPLES} rows, margin 2.0, "
        f"rounded to {generated.DECIMALS} decimals.",
        limits="A sanity check, not a benchmark. The margin is ten times the published one, so that the set stays "
        "separable when PCA keeps few features.",
        load=generated.linearly_separable,
    ),
    Task(
        name="moons",
        kind=CLASSIFICATION,
        classes=("upper moon", "lower moon"),
        n_columns=2,
        source="F. Pedregosa et al., Scikit-learn: Machine Learning in Python, JMLR 12, 2825 (2011), make_moons",
        licence=_OURS,
        description="Two interleaved half circles in the plane.",
        made=f"`moons()` with its defaults: seed {generated.SEED}, {generated.N_SAMPLES} rows, noise 0.1, "
        f"rounded to {generated.DECIMALS} decimals.",
        limits="Two columns only, so at most 2 features: PCA turns the plane and drops nothing.",
        load=generated.moons,
    ),
    Task(
        name="mnist_3v5",
        kind=CLASSIFICATION,
        classes=("digit 3", "digit 5"),
        n_columns=784,
        source="Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits, through tf.keras.datasets",
        licence="CC BY-SA 3.0",
        description="MNIST 3s against 5s, 28 × 28 pixels: an option that needs the network once.",
        made="Train and test images of digit 3 or 5, in their order; pixel values 0..255.",
        limits="Not the published split: `prepare` draws its own.",
        load=real.mnist_3v5,
        shipped=False,
    ),
]

TASKS: dict[str, Task] = {task.name: task for task in _ALL}


def names() -> list[str]:
    """Tasks whose tables come with the suite: those that work without a network."""
    return [name for name, task in TASKS.items() if task.shipped]


def get(name: str) -> Task:
    """The task called `name`.

    Raises:
        ConfigurationError: there is none; the nearest names are in the message.
    """
    return TASKS[check_name("task", name, TASKS)]
