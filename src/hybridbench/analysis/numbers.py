"""Every number that the paper, the README and the notebooks quote beyond the claim ledger, by name.

Names say what a number is; a workload is written as `8q_100b` (8 qubits, batch 100). A number without a workload in its name
is that of the measured workload nearest to the original study's. What was not measured is absent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd

from hybridbench.analysis import costs, frontier, optimizers, public, tables
from hybridbench.analysis.bench import findings as bench_findings
from hybridbench.analysis.rules import ENERGY_TARGET, clear_leads, hours_on_20_qubits, test_score_leads, trajectory_gap
from hybridbench.analysis.statistics import (
    CONFIDENCE,
    EQUIVALENCE_CONFIDENCE,
    EQUIVALENCE_MARGIN,
    Interval,
    friedman,
    interquartile_mean,
    mean_interval,
    median_interval,
    median_ratio,
    paired_difference,
    time_to_target,
    width_interval,
)
from hybridbench.analysis.tables import NotMeasured, Number, Records
from hybridbench.design.constants import COSTS, STUDY_QUBITS, STUDY_STEPS

Numbers = dict[str, Number]

#: What the original study says of itself: name → (value, unit, as written).
STUDY: dict[str, tuple[float, str, str]] = {
    "study_gpu_speedup_claimed": (1.3, "1", "1.3"),
    "study_gpu_seconds_printed": (3.28, "s", "3.28 s"),
    "study_cpu_seconds_printed": (2.30, "s", "2.30 s"),
    "study_gpu_ratio_printed": (0.70, "1", "0.70"),
    "study_saving_claimed": (25, "%", "25 %"),
    "study_saving_in_its_table": (5.4, "%", "5.4 %"),
    "study_energy_gain_claimed": (12, "%", "12 %"),
    "study_fused_speedup_claimed": (2.53, "%", "2.53 %"),
    "study_fused_best_energy_claimed": (0.51, "1", "0.51"),
    "study_table_2_fused_adam": (0.6478, "1", "0.6478"),
    "study_table_2_adam": (0.6965, "1", "0.6965"),
    "study_table_2_adagrad": (0.6958, "1", "0.6958"),
    "study_table_2_spread": (0.0487, "1", "0.0487"),
    "study_table_2_rate": (1e-4, "1", "0.0001"),
    "study_configurations_planned": (16, "1", "16"),
    "study_configurations_reached": (4, "1", "4"),
    # exp(-1/2) is the mean of cos(theta) for theta ~ N(0, 1); its spread over seeds is that of the mean of 100.
    "expected_initial_energy": (math.exp(-0.5), "1", f"{math.exp(-0.5):.4f}"),
    "expected_initial_spread": ((1 - math.exp(-1)) / math.sqrt(200), "1", f"{(1 - math.exp(-1)) / math.sqrt(200):.4f}"),
}
#: Constants of the protocol that prose quotes.
PROTOCOL: dict[str, tuple[float, str, str]] = {
    "protocol_confidence": (100 * CONFIDENCE, "%", f"{100 * CONFIDENCE:.0f} %"),
    "protocol_equivalence_confidence": (100 * EQUIVALENCE_CONFIDENCE, "%", f"{100 * EQUIVALENCE_CONFIDENCE:.0f} %"),
    "protocol_equivalence_margin": (100 * EQUIVALENCE_MARGIN, "%", f"{100 * EQUIVALENCE_MARGIN:.0f} %"),
    "protocol_target": (ENERGY_TARGET, "1", f"{ENERGY_TARGET:g}"),
}


def slug(text: str) -> str:
    """A name that Typst and Python can both spell: lower case, digits, underscores."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower().removeprefix("default.qubit/")).strip("_")


def _rate(rate: float, **more: int | tuple[str, ...]) -> Number:
    return Number(rate, words=f"{rate:g}", **more)


def numbers_of(records: Records) -> Numbers:
    """All numbers that the records give, and the constants of the study and the protocol."""
    found: Numbers = {name: Number(v, unit=u, words=w, records=("original study",)) for name, (v, u, w) in STUDY.items()}
    found |= {name: Number(v, unit=u, words=w) for name, (v, u, w) in PROTOCOL.items()}
    for section in SECTIONS:
        try:
            found |= section(records)
        except NotMeasured:
            continue
    return found | _hypotheses(found)


# ---------------------------------------------------------------------------------------------------------------- timing
def _first_machine(table: pd.DataFrame) -> tuple[list[pd.DataFrame], pd.DataFrame]:
    """The runs of the first machine (one without a GPU where there is one), and its run nearest to the study's workload."""
    nearest = tables.nearest_runs(table)[0]
    runs = sorted(tables.runs(table[table["machine"] == nearest["machine"].iloc[0]]), key=tables.distance_to_study)
    return runs, nearest


def workload(run: pd.DataFrame) -> str:
    """The workload of a timing run as it stands in names: "8q_100b"."""
    return f"{run['n_qubits'].iloc[0]}q_{run['batch_size'].iloc[0]}b"


def _ratio(run: pd.DataFrame, slow: str, fast: str) -> Number:
    return Number.of(median_ratio(*tables.pair(run, slow, fast)), tables.cite(run))


def _ratios(records: Records, cell: str, slow: str, fast: str, name: str) -> Numbers:
    """The ratio at every workload that has both arms, and, without a suffix, at the one nearest to the study's."""
    found: Numbers = {}
    for run in _first_machine(tables.timing_cell(records, cell))[0]:
        if {slow, fast} <= set(run["arm"]):
            number = _ratio(run, slow, fast)
            found.setdefault(name, number)
            found.setdefault(f"{name}_{workload(run)}", number)
    if found:
        ordered = sorted((n for key, n in found.items() if key != name), key=lambda number: number.value)
        found[f"{name}_min"], found[f"{name}_max"] = ordered[0], ordered[-1]
    return found


def _methods(records: Records) -> Numbers:
    table = tables.timing_cell(records, "methods")
    runs, _ = _first_machine(table)
    found: Numbers = {}
    for run in runs:
        for arm, rows in run[run["part"] == "step"].groupby("arm", sort=True):
            time = median_interval(1000 * rows["seconds"], unit="ms")
            found.setdefault(f"step_{slug(arm)}_{workload(run)}", Number.of(time, tables.cite(rows)))
    for arm in sorted(set(table["arm"]) - {"lightning.qubit/adjoint"}):
        found |= _ratios(records, "methods", arm, "lightning.qubit/adjoint", f"{slug(arm)}_over_lightning")
    compared = [run for run in runs if run["arm"].nunique() > 1]
    for name in ("n_qubits", "batch_size"):
        values = sorted({run[name].iloc[0] for run in compared or runs})
        found[f"methods_{name}_min"], found[f"methods_{name}_max"] = Number(int(values[0])), Number(int(values[-1]))
    return found


def _parts(records: Records) -> Numbers:
    found: Numbers = {}
    for run in _first_machine(tables.timing_cell(records, "parts"))[0]:
        for arm in sorted(run["arm"].unique()):
            here = run[run["arm"] == arm]
            for part in sorted(set(here["part"]) - {"step"}):
                share = median_ratio(*tables.shares(here, part)).map(lambda ratio: 100 * ratio, "%")
                number = Number.of(share, tables.cite(here))
                names = [f"share_{slug(part)}", f"share_{slug(part)}_{slug(arm)}", f"share_{slug(part)}_{workload(run)}"]
                for name in [*names, f"share_{slug(part)}_{slug(arm)}_{workload(run)}"]:
                    found.setdefault(name, number)
            if here["part"].str.startswith("quantum").any():
                share = _quantum_share(here)
                found.setdefault("share_quantum", share)
                found.setdefault(f"share_quantum_{slug(arm)}_{workload(run)}", share)
    if "share_update" in found:
        update = found["share_update"]
        bound = [None if p is None or p >= 100 else 100 * p / (100 - p) for p in (update.value, update.low, update.high)]
        found["fusing_bound"] = Number(*bound, n=update.n, unit="%", records=update.records)
    return found


def _quantum_share(run: pd.DataFrame) -> Number:
    wide = run.pivot_table(index="sample", columns="part", values="seconds", aggfunc="median")
    parts = [part for part in wide if part.startswith("quantum")]
    wide = wide[[*parts, "step"]].dropna()
    share = median_ratio(wide[parts].sum(axis=1), wide["step"]).map(lambda ratio: 100 * ratio, "%")
    return Number.of(share, tables.cite(run))


def payback_steps(run: pd.DataFrame, arm: str = "graph") -> float:
    """Steps after which the arm's saved time has paid for its longer first call; inf where a step saves nothing."""
    eager, compiled = tables.pair(run, "eager", arm)
    saved = float(np.median(eager) - np.median(compiled))
    extra = tables.first_call(run, arm) - tables.first_call(run, "eager")
    if extra <= 0:
        return 0.0
    return extra / saved if saved > 0 else math.inf


def _compile(records: Records) -> Numbers:
    found: Numbers = {}
    _, run = _first_machine(tables.timing_cell(records, "compile"))
    for arm in sorted(set(run["arm"]) - {"eager"}):
        found |= _ratios(records, "compile", "eager", arm, f"{slug(arm)}_speedup")
        steps = payback_steps(run, arm)
        number = Number(math.ceil(steps), unit="steps") if math.isfinite(steps) else Number(None, words="never")
        found[f"{slug(arm)}_payback"] = Number(number.value, n=1, unit="steps", records=tables.cite(run), words=number.words)
    for arm in sorted(set(run["arm"])):
        found[f"first_call_{slug(arm)}"] = Number(tables.first_call(run, arm), n=1, unit="s", records=tables.cite(run))
    return found


def _rungs(records: Records) -> Numbers:
    found: Numbers = {}
    _, run = _first_machine(tables.timing_cell(records, "rungs"))
    for arm in sorted(set(run["arm"]) - {"as shipped"}):
        found |= _ratios(records, "rungs", "as shipped", arm, f"rung_{slug(arm)}_speedup")
    return found


def _bench(records: Records) -> Numbers:
    """The benchmark of the engine: `bench_step_<arm>_<size>`, `bench_<arm>_over_<against>_<size>`, memory, first calls."""
    table = tables.one_machine(records["bench"])
    cited = tables.cite(table)
    found: Numbers = {}
    for row in bench_findings(table).itertuples():
        size = f"{row.n_qubits}_{row.n_layers}_{row.batch_size}"
        kind, _, part = row.quantity.partition(", ")
        name = {
            "step": f"step_{row.arm}",
            "times faster": f"fall_back_{part}" if part else f"{row.arm}_over_{row.against}",
            "times as long": f"{row.arm}_of_{row.against}",
            "peak memory": "memory",
            "memory over depth": "depth",
            "first call": f"first_{row.arm}_{part}",
        }[kind]
        if math.isnan(row.value):
            continue
        interval = Interval(row.value, row.low, row.high, row.processes, row.unit)
        found[f"bench_{slug(name)}_{size}"] = Number.of(interval, cited)
    return found


# ----------------------------------------------------------------------------------------------------------------- atlas
#: Sizes (qubits, layers, batch) at which datasheets are asked what a GPU would take.
UNMEASURED_SIZES = ((8, 2, 32), (12, 3, 64), (12, 2, 128), (16, 2, 32), (20, 2, 8))
ATLAS_QUBITS, ATLAS_BATCHES = range(2, 21), [2**power for power in range(11)]


def _atlas(records: Records) -> Numbers:
    """The break-even atlas: `atlas_speedup_<arm>_<n>_<L>_<B>` over KerasLayer as shipped, break-evens, sizes."""
    table = tables.one_machine(records["atlas"])
    keys = ["threads", *costs.AXES]
    cells = table.drop_duplicates(keys)
    arms = table.assign(timed=table["seconds"].notna()).groupby([*keys, "arm"])["timed"].all()
    apart = costs.process_spread(table)
    found: Numbers = {
        "atlas_cells": Number(len(cells), records=tables.cite(table)),
        "atlas_sizes": Number(len(cells.drop_duplicates(list(costs.AXES)))),
        "atlas_cells_held_out": Number(int((cells["role"] == "held_out").sum())),
        "atlas_times": Number(int(arms.sum())),
        "atlas_too_slow": Number(int((~arms).sum())),
        "atlas_routes": Number(int(table["route"].nunique())),
        "atlas_threads": Number(int(table["threads"].max())),
        "atlas_processes": Number(int(table.groupby(keys)["record"].nunique().max())),
    }
    if len(apart):
        cited = tables.cite(table)
        found["atlas_process_spread"] = Number(float(apart.median()), n=len(apart), records=cited)
        found["atlas_process_spread_twentieth"] = Number(float(apart.quantile(0.95)), n=len(apart), records=cited)
        found["atlas_process_spread_largest"] = Number(float(apart.max()), n=len(apart), records=cited)
    most = table[table["threads"] == table["threads"].max()]
    cited = tables.cite(most)
    ratios = costs.speedups(most)
    for row in ratios.itertuples():
        number = Number.of(Interval(row.value, row.low, row.high, row.n), cited)
        found[f"atlas_speedup_{slug(row.arm)}_{row.n_qubits}_{row.n_layers}_{row.batch_size}"] = number
    for arm, own in ratios.groupby("arm"):
        for end, row in (("min", own.loc[own["value"].idxmin()]), ("max", own.loc[own["value"].idxmax()])):
            number = Number.of(Interval(row["value"], row["low"], row["high"], int(row["n"])), cited)
            found[f"atlas_speedup_{slug(arm)}_{end}"] = number
    models = {(model.route, model.precision): model for model in costs.models(most).values()}
    shipped = models.get((costs.SHIPPED, "complex128"))
    lightning = models.get(("KerasLayer, lightning.qubit", "complex128"))
    compiled = models.get((costs.COMPILED, "complex64"))
    lines = (
        ("compiled_over_shipped_qubits", compiled, shipped, "n_qubits", {"n_layers": 2, "batch_size": 32}, ATLAS_QUBITS),
        ("lightning_over_shipped_qubits", lightning, shipped, "n_qubits", {"n_layers": 2, "batch_size": 32}, ATLAS_QUBITS),
        ("lightning_over_shipped_qubits_b1", lightning, shipped, "n_qubits", {"n_layers": 2, "batch_size": 1}, ATLAS_QUBITS),
        ("shipped_over_lightning_batch", shipped, lightning, "batch_size", {"n_qubits": 8, "n_layers": 2}, ATLAS_BATCHES),
    )
    for name, a, b, axis, at, values in lines:
        if a is None or b is None:
            continue
        try:
            where = costs.break_even(a, b, axis, at, list(values))
        except NotMeasured:
            continue  # no size near measurements of both: there is no such number
        unit = "qubits" if axis == "n_qubits" else "samples"
        words = "" if math.isfinite(where.value) else "nowhere measured"
        found[f"atlas_break_even_{name}"] = Number.of(where.map(lambda x: x, unit), cited, words)
    return found


def _costs(records: Records) -> Numbers:
    """The cost model: its coefficients, how it does on held-out cells, on the public data, and by datasheets."""
    table = tables.one_machine(records["atlas"])
    models = costs.models(table)
    if not models:
        raise NotMeasured("no cost model")
    checked = costs.validate(models)
    cited = tables.cite(table)
    found: Numbers = {"cost_within_factor": Number(costs.WITHIN, words=f"{costs.WITHIN:g}")}
    if len(checked):
        found["cost_held_out"] = Number(len(checked), records=cited)
        found["cost_held_out_within"] = Number.of(costs.share_within(checked), cited)
        found["cost_held_out_inside"] = Number.of(costs.share_within(checked, "inside"), cited)
        if "repetition" in table and table["repetition"].nunique() > 1:
            # What the share would be with one process a cell; it needs no intervals.
            alone = [costs.validate(costs.models(own, 2)) for _, own in table.groupby("repetition")]
            shares = sorted((costs.share_within(each) for each in alone if len(each)), key=lambda share: share.value)
            found["cost_held_out_within_one_pass_min"] = Number.of(shares[0], cited)
            found["cost_held_out_within_one_pass_max"] = Number.of(shares[-1], cited)
        near = checked[checked["near"]]
        if len(near):
            found["cost_held_out_within_near"] = Number.of(costs.share_within(near), cited)
        for (route, precision), own in checked.groupby(["route", "precision"]):
            share = costs.share_within(own)
            found[f"cost_held_out_within_{slug(f'{route}, {precision}')}"] = Number.of(share, cited)
    for model in models.values():
        if model.threads != table["threads"].max():
            continue
        name = slug(f"{model.route}, {model.precision}")
        each = dict(zip(costs.TERMS, model.coefficients, strict=True))
        found[f"cost_scatter_{name}"] = Number(math.exp(model.scatter), n=len(model.cells), records=model.records)
        found[f"cost_constant_{name}"] = Number(1e3 * each["constant"], unit="ms", records=model.records)
        if each["launches"]:
            found[f"cost_launch_{name}"] = Number(1e6 * each["launches"], unit="µs", records=model.records)
        if each["operations"]:
            found[f"cost_rate_{name}"] = Number(1e-9 / each["operations"], unit="GFLOP/s", records=model.records)
        if each["bytes"]:
            found[f"cost_bandwidth_{name}"] = Number(1e-9 / each["bytes"], unit="GB/s", records=model.records)
            found[f"cost_cache_{name}"] = Number(model.cache_bytes / 2**20, unit="MiB", records=model.records)
    return found | _public_costs()


@cache
def _public_costs() -> Numbers:
    """Does the model know who wins in the public data? And what would datasheets predict?"""
    table = public.read_public()
    signs = public.public_signs(table)
    cited = ("data/public/gpu_times.csv",)
    right = Number(int(signs["right"].sum()), n=len(signs), unit=f"of {len(signs)}", records=cited)
    found: Numbers = {"cost_public_right": right}
    lightning = signs[signs["comparison"].str.startswith("lightning")]
    for name, own in (
        ("small_unbatched", lightning[lightning["n_qubits"] <= 14]),
        ("large_unbatched", signs[(signs["batch"] == 1) & (signs["n_qubits"] >= 20)]),
        ("batch_1000", signs[(signs["batch"] == 1000) & (signs["n_qubits"] >= 5)]),
    ):
        found[f"cost_public_{name}"] = Number(int(own["right"].sum()), n=len(own), unit=f"of {len(own)}", records=cited)
    for name, own in signs.groupby("comparison"):
        for column in ("measured", "predicted"):
            wins = own.sort_values("n_qubits")[[column, "n_qubits"]]
            lost = wins.loc[wins[column] <= 1, "n_qubits"].max()
            first = wins.loc[wins["n_qubits"] > (lost if lost == lost else 0), "n_qubits"].min()
            known = first == first
            number = Number(int(first) if known else None, unit="qubits", records=cited, words="" if known else "never")
            found[f"cost_public_{column}_wins_from_{name}"] = number
    calibration = public.public_calibration(table)
    found["cost_calibration"] = Number(
        float(np.median(calibration)), *(float(q) for q in np.quantile(calibration, [0.025, 0.975])), n=len(calibration),
        records=cited,
    )  # fmt: skip
    for hardware in costs.HARDWARE.values():
        for size in UNMEASURED_SIZES:
            step = costs.predict_unmeasured(hardware, *size, calibration=calibration).interval.map(lambda s: 1e3 * s, "ms")
            found[f"cost_unmeasured_{slug(hardware.name)}_{size[0]}_{size[1]}_{size[2]}"] = Number.of(step, cited)
    return found


def _optimizer_steps(records: Records) -> Numbers:
    _, run = _first_machine(tables.timing_cell(records, "optimizers"))
    found: Numbers = {}
    for arm in sorted(set(run["arm"]) - {"adam"}):
        if "adam" not in set(run["arm"]):
            break
        ratio = median_ratio(*tables.pair(run, arm, "adam"))
        found[f"step_over_adam_{slug(arm)}"] = Number.of(ratio, tables.cite(run))
        found[f"saving_{slug(arm)}"] = Number.of(ratio.map(lambda r: 100 * (1 - r), "%"), tables.cite(run))
    speed = median_ratio(*tables.pair(run, "adam", "fused_adam")).map(lambda ratio: 100 * (ratio - 1), "%")
    return found | {"fused_adam_speedup": Number.of(speed, tables.cite(run))}


def _updates(records: Records) -> Numbers:
    """The update alone, and its share in a hybrid step whose model had so many parameters more."""
    _, run = _first_machine(tables.timing_cell(records, "update"))
    run = run[run["part"] == "step"]
    found: Numbers = {}
    named = tables.update_arms(run)
    for (optimizer, size), arm in sorted(named.items()):
        rows = run[run["arm"] == arm]
        time = median_interval(1000 * rows["seconds"], unit="ms")
        found[f"update_{optimizer}_{size}"] = Number.of(time, tables.cite(rows))
    sizes = sorted({size for _, size in named})
    _, steps = _first_machine(tables.timing_cell(records, "optimizers"))
    step = steps.loc[(steps["arm"] == "adam") & (steps["part"] == "step"), "seconds"].median()
    times = [run.loc[run["arm"] == named.get(("adam", size)), "seconds"].median() for size in sizes]
    for size, time in zip(sizes, times, strict=True):
        # A step of the study's models has an update as small as the smallest; all else is gradient.
        share = 100 * time / (max(step - times[0], 0) + time)
        found[f"update_share_{size}"] = Number(float(share), unit="%", records=tables.cite(run))
    return found


def _original_steps(records: Records) -> Numbers:
    table = tables.timing_cell(records, "original")
    _, run = _first_machine(table)
    wide = hours_on_20_qubits(table[table["part"] == "step"])
    found: Numbers = {} if wide is None else {"original_100_steps_20_qubits": wide}
    for arm, rows in run[run["part"] == "step"].groupby("arm", sort=True):
        time = median_interval(STUDY_STEPS * rows["seconds"], unit="s")
        found[f"original_100_steps_{slug(arm)}"] = Number.of(time, tables.cite(rows))
    return found | {"original_loop_over_broadcast": _ratio(run, "lightning.qubit/loop", "default.qubit/broadcast")}


# ---------------------------------------------------------------------------------------------------- circuits, gradients
def _circuits(records: Records) -> Numbers:
    table = records["circuits"]
    found = {"circuits_examined": Number(int(table["circuit"].nunique()), n=len(table), records=tables.cite(table))}
    original = table[(table["circuit"] == "original") & (table["n_qubits"] == STUDY_QUBITS)]
    for _, row in original.head(1).iterrows():
        cited = tables.cite(original.head(1))
        found["original_live"] = Number(int(row["n_live"]), n=int(row["n_points"]), records=cited)
        found["original_parameters"] = Number(int(row["n_parameters"]), records=cited)
        found["original_live_share"] = Number(
            100 * float(row["live_share"]), n=int(row["n_points"]), unit="%", records=cited
        )
        found["original_entangling_capability"] = Number(float(row["entangling_capability"]), records=cited)
    return found


def _gradients(records: Records) -> Numbers:
    table = records["gradients"]
    found: Numbers = {}

    def largest(name: str, rows: pd.DataFrame) -> None:
        if rows["max_abs_difference"].isna().any():
            found[name] = Number(None, n=len(rows), records=tables.cite(rows), words="not a number")
        elif len(rows):
            found[name] = Number(float(rows["max_abs_difference"].max()), n=len(rows), records=tables.cite(rows))

    gradients = table[table["quantity"].str.startswith("gradient")]
    largest("gradient_gap_max", gradients)
    largest("value_gap_max", table[table["quantity"] == "value"])
    largest("energy_vs_cos_max", table[table["quantity"] == "energy_vs_cos"])
    for method, rows in gradients.groupby("method", sort=True):
        largest(f"gradient_gap_{slug(method)}", rows)
    return found


# ---------------------------------------------------------------------------------------------------------------- energy
def _process_spread(records: Records) -> Numbers:
    """How far medians of one and the same step lie apart that were taken in two processes, at different times.

    The cells "parts" and "compile" both hold a whole eager step of default.qubit with backprop.
    """
    keys = ["machine", "n_qubits", "n_layers", "batch_size", "threads"]
    parts, compiled = tables.timing_cell(records, "parts"), tables.timing_cell(records, "compile")
    parts = parts[(parts["arm"] == "default.qubit/backprop") & (parts["part"] == "step")]
    eager = compiled[(compiled["arm"] == "eager") & (compiled["part"] == "step")]
    both = pd.concat({"a": parts.groupby(keys)["seconds"].median(), "b": eager.groupby(keys)["seconds"].median()}, axis=1)
    both = both.dropna()
    if both.empty:
        return {}
    ratio = (both.max(axis=1) / both.min(axis=1)).max()
    return {"process_spread": Number(float(ratio), n=len(both), records=tables.cite(pd.concat([parts, eager])))}


def _energy(records: Records) -> Numbers:
    rows = tables.energy_rows(records)
    cited = tables.cite(rows)
    found: Numbers = {}
    start = rows[rows["step"] == 0].drop_duplicates("seed")["energy"]
    if len(start):
        found["initial_energy"] = Number.of(mean_interval(start), cited)
    if len(start) > 1:
        found["initial_energy_spread"] = Number(float(start.std(ddof=1)), n=len(start), records=cited)
    energies = tables.final_energies(records)
    for name in energies.columns.unique("optimizer"):
        best = tables.best_rate(energies, name)
        found[f"energy_best_rate_{name}"] = _rate(best, n=len(energies), records=cited)
        found[f"energy_best_{name}"] = Number.of(mean_interval(energies[name][best].dropna()), cited)
        for rate in energies[name].columns:
            values = mean_interval(energies[name][rate].dropna())
            found[f"energy_{name}_lr{rate:g}"] = Number.of(values, cited)
        at_best = rows[(rows["optimizer"] == name) & (rows["learning_rate"] == best)]
        steps = [time_to_target(run["step"], run["energy"], ENERGY_TARGET) for _, run in at_best.groupby("seed")]
        found[f"energy_steps_{name}"] = _steps(median_interval(steps, unit="steps"), cited)
        whole = energies[name].dropna()
        if whole.shape[1] > 1 and len(whole):
            found[f"energy_rate_width_{name}"] = Number.of(width_interval(whole.columns, whole.to_numpy()), cited)
    rates = sorted(energies.columns.unique("learning_rate"))
    found["energy_rate_min"], found["energy_rate_max"] = _rate(rates[0]), _rate(rates[-1])
    found["energy_seeds"] = Number(len(energies), records=cited)
    try:
        gap, both = trajectory_gap(records, above=True)
        found["fused_gap_above_grid"] = Number(gap, n=len(both), records=tables.cite(both))
    except NotMeasured:
        pass  # no rates above the study's grid were run: there is no such number, and the paper leaves the sentence out
    if ("adam", 1e-4) in energies:
        final = energies[("adam", 1e-4)].dropna()
        first = rows[(rows["optimizer"] == "adam") & (rows["learning_rate"] == 1e-4) & (rows["step"] == 0)]
        gain = final - first.set_index("seed")["energy"]
        if gain.notna().any():
            found["adam_gain_lr0.0001"] = Number.of(mean_interval(gain.dropna()), cited)
        apart = [abs(a - b) >= STUDY["study_table_2_spread"][0] for a, b in combinations(final, 2)]
        if apart:
            # Adam against itself: seed pairs as far apart as Table 2's best and worst. Pairs share seeds: no interval.
            found["same_adam_apart"] = Number(100 * float(np.mean(apart)), n=len(final), unit="%", records=cited)
    return found


def _steps(interval: Interval, cited: tuple[str, ...]) -> Number:
    return Number.of(interval, cited, "" if math.isfinite(interval.value) else "not reached")


# -------------------------------------------------------------------------------------------------------------- training
def _points(values: Interval, kind: str = "%") -> Interval:
    return values.map(lambda score: 100 * score, kind)


def _model_comparison(records: Records) -> Numbers:
    """Hybrid, separable twin and classical model on the same data and budget; of each task the group with most runs."""
    table = tables.final_rows(records)
    same = [*(key for key in tables.SWEEP_KEYS if key != "model"), "optimizer", "learning_rate"]
    found: Numbers = {}
    best: dict[str, pd.DataFrame] = {}
    for key, rows in table.groupby(same, sort=True):
        rows = rows.drop_duplicates(["model", "seed"])
        if rows["model"].nunique() == 3 and (key[0] not in best or len(rows) > len(best[key[0]])):
            best[key[0]] = rows
    for task, rows in sorted(best.items()):
        scores = rows.pivot(index="seed", columns="model", values="test_score")
        counts = rows.pivot(index="seed", columns="model", values="n_parameters")
        for model in sorted(scores):
            score = _points(mean_interval(scores[model].dropna()))
            found[f"test_score_{task}_{model}"] = Number.of(score, tables.cite(rows))
            found[f"n_parameters_{task}_{model}"] = Number(int(counts[model].dropna().iloc[0]))
        for other in ("separable", "classical"):
            a, b = tables.paired_columns(scores, "hybrid", other)
            difference = _points(paired_difference(a, b), "points")
            found[f"hybrid_minus_{other}_{task}"] = Number.of(difference, tables.cite(rows))
    return found


# ------------------------------------------------------------------------------------------------------- optimizer study
def _phase(table: pd.DataFrame, phase: str, model: str = "hybrid") -> pd.DataFrame:
    rows = optimizers.of(table, phase, model)
    if rows.empty:
        raise NotMeasured(f"no optimizers records of phase {phase!r}")
    return rows


def _study_size(records: Records) -> Numbers:
    table = records["optimizers"]
    runs = table.drop_duplicates(["machine", "record", "seed"])
    tuned = _phase(table, "tuned")
    return {
        "study_problems": Number(int(table["problem"].nunique())),
        "study_optimizers": Number(int(table["optimizer"].nunique())),
        "study_seeds": Number(int(tuned["seed"].nunique())),
        "study_runs": Number(len(runs)),
        "study_steps": Number(int(runs["steps"].sum())),
    }


def _study_tuning(records: Records) -> Numbers:
    """Where the tuning found the best learning rates, and how often at the edge of what it searched."""
    chosen = optimizers.choices(records["optimizers"])
    cited = tables.cite(_phase(records["optimizers"], "tuning"))
    found: Numbers = {}
    rates = chosen["learning_rate"].drop(index=optimizers.LEFT_OUT, level="problem", errors="ignore")
    for name, of_problems in rates.groupby(level="optimizer"):
        for end, rate in (("lowest", of_problems.min()), ("highest", of_problems.max())):
            # Quasi-random points: more digits would look as if they mattered.
            found[f"study_rate_{end}_{name}"] = _rate(float(f"{rate:.2g}"), n=len(of_problems), records=cited)
    found["study_at_edge"] = Number(int(chosen["at_edge"].sum()), unit=f"of {len(chosen)}", records=cited)
    found["study_widened"] = Number(int(chosen["widened"].sum()), unit=f"of {len(chosen)}", records=cited)
    return found


def _study_scores(records: Records) -> Numbers:
    """Aggregates of tuned and of default settings, and every optimizer against Adam."""
    table = records["optimizers"]
    cited = tables.cite(_phase(table, "tuned"))
    found: Numbers = {}
    for phase, name in (("tuned", "study_iqm"), ("default", "study_iqm_default")):
        for arm, interval in optimizers.aggregate(table, phase).items():
            found[f"{name}_{arm}"] = Number.of(interval, cited)
    blocks = optimizers.scores(table).dropna(axis=1)
    if blocks.shape[1] >= 3:
        p, ranks = friedman(blocks)
        found["study_friedman_p"] = Number(p, n=len(blocks), records=cited)
        found |= {f"study_rank_{arm}": Number(rank, n=len(blocks), records=cited) for arm, rank in ranks.items()}
    try:
        against_adam = optimizers.comparisons(table)
    except NotMeasured:
        return found  # the aggregates stand without Adam too
    for row in against_adam.itertuples():
        better = Interval(row.improvement, row.improvement_low, row.improvement_high, row.n)
        found[f"study_improvement_{row.Index}"] = Number.of(better, cited)
        found[f"study_p_{row.Index}"] = Number(row.p_holm, n=row.n, records=cited)
        found[f"study_delta_{row.Index}"] = Number(row.delta, n=row.n, records=cited)
    return found


def _study_targets(records: Records) -> Numbers:
    """Medians over problems of the steps and seconds to the target, and on how many problems it is reached."""
    table = records["optimizers"]
    cited = tables.cite(_phase(table, "tuned"))
    found: Numbers = {}

    def middle(name: str, by_problem: pd.DataFrame, unit: str) -> None:
        for arm in by_problem:
            values = by_problem[arm].dropna()
            if len(values):
                median = Interval(float(values.median()), -math.inf, math.inf, len(values), unit)
                found[f"{name}_{arm}"] = _steps(median, cited)

    for name, target in (("target", optimizers.targets(table)), ("near", optimizers.near_targets(table))):
        steps = optimizers.median_steps(table, target)
        middle(f"study_{name}_steps", steps, "steps")
        for arm in steps:
            values = steps[arm].dropna()
            reached = 100 * float(np.isfinite(values).mean())
            found[f"study_{name}_reached_{arm}"] = Number(reached, n=len(values), unit="%", records=cited)
        try:
            seconds = optimizers.seconds_to_target(table, records["timing"], target).groupby(level="problem").median()
        except NotMeasured:
            continue  # steps have no need of step times
        middle(f"study_{name}_seconds", seconds.drop(index=optimizers.LEFT_OUT, errors="ignore"), "s")
    return found


def _study_divergence(records: Records) -> Numbers:
    table = records["optimizers"]
    return {
        f"study_diverged_{phase}_{arm}": Number(100 * share, unit="%")
        for phase, shares in optimizers.divergence(table).iterrows()
        for arm, share in shares.dropna().items()
    }


def _study_rates(records: Records) -> Numbers:
    table = records["optimizers"]
    cited = tables.cite(_phase(table, "rates"))
    widths = (
        optimizers.rate_widths(table)["value"].drop(index=optimizers.LEFT_OUT, level="problem", errors="ignore").dropna()
    )
    return {
        f"study_width_{arm}": Number(float(values.median()), n=len(values), unit="decades", records=cited)
        for arm, values in widths.groupby(level="optimizer")
    }


def _study_models(records: Records) -> Numbers:
    """The hybrid model against its controls, all tuned, and the gaps of all three."""
    table = records["optimizers"]
    found: Numbers = {}
    by_model = {model: optimizers.gaps(table, "tuned", model) for model in ("hybrid", "separable", "classical")}
    by_model = {model: gaps for model, gaps in by_model.items() if not gaps.empty}
    common = sorted(set.intersection(*(set(gaps) for gaps in by_model.values()))) if by_model else []
    for model, gaps in by_model.items():
        cited = tables.cite(optimizers.of(table, "tuned", model))
        # Optimizers with equal seeds share their split: the mean over them is one value.
        each = {model: gaps[common].mean(axis=1)}
        each |= {arm: gaps[arm].dropna() for arm in gaps} if model == "hybrid" else {}
        for name, values in each.items():
            if len(values):
                gap = interquartile_mean(optimizers.by_problem(values))
                found[f"study_gap_{name}"] = Number.of(_points(gap, "points"), cited)
    leads = optimizers.models(table)
    for (problem, other), lead in leads.iterrows():
        found[f"study_hybrid_minus_{other}_{problem}"] = _lead(lead)
    for other, rows in leads.groupby(level="against"):
        problem, _ = rows["value"].abs().idxmax()
        found[f"study_hybrid_minus_{other}_largest"] = _lead(rows.loc[problem, other])
        found[f"study_hybrid_minus_{other}_largest_problem"] = Number(None, words=problem)
    return found


def _lead(lead: pd.Series) -> Number:
    return Number.of(_points(Interval(lead["value"], lead["low"], lead["high"], int(lead["n"])), "points"))


def _hypotheses(found: Numbers) -> Numbers:
    """The hypotheses of `docs/protocol.md` by the numbers they name; one whose numbers are missing is absent."""
    alpha = 1 - CONFIDENCE
    decided: Numbers = {}

    def named(prefix: str) -> Numbers:
        return {name.removeprefix(prefix): number for name, number in found.items() if name.startswith(prefix)}

    def decide(name: str, holds: bool) -> None:
        decided[f"study_{name}"] = Number(int(holds), words="holds" if holds else "fails")

    def above(low: float | None, bound: float | None) -> bool:
        return low is not None and bound is not None and low > bound

    if "study_friedman_p" in found:
        decide("h1", found["study_friedman_p"].value < alpha)
    if others := named("study_p_"):
        clear = [arm for arm, p in others.items() if p.value < alpha]
        decide("h2", not any(above(found[f"study_improvement_{arm}"].low, 0.5) for arm in clear))
    if arms := [arm for arm in named("study_iqm_default_") if f"study_iqm_{arm}" in found]:
        pairs = [(found[f"study_iqm_{arm}"], found[f"study_iqm_default_{arm}"]) for arm in arms]
        decide("h3", all(above(tuned.low, default.high) for tuned, default in pairs))
    times = [found.get(f"study_target_{unit}_{arm}") for unit in ("steps", "seconds") for arm in ("qng", "adam")]
    if all(times):
        steps, adam_steps, seconds, adam_seconds = (math.inf if time.value is None else time.value for time in times)
        decide("h4", steps < adam_steps and seconds >= adam_seconds)
    if leads := named("study_hybrid_minus_"):
        decide("h5", not any(above(lead.low, 0.0) for lead in leads.values()))
    if "study_control_p" in found:
        decide("h6", found["study_control_p"].value >= alpha)
    return decided


def _study_advice(records: Records) -> Numbers:
    """What `hybridbench recommend-optimizer` says for runs of full length, best first; named "advice_KIND:OPTIMIZER"."""
    table = records["optimizers"]
    rows = _phase(table, "tuned")
    found: Numbers = {}
    for kind, problems in optimizers.KINDS.items():
        try:
            ranked = optimizers.recommendation(table, kind, int(rows["steps"].max()))
        except NotMeasured:
            continue
        of_kind = rows[rows["problem"].isin(problems) & (rows["problem"] != optimizers.LEFT_OUT)]
        cited, n = tables.cite(of_kind), len(of_kind.drop_duplicates(["problem", "seed"]))
        for row in ranked.itertuples():
            name = f"advice_{kind}:{row.Index}"
            found[name] = Number.of(Interval(row.score, row.low, row.high, n), cited)
            if math.isfinite(row.rate_low):
                # Of a grid of half decades: 0.03 says as much as 0.0316228.
                low, high = (_rate(float(f"{rate:.1g}")) for rate in (row.rate_low, row.rate_high))
                found[f"{name}:rate_low"], found[f"{name}:rate_high"] = low, high
    return found


def _test_score_leads(records: Records) -> Numbers:
    """Between whom claim C25 finds the clearest lead, and the clearest one without the optimizer that takes no gradient."""
    clear = clear_leads(test_score_leads(records)[0])
    found: Numbers = {}
    for name, leads in (
        ("c25", clear),
        ("c25_of_gradients", [lead for lead in clear if "spsa" not in (lead.better, lead.other)]),
    ):
        if leads:
            first = leads[0]
            found[name] = Number.of(first.interval)
            found[f"{name}_pair"] = Number(None, words=f"{first.better} over {first.other} on {first.problem}")
    return found


def _study_control(records: Records) -> Numbers:
    """Adam against itself: what the study finds where there is nothing to find."""
    table = records["optimizers"]
    by_problem = optimizers.control(table)
    cited = tables.cite(_phase(table, "control"))
    largest = max(by_problem.values(), key=lambda found: abs(found["difference"]))
    bounds = (100 * largest[key] for key in ("difference", "low", "high"))
    return {
        "study_control_p": Number(min(found["p_holm"] for found in by_problem.values()), n=len(by_problem), records=cited),
        "study_control_difference": Number(*bounds, n=len(by_problem), unit="points", records=cited),
    }


# -------------------------------------------------------------------------------------------------------------- frontier
#: Depths at which the frontier of a training hour is quoted.
HOUR_DEPTHS = (2, 8, 32)


def _circuit(cost: str, ansatz: str, depth: int | str) -> str:
    return f"{cost}_{ansatz}_{depth}l"


def _gone_number(gone: frontier.Gone, cited: tuple[str, ...]) -> Number:
    words = "" if math.isfinite(gone.qubits.value) else f"none up to {frontier.MOST_QUBITS}"
    return Number.of(gone.qubits, cited, words)


def _frontier_gradients(records: Records) -> Numbers:
    """Variances, their exponents, and from where on a gradient is gone, all named by cost, ansatz and depth."""
    rows = frontier.rows_of(records, "gradient")
    cells, cited = frontier.cells(rows), tables.cite(rows)
    draws = cells["n"]
    found: Numbers = {
        "frontier_circuits": Number(len(cells.drop_duplicates(["ansatz", "n_qubits", "n_layers"])), records=cited),
        "frontier_draws_min": Number(int(draws.min()), records=cited),
        "frontier_draws_max": Number(int(draws.max()), records=cited),
        "frontier_batches": Number(int(rows["seed"].nunique()), records=cited),
        "frontier_widest": Number(int(cells["n_qubits"].max()), unit="qubits", records=cited),
        "frontier_deepest": Number(int(cells["n_layers"].max()), unit="layers", records=cited),
        "frontier_unresolved": Number(int((~cells["resolved"]).sum()), unit=f"of {len(cells)}", records=cited),
        "frontier_rounding_max": Number(float(cells["rounding"].max()), records=cited),
        "frontier_deep_factor": Number(frontier.DEEP_FACTOR, words=f"{frontier.DEEP_FACTOR:g}"),
        "frontier_adam_epsilon": Number(frontier.ADAM_EPSILON, words=f"{frontier.ADAM_EPSILON:g}"),
    }
    for (ansatz, cost, depth), growth in frontier.growths(rows).items():
        name = _circuit(cost, ansatz, depth)
        found[f"frontier_fall_{name}"] = Number.of(growth.base.map(lambda base: 1 / base, "1"), cited)
        found[f"frontier_power_{name}"] = Number.of(growth.power.slope.map(lambda slope: -slope, "1"), cited)
        found[f"frontier_law_{name}"] = Number(None, n=growth.base.n, records=cited, words=growth.better)
        found[f"frontier_misfit_{name}"] = Number(growth.best.misfit, n=growth.base.n, records=cited)
        for shots in frontier.SHOTS:
            gone = frontier.gone_by_shots(rows, ansatz, cost, depth, shots)
            found[f"frontier_gone_{shots}_{name}"] = _gone_number(gone, cited)
        found[f"frontier_gone_adam_{name}"] = _gone_number(frontier.gone_for_adam(rows, ansatz, cost, depth), cited)
        needed = frontier.growth_of(rows, ansatz, cost, depth, "shots").base
        found[f"frontier_shots_growth_{name}"] = Number.of(needed, cited)
    for cost in COSTS:
        limit = frontier.deep_fall(cost, sorted(n for n in cells["n_qubits"].unique() if n >= frontier.FIRST_QUBITS))
        found[f"frontier_fall_{cost}_limit"] = Number(limit)
    for row in frontier.saturation(cells).itertuples():
        name = f"frontier_deep_depth_{row.cost}_{row.ansatz}_{row.n_qubits}q"
        deep = math.isfinite(row.depth)
        found[name] = Number(
            row.depth if deep else None, unit="layers", records=cited, words="" if deep else "none measured"
        )
    return found


def _frontier_descents(records: Records) -> Numbers:
    """How many random starts trained, by cost, ansatz, layers, qubits and shots."""
    rows = frontier.rows_of(records, "descent")
    usual = int(rows["steps"].min())
    found: Numbers = {
        "frontier_steps": Number(usual, unit="steps", records=tables.cite(rows)),
        "frontier_trained_at": Number(frontier.TRAINED, words=f"{frontier.TRAINED:g}"),
    }
    for row in frontier.descents(rows).itertuples():
        same = {"ansatz": row.ansatz, "cost": row.cost, "n_qubits": row.n_qubits, "n_layers": row.n_layers}
        same |= {"shots": row.shots, "steps": row.steps}
        cited = tables.cite(rows[(rows[list(same)] == pd.Series(same)).all(axis=1)])
        name = f"{_circuit(row.cost, row.ansatz, row.n_layers)}_{row.n_qubits}q_{row.shots or 'exact'}"
        name += "" if row.steps == usual else f"_{row.steps}steps"
        share = Interval(100 * row.share, 100 * row.share_low, 100 * row.share_high, row.seeds, "%")
        found[f"frontier_trained_{name}"] = Number.of(share, cited)
        found[f"frontier_final_{name}"] = Number(row.final, row.low, row.high, n=row.seeds, records=cited)
    return found


def _frontier_criterion(records: Records) -> Numbers:
    """How far below the criterion's shots training still works, and from where on it fails, where exact gradients train."""
    gradients, descents = frontier.rows_of(records, "gradient"), frontier.rows_of(records, "descent")
    compared = frontier.criterion(frontier.cells(gradients), frontier.descents(descents))
    able = compared[compared["exact"] > 0.5]
    cited = tables.cite(pd.concat([gradients, descents]))
    works, fails = able[able["share"] > 0.5], able[able["share"] < 0.5]
    found: Numbers = {}
    if len(works):
        found["frontier_criterion_works_up_to"] = Number(float(works["ratio"].max()), n=len(able), records=cited)
    if len(fails):
        found["frontier_criterion_fails_from"] = Number(float(fails["ratio"].min()), n=len(able), records=cited)
    return found


def _frontier_memory(records: Records) -> Numbers:
    """Factor of memory per qubit, and what a layer takes, adjoint and backprop."""
    rows = frontier.rows_of(records, "memory")
    found: Numbers = {}
    memory = frontier.memory(rows)
    for arm, name in (("compiled", "adjoint"), ("shipped", "backprop")):
        cited = tables.cite(rows[rows["arm"] == arm])
        found[f"frontier_memory_growth_{name}"] = Number.of(frontier.memory_growth(memory, arm), cited)
        found[f"frontier_memory_layer_{name}"] = Number.of(frontier.memory_per_layer(memory, arm), cited)
    return found


def _frontier_time(records: Records) -> Numbers:
    """Factor of the step time per qubit above the crossover, and the crossover, of every route of the atlas on all cores."""
    table = tables.one_machine(records["atlas"])
    table = table[(table["part"] == "step") & table["seconds"].notna()]
    table = table[table["threads"] == table["threads"].max()]
    found: Numbers = {}
    for (route, precision), own in table.groupby(["route", "precision"], sort=True):
        # Of all layers and batch sizes the line with most numbers of qubits, the largest of equals.
        lines = own.groupby(["n_layers", "batch_size"])["n_qubits"].nunique().sort_index()
        layers, batch = lines.index[lines == lines.max()][-1]
        line = own[(own["n_layers"] == layers) & (own["batch_size"] == batch)]
        try:
            factor, crossover = frontier.time_growth(line)
        except NotMeasured:
            continue  # this route was measured at too few sizes above its crossover
        name, cited = slug(f"{route}, {precision}"), tables.cite(line)
        found[f"frontier_time_growth_{name}"] = Number.of(factor, cited)
        found[f"frontier_time_crossover_{name}"] = Number(int(crossover), unit="qubits", records=cited)
    return found


def frontier_hours(machines: Sequence[frontier.Machine], batch_size: int = 32) -> Numbers:
    """The widest circuit that trains in an hour, by machine and depth: `frontier_hour_<machine>_<depth>l`.

    A measured machine that is the only one is called "measured", so that the name does not change with it.

    Args:
        machines: from `frontier.machines`; predicted ones have "predicted, not measured" in their unit.
        batch_size: of the training.
    """
    found: Numbers = {}
    alone = sum(machine.measured for machine in machines) == 1
    for machine in machines:
        key = "measured" if machine.measured and alone else slug(machine.name)
        for depth in HOUR_DEPTHS:
            largest = frontier.largest_in_an_hour(machine, depth, batch_size)
            unit = "qubits" if machine.measured else "qubits, predicted, not measured"
            if not largest.near:
                unit = "qubits, extrapolated"
            name = f"frontier_hour_{key}_{depth}l"
            found[name] = Number(largest.n_qubits, n=largest.seconds.n, unit=unit)
            found[f"{name}_ends_by"] = Number(None, words=largest.ends_by)
    return found


def _frontier_hours(records: Records) -> Numbers:
    return frontier_hours(frontier.measured_and_predicted(tables.one_machine(records["atlas"])))


# ----------------------------------------------------------------------------------------------------------------- facts
STUDIES = ("circuits", "gradients", "timing", "bench", "atlas", "training", "energy", "optimizers", "frontier")
FACTS = (
    "cpu",
    "cores",
    "memory_gib",
    "system",
    "python",
    "pennylane",
    "pennylane_lightning",
    "tensorflow",
    "numpy",
    "scipy",
)


def _facts(records: Records) -> Numbers:
    found: Numbers = {}
    rows = []
    for study in STUDIES:
        if records.has(study):
            table = records[study]
            found[f"records_{study}"] = Number(int(table.groupby("machine")["record"].nunique().sum()))
            found[f"rows_{study}"] = Number(len(table))
            rows.append(table)
    if not rows:
        raise NotMeasured("no records")
    every = pd.concat([table[["machine", "gpus", "proof", *FACTS]] for table in rows], ignore_index=True)
    found["records_all"] = Number(sum(int(found[f"records_{study}"].value) for study in STUDIES if records.has(study)))
    found["machines"] = Number(int(every["machine"].nunique()))
    found["gpu_rows"] = Number(int(tables.is_gpu(every).sum()))
    first = every.sort_values(["gpus", "machine"], kind="stable").iloc[0]
    for fact in FACTS:
        value = first[fact]
        known = None if isinstance(value, str) else float(value)
        found[f"machine_{fact}"] = Number(known, words=f"{value:g}" if known is not None else str(value))
    return found


def _ratio_section(cell: str, slow: str, fast: str, name: str) -> Callable[[Records], Numbers]:
    return lambda records: _ratios(records, cell, slow, fast, name)


SECTIONS: tuple[Callable[[Records], Numbers], ...] = (
    _facts,
    _methods,
    _parts,
    _ratio_section("batching", "loop", "broadcast", "batching_speedup"),
    _ratio_section("precision", "complex128", "complex64", "precision_speedup"),
    _compile,
    _rungs,
    _bench,
    _atlas,
    _costs,
    _process_spread,
    _optimizer_steps,
    _updates,
    _original_steps,
    _circuits,
    _gradients,
    _energy,
    _model_comparison,
    _study_size,
    _study_tuning,
    _study_scores,
    _study_targets,
    _study_divergence,
    _study_rates,
    _study_models,
    _test_score_leads,
    _study_advice,
    _study_control,
    _frontier_gradients,
    _frontier_descents,
    _frontier_criterion,
    _frontier_memory,
    _frontier_time,
    _frontier_hours,
)
