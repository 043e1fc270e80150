"""The cost model of a training step: launches, bytes over bandwidth, operations over rate; its fit, its test, its limits.

The time of one step of workload W(n, L, B) (n qubits, L strongly entangling layers, batch B) by one route on one machine is

    seconds = constant + launch * launches + sample * B + operations / rate + bytes / bandwidth

with coefficients that are not negative. `work_of` counts launches, operations and bytes by the formulas that stand there,
from how a route does its work; the rest is fitted to measured cells in the logarithm, so that a cell of a tenth of a
millisecond counts as much as one of a second. Bytes count only as far as the states do not fit into the cache, whose size is
fitted too: inside it, moving them is part of what an operation takes.

The model interpolates. `CostModel.nearest` says whether a point is near what was measured, and those who show predictions
show none where it is not. For machines that were never measured `predict_unmeasured` scales the same counts by a datasheet
(the roofline of Williams, Waterman and Patterson 2009), and what it gives is always labelled as what it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import optimize, spatial, stats

from hybridbench.analysis.statistics import (
    CONFIDENCE,
    MIN_PROCESSES,
    SEED,
    Interval,
    median_interval,
    median_ratio,
    nested_median,
    nested_ratio,
)
from hybridbench.analysis.tables import NotMeasured, cite
from hybridbench.design.constants import BYTES_PER_AMPLITUDE
from hybridbench.design.routes import WORK, atlas_route
from hybridbench.design.workload import n_gates
from hybridbench.errors import ConfigurationError, DataError, MemoryEstimateError, check_name

#: Floating-point operations that a complex 2x2 matrix takes per amplitude: two products of 6, one sum of 2.
FLOPS_PER_AMPLITUDE = 14
#: What the atlas calls the routes that most is said about; with the precision, one of a route's `arms`.
SHIPPED, COMPILED = "KerasLayer, default.qubit", "hybridbench.KerasLayer"
#: Terms that grow with the states: memory traffic, inside the cache and beyond it. The others are launch time.
TRAFFIC = ("operations", "bytes")
TERMS = ("constant", "launches", "samples", "operations", "bytes")
#: Cache sizes that are tried, bytes.
CACHES = tuple(2.0**power for power in range(16, 28, 2))
#: Samples that the compiled kernels take at once; a smaller batch fills the lanes with qubits.
BLOCK = 16
#: Bits of the index that a tile of the CUDA engine has, and those of them that are always the lowest (docs/engine.md).
TILE = {"complex64": (11, 4), "complex128": (10, 3)}
#: Fewer cells than this fit nothing; with few more the intervals are wide (Student, few degrees of freedom).
FEWEST_CELLS = 6
RESAMPLES = 120
#: The goal: held-out cells are predicted to within this factor.
WITHIN = 1.5
NEAR_FACTOR = 2.0
AXES = ("n_qubits", "n_layers", "batch_size")
KEYS = ["machine", "route", "precision", "threads"]
NOT_NEAR = "no measurement near this"
NOT_MEASURED = "predicted, not measured"


# ------------------------------------------------------------------------------------------------------ counting the work
@dataclass(frozen=True)
class Work:
    """What one training step asks of a machine."""

    launches: float  #: operations that are started
    samples: float  #: samples of the batch
    operations: float  #: floating-point operations on states
    bytes: float  #: bytes of states that are read and written
    working_set: float  #: bytes that are gone through again and again: what has to fit into a cache

    def terms(self, cache_bytes: float) -> np.ndarray:
        """The counts that the coefficients of `TERMS` multiply; bytes as far as the working set exceeds the cache."""
        beyond = max(0.0, 1 - cache_bytes / self.working_set)
        return np.array([1.0, self.launches, self.samples, self.operations, self.bytes * beyond])


def work_of(kind: str, n_qubits: int, n_layers: int, batch_size: float, precision: str) -> Work:
    """Counts for one step of W(n, L, B).

    A circuit of W has g = n(1 + 2L) gates (embedding; a rotation and a CNOT a qubit and layer; no CNOT on one qubit), a
    state 2**n amplitudes of s bytes. A gate reads and writes a state: 2 s 2**n bytes, 14 * 2**n operations.

    - broadcast: forward once, backward twice (gradients of states and of the gate): 3 g passes over B states. Launches
      3 g. Working set B states.
    - loop: adjoint differentiation (Jones and Gacon 2020) of n expectation values: forward one state, backward the ket and n
      bras: (n + 2) g passes for each of B samples. Launches 3 g B. Working set n + 1 states.
    - fused: per layer n rotations and one table of phases, entanglers are free: (n + 1) L + 1 passes, forward on one state
      and backward on two, for B samples. Launches twice that, forward and backward. Working set two states of `BLOCK`
      samples.
    - kernels: operations as fused. States of up to `TILE` bits stay in a GPU's fast memory and cross to its own once each
      way. Above, a pass takes as many rotations as a tile has bits beyond its lowest, reads and writes one state forward
      and two back. Launches 6, and 2 for each pass. Working set two states of all B samples.

    Raises:
        ConfigurationError: an unknown kind or precision.
    """
    check_name("kind of work", kind, WORK)
    size = BYTES_PER_AMPLITUDE[check_name("precision", precision, BYTES_PER_AMPLITUDE)]
    n, state = n_qubits, 2.0**n_qubits
    gates = n_gates(n, n_layers)
    if kind == "broadcast":
        passes, launches, held = 3.0 * gates, 3.0 * gates, float(batch_size)
    elif kind == "loop":
        passes, launches, held = (n + 2.0) * gates, 3.0 * gates * batch_size, n + 1.0
    else:
        fused = (n + 1) * n_layers + 1
        passes, launches, held = 3.0 * fused, 2.0 * fused, 2.0 * min(batch_size, BLOCK)
    moved = passes * batch_size * state
    if kind == "kernels":
        bits, low = TILE[precision]
        crossings = 1 if n <= bits else math.ceil(n * n_layers / (bits - low))
        states = (2.0 if crossings == 1 else 6.0 * crossings) * batch_size
        operations, held = FLOPS_PER_AMPLITUDE * moved, 2.0 * batch_size
        return Work(6.0 + 2.0 * crossings, batch_size, operations, states * size * state, held * state * size)
    return Work(launches, batch_size, FLOPS_PER_AMPLITUDE * moved, 2 * size * moved, held * state * size)


# ------------------------------------------------------------------------------------------------------------- the fit
def least_relative(counts: np.ndarray, seconds: np.ndarray, start: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """Non-negative coefficients x for log(counts @ x) = log(seconds), robust (soft L1 at 0.1), and the loss.

    Args:
        counts: shape (cells, terms); a column may be zero.
        seconds: shape (cells,).
        start: coefficients to begin with; those of non-negative relative least squares where left out.
    """
    sound = np.isfinite(seconds).all() and (seconds > 0).all()
    relative = counts / seconds[:, None] if sound else np.zeros_like(counts)
    used = relative.max(axis=0, initial=0.0) > 0
    # SciPy's solver frees memory twice where a matrix has no columns, which ends the interpreter.
    if not used.any():
        raise DataError("A cost model needs times above 0 and work in at least one cell: measure again.")
    # In units in which a coefficient of 1 explains a whole cell: a launch takes microseconds, an operation picoseconds.
    scale = relative[:, used].max(axis=0)
    scaled, target = counts[:, used] / scale, np.log(seconds)
    nothing = start is None
    begin = optimize.nnls(relative[:, used] / scale, np.ones(len(seconds)))[0] if nothing else start[used] * scale

    def misses(log_x: np.ndarray) -> np.ndarray:
        return np.log(scaled @ np.exp(log_x)) - target

    def slopes(log_x: np.ndarray) -> np.ndarray:
        parts = scaled * np.exp(log_x)
        return parts / parts.sum(axis=1, keepdims=True)

    # The logarithms of the coefficients are sought: they span decades, and none may be negative.
    found = optimize.least_squares(
        misses, np.log(np.maximum(begin, 1e-4)), slopes, loss="soft_l1", f_scale=0.1, max_nfev=100, ftol=1e-6
    )
    x = np.zeros(counts.shape[1])
    x[used] = np.exp(found.x) / scale
    # What explains less than a thousandth of every cell is nothing.
    x[(counts * x / seconds[:, None]).max(axis=0) < 1e-3] = 0.0
    return x, float(found.cost)


@dataclass(frozen=True)
class Nearest:
    """How a point lies to what was measured."""

    near: bool  #: inside the measured region, or within a factor of 2 of a measured cell on every axis
    measured: bool  #: the very cell was measured
    cell: tuple[int, int, int]  #: the nearest measured cell: qubits, layers, batch
    factor: float  #: largest factor on an axis to that cell (amplitudes, layers or batch)


@dataclass(frozen=True)
class CostModel:
    """The fitted model of one route on one machine. Made by `fit`."""

    machine: str
    route: str
    precision: str
    threads: int
    coefficients: np.ndarray  #: seconds a unit of each of `TERMS`
    cache_bytes: float
    scatter: float  #: standard deviation of the logarithm of measured over predicted, degrees of freedom taken off
    freedom: int  #: cells less coefficients
    process_scatter: float  #: standard deviation of the logarithm of a step from process to process; 0 where unknown
    draws: np.ndarray  #: coefficients of the bootstrap's resamples, shape (resamples, terms)
    draw_caches: np.ndarray  #: and their caches, bytes
    cells: pd.DataFrame  #: the measured cells, both roles, as `cells_of` gives them
    records: tuple[str, ...] = field(default=())

    @property
    def kind(self) -> str:
        """How the route does its work, see `hybridbench.design.routes.WORK`."""
        return atlas_route(self.route, self.precision).work

    def work(self, n_qubits: int, n_layers: int, batch_size: int) -> Work:
        """The counts of one step."""
        return work_of(self.kind, n_qubits, n_layers, batch_size, self.precision)

    def seconds(self, n_qubits: int, n_layers: int, batch_size: int) -> float:
        """The model's time of one step, seconds."""
        return float(self.coefficients @ self.work(n_qubits, n_layers, batch_size).terms(self.cache_bytes))

    def parts(self, n_qubits: int, n_layers: int, batch_size: int) -> dict[str, float]:
        """What each of `TERMS` contributes, seconds."""
        counts = self.work(n_qubits, n_layers, batch_size).terms(self.cache_bytes)
        return dict(zip(TERMS, (self.coefficients * counts).tolist(), strict=True))

    def drawn_seconds(self, n_qubits: int, n_layers: int, batch_size: int) -> np.ndarray:
        """The time of one step by every resample of the bootstrap, seconds."""
        work = self.work(n_qubits, n_layers, batch_size)
        counts = np.array([work.terms(cache) for cache in self.draw_caches])
        return np.maximum((self.draws * counts).sum(axis=1), 1e-12)

    def predict(self, n_qubits: int, n_layers: int, batch_size: int, level: float = CONFIDENCE) -> Interval:
        """Expected seconds of one step with a prediction interval: of one more process, not of the model's mean.

        Its variance in the logarithm is that of the bootstrap (cells and samples), plus that of the residuals, plus what one
        process varies more than the mean of as many as a cell was measured in; Student's quantile. It says nothing about
        points that are not near a measurement: ask `nearest` first.

        Args:
            n_qubits, n_layers, batch_size: the workload.
            level: of the interval.

        Raises:
            ConfigurationError: a size below 1.
        """
        _check_sizes(n_qubits, n_layers, batch_size)
        value = self.seconds(n_qubits, n_layers, batch_size)
        spread = np.log(self.drawn_seconds(n_qubits, n_layers, batch_size)).std(ddof=1)
        alone = self.process_scatter * math.sqrt(1 - 1 / self.cells["processes"].median())
        half = stats.t.ppf((1 + level) / 2, max(self.freedom, 1)) * math.hypot(spread, self.scatter, alone)
        return Interval(value, value * math.exp(-half), value * math.exp(half), int(self._fitted.sum()), "s")

    def measured(self, n_qubits: int, n_layers: int, batch_size: int) -> Interval | None:
        """The measured median step of this very cell with its interval, seconds; None where it was not measured."""
        return measured(self.cells, (n_qubits, n_layers, batch_size))

    def nearest(self, n_qubits: int, n_layers: int, batch_size: int) -> Nearest:
        """How a point lies to the measured cells, in the coordinates n, log2 L, log2 B (one qubit doubles a state)."""
        _check_sizes(n_qubits, n_layers, batch_size)
        point = np.array([n_qubits, math.log2(n_layers), math.log2(batch_size)])
        away = np.abs(self._points - point).max(axis=1)
        closest = int(np.argmin(away + 1e-9 * np.abs(self._points - point).sum(axis=1)))
        within = bool(away[closest] <= math.log2(NEAR_FACTOR) + 1e-12)
        inside = self._hull is not None and bool(self._hull.find_simplex(point) >= 0)
        cell = tuple(int(size) for size in self.cells.iloc[closest][list(AXES)])
        return Nearest(within or inside, bool(away[closest] == 0), cell, float(2.0 ** min(away[closest], 1000)))

    @cached_property
    def _fitted(self) -> pd.Series:
        return self.cells["role"] != "held_out"

    @cached_property
    def _points(self) -> np.ndarray:
        sizes = self.cells[list(AXES)].to_numpy(float)
        return np.column_stack([sizes[:, 0], np.log2(sizes[:, 1]), np.log2(sizes[:, 2])])

    @cached_property
    def _hull(self) -> spatial.Delaunay | None:
        # The region in which the model was fitted; held-out cells are near measurements, but widen nothing.
        points = self._points[self._fitted.to_numpy()]
        if len(points) < 5 or np.linalg.matrix_rank(points - points.mean(axis=0)) < 3:
            return None
        return spatial.Delaunay(points)


def _check_sizes(n_qubits: int, n_layers: int, batch_size: int) -> None:
    for name, value in (("n_qubits", n_qubits), ("n_layers", n_layers), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ConfigurationError(f"{name} is {value!r}, and must be a whole number of at least 1.")


def traffic_share(model: CostModel, n_qubits: int, n_layers: int, batch_size: int, level: float = CONFIDENCE) -> Interval:
    """Share of a step that grows with the states (`TRAFFIC`), percent, with the bootstrap's interval; the rest is launches.

    Raises:
        ConfigurationError: a size below 1.
    """
    _check_sizes(n_qubits, n_layers, batch_size)
    work = model.work(n_qubits, n_layers, batch_size)
    which = [TERMS.index(name) for name in TRAFFIC]

    def share(coefficients: np.ndarray, cache_bytes: float) -> float:
        parts = coefficients * work.terms(cache_bytes)
        return 100 * float(parts[which].sum() / parts.sum())

    drawn = [share(*each) for each in zip(model.draws, model.draw_caches, strict=True)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    value = share(model.coefficients, model.cache_bytes)
    return Interval(value, float(low), float(high), int((model.cells["role"] != "held_out").sum()), "%")


def _by_process(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Seconds of the samples of one arm and cell, by record: each was taken in a process of its own."""
    return {str(record): own["seconds"].to_numpy() for record, own in rows.sort_values("sample").groupby("record")}


def _median(rows: pd.DataFrame) -> tuple[Interval, float]:
    """Median step of one arm and cell over all samples of its processes, and the standard error of its logarithm.

    From three processes on the interval is the nested bootstrap's. One process has the interval of its samples, and two that
    interval as far as their medians.
    """
    times = _by_process(rows)
    medians = np.array([np.median(values) for values in times.values()])
    interval = nested_median(times)
    if len(times) < MIN_PROCESSES:
        interval = median_interval(rows["seconds"].to_numpy(), unit="s")
        bounds = min(interval.low, medians.min()), max(interval.high, medians.max())
        interval = Interval(interval.value, *bounds, interval.n, "s") if len(times) > 1 else interval
    if len(times) > 1:
        # That of a median is 1.25 times that of a mean (normal).
        return interval, 1.25 * float(np.log(medians).std(ddof=1)) / math.sqrt(len(times))
    bounded = interval.bounded and interval.low > 0
    return interval, math.log(interval.high / interval.low) / (2 * stats.norm.ppf((1 + CONFIDENCE) / 2)) if bounded else 0.1


def ratio_of(rows: pd.DataFrame, arm: str, baseline: str) -> Interval | None:
    """How many times faster than `baseline` an arm is in one cell, from samples that were taken next to each other.

    Args:
        rows: timed steps of one cell, of all its processes.
        arm, baseline: two arms.

    Returns:
        The ratio of medians with its interval, over processes that timed both where there are enough of them, else over
        pairs of samples; None where no process timed both.
    """
    times = [_by_process(rows[rows["arm"] == name]) for name in (baseline, arm)]
    both = sorted(set(times[0]) & set(times[1]))
    if not both:
        return None
    if len(both) >= MIN_PROCESSES:
        return nested_ratio(*times)
    wide = rows[rows["arm"].isin([arm, baseline])].pivot_table(
        index=["record", "sample"], columns="arm", values="seconds", aggfunc="median"
    )
    wide = wide.dropna()
    return median_ratio(wide[baseline].to_numpy(), wide[arm].to_numpy()) if len(wide) else None


def cells_of(table: pd.DataFrame) -> pd.DataFrame:
    """The measured cells of one route: a row each with AXES, role, seconds (median), low, high, n, processes and log_error.

    A cell that several processes timed has its median over all of them; `n` is what the interval rests on. One that was
    too slow to be timed in one of its processes is left out, as the median of the others would be that of the fast ones.
    `log_error` is the standard error of the logarithm of the median.
    """
    rows = []
    steps = table[table["part"] == "step"]
    for size, own in steps.groupby([*AXES, "role"], sort=True):
        if own["seconds"].isna().any():
            continue
        interval, error = _median(own)
        numbers = (interval.value, interval.low, interval.high, interval.n, own["record"].nunique(), error)
        rows.append((*size, *numbers))
    return pd.DataFrame(rows, columns=[*AXES, "role", "seconds", "low", "high", "n", "processes", "log_error"])


def measured(cells: pd.DataFrame, size: tuple[int, int, int]) -> Interval | None:
    """The median step of one of `cells_of`, seconds, with its interval; None where it is not among them."""
    here = cells[(cells[list(AXES)] == size).all(axis=1)]
    if here.empty:
        return None
    row = here.iloc[0]
    return Interval(float(row["seconds"]), float(row["low"]), float(row["high"]), int(row["n"]), "s")


def _process_medians(table: pd.DataFrame) -> pd.core.groupby.SeriesGroupBy:
    """Medians of every process, by cell and arm; of those that at least two processes timed, and none found too slow."""
    keys = ["machine", "threads", *AXES, "arm"]
    steps = table[table["part"] == "step"]
    timed = steps[~steps["seconds"].isna().groupby([steps[key] for key in keys]).transform("any")]
    medians = timed.groupby([*keys, "record"])["seconds"].median()
    return medians[medians.groupby(keys).transform("size") > 1].groupby(keys)


def process_spread(table: pd.DataFrame) -> pd.Series:
    """How far the medians of one cell and arm lie apart from process to process: the longest over the shortest.

    Returns:
        Factors, indexed by machine, threads, AXES and arm; of those that at least two processes timed, and none found too
        slow to be timed.
    """
    medians = _process_medians(table)
    return medians.max() / medians.min()


def _process_scatter(table: pd.DataFrame) -> float:
    """Standard deviation of the logarithm of a step's median from process to process, pooled over cells; 0 if unknown."""
    variances = _process_medians(table).agg(lambda medians: np.log(medians).var(ddof=1))
    return math.sqrt(variances.mean()) if len(variances) else 0.0


def fit(table: pd.DataFrame, resamples: int = RESAMPLES) -> CostModel:
    """Fit the model to the cells of one route.

    Args:
        table: records of the study "atlas", of one machine, route, precision and number of threads; cells whose role is
            "held_out" are kept for `validate` and nearness, and not fitted.
        resamples: of the bootstrap over cells and samples.

    Raises:
        ConfigurationError: the table holds several routes, machines, precisions or thread counts, or an unknown route.
        NotMeasured: fewer than `FEWEST_CELLS` cells that can be fitted.
    """
    mixed = [name for name in KEYS if table[name].nunique() > 1]
    if mixed:
        raise ConfigurationError(f"A cost model is of one {mixed[0]}, and the table holds {table[mixed[0]].nunique()}.")
    cells = cells_of(table)
    own = cells[cells["role"] != "held_out"]
    if len(own) < FEWEST_CELLS:
        route = table["route"].iloc[0] if len(table) else "this route"
        raise NotMeasured(f"{len(own)} cells of {route} to be fitted, and a cost model needs {FEWEST_CELLS}")
    machine, route, precision, threads = (table[name].iloc[0] for name in KEYS)
    kind = atlas_route(route, precision).work
    work = [work_of(kind, *size, precision) for size in own[list(AXES)].to_numpy().tolist()]
    seconds, errors = own["seconds"].to_numpy(), own["log_error"].to_numpy()
    by_cache = {cache: np.array([each.terms(cache) for each in work]) for cache in CACHES}
    fits = {cache: least_relative(counts, seconds) for cache, counts in by_cache.items()}
    cache = min(fits, key=lambda size: fits[size][1])
    coefficients = fits[cache][0]
    residuals = np.log(seconds) - np.log(by_cache[cache] @ coefficients)
    freedom = max(len(own) - int((coefficients > 0).sum()) - 1, 1)
    scatter = math.sqrt(float((residuals**2).sum()) / freedom)
    rng = np.random.default_rng(SEED)
    # Caches that explain the data about as well are drawn too.
    close = [size for size in CACHES if fits[size][1] <= 1.1 * fits[cache][1] + 1e-3]
    draws, caches = [], []
    for _ in range(resamples):
        picked = rng.integers(0, len(own), len(own))
        size = close[rng.integers(len(close))]
        noisy = seconds[picked] * np.exp(rng.normal(0, errors[picked]))
        draws.append(least_relative(by_cache[size][picked], noisy, fits[size][0])[0])
        caches.append(size)
    return CostModel(
        machine, route, precision, int(threads), coefficients, cache, scatter, freedom,
        _process_scatter(table[table["role"] != "held_out"]),
        np.array(draws), np.array(caches), cells, cite(table),
    )  # fmt: skip


#: A figure, the sentence that reads it and the numbers of the paper ask for the same models.
_FITTED: dict[tuple, CostModel] = {}
_READ = [*KEYS, *AXES, "role", "part", "sample", "seconds", "record"]


def fitted(table: pd.DataFrame, resamples: int = RESAMPLES) -> CostModel:
    """`fit`, done once for equal rows in one process."""
    rows = table[_READ]
    key = resamples, len(rows), tuple(pd.util.hash_pandas_object(rows, index=False).to_numpy().tolist())
    if key not in _FITTED:
        _FITTED[key] = fit(table, resamples)
    return _FITTED[key]


def models(table: pd.DataFrame, resamples: int = RESAMPLES) -> dict[tuple[str, str, str, int], CostModel]:
    """The models of all (machine, route, precision, threads) that have enough cells, in order."""
    found = {}
    for key, rows in table.groupby(KEYS, sort=True):
        try:
            found[key] = fitted(rows, resamples)
        except NotMeasured:
            continue  # a route that is too slow here for a model has its notes in the table
    return found


# ----------------------------------------------------------------------------------------------------------- validation
def validate(fitted: CostModel | Mapping[object, CostModel]) -> pd.DataFrame:
    """Predicted against measured on the held-out cells.

    Returns:
        A row a held-out cell and model: KEYS, AXES, measured, predicted, low, high (seconds; prediction interval), ratio
        (predicted over measured), within (`WITHIN`), inside (the prediction interval) and near.
    """
    each = [fitted] if isinstance(fitted, CostModel) else list(fitted.values())
    rows = []
    for model in each:
        # A held-out cell is no argument for its own nearness.
        seen = replace(model, cells=model.cells[model.cells["role"] != "held_out"].reset_index(drop=True))
        for row in model.cells[model.cells["role"] == "held_out"].itertuples():
            size = (int(row.n_qubits), int(row.n_layers), int(row.batch_size))
            found = model.predict(*size)
            ratio = found.value / row.seconds
            known = {"near": seen.nearest(*size).near, "measured": row.seconds, "predicted": found.value}
            bounds = {"low": found.low, "high": found.high, "ratio": ratio}
            passed = {"within": max(ratio, 1 / ratio) <= WITHIN, "inside": found.holds(row.seconds)}
            about = {name: getattr(model, name) for name in KEYS} | dict(zip(AXES, size, strict=True))
            rows.append({**about, **known, **bounds, **passed})
    columns = [*KEYS, *AXES, "near", "measured", "predicted", "low", "high", "ratio", "within", "inside"]
    return pd.DataFrame(rows, columns=columns)


def share_within(validation: pd.DataFrame, column: str = "within") -> Interval:
    """Share of held-out cells that are `within`, in percent, with the exact binomial interval (Clopper and Pearson 1934).

    Raises:
        NotMeasured: there are no held-out cells.
    """
    if validation.empty:
        raise NotMeasured("no held-out cells")
    count, n = int(validation[column].sum()), len(validation)
    bounds = stats.binomtest(count, n).proportion_ci(CONFIDENCE, "exact")
    return Interval(100 * count / n, 100 * float(bounds.low), 100 * float(bounds.high), n, "%")


# ----------------------------------------------------------------------------------------------- speed-ups, break-evens
def speedups(table: pd.DataFrame, baseline: str = f"{SHIPPED}, complex128") -> pd.DataFrame:
    """How many times faster than `baseline` every arm is, cell by cell, straight from the samples (`ratio_of`).

    Args:
        table: records of the study "atlas".
        baseline: an arm.

    Returns:
        A row a cell and arm: machine, threads, AXES, role, arm, route, precision, value, low, high, n.
    """
    rows = []
    timed = table[(table["part"] == "step") & table["seconds"].notna()]
    keys = ["machine", "threads", *AXES, "role"]
    for key, own in timed.groupby(keys, sort=True):
        about = own.drop_duplicates("arm").set_index("arm")[["route", "precision"]]
        for arm in sorted(set(about.index) - {baseline}):
            ratio = ratio_of(own, arm, baseline)
            if ratio is None:
                continue
            where = dict(zip(keys, key, strict=True))
            numbers = {"value": ratio.value, "low": ratio.low, "high": ratio.high, "n": ratio.n}
            rows.append({**where, "arm": arm, **about.loc[arm].to_dict(), **numbers})
    return pd.DataFrame(rows, columns=[*keys, "arm", "route", "precision", "value", "low", "high", "n"])


def break_even(
    a: CostModel, b: CostModel, axis: str, at: Mapping[str, int], values: Sequence[int], level: float = CONFIDENCE
) -> Interval:
    """The smallest value on an axis from which on route `a` beats route `b`, as far as both were measured.

    The interval is that of the bootstrap of both models, each resample shifted by a draw of its model's scatter; "never" is
    infinite.

    Args:
        a, b: models of one machine and number of threads.
        axis: "n_qubits", "n_layers" or "batch_size".
        at: the other two.
        values: of the axis, ascending; those that are not near measurements of both are left out.
        level: of the interval.

    Raises:
        NotMeasured: no value is near measurements of both.
        ConfigurationError: an unknown axis.
    """
    check_name("axis", axis, AXES)
    sizes = [tuple({**at, axis: value}[name] for name in AXES) for value in values]
    sizes = [size for size in sizes if a.nearest(*size).near and b.nearest(*size).near]
    if not sizes:
        raise NotMeasured(f"no measurement near this of both {a.route} and {b.route}")
    shown = [size[AXES.index(axis)] for size in sizes]
    rng = np.random.default_rng(SEED)
    shift = rng.normal(0, a.scatter, len(a.draws)) - rng.normal(0, b.scatter, len(b.draws))
    faster = np.array([a.seconds(*size) < b.seconds(*size) for size in sizes])
    drawn = np.array([a.drawn_seconds(*size) * np.exp(shift) < b.drawn_seconds(*size) for size in sizes])
    found = np.array([_first_for_good(each, shown) for each in drawn.T])
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return Interval(_first_for_good(faster, shown), float(low), float(high), len(sizes))


def _first_for_good(faster: np.ndarray, values: Sequence[int]) -> float:
    """The first value from which on all are True; inf where the last is not."""
    slower = np.flatnonzero(~faster)
    first = slower[-1] + 1 if len(slower) else 0
    return float(values[first]) if first < len(values) else math.inf


# -------------------------------------------------------------------------------------------- machines never measured
@dataclass(frozen=True)
class Hardware:
    """A processor by its datasheet."""

    name: str
    bytes_per_second: float  #: bandwidth of its memory
    flops: float  #: single-precision operations a second
    flops_double: float  #: double-precision operations a second
    launch_seconds: float  #: one kernel launch after the other
    memory_bytes: float
    source: str


#: A launch after the other of a small kernel took 3.8 microseconds on a V100 in NVIDIA's own measurement; datasheets have no
#: such number, and that of the V100 stands for all.
_LAUNCH = 3.8e-6
_LAUNCH_SOURCE = "launches: developer.nvidia.com/blog/cuda-graphs"
HARDWARE = {
    each.name: each
    for each in (
        Hardware("T4", 320e9, 8.1e12, 8.1e12 / 32, _LAUNCH, 16e9, f"NVIDIA T4 datasheet; {_LAUNCH_SOURCE}"),
        Hardware("V100", 900e9, 15.7e12, 7.8e12, _LAUNCH, 32e9, f"NVIDIA V100 datasheet (SXM2); {_LAUNCH_SOURCE}"),
        Hardware("A100", 1555e9, 19.5e12, 9.7e12, _LAUNCH, 40e9, f"NVIDIA A100 40 GB datasheet; {_LAUNCH_SOURCE}"),
        Hardware("H100", 3350e9, 67e12, 34e12, _LAUNCH, 80e9, f"NVIDIA H100 SXM datasheet; {_LAUNCH_SOURCE}"),
        Hardware("H200", 4800e9, 67e12, 34e12, _LAUNCH, 141e9, f"NVIDIA H200 SXM datasheet; {_LAUNCH_SOURCE}"),
    )
}


@dataclass(frozen=True)
class Unmeasured:
    """A prediction for a machine that was never measured."""

    hardware: str
    interval: Interval  #: seconds of one step
    parts: Mapping[str, float]  #: seconds of launches, memory traffic and operations
    label: str = NOT_MEASURED


def roofline(hardware: Hardware, work: Work, precision: str) -> dict[str, float]:
    """Seconds of launches, memory traffic and operations by the datasheet; the longer of the last two counts."""
    flops = hardware.flops if precision == "complex64" else hardware.flops_double
    return {
        "launches": work.launches * hardware.launch_seconds,
        "bytes": work.bytes / hardware.bytes_per_second,
        "operations": work.operations / flops,
    }


def roofline_seconds(hardware: Hardware, work: Work, precision: str) -> float:
    """Launches one after the other, then the slower of memory traffic and operations, seconds."""
    parts = roofline(hardware, work, precision)
    return parts["launches"] + max(parts["bytes"], parts["operations"])


def predict_unmeasured(
    hardware: Hardware,
    n_qubits: int,
    n_layers: int,
    batch_size: int,
    precision: str = "complex64",
    kind: str = "kernels",
    calibration: Sequence[float] = (),
    host_seconds: float = 0.0,
    level: float = CONFIDENCE,
) -> Unmeasured:
    """Seconds of one step of W on a machine that was never measured, from its datasheet: predicted, not measured.

    Launches one after the other, then the slower of memory traffic and operations: a roofline, a lower bound of what code
    reaches.

    Args:
        hardware: one of `HARDWARE`, or your own.
        n_qubits, n_layers, batch_size: the workload.
        precision: complex type of the states.
        kind: how the work is done, one of `hybridbench.design.routes.WORK`.
        calibration: measured over predicted times of the same formula on machines that were measured (`public_calibration`):
            the interval spans them. Without it there is no interval.
        host_seconds: what the host does in every step besides, Keras's own work; added as it is.
        level: of the interval.

    Raises:
        MemoryEstimateError: the states do not fit into the memory.
        ConfigurationError: a size below 1, an unknown kind or precision.
    """
    _check_sizes(n_qubits, n_layers, batch_size)
    work = work_of(kind, n_qubits, n_layers, batch_size, precision)
    needed = 2.0**n_qubits * BYTES_PER_AMPLITUDE[precision] * (n_qubits + 2 if kind == "loop" else 3 * batch_size)
    if needed > hardware.memory_bytes:
        raise MemoryEstimateError(
            f"{n_qubits} qubits at batch {batch_size} take about {needed / 1e9:.3g} GB of states, and {hardware.name} has "
            f"{hardware.memory_bytes / 1e9:.3g} GB: use fewer qubits or a smaller batch."
        )
    parts = roofline(hardware, work, precision)
    value = roofline_seconds(hardware, work, precision)
    bounds = (-math.inf, math.inf)
    if len(calibration):
        bounds = value * np.quantile(calibration, [(1 - level) / 2, (1 + level) / 2]) + host_seconds
        value *= float(np.median(calibration))
    interval = Interval(value + host_seconds, float(bounds[0]), float(bounds[1]), len(calibration), "s")
    return Unmeasured(hardware.name, interval, {**parts, "host": host_seconds})
