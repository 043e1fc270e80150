"""What the frontier study says: how gradient variance, shots and memory grow, and from where on more hardware cannot help.

Every growth is fitted by weighted least squares in the logarithm, over qubits (an exponential: a factor per qubit) or over
the logarithm of qubits (a power). Intervals come from a bootstrap over the independent batches of random points behind each
point of the fit, and are widened by Birge's ratio, the root of chi squared over its degrees of freedom where that is above 1
(as the Particle Data Group does), so that a curve that is not what was fitted does not get a narrow interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from hybridbench.analysis import costs, public
from hybridbench.analysis.statistics import CONFIDENCE, SEED, Interval
from hybridbench.analysis.tables import NotMeasured, Records
from hybridbench.design.constants import COSTS
from hybridbench.errors import MemoryEstimateError, check_name

STUDY = "frontier"
RESAMPLES = 1999
#: Exponents are fitted from this many qubits on: below, entanglers act twice on a pair.
FIRST_QUBITS = 4
#: A variance with a relative standard error above this is too heavy-tailed for its draws, and in no fit.
RESOLVED = 0.3
#: Fewer points than this fit no exponent.
FEWEST_POINTS = 4
#: A variance counts as deep within this factor of the limit, at this depth and at all greater ones.
DEEP_FACTOR = 1.5
#: Share of resamples in which one of two curves fits better, from which on it is said to.
DECIDED = 0.975
#: No simulator holds more: where a fit ends beyond, the answer is "not up to here".
MOST_QUBITS = 50
SHOTS = (10**4, 10**6)
#: Adam's epsilon in Keras 2 (tf_keras.optimizers.Adam): with a gradient of this size a step is half the learning rate.
ADAM_EPSILON = 1e-7
#: A descent has trained at this cost or below; 0 is the optimum, a random state has about 1/2 (local) or 1 (global).
TRAINED = 0.1
STEPS, HOUR = 300, 3600.0
SIZE = ["ansatz", "cost", "n_qubits", "n_layers"]


def deep_variance(cost: str, n_qubits: int) -> float:
    """Variance of the derivative by the first rotation where all that follows it is Haar-random, 1/rad^2.

    With E[Tr(W^dagger O W X)^2] = (Tr O^2 - (Tr O)^2 / d) Tr X^2 / (d^2 - 1) for a traceless X (second moment of the Haar
    measure: Collins and Sniady, Commun. Math. Phys. 264, 773 (2006)) and X = -i/2 [Y, |0><0|], whose Tr X^2 is 1/2:
    (Tr O^2 - (Tr O)^2 / d) / (2 (d^2 - 1)), d = 2^n. This is the case of McClean et al. 2018 in which the circuit behind the
    rotation is a 2-design. The local cost has Tr O^2 - (Tr O)^2 / d = d / (4 n), the global one 1 - 1/d: 2^-n / (8 n) and
    4^-n / 2 for many qubits.

    Raises:
        ConfigurationError: another cost.
    """
    d = 2.0**n_qubits
    spread = d / (4 * n_qubits) if check_name("cost", cost, COSTS) == "local" else 1 - 1 / d
    return spread / (2 * (d * d - 1))


def deep_fall(cost: str, qubits: Sequence[int]) -> float:
    """Factor per qubit of `deep_variance` by an even-handed fit over these numbers of qubits: 4, or 2 and what 1/n adds."""
    return float(np.exp(-np.polyfit(qubits, [math.log(deep_variance(cost, int(n))) for n in qubits], 1)[0]))


def deep_shots(n_qubits: int) -> float:
    """Shots at which the derivative of a random circuit equals its own shot noise: about 2^n for either cost.

    One shot of a random state has the variance 1 / (4 n) (local) or 2^-n (global) for many qubits; divided by twice
    `deep_variance` both are 2^n.
    """
    return 2.0**n_qubits


def rows_of(records: Records | pd.DataFrame, cell: str) -> pd.DataFrame:
    """Rows of one cell of the study, of the first machine that has any.

    Raises:
        NotMeasured: there are none.
    """
    table = records if isinstance(records, pd.DataFrame) else records[STUDY]
    rows = table[table["cell"] == cell] if "cell" in table else table.iloc[:0]
    if rows.empty:
        raise NotMeasured(f"no frontier records of cell {cell!r}")
    return rows[rows["machine"] == rows["machine"].min()]


# --------------------------------------------------------------------------------------------------------------- the fit
Quantity = Callable[[np.ndarray], np.ndarray]


def variance(moments: np.ndarray) -> np.ndarray:
    """The first moment itself; moments (..., k)."""
    return moments[..., 0]


def shots_needed(moments: np.ndarray) -> np.ndarray:
    """Shots at each point of the parameter-shift rule from which a derivative is as large as its noise.

    The rule's (C+ - C-) / 2 with S shots each has the variance s^2 / (2 S), s^2 that of one shot; it equals the mean square
    of the derivative g at S = s^2 / (2 g^2). moments: (..., 2) with the means of s^2 and g^2.
    """
    return moments[..., 0] / (2 * moments[..., 1])


@dataclass(frozen=True)
class Fit:
    """ln y = level + slope * x, where x is the number of qubits or its logarithm."""

    slope: Interval
    level: float
    misfit: float  #: chi squared over its degrees of freedom
    log: bool  #: whether x is ln n
    draws: np.ndarray  #: (resamples, 2) of level and slope, widened by the misfit

    def at(self, n_qubits: float | np.ndarray) -> np.ndarray:
        """The curve at a number of qubits."""
        x = np.log(n_qubits) if self.log else np.asarray(n_qubits, dtype=float)
        return np.exp(self.level + self.slope.value * x)

    def passes(self, y: float, rising: bool) -> Interval:
        """The number of qubits at which the curve passes `y` upwards (`rising`) or downwards; infinite where it never does.

        A curve that is beyond `y` already at no qubits gives 0.
        """
        draws = np.vstack([[self.level, self.slope.value], self.draws])
        slope = draws[:, 1] if rising else -draws[:, 1]
        gap = (math.log(y) - draws[:, 0]) * (1 if rising else -1)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            x = np.where(slope > 0, gap / slope, math.inf)
            n = np.exp(x) if self.log else np.maximum(x, 0.0)
        low, high = np.quantile(n[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="nearest")
        return Interval(float(n[0]), float(low), float(high), self.slope.n, "qubits")


def _lines(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Level, slope and chi squared of weighted straight lines through y (resamples, points)."""
    total = weights.sum()
    middle = (weights * x).sum() / total
    mean = y @ weights / total
    slope = (y - mean[:, None]) @ (weights * (x - middle)) / (weights * (x - middle) ** 2).sum()
    level = mean - slope * middle
    chi2 = ((y - level[:, None] - slope[:, None] * x) ** 2) @ weights
    return level, slope, chi2


@dataclass(frozen=True)
class Growth:
    """How a quantity changes with the number of qubits."""

    exponential: Fit
    power: Fit
    share: float  #: share of resamples in which the exponential has the smaller chi squared

    @property
    def base(self) -> Interval:
        """Factor per qubit of the exponential; below 1 where the quantity falls."""
        return self.exponential.slope.map(math.exp, "1")

    @property
    def better(self) -> str:
        """The curve with the smaller chi squared in at least `DECIDED` of the resamples: "exponential", "power" or "open".

        Both have two parameters, so that the difference of chi squared is that of Akaike's criterion.
        """
        return "exponential" if self.share >= DECIDED else "power" if self.share <= 1 - DECIDED else "open"

    @property
    def best(self) -> Fit:
        """The curve with the smaller chi squared."""
        return self.exponential if self.exponential.misfit <= self.power.misfit else self.power


def growth(batches: Mapping[int, np.ndarray], quantity: Quantity = variance) -> Growth:
    """Fit an exponential and a power of the number of qubits.

    Args:
        batches: by number of qubits the moments of independent batches, shape (batches, moments).
        quantity: what is fitted, a positive function of the moments' means.

    Raises:
        NotMeasured: fewer than `FEWEST_POINTS` numbers of qubits.
    """
    sizes = sorted(batches)
    if len(sizes) < FEWEST_POINTS:
        raise NotMeasured(f"{len(sizes)} numbers of qubits, and an exponent needs {FEWEST_POINTS}")
    rng = np.random.default_rng(SEED)
    found, drawn = [], []
    for n in sizes:
        moments = np.asarray(batches[n], dtype=float)
        picked = rng.integers(0, len(moments), (RESAMPLES, len(moments)))
        found.append(math.log(quantity(moments.mean(axis=0))))
        y = np.log(quantity(moments[picked].mean(axis=1)))
        # A bootstrap of k batches has (k - 1) / k of the variance.
        drawn.append(found[-1] + (y - found[-1]) * math.sqrt(len(moments) / (len(moments) - 1)))
    y, resampled = np.array([found]), np.array(drawn).T
    weights = 1 / np.maximum(resampled.var(axis=0), 1e-12)
    fits, chi2s = [], []
    for log in (False, True):
        x = np.log(sizes) if log else np.array(sizes, dtype=float)
        level, slope, chi2 = (values[0] for values in _lines(x, y, weights))
        levels, slopes, several = _lines(x, resampled, weights)
        misfit = float(chi2 / (len(sizes) - 2))
        wider = max(1.0, math.sqrt(misfit))
        draws = np.column_stack([level + wider * (levels - level), slope + wider * (slopes - slope)])
        low, high = np.quantile(draws[:, 1], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        fits.append(Fit(Interval(float(slope), float(low), float(high), len(sizes)), float(level), misfit, log, draws))
        chi2s.append(several)
    return Growth(*fits, float(np.mean(chi2s[0] < chi2s[1])))


# ------------------------------------------------------------------------------------------------------ gradient variance
def cells(table: pd.DataFrame) -> pd.DataFrame:
    """Every measured circuit and cost, one row each.

    Args:
        table: rows of the cell "gradient" of one machine.

    Returns:
        `SIZE`, and: n (random points), variance with low and high (Student over batches), relative_error, resolved,
        kurtosis (3 for a normal derivative), deep (`deep_variance`), mean_square (over all parameters), shots
        (`shots_needed` by mean_square), rounding (rms rounding error over rms gradient, both of the batch compared).
    """
    rows = []
    for size, own in table.groupby(SIZE, sort=True):
        values = own["gradient_variance"].to_numpy()
        mean, error = values.mean(), values.std(ddof=1) / math.sqrt(len(values))
        half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * error
        compared = own.dropna(subset=["rounding_error"])
        rounding = compared["rounding_error"] / np.sqrt(compared["gradient_mean_square"])
        rows.append(
            {
                **dict(zip(SIZE, size, strict=True)),
                "n": int(own["n_points"].sum()),
                "variance": mean,
                "low": mean - half,
                "high": mean + half,
                "relative_error": error / mean,
                "resolved": error <= RESOLVED * mean,
                "kurtosis": own["gradient_fourth_moment"].mean() / mean**2,
                "deep": deep_variance(size[1], size[2]),
                "mean_square": own["gradient_mean_square"].mean(),
                "shots": float(shots_needed(own[["shot_variance", "gradient_mean_square"]].to_numpy().mean(axis=0))),
                "rounding": float(rounding.mean()),
            }
        )
    return pd.DataFrame(rows)


MOMENTS: dict[str, tuple[list[str], Quantity]] = {
    "variance": (["gradient_variance"], variance),
    "mean_square": (["gradient_mean_square"], variance),
    "shots": (["shot_variance", "gradient_mean_square"], shots_needed),
}


def growth_of(table: pd.DataFrame, ansatz: str, cost: str, depth: int | str, what: str = "variance") -> Growth:
    """How the variance, the mean square or the shots needed grow with qubits at a depth.

    Sizes below `FIRST_QUBITS` and those that are not `RESOLVED` are left out.

    Args:
        table: rows of the cell "gradient" of one machine.
        ansatz, cost: which circuit.
        depth: number of layers, or "n" for as many as qubits.
        what: a name of `MOMENTS`.

    Raises:
        NotMeasured: too few sizes.
    """
    columns, quantity = MOMENTS[check_name("quantity", what, MOMENTS)]
    own = table[(table["ansatz"] == ansatz) & (table["cost"] == cost) & (table["n_qubits"] >= FIRST_QUBITS)]
    own = own[own["n_layers"] == (own["n_qubits"] if depth == "n" else depth)]
    batches = {}
    for n, rows in own.groupby("n_qubits"):
        # The sizes are chosen by the variance, the heaviest tail of the three, so that all fits are over the same ones.
        values = rows["gradient_variance"]
        if values.std(ddof=1) / math.sqrt(len(values)) <= RESOLVED * values.mean():
            batches[int(n)] = rows[columns].to_numpy()
    return growth(batches, quantity)


def depths(table: pd.DataFrame) -> list[int | str]:
    """The depths that have been measured at enough numbers of qubits, and "n" last."""
    sizes = table[table["n_qubits"] >= FIRST_QUBITS].drop_duplicates(["n_qubits", "n_layers"])
    counts = sizes.groupby("n_layers")["n_qubits"].nunique()
    widest = counts.max() if len(counts) else 0
    fixed: list[int | str] = [int(depth) for depth, count in counts.items() if count == widest and count >= FEWEST_POINTS]
    return fixed + (["n"] if (sizes["n_qubits"] == sizes["n_layers"]).sum() >= FEWEST_POINTS else [])


def growths(table: pd.DataFrame, what: str = "variance") -> dict[tuple[str, str, int | str], Growth]:
    """`growth_of` of every ansatz, cost and depth that has enough sizes."""
    found = {}
    for ansatz, cost in sorted(set(zip(table["ansatz"], table["cost"], strict=True))):
        for depth in depths(table):
            try:
                found[ansatz, cost, depth] = growth_of(table, ansatz, cost, depth, what)
            except NotMeasured:
                continue  # too heavy-tailed for the points that were drawn, which `cells` shows
    return found


def saturation(found: pd.DataFrame) -> pd.DataFrame:
    """The depth from which on a variance is that of a random circuit, within `DEEP_FACTOR`.

    Args:
        found: from `cells`.

    Returns:
        ansatz, cost, n_qubits, depth: the smallest measured one from which on all are; NaN where the deepest is not.
    """
    rows = []
    for (ansatz, cost, n), own in found.sort_values("n_layers").groupby(SIZE[:3], sort=True):
        apart = np.abs(np.log(own["variance"] / own["deep"])).to_numpy() > math.log(DEEP_FACTOR)
        from_ = int(np.flatnonzero(apart)[-1]) + 1 if apart.any() else 0
        depth = float(own["n_layers"].iloc[from_]) if from_ < len(own) else math.nan
        rows.append({"ansatz": ansatz, "cost": cost, "n_qubits": n, "depth": depth})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Gone:
    """The number of qubits from which on a gradient cannot be resolved."""

    qubits: Interval  #: infinite beyond `MOST_QUBITS`
    curve: str  #: which curve it comes from: "exponential" or "power"
    extrapolated: bool  #: beyond the widest circuit that was measured

    @property
    def first(self) -> float:
        """The first whole number of qubits at which it is gone."""
        return math.ceil(self.qubits.value) if math.isfinite(self.qubits.value) else math.inf


def _gone(curve: Fit, threshold: float, rising: bool, widest: int) -> Gone:
    found = curve.passes(threshold, rising)
    bounds = [x if x <= MOST_QUBITS else math.inf for x in (found.value, found.low, found.high)]
    interval = Interval(bounds[0], bounds[1], bounds[2], found.n, "qubits")
    return Gone(interval, "power" if curve.log else "exponential", found.value > widest)


def gone_by_shots(table: pd.DataFrame, ansatz: str, cost: str, depth: int | str, shots: int) -> Gone:
    """From where on a derivative is smaller than its own noise with so many shots at each point of the parameter shift.

    The criterion is a signal-to-noise ratio of 1 for the average parameter: `shots_needed` = `shots`. It is one of a single
    derivative: a run of many steps averages noise, and gets further (`descents`). The curve with the smaller chi squared is
    followed.

    Raises:
        NotMeasured: too few sizes.
    """
    found = growth_of(table, ansatz, cost, depth, "shots")
    return _gone(found.best, float(shots), True, int(table["n_qubits"].max()))


def gone_for_adam(table: pd.DataFrame, ansatz: str, cost: str, depth: int | str) -> Gone:
    """From where on the root mean square of an exact gradient is below `ADAM_EPSILON`, where Adam's own steps shrink.

    Raises:
        NotMeasured: too few sizes.
    """
    found = growth_of(table, ansatz, cost, depth, "mean_square")
    return _gone(found.best, ADAM_EPSILON**2, False, int(table["n_qubits"].max()))


# ----------------------------------------------------------------------------------------------------------------- descent
def descents(table: pd.DataFrame) -> pd.DataFrame:
    """How far training from a random start got.

    Args:
        table: rows of the cell "descent" of one machine.

    Returns:
        A row a circuit, cost, number of shots and of steps: `SIZE`, shots, steps, seeds, start and final (median cost), low
        and high (quartiles of the final cost), trained (seeds at `TRAINED` or below), and share of them with share_low and
        share_high (Clopper and Pearson 1934).
    """
    rows = []
    for (*size, shots, steps), own in table.groupby([*SIZE, "shots", "steps"], sort=True):
        first, last = (own[own["step"] == step]["train_loss"] for step in (0, steps))
        trained = int((last <= TRAINED).sum())
        bounds = stats.binomtest(trained, len(last)).proportion_ci(CONFIDENCE, "exact")
        rows.append(
            {
                **dict(zip(SIZE, size, strict=True)),
                "shots": int(shots),
                "steps": int(steps),
                "seeds": len(last),
                "start": float(first.median()),
                "final": float(last.median()),
                "low": float(last.quantile(0.25)),
                "high": float(last.quantile(0.75)),
                "trained": trained,
                "share": trained / len(last),
                "share_low": float(bounds.low),
                "share_high": float(bounds.high),
            }
        )
    return pd.DataFrame(rows)


def criterion(found: pd.DataFrame, trained: pd.DataFrame) -> pd.DataFrame:
    """How the criterion of a single derivative compares with training: where shots were fewer than it asks for.

    Args:
        found: from `cells`.
        trained: from `descents`; the runs of the fewest steps count.

    Returns:
        The rows of `trained` with shots whose circuit is in `found`, with `ratio`: shots that the criterion asks for over
        the shots that there were; and `exact`, the share of seeds that trained with exact gradients.
    """
    trained = trained[trained["steps"] == trained["steps"].min()]
    noisy = trained[trained["shots"] > 0]
    asked = found[[*SIZE, "shots"]].rename(columns={"shots": "asked"})
    exact = trained[trained["shots"] == 0][[*SIZE, "share"]].rename(columns={"share": "exact"})
    both = noisy.merge(asked, on=SIZE).merge(exact, on=SIZE)
    return both.assign(ratio=both["asked"] / both["shots"]).sort_values("ratio", ignore_index=True)


# ------------------------------------------------------------------------------------------------------------------ memory
def adjoint_bytes(n_qubits: int, samples: int, itemsize: int = 8) -> float:
    """Bytes of adjoint differentiation whatever the depth: two states of each sample that is worked on at a time.

    Jones and Gacon 2020 (arXiv:2009.02823). The CPU engine works on 16 samples a thread at a time.
    """
    return 2.0 * samples * itemsize * 2.0**n_qubits


def memory(table: pd.DataFrame) -> pd.DataFrame:
    """Peak memory of each process, and what it has beyond the smallest model of its kind.

    Args:
        table: rows of the cell "memory" of one machine.

    Returns:
        arm, n_qubits, n_layers, batch_size, process, peak and extra (MiB).
    """
    keys = ["n_qubits", "n_layers", "batch_size"]
    taken = table.dropna(subset=["peak_memory_mib"])[["arm", *keys, "process", "peak_memory_mib"]]
    taken = taken.rename(columns={"peak_memory_mib": "peak"}).sort_values(["arm", *keys, "process"])
    least = {arm: own[own["n_qubits"] == own["n_qubits"].min()]["peak"].mean() for arm, own in taken.groupby("arm")}
    return taken.assign(extra=taken["peak"] - taken["arm"].map(least)).reset_index(drop=True)


def _slope(x: Sequence[float], y: Sequence[float], unit: str = "1") -> Interval:
    """Slope of a straight line with Student's interval of the regression."""
    line = stats.linregress(x, y)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 2) * line.stderr) if len(x) > 2 else math.inf
    return Interval(float(line.slope), float(line.slope) - half, float(line.slope) + half, len(x), unit)


def memory_growth(found: pd.DataFrame, arm: str, n_layers: int = 2) -> Interval:
    """Factor of the extra memory per qubit, from processes of one depth; 2 where it is states.

    Processes whose extra memory is below a tenth of the start's peak say nothing, and are left out.

    Raises:
        NotMeasured: fewer than three numbers of qubits.
    """
    own = found[(found["arm"] == arm) & (found["n_layers"] == n_layers)]
    own = own[own["extra"] > 0.03 * (own["peak"] - own["extra"])]
    if own["n_qubits"].nunique() < 3:
        raise NotMeasured(f"{own['n_qubits'].nunique()} numbers of qubits of {arm!r}, and an exponent of memory needs three")
    return _slope(own["n_qubits"], np.log(own["extra"])).map(math.exp, "1")


def batch_mib(n_qubits: float | pd.Series, batch_size: float | pd.Series) -> float | pd.Series:
    """MiB of one state of each sample of a batch in single precision: what memory is compared in between widths."""
    return 2.0**n_qubits * batch_size * 8 / 2**20


def memory_per_layer(found: pd.DataFrame, arm: str) -> Interval:
    """What another layer takes, in states of the batch (`batch_mib`), at the width at which most depths were measured.

    Raises:
        NotMeasured: fewer than three depths.
    """
    own = found[found["arm"] == arm]
    counts = own.groupby("n_qubits")["n_layers"].nunique()
    if counts.empty or counts.max() < 3:
        raise NotMeasured(f"fewer than three depths of {arm!r}")
    own = own[own["n_qubits"] == counts.idxmax()]
    return _slope(own["n_layers"], own["extra"] / batch_mib(own["n_qubits"], own["batch_size"]), "states")


# ---------------------------------------------------------------------------------------------------------------- the hour
@dataclass(frozen=True)
class Machine:
    """A machine that trains, and how long a step takes on it."""

    name: str
    step: Callable[[int, int, int], Interval]  #: seconds of a step from qubits, layers and batch size
    memory_bytes: float
    measured: bool  #: False: predicted, not measured
    samples_at_once: int | None = None  #: samples whose states are in memory together; the whole batch where None
    near: Callable[[int, int, int], bool] = lambda n_qubits, n_layers, batch_size: True  #: a measurement is near

    @property
    def label(self) -> str:
        """The name and where its times come from."""
        return f"{self.name} ({'measured' if self.measured else 'predicted, not measured'})"

    def holds(self, n_qubits: int, batch_size: int) -> bool:
        """Whether the states of adjoint differentiation fit into its memory (`adjoint_bytes`, single precision)."""
        return adjoint_bytes(n_qubits, min(batch_size, self.samples_at_once or batch_size)) <= self.memory_bytes

    def seconds(self, n_qubits: int, n_layers: int, batch_size: int) -> Interval | None:
        """Seconds of a step; None where the states do not fit into the memory."""
        if not self.holds(n_qubits, batch_size):
            return None
        try:
            return self.step(n_qubits, n_layers, batch_size)
        except MemoryEstimateError:  # a model that counts more states than two is as good a judge of what fits
            return None


@dataclass(frozen=True)
class Largest:
    """The widest circuit that a machine trains in an hour."""

    n_qubits: int  #: 0 where not even one qubit does
    seconds: Interval  #: of all steps there
    ends_by: str  #: what ends it: "time" or "memory"
    near: bool  #: whether a measurement is near; always True for a machine that is only predicted


def largest_in_an_hour(
    machine: Machine, n_layers: int, batch_size: int = 32, steps: int = STEPS, seconds: float = HOUR
) -> Largest:
    """The widest circuit whose training takes at most so many seconds and fits into the memory.

    Args:
        machine: which.
        n_layers, batch_size: the workload W(n, L, B).
        steps: of a training; 300 as in the optimizer study.
        seconds: the time there is.
    """
    best = Largest(0, Interval(0.0, 0.0, 0.0, 0, "s"), "time", True)
    for n in range(1, MOST_QUBITS + 1):
        step = machine.seconds(n, n_layers, batch_size)
        if step is None:
            return Largest(best.n_qubits, best.seconds, "memory", best.near)
        if steps * step.value > seconds:
            return best
        best = Largest(n, step.map(lambda s: steps * s, "s"), "time", bool(machine.near(n, n_layers, batch_size)))
    return best


def machines(
    models: Iterable[object],
    hardware: Iterable[object],
    predict_unmeasured: Callable[..., object],
    measured_memory_bytes: float,
) -> list[Machine]:
    """Machines from the cost model of the atlas.

    Args:
        models: fitted models of measured machines, with `machine`, `threads`, `predict(n, L, B)` and `nearest(n, L, B)`.
        hardware: machines by their datasheets, with `name` and `memory_bytes`.
        predict_unmeasured: (hardware, n, L, B) → something with `interval`, seconds of a step.
        measured_memory_bytes: physical memory of the measured machines.
    """
    found = []
    for model in models:
        name = f"{model.machine}, {model.threads} thread{'s' * (model.threads > 1)}"
        found.append(
            Machine(
                name,
                model.predict,
                measured_memory_bytes,
                measured=True,
                samples_at_once=16 * model.threads,
                near=lambda n, layers, batch, model=model: model.nearest(n, layers, batch).near,
            )
        )
    for each in hardware:

        def step(n: int, layers: int, batch: int, each: object = each) -> Interval:
            return predict_unmeasured(each, n, layers, batch).interval

        found.append(Machine(each.name, step, each.memory_bytes, measured=False))
    return found


#: GPUs that are predicted from their datasheets.
CARDS = ("T4", "H200")


def measured_and_predicted(atlas: pd.DataFrame) -> list[Machine]:
    """The compiled layer in single precision on the machine of some atlas records, and `CARDS` by their datasheets.

    Args:
        atlas: the atlas's rows of one machine; those with most threads count.

    Raises:
        NotMeasured: too few cells for a cost model.
    """
    most = atlas[atlas["threads"] == atlas["threads"].max()]
    models = [
        model for model in costs.models(most).values() if (model.route, model.precision) == (costs.COMPILED, "complex64")
    ]
    if not models:
        raise NotMeasured("too few atlas cells for a cost model of the compiled layer")
    calibration = public.public_calibration(public.read_public())

    def predicted(hardware: costs.Hardware, n_qubits: int, n_layers: int, batch_size: int) -> costs.Unmeasured:
        return costs.predict_unmeasured(hardware, n_qubits, n_layers, batch_size, calibration=calibration)

    memory_bytes = float(most["memory_gib"].iloc[0]) * 2**30
    return machines(models, [costs.HARDWARE[name] for name in CARDS], predicted, memory_bytes)


# -------------------------------------------------------------------------------------------------------------- step times
def time_growth(times: pd.DataFrame) -> tuple[Interval, float]:
    """Factor of the step time per qubit above the crossover, and the crossover.

    The crossover is the number of qubits at which the time is twice that of the narrowest circuit: below, the host's
    constant work hides the circuit. From there on ln(seconds less those of the narrowest circuit) is fitted against qubits.

    Args:
        times: n_qubits and seconds of one arm, layers and batch size; several rows a size are its samples.

    Raises:
        NotMeasured: fewer than three numbers of qubits above the crossover.
    """
    medians = times.groupby("n_qubits")["seconds"].median()
    above = medians[medians >= 2 * medians.iloc[0]] - medians.iloc[0]
    if len(above) < 3:
        raise NotMeasured(f"{len(above)} numbers of qubits above the crossover, and an exponent of time needs three")
    slope = _slope(above.index.to_numpy(dtype=float), np.log(above.to_numpy()))
    return slope.map(math.exp, "1"), float(above.index[0])
