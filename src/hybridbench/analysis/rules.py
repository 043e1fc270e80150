"""The rules of the claim ledger as functions of the records.

Each returns what it found: *confirmed*, *refuted* or *open*, with the number it looked at. None is typed by hand, and the
same function decides the shipped records and a reader's own. A rule that lacks its records raises `NotMeasured`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from hybridbench.analysis import tables
from hybridbench.analysis.statistics import (
    CONFIDENCE,
    Interval,
    equivalent,
    equivalent_means,
    mean_interval,
    median_interval,
    median_ratio,
    paired_difference,
    seed_interval,
    time_to_target,
    width_near_best,
)
from hybridbench.analysis.tables import STUDY_OPTIMIZERS, STUDY_RATES, STUDY_STEPS, NotMeasured, Number, Records

CONFIRMED, REFUTED, OPEN = "confirmed", "refuted", "open"
TABLE_2_RATE = 1e-4
FEWEST_SEEDS = 5  #: fewer do not show that two optimizers generalise alike, or that they do not
LARGEST_STUDY_RATE = 0.5  #: the study's grid ends there
SAME = 1e-6  #: two trajectories or gradients closer than this are the same computation


@dataclass(frozen=True)
class Finding:
    """What a rule found: the verdict, the number behind it, and for an open one what is missing."""

    verdict: str
    number: Number | None = None
    missing: str = ""
    instead: bool = False  #: the number is another one than the claim's, shown while that is missing


# ------------------------------------------------------------------------------------------------------------ the engine
def stays_open(missing: str, number: Callable[[], Number] | None = None) -> Finding:
    """An open finding with whatever number there is."""
    try:
        return Finding(OPEN, number() if number else None, missing, instead=number is not None)
    except NotMeasured as gap:
        return Finding(OPEN, None, f"{missing}; {gap}")


def _each_machine(table: pd.DataFrame, rule: Callable[[pd.DataFrame], Finding]) -> Finding:
    """Apply a timing rule to every machine's run nearest to the study's workload; machines have to agree."""
    findings, gaps = [], []
    for run in tables.nearest_runs(table):
        try:
            findings.append(rule(run))
        except NotMeasured as gap:
            gaps.append(gap)
    if not findings:
        raise gaps[0]
    decided = {finding.verdict for finding in findings} - {OPEN}
    if len(decided) > 1:
        return Finding(OPEN, findings[0].number, "the machines disagree")
    return next((finding for finding in findings if finding.verdict in decided), findings[0])


def _faster(slow: np.ndarray, fast: np.ndarray, run: pd.DataFrame) -> Finding:
    """Is the second arm faster? Above 1 confirms, below 1 or within ±5 % of 1 refutes."""
    ratio = median_ratio(slow, fast)
    number = Number.of(ratio, tables.cite(run))
    if not ratio.bounded:
        return Finding(OPEN, number, f"only {ratio.n} samples")
    if ratio.high < 1 or equivalent(slow, fast):
        return Finding(REFUTED, number)
    if ratio.low > 1:
        return Finding(CONFIRMED, number)
    return Finding(OPEN, number, "the interval holds 1 and is too wide for equivalence")


def arm_rule(cell: str, slow: str, fast: str) -> Callable[[Records], Finding]:
    """Rule for "this way of working is faster": one cell, two arms."""

    def find(records: Records) -> Finding:
        return _each_machine(tables.timing_cell(records, cell), lambda run: _faster(*tables.pair(run, slow, fast), run))

    return find


def _ratio_number(records: Records, cell: str, slow: str, fast: str) -> Number:
    run = tables.nearest_runs(tables.timing_cell(records, cell))[0]
    return Number.of(median_ratio(*tables.pair(run, slow, fast)), tables.cite(run))


def _bonferroni(comparisons: int) -> float:
    return 1 - (1 - CONFIDENCE) / max(comparisons, 1)


# ------------------------------------------------------------------------------------------------------- rules on a GPU
def gpu_ratio(
    target: float, lightning: bool, only: Callable[[pd.DataFrame], pd.Series] | None = None
) -> Callable[[Records], Finding]:
    """CPU over GPU step time of the study's workload, fastest arm of each; does its interval hold `target`?"""

    def find(records: Records) -> Finding:
        table = tables.timing_cell(records, "original")
        proven = table[tables.is_gpu(table)]
        if only is not None:
            proven = proven[only(proven)]

        def rule(run: pd.DataFrame) -> Finding:
            medians = run[run["part"] == "step"].groupby("arm")["seconds"].median().sort_values()
            gpu = [arm for arm in medians.index if "gpu" in arm.lower() and (lightning or "lightning" not in arm)]
            cpu = [arm for arm in medians.index if "gpu" not in arm.lower()]
            if not gpu or not cpu:
                raise NotMeasured("no run that interleaves a CPU arm and a proven GPU arm")
            ratio = median_ratio(*tables.pair(run, cpu[0], gpu[0]))
            number = Number.of(ratio, tables.cite(run))
            if ratio.bounded and not ratio.holds(target):
                return Finding(REFUTED, number)
            if ratio.bounded and not ratio.holds(1):
                return Finding(CONFIRMED, number)
            return Finding(OPEN, number, f"the interval holds both {target} and 1")

        if proven.empty:
            return stays_open(
                "no GPU record",
                lambda: _ratio_number(records, "original", "lightning.qubit/loop", "default.qubit/broadcast"),
            )
        return _each_machine(proven, rule)

    return find


def c24(records: Records) -> Finding:
    """C24. The study's printed ratio on the study's hardware."""

    def on_its_hardware(table: pd.DataFrame) -> pd.Series:
        return tables.is_gpu(table) & table["gpus"].str.contains("T4") & table["cpu"].str.contains("4214")

    table = tables.timing_cell(records, "original")
    if on_its_hardware(table).any():
        return gpu_ratio(0.70, lightning=True, only=on_its_hardware)(records)
    known = (table[["cpu", "cores", "system", "python", "tensorflow", "commit"]].astype(str) != "").all(axis=1)
    number = Number(100 * float(known.mean()), n=len(table), unit="%", records=tables.cite(table))
    return Finding(OPEN, number, "no GPU record from a Tesla T4 beside a Xeon Silver 4214", instead=True)


def c07(records: Records) -> Finding:
    """C07. lightning.gpu's step against lightning.qubit's in the same run."""
    table = tables.timing_cell(records, "methods")
    proven = table[tables.is_gpu(table) & table["record"].isin(table.loc[table["arm"] == "lightning.gpu/adjoint", "record"])]
    if proven.empty:
        return stays_open(
            "no GPU record", lambda: _ratio_number(records, "methods", "default.qubit/backprop", "lightning.qubit/adjoint")
        )
    return _each_machine(
        proven, lambda run: _faster(*tables.pair(run, "lightning.qubit/adjoint", "lightning.gpu/adjoint"), run)
    )


def c23(records: Records) -> Finding:
    """C23. Three rungs; any that is no gain refutes the claim, whether or not there is a GPU."""
    rungs = [arm_rule("batching", "loop", "broadcast"), arm_rule("compile", "eager", "graph")]
    found, gaps = [], []
    for rung in rungs:
        try:
            found.append(rung(records))
        except NotMeasured as gap:
            gaps.append(str(gap))
    refuted = [finding for finding in found if finding.verdict == REFUTED]
    if refuted:
        return refuted[0]
    try:
        found.append(c07(records))
    except NotMeasured as gap:
        gaps.append(str(gap))
    number = found[0].number if found else None
    if not gaps and all(finding.verdict == CONFIRMED for finding in found):
        return Finding(CONFIRMED, number)
    if found and found[-1].verdict == REFUTED:
        return found[-1]
    return Finding(OPEN, number, "; ".join([*gaps, *(finding.missing for finding in found if finding.missing)]))


def c26(records: Records) -> Finding:
    """C26. Time of the study's run on twenty qubits, or the growth per qubit on the way there."""
    table = tables.timing_cell(records, "methods")
    table = table[(table["part"] == "step") & table["arm"].str.startswith("lightning")]
    if table.empty:
        raise NotMeasured("no Lightning arm in timing cell 'methods'")
    sizes = table.groupby(["n_qubits", "batch_size", "arm"], as_index=False)["seconds"].median()
    growth = _growth_per_qubit(table)
    at_20 = sizes[sizes["n_qubits"] >= 20]
    number = Number.of(growth, tables.cite(table))
    if at_20.empty:
        missing = f"steps measured up to {table['n_qubits'].max()} qubits only, 20 are needed"
        return Finding(OPEN, number, missing, instead=True)
    at_20 = at_20[at_20["n_qubits"] == at_20["n_qubits"].min()]
    whole_batch = at_20["seconds"] * np.maximum(tables.STUDY_BATCH / at_20["batch_size"], 1)
    hours = float(whole_batch.min()) * STUDY_STEPS / 3600
    number = Number(hours, n=int((table["n_qubits"] >= 20).sum()), unit="h", records=tables.cite(table))
    return Finding(CONFIRMED if hours <= 1 else REFUTED, number)


def _growth_per_qubit(table: pd.DataFrame) -> Interval:
    """Factor in step time for one more qubit, between the two largest circuits at their largest common batch."""
    cpu = table[table["arm"] == "lightning.qubit/adjoint"]
    by_size = {n: set(rows["batch_size"]) for n, rows in cpu.groupby("n_qubits")}
    if len(by_size) < 2:
        raise NotMeasured("steps of one circuit size only")
    small, large = sorted(by_size)[-2:]
    common = by_size[small] & by_size[large]
    if not common:
        raise NotMeasured("no batch size in common between circuit sizes")
    cpu = cpu[cpu["batch_size"] == max(common)]
    times = [cpu[cpu["n_qubits"] == n].sort_values("sample")["seconds"].to_numpy() for n in (large, small)]
    # Two runs, so nothing is paired here: by sample index is as good as any order of independent samples.
    shortest = min(len(t) for t in times)
    ratio = median_ratio(times[0][:shortest], times[1][:shortest])
    return ratio.map(lambda r: r ** (1 / (large - small)) if math.isfinite(r) and r > 0 else r, "1")


def c27(records: Records) -> Finding:
    """C27. Open: without GPU records there is nothing to fit."""
    table = tables.timing_cell(records, "methods")
    if not tables.is_gpu(table).any():
        raise NotMeasured("no GPU record")
    return stays_open("the fit of the cost model to GPU step times")


# --------------------------------------------------------------------------------------------------- rules on step times
def c02(records: Records) -> Finding:
    """C02. Saving of every optimizer's whole step against Adam's, simultaneous over optimizers."""

    def rule(run: pd.DataFrame) -> Finding:
        arms = sorted(arm for arm in run["arm"].unique() if "," not in arm and arm != "adam")
        if not arms:
            raise NotMeasured("no optimizer beside Adam in timing cell 'optimizers'")
        savings = [
            median_ratio(*tables.pair(run, arm, "adam"), _bonferroni(len(arms))).map(lambda r: 100 * (1 - r), "%")
            for arm in arms
        ]
        largest = max(savings, key=lambda saving: saving.value)
        number = Number.of(largest, tables.cite(run))
        if any(saving.low >= 25 for saving in savings):
            return Finding(CONFIRMED, Number.of(max(savings, key=lambda saving: saving.low), number.records))
        if all(saving.high < 25 for saving in savings):
            return Finding(REFUTED, number)
        return Finding(OPEN, number, "an interval holds 25 %")

    return _each_machine(tables.timing_cell(records, "optimizers"), rule)


def c05(records: Records) -> Finding:
    """C05. Eager against graph over the study's run, with the first call's compilation paid for."""

    def rule(run: pd.DataFrame) -> Finding:
        eager, graph = tables.pair(run, "eager", "graph")
        rest = STUDY_STEPS - 1
        return _faster(tables.first_call(run, "eager") + rest * eager, tables.first_call(run, "graph") + rest * graph, run)

    return _each_machine(tables.timing_cell(records, "compile"), rule)


def c13(records: Records) -> Finding:
    """C13. Equivalence of Adam's step time at two rates."""

    def rule(run: pd.DataFrame) -> Finding:
        a, b = tables.pair(run, "adam, lr 0.001", "adam, lr 0.1")
        ratio = median_ratio(a, b)
        number = Number.of(ratio, tables.cite(run))
        if equivalent(a, b):
            return Finding(CONFIRMED, number)
        if ratio.low > 1.05 or ratio.high < 0.95:
            return Finding(REFUTED, number)
        return Finding(OPEN, number, "neither equivalent to ±5 % nor outside it")

    return _each_machine(tables.timing_cell(records, "optimizers"), rule)


# ------------------------------------------------------------------------------------------- rules on the original energy
def trajectory_gap(records: Records, above: bool = False) -> tuple[float, pd.DataFrame]:
    """Largest difference between the energies of Adam and FusedAdam over steps and seeds, and the rows it came from.

    At the study's own rates; `above` asks for the higher ones instead. There a step turns angles by radians, the map from
    step to step is chaotic, and rounding alone drives equal formulas apart.
    """
    table = tables.energy_rows(records)
    table = table[table["optimizer"].isin(["adam", "fused_adam"])]
    table = table[table["learning_rate"].gt(LARGEST_STUDY_RATE) == above]
    wide = table.pivot(index=["learning_rate", "seed", "step"], columns="optimizer", values="energy")
    if not {"adam", "fused_adam"} <= set(wide):
        raise NotMeasured("no energy runs of both adam and fused_adam")
    wide = wide.dropna()
    if wide.empty:
        raise NotMeasured("no energy runs of adam and fused_adam with equal rate and seed")
    return float((wide["fused_adam"] - wide["adam"]).abs().max()), table


def c08(records: Records) -> Finding:
    """C08. FusedAdam's trajectory against Adam's; only where they differ is there a ranking to test."""
    gap, table = trajectory_gap(records)
    number = Number(gap, n=len(table), unit="1", records=tables.cite(table))
    if gap <= SAME:
        return Finding(REFUTED, number)
    energies = tables.final_energies(records)
    others = sorted({name for name, rate in energies.columns if rate == TABLE_2_RATE} - {"fused_adam"})
    leads = [
        paired_difference(
            *tables.paired_columns(energies, ("fused_adam", TABLE_2_RATE), (name, TABLE_2_RATE)), _bonferroni(len(others))
        )
        for name in others
    ]
    if not leads:
        return Finding(OPEN, number, "the trajectories differ, and there are no runs at learning rate 0.0001 to rank")
    if all(lead.low > 0 for lead in leads):
        return Finding(CONFIRMED, number)
    if any(lead.high < 0 for lead in leads):
        return Finding(REFUTED, number)
    return Finding(OPEN, number, "the trajectories differ, and the ranking is within seed noise")


def c09(records: Records) -> Finding:
    """C09. FusedAdam's final energy against Adam's, paired by seed, in percent of Adam's mean."""
    energies = tables.final_energies(records)
    fused, adam = tables.paired_columns(energies, ("fused_adam", TABLE_2_RATE), ("adam", TABLE_2_RATE))
    percent = paired_difference(100 * fused / adam.mean(), 100 * adam / adam.mean(), unit="%")
    number = Number.of(percent, tables.cite(tables.energy_rows(records)))
    if percent.high < 12:
        return Finding(REFUTED, number)
    if percent.low > 0:
        return Finding(CONFIRMED, number)
    return Finding(OPEN, number, "the interval holds both 0 and 12 %")


def c10(records: Records) -> Finding:
    """C10. Both numbers of the claim, and Amdahl's bound on what a faster update can gain."""
    numbers: list[Number] = []
    excluded, held, gaps = False, 0, []
    try:
        energies = tables.final_energies(records)
        if "fused_adam" not in energies:
            raise NotMeasured("no energy runs of fused_adam")
        rates = energies["fused_adam"].columns
        best = tables.best_rate(energies, "fused_adam")[0]
        values = energies["fused_adam"][best].dropna()
        interval = mean_interval(values, _bonferroni(len(rates)))
        numbers.append(Number.of(interval, tables.cite(tables.energy_rows(records))))
        excluded |= interval.bounded and not interval.holds(0.51)
        held += interval.bounded and interval.holds(0.51)
    except NotMeasured as gap:
        gaps.append(str(gap))
    try:
        run = tables.nearest_runs(tables.timing_cell(records, "optimizers"))[0]
        speed = median_ratio(*tables.pair(run, "adam", "fused_adam")).map(lambda r: 100 * (r - 1), "%")
        numbers.append(Number.of(speed, tables.cite(run)))
        excluded |= speed.bounded and not speed.holds(2.53)
        held += speed.bounded and speed.holds(2.53) and not speed.holds(0)
    except NotMeasured as gap:
        gaps.append(str(gap))
    try:
        # Amdahl: removing the whole update saves its share p of a step, a speed-up of p / (1 - p), and no fusing does more.
        run = tables.nearest_runs(tables.timing_cell(records, "parts"))[0]
        bound = median_ratio(*tables.shares(run, "update")).map(lambda p: 100 * p / (1 - p) if p < 1 else math.inf, "%")
        excluded |= bound.bounded and bound.high < 2.53
    except NotMeasured as gap:
        gaps.append(str(gap))
    number = numbers[0] if numbers else None
    if excluded:
        return Finding(REFUTED, number)
    if held == 2:
        return Finding(CONFIRMED, number)
    return Finding(OPEN, number, "; ".join(gaps) or "an interval is too wide to tell")


def _rate_leads(table: pd.DataFrame, optimizer: str, rate: float, others: list[float], confidence: float) -> list[Interval]:
    """By how much each of `others` beats `rate`, paired by seed."""
    return [
        paired_difference(*tables.paired_columns(table, (optimizer, other), (optimizer, rate)), confidence)
        for other in others
    ]


def c11(records: Records) -> Finding:
    """C11. Higher rates against 0.001 for the study's four optimizers, all comparisons at once."""
    energies = tables.final_energies(records)
    higher = {
        name: [rate for rate in energies[name].columns if 0.001 < rate <= max(STUDY_RATES)]
        for name in STUDY_OPTIMIZERS
        if name in energies and 0.001 in energies[name]
    }
    comparisons = sum(map(len, higher.values()))
    if not comparisons:
        raise NotMeasured("no energy runs at learning rate 0.001 and a higher one")
    leads = [
        lead
        for name, rates in higher.items()
        for lead in _rate_leads(energies, name, 0.001, rates, _bonferroni(comparisons))
    ]
    largest = max(leads, key=lambda lead: lead.low)
    number = Number.of(largest, tables.cite(tables.energy_rows(records)))
    if largest.low > 0:
        return Finding(REFUTED, number)
    if len(higher) == len(STUDY_OPTIMIZERS) and all(lead.high < 0 for lead in leads):
        return Finding(CONFIRMED, number)
    return Finding(OPEN, number, f"too few seeds ({largest.n}) to exclude 0 in {comparisons} comparisons")


def _lr_tables(records: Records) -> list[pd.DataFrame]:
    """Scores by seed, higher is better: the energy, and for every task minus the validation loss."""
    found = []
    for make in (
        lambda: [tables.final_energies(records)],
        lambda: [-tables.by_seed(rows, "val_loss") for _, rows in tables.sweeps(records)],
    ):
        try:
            found += make()
        except NotMeasured:
            continue
    return found


def c12(records: Records) -> Finding:
    """C12. In how many sweeps another rate beats 0.01."""
    beaten = best = cases = 0
    for scores in _lr_tables(records):
        for name in scores.columns.unique("optimizer"):
            others = [rate for rate in scores[name].columns if rate != 0.01]
            if 0.01 not in scores[name] or not others:
                continue
            cases += 1
            # A rate at which a seed diverged beats nothing.
            sound = [rate for rate in others if scores[name][rate].notna().all()]
            leads = _rate_leads(scores, name, 0.01, sound, _bonferroni(len(others)))
            beaten += any(lead.low > 0 for lead in leads)
            best += all(lead.high < 0 for lead in leads)
    if not cases:
        raise NotMeasured("no learning-rate sweep that holds 0.01 and another rate")
    number = Number(100 * beaten / cases, n=cases, unit="%", records=_sweep_citation(records))
    if 2 * beaten > cases:
        return Finding(REFUTED, number)
    if best == cases:
        return Finding(CONFIRMED, number)
    return Finding(OPEN, number, f"another rate is better in {beaten} and 0.01 is the best in {best} of {cases} cases")


def _sweep_citation(records: Records) -> tuple[str, ...]:
    studies = [study for study in ("energy", "training") if records.has(study)]
    return tuple(citation for study in studies for citation in tables.cite(records[study]))


def c14(records: Records) -> Finding:
    """C14. Widths of the good learning rates, Adam and NAdam against Adagrad and RMSprop, seeds resampled together."""
    energies = tables.final_energies(records)
    if missing := [name for name in STUDY_OPTIMIZERS if name not in energies]:
        raise NotMeasured(f"no energy runs of {', '.join(missing)}")
    rates = sorted(set.intersection(*(set(energies[name].columns) for name in STUDY_OPTIMIZERS)))
    if len(rates) < 2:
        raise NotMeasured("fewer than two learning rates that the four optimizers share")
    complete = energies[[(name, rate) for name in STUDY_OPTIMIZERS for rate in rates]].dropna()
    values = {name: complete[name].to_numpy() for name in STUDY_OPTIMIZERS}

    def narrower(rows: np.ndarray) -> float:
        width = {name: width_near_best(rates, values[name][rows].mean(axis=0)) for name in STUDY_OPTIMIZERS}
        return min(width["adam"], width["nadam"]) - max(width["adagrad"], width["rmsprop"])

    if complete.empty:
        raise NotMeasured("no seed with all learning rates of the four optimizers")
    gap = seed_interval(len(complete), narrower, CONFIDENCE, "decades")
    number = Number.of(gap, tables.cite(tables.energy_rows(records)))
    span = math.log10(max(rates) / min(rates))
    if span < 5:
        return Finding(OPEN, number, f"the grid spans {span:.1f} decades of learning rate, five are needed")
    if gap.low > 0:
        return Finding(CONFIRMED, number)
    if gap.high < 0:
        return Finding(REFUTED, number)
    return Finding(OPEN, number, f"the interval over {gap.n} seeds holds 0")


def c15(records: Records) -> Finding:
    """C15. Open: the records hold RMSprop with one setting only."""

    def number() -> Number:
        energies = tables.final_energies(records)
        if missing := [name for name in ("rmsprop", "adam") if name not in energies]:
            raise NotMeasured(f"no energy runs of {', '.join(missing)}")
        a, b = (energies[name][tables.best_rate(energies, name)[0]] for name in ("rmsprop", "adam"))
        both = pd.DataFrame({"a": a, "b": b}).dropna()
        if both.empty:
            raise NotMeasured("no seed in common between rmsprop and adam")
        return Number.of(paired_difference(both["a"], both["b"]), tables.cite(tables.energy_rows(records)))

    return stays_open(
        "RMSprop with and without bias correction and with either framework's defaults, each at its best rate", number
    )


def c16(records: Records) -> Finding:
    """C16. Adagrad's final energy at every high rate, simultaneous over rates."""
    energies = tables.final_energies(records)
    rates = [rate for rate in energies["adagrad"].columns if rate >= 0.1] if "adagrad" in energies else []
    if not rates:
        raise NotMeasured("no energy runs of adagrad at a learning rate of 0.1 or more")
    found = {rate: mean_interval(energies["adagrad"][rate].dropna(), _bonferroni(len(rates))) for rate in rates}
    best = max(found.values(), key=lambda interval: interval.value)
    number = Number.of(best, tables.cite(tables.energy_rows(records)))
    if any(interval.low >= 0.95 for interval in found.values()):
        return Finding(REFUTED, number)
    if max(rates) < 10:
        return Finding(OPEN, number, f"learning rates up to {max(rates):g} only, 10 is needed before this can be confirmed")
    if all(interval.high < 0.95 for interval in found.values()):
        return Finding(CONFIRMED, number)
    return Finding(OPEN, number, "an interval holds 0.95")


def c17(records: Records) -> Finding:
    """C17. Open: the energy has no basins to escape from."""

    def number() -> Number:
        table = tables.energy_rows(records)
        steps = sorted(step for step in table["step"].unique() if step >= 10)
        if not steps:
            raise NotMeasured("no energy after ten steps")
        early = tables.by_seed(table[table["step"] == steps[0]], "energy")
        difference = paired_difference(*tables.paired_columns(early, ("nadam", 0.01), ("adam", 0.01)))
        return Number.of(difference, tables.cite(table))

    return stays_open("a workload with known basins: this energy has no poor local minimum to escape from", number)


C18_ARMS = (("adam", 0.01, 65, 85), ("fused_adam", 0.1, 65, 85))
C18_TARGETS = (0.9, 0.95, 0.99)


def _steps_to(records: Records, optimizer: str, rate: float, target: float) -> Interval:
    table = tables.energy_rows(records)
    table = table[(table["optimizer"] == optimizer) & (table["learning_rate"] == rate)]
    if table.empty:
        raise NotMeasured(f"no energy runs of {optimizer} at learning rate {rate:g}")
    steps = [time_to_target(rows["step"], rows["energy"], target) for _, rows in table.groupby("seed")]
    return median_interval(steps, unit="steps")


def c18(records: Records) -> Finding:
    """C18. Median steps to three targets, so that no choice of target decides."""
    held = excluded = 0
    for target in C18_TARGETS:
        found = [(_steps_to(records, name, rate, target), low, high) for name, rate, low, high in C18_ARMS]
        held += all(interval.bounded and interval.within(low, high) for interval, low, high in found)
        excluded += any(interval.low > high or interval.high < low for interval, low, high in found)
    middle = _steps_to(records, "fused_adam", 0.1, C18_TARGETS[1])
    words = "" if math.isfinite(middle.value) else f"not reached in {STUDY_STEPS} steps"
    number = Number.of(middle, tables.cite(tables.energy_rows(records)), words)
    if held:
        return Finding(CONFIRMED, number)
    if excluded == len(C18_TARGETS):
        return Finding(REFUTED, number)
    return Finding(OPEN, number, f"the answer depends on the target, or {middle.n} seeds are too few for an interval")


def c28(records: Records) -> Finding:
    """C28. Complete runs in the four by four factorial."""
    table = records["energy"]
    table = table[(table["n_qubits"] == tables.STUDY_QUBITS) & (table["batch_size"] == tables.STUDY_BATCH)]
    table = table[table["optimizer"].isin(STUDY_OPTIMIZERS) & table["learning_rate"].isin(STUDY_RATES)]
    last = table.groupby(["optimizer", "learning_rate", "record"]).agg(step=("step", "max"), steps=("steps", "max"))
    last["done"] = last["step"] >= last["steps"]
    done = last.groupby(["optimizer", "learning_rate"])["done"].any()
    whole = len(STUDY_OPTIMIZERS) * len(STUDY_RATES)
    number = Number(int(done.sum()), n=len(last), unit=f"of {whole}", records=tables.cite(table))
    if done.sum() == whole:
        return Finding(CONFIRMED, number)
    if len(done) == whole:
        return Finding(REFUTED, number)
    return Finding(OPEN, number, f"{whole - len(done)} of {whole} combinations have no record")


# ------------------------------------------------------------------------------------- rules on circuits and on training
def c20(records: Records) -> Finding:
    """C20. Open: the records hold updates of one size only."""
    return stays_open(
        "update times over ten to ten million parameters",
        lambda: _ratio_number(records, "optimizers", "adam", "fused_adam"),
    )


def c21(records: Records) -> Finding:
    """C21. Live parameters of the original circuit."""
    table = records["circuits"]
    table = table[(table["circuit"] == "original") & (table["n_qubits"] == tables.STUDY_QUBITS)]
    if table.empty:
        raise NotMeasured("no circuit record of the original circuit on 8 qubits")
    row = table.iloc[0]
    number = Number(
        int(row["n_live"]), n=int(row["n_points"]), unit=f"of {int(row['n_parameters'])}", records=tables.cite(table)
    )
    if row["n_live"] <= 4:
        return Finding(REFUTED, number)
    if row["n_live"] == row["n_parameters"]:
        return Finding(CONFIRMED, number)
    return Finding(OPEN, number, "some parameters are dead, but more than four are live")


def c22(records: Records) -> Finding:
    """C22. Largest gap between gradients by adjoint, parameter-shift and backprop."""
    table = records["gradients"]
    table = table[table["quantity"].str.startswith("gradient")]
    if table["max_abs_difference"].isna().any():
        # A maximum would pass over it; a gradient that is not a number agrees with nothing.
        return Finding(REFUTED, Number(None, n=len(table), records=tables.cite(table), words="not a number"))
    number = (
        Number(float(table["max_abs_difference"].max()), n=len(table), records=tables.cite(table)) if len(table) else None
    )
    missing = [name for name in ("adjoint", "parameter-shift") if not table["method"].str.endswith(name).any()]
    if missing:
        return Finding(OPEN, number, f"no gradients by {' and '.join(missing)}")
    return Finding(CONFIRMED if number.value <= SAME else REFUTED, number)


def c25(records: Records) -> Finding:
    """C25. Leads in test score between tuned optimizers, simultaneous over pairs and tasks."""
    pairs, untuned, rows_used = [], [], []
    for shared, rows in tables.sweeps(records):
        losses, scores = tables.by_seed(rows, "val_loss"), tables.by_seed(rows, "test_score")
        best = {}
        for name in losses.columns.unique("optimizer"):
            try:
                best[name] = tables.best_rate(losses, name, np.nanargmin)
            except NotMeasured:
                untuned.append(f"{name} on {shared['task']} (a seed diverged at every rate)")
        untuned += [f"{name} on {shared['task']}" for name, (_, inside) in best.items() if not inside]
        for a, b in combinations(sorted(best), 2):
            both = 100 * pd.DataFrame({"a": scores[a][best[a][0]], "b": scores[b][best[b][0]]}).dropna()
            if len(both):
                # The better one first, so that every difference is a lead.
                first, second = ("a", "b") if both["a"].mean() >= both["b"].mean() else ("b", "a")
                pairs.append((both[first], both[second], best[a][1] and best[b][1]))
        rows_used.append(rows)
    if not pairs:
        raise NotMeasured("no two optimizers with a seed in common")
    leads = [paired_difference(a, b, _bonferroni(len(pairs)), "points") for a, b, _ in pairs]
    equal = [equivalent_means(a, b, 2.0) for a, b, _ in pairs]
    cited = tables.cite(pd.concat(rows_used))
    # Test parts are small: with a few seeds differences can be equal by chance, and leave no spread to judge by.
    enough = min(lead.n for lead in leads) >= FEWEST_SEEDS
    clear = [
        lead
        for lead, same, (_, _, tuned) in zip(leads, equal, pairs, strict=True)
        if enough and tuned and not same and lead.low > 0
    ]
    if clear:
        return Finding(CONFIRMED, Number.of(max(clear, key=lambda lead: lead.low), cited))
    largest = max(leads, key=lambda lead: lead.value)
    number = Number.of(largest, cited)
    if not untuned and all(equal) and enough:
        return Finding(REFUTED, number)
    edge = f"; the best rate is at the edge of the grid for {', '.join(untuned)}" if untuned else ""
    return Finding(OPEN, number, f"{largest.n} seeds do not tell {len(pairs)} pairs of tuned optimizers apart{edge}")
