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

from hybridbench.analysis import costs, optimizers, tables
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
from hybridbench.analysis.tables import NotMeasured, Number, Records
from hybridbench.design.constants import STUDY_BATCH, STUDY_OPTIMIZERS, STUDY_QUBITS, STUDY_RATES, STUDY_STEPS
from hybridbench.design.routes import route_of

CONFIRMED, REFUTED, OPEN = "confirmed", "refuted", "open"
TABLE_2_RATE = 1e-4
FEWEST_SEEDS = 5  #: fewer do not show that two optimizers generalise alike, or that they do not
FEWEST_STARTS = 10  #: seeds; with fewer no median has an interval at the level of that many comparisons
ENERGY_TARGET = 0.95  #: share of the optimum that counts as reached
START_TARGET = 0.975  #: the same on the Ising chain, where product states reach 0.956
SCORE_MARGIN = 2.0  #: points of a score within which two optimizers are as good as each other
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
            on_gpu = {arm: about["gpu"] for arm, about in tables.arms(run).items()}
            gpu = [a for a in medians.index if on_gpu[a] and (lightning or route_of(a).backend != "lightning.gpu")]
            cpu = [arm for arm in medians.index if not on_gpu[arm]]
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
    lightning = [arm for arm in table["arm"].unique() if route_of(arm).backend in ("lightning.qubit", "lightning.gpu")]
    table = table[(table["part"] == "step") & table["arm"].isin(lightning)]
    if table.empty:
        raise NotMeasured("no Lightning arm in timing cell 'methods'")
    if (hours := hours_on_20_qubits(table)) is None:
        number = Number.of(_growth_per_qubit(table), tables.cite(table))
        missing = f"steps measured up to {table['n_qubits'].max()} qubits only, 20 are needed"
        return Finding(OPEN, number, missing, instead=True)
    return Finding(CONFIRMED if hours.value <= 1 else REFUTED, hours)


def hours_on_20_qubits(steps: pd.DataFrame) -> Number | None:
    """Time of the study's 100 steps of batch 100 on 20 qubits or more, by the fastest arm and batch; None without such rows.

    Args:
        steps: rows of part "step" of one timing cell.
    """
    wide = steps[steps["n_qubits"] >= 20]
    if wide.empty:
        return None
    wide = wide[wide["n_qubits"] == wide["n_qubits"].min()]
    # A smaller batch is scaled up in proportion: samples are simulated one after the other.
    scale = np.maximum(STUDY_BATCH / wide["batch_size"], 1) * STUDY_STEPS / 3600
    wide = wide.assign(hours=wide["seconds"] * scale)
    fastest = min((rows for _, rows in wide.groupby(["batch_size", "arm"])), key=lambda rows: rows["hours"].median())
    return Number.of(median_interval(fastest["hours"], unit="h"), tables.cite(fastest))


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
    """C27. Share of a GPU step that grows with the states, by the cost model fitted to the atlas's proven GPU rows.

    Launch time is the constant and what every launch and every sample adds; memory traffic is the rest (`costs.TRAFFIC`).
    """
    if not records.has("atlas"):
        raise NotMeasured("no GPU record")
    table = records["atlas"]
    proven = table[tables.is_gpu(table) & table["arm"].map(lambda arm: route_of(arm).gpu) & (table["note"] == "")]
    if proven.empty:
        raise NotMeasured("no GPU record")
    size = (STUDY_QUBITS, 1, STUDY_BATCH)
    findings = []
    for _, rows in proven.groupby("machine", sort=True):
        near = [model for model in costs.models(rows).values() if model.nearest(*size).near]
        if not near:
            continue
        fastest = min(near, key=lambda model: model.seconds(*size))
        share = costs.traffic_share(fastest, *size)
        number = Number.of(share, fastest.records)
        if share.low > 50:
            findings.append(Finding(CONFIRMED, number))
        elif share.high < 50:
            findings.append(Finding(REFUTED, number))
        else:
            findings.append(Finding(OPEN, number, "the interval of the share of memory traffic holds 50 %"))
    if not findings:
        raise NotMeasured(f"too few GPU cells for a cost model near {size[0]} qubits and batch {size[2]}")
    decided = {finding.verdict for finding in findings} - {OPEN}
    if len(decided) > 1:
        return Finding(OPEN, findings[0].number, "the machines disagree")
    return next((finding for finding in findings if finding.verdict in decided), findings[0])


# --------------------------------------------------------------------------------------------------- rules on step times
def c02(records: Records) -> Finding:
    """C02. Saving of every optimizer's step against Adam's on the study's own workload, simultaneous over optimizers."""

    def rule(run: pd.DataFrame) -> Finding:
        arms = sorted(set(run["arm"]) - {"adam"})
        if not arms:
            raise NotMeasured("no optimizer beside Adam in timing cell 'original_optimizers'")
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

    return _each_machine(tables.timing_cell(records, "original_optimizers"), rule)


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
    if table["seed"].nunique() < 2:
        return Finding(OPEN, number, "one seed, two are needed")
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
        best = tables.best_rate(energies, "fused_adam")
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


def _lr_tables(records: Records) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
    """Scores by seed, higher is better (the original energy, and minus the validation loss of all else), and their rows.

    A run that diverged has the score -inf. Both studies are needed: half of the cases are no majority of all.
    """
    found, rows = [tables.final_energies(records)], [tables.energy_rows(records)]
    ends = optimizers.ends(_of_study(records, "rates"))
    # The study "energy" holds the original objective at all rates already.
    for _, of_problem in ends[ends["problem"] != optimizers.LEFT_OUT].groupby("problem"):
        losses = of_problem.fillna({"val_loss": math.inf})
        losses = losses.pivot(index="seed", columns=["optimizer", "learning_rate"], values="val_loss")
        found.append(-losses.sort_index(axis=1))
        rows.append(of_problem)
    return found, rows


def c12(records: Records) -> Finding:
    """C12. In how many sweeps another rate beats 0.01."""
    beaten = best = cases = 0
    found, rows = _lr_tables(records)
    for scores in found:
        for name in scores.columns.unique("optimizer"):
            others = [rate for rate in scores[name].columns if rate != 0.01]
            if 0.01 not in scores[name] or not others:
                continue
            cases += 1
            if scores[name][0.01].count() < 2:
                continue  # of one seed nothing is better than another: the case counts, and decides nothing
            # A rate at which a seed diverged beats nothing, and is beaten by one at which none did.
            sound = [rate for rate in others if np.isfinite(scores[name][rate]).all()]
            if scores[name][0.01].eq(-math.inf).any():
                beaten += bool(sound)
                continue
            leads = _rate_leads(scores, name, 0.01, sound, _bonferroni(len(others)))
            beaten += any(lead.low > 0 for lead in leads)
            best += all(lead.high < 0 for lead in leads)
    if not cases:
        raise NotMeasured("no learning-rate sweep that holds 0.01 and another rate")
    number = Number(100 * beaten / cases, n=cases, unit="%", records=tables.cite(pd.concat(rows)))
    if 2 * beaten > cases:
        return Finding(REFUTED, number)
    if best == cases:
        return Finding(CONFIRMED, number)
    return Finding(OPEN, number, f"another rate is better in {beaten} and 0.01 is the best in {best} of {cases} cases")


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


RMSPROPS = ("rmsprop_corrected", "rmsprop", "rmsprop_torch")
C15_OTHERS = ("adam", "nadam", "adagrad")


def c15(records: Records) -> Finding:
    """C15. Three RMSprops against the study's other optimizers, each at its best rate, in three respects at once."""
    rows, energies = tables.energy_rows(records), tables.final_energies(records)
    if missing := [name for name in (*RMSPROPS, *C15_OTHERS) if name not in energies]:
        raise NotMeasured(f"no energy runs of {', '.join(missing)}")
    best = {name: tables.best_rate(energies, name) for name in (*RMSPROPS, *C15_OTHERS)}
    final = pd.DataFrame({name: energies[name][rate] for name, rate in best.items()}).dropna()
    if final.empty:
        raise NotMeasured(f"no seed in common between {', '.join(best)}")
    at_best = rows[rows["learning_rate"] == rows["optimizer"].map(best)]
    at_best = at_best.assign(step=at_best["step"].where(at_best["energy"] >= ENERGY_TARGET, at_best["steps"] + 1))
    steps = at_best.groupby(["seed", "optimizer"])["step"].min().unstack("optimizer").loc[final.index]
    confidence = _bonferroni(3 * len(RMSPROPS) * len(C15_OTHERS))

    def wider(name: str, other: str) -> Interval:
        values = final[[name, other]].to_numpy()

        def difference(picked: np.ndarray) -> float:
            spread = values[picked].std(axis=0, ddof=1)
            return float(spread[0] - spread[1])

        return seed_interval(len(values), difference, confidence, "1")

    leads = []
    for name in RMSPROPS:
        for other in C15_OTHERS:
            leads.append(median_interval(steps[other] - steps[name], confidence, "steps"))
            leads.append(paired_difference(final[name], final[other], confidence))
            leads.append(wider(name, other))
    number = Number.of(paired_difference(final["rmsprop"], final["adam"]), tables.cite(at_best))
    if all(lead.low > 0 for lead in leads):
        return Finding(CONFIRMED, number)
    if any(lead.high <= 0 for lead in leads):
        return Finding(REFUTED, number)
    return Finding(OPEN, number, f"{len(final)} seeds do not tell {len(leads)} comparisons apart")


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
    """C17. NAdam against Adam in basins known in closed form, both tuned: how many it ends in, and how it begins."""
    rows = _of_study(records, "tuned")
    rows = rows[(rows["problem"] == "basins") & rows["optimizer"].isin(["adam", "nadam"])]
    steps = sorted(rows["step"].unique())
    if len(steps) < 2:
        raise NotMeasured("no tuned runs of adam and nadam on problem 'basins'")
    # A run that diverged is in no basin.
    last = rows[rows["step"] == steps[-1]].fillna({"val_score": 0.0})
    inside = 100 * last.pivot(index="seed", columns="optimizer", values="val_score")
    losses = rows.pivot(index="seed", columns=["step", "optimizer"], values="val_loss")
    progress = losses[steps[0]] - losses[steps[1]]
    success = paired_difference(*tables.paired_columns(inside, "nadam", "adam"), _bonferroni(2), "points")
    early = paired_difference(*tables.paired_columns(progress, "nadam", "adam"), _bonferroni(2))
    same = equivalent_means(*tables.paired_columns(inside, "nadam", "adam"), SCORE_MARGIN)
    number = Number.of(success, tables.cite(rows))
    if success.n < FEWEST_SEEDS:
        return Finding(OPEN, number, f"{success.n} seeds, {FEWEST_SEEDS} are needed")
    if same or success.high < 0 or early.low > 0:
        return Finding(REFUTED, number)
    if success.low > 0 and early.high < 0:
        return Finding(CONFIRMED, number)
    return Finding(OPEN, number, f"{success.n} seeds do not tell NAdam and Adam apart")


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
    table = table[(table["n_qubits"] == STUDY_QUBITS) & (table["batch_size"] == STUDY_BATCH)]
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


# ------------------------------------------------------------------------ rules on updates, circuits and the tuning study
LARGEST_UPDATE = 10_000_000


def c20(records: Records) -> Finding:
    """C20. Adam's update over FusedAdam's at the largest size."""
    table = tables.timing_cell(records, "update")
    named = tables.update_arms(table)
    sizes = [size for optimizer, size in named if optimizer == "fused_adam"]
    if not sizes:
        raise NotMeasured("no update times of fused_adam")
    arms = [named.get((optimizer, max(sizes)), "") for optimizer in ("adam", "fused_adam")]
    # Only the runs that hold the largest size are asked.
    found = _each_machine(table[table["arm"].isin(arms)], lambda run: _faster(*tables.pair(run, *arms), run))
    if max(sizes) < LARGEST_UPDATE:
        return Finding(OPEN, found.number, f"updates of up to {max(sizes)} parameters only, {LARGEST_UPDATE} are needed")
    return found


def c21(records: Records) -> Finding:
    """C21. Live parameters of the original circuit."""
    table = records["circuits"]
    table = table[(table["circuit"] == "original") & (table["n_qubits"] == STUDY_QUBITS)]
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


def _of_study(records: Records, phase: str) -> pd.DataFrame:
    """Rows of a phase of the optimizer study, hybrid model; NotMeasured where there are none."""
    rows = optimizers.of(records["optimizers"], phase)
    if rows.empty:
        raise NotMeasured(f"no optimizers records of phase {phase!r}")
    return rows


def _bounds(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.value


def c06(records: Records) -> Finding:
    """C06. Steps saved by other starts than N(0, 1) at every depth, paired by seed."""
    rows = _of_study(records, "starts")
    # A miss counts as one evaluation after the last: fewer than it would need, and more than any hit.
    reached = rows["step"].where(rows["val_score"] >= START_TARGET, rows["steps"] + rows["every"])
    steps = reached.groupby([rows[name] for name in ("n_layers", "seed", "start")]).min().unstack("start")
    depths = steps.index.unique("n_layers")
    if missing := [start for start in ("normal", "small", "identity") if start not in steps]:
        raise NotMeasured(f"no runs with start {', '.join(missing)}")
    if len(depths) < 2:
        raise NotMeasured("runs at one circuit depth only")
    confidence = _bonferroni(2 * len(depths))
    saved = {}
    for start in ("small", "identity"):
        pairs = [tables.paired_columns(steps.loc[depth], "normal", start) for depth in depths]
        saved[start] = [median_interval(normal - other, confidence, "steps") for normal, other in pairs]
    # Of each start the depth at which it saves least, of these the larger.
    shown = max((min(leads, key=_bounds) for leads in saved.values()), key=_bounds)
    number = Number.of(shown, tables.cite(rows))
    fewest = min(lead.n for leads in saved.values() for lead in leads)
    if fewest < FEWEST_STARTS:
        return Finding(OPEN, number, f"{fewest} seeds, {FEWEST_STARTS} are needed")
    if shown.low > 0:
        return Finding(CONFIRMED, number)
    if not any(lead.low > 0 for leads in saved.values() for lead in leads):
        return Finding(REFUTED, number)
    return Finding(OPEN, number, "a start is faster at some depths and none at all of them")


@dataclass(frozen=True)
class Lead:
    """One tuned optimizer's lead in test score over another on a data task, in points."""

    problem: str
    better: str
    other: str
    interval: Interval  #: simultaneous over all leads
    equal: bool  #: within the margin
    tuned: bool  #: no best rate of the two is at the edge of what was searched


def test_score_leads(records: Records) -> tuple[list[Lead], list[str]]:
    """The leads between all pairs of tuned optimizers on every data task, and whose best rate is at the edge.

    Raises:
        NotMeasured: no two tuned optimizers with a seed in common.
    """
    _of_study(records, "tuned")
    scores = 100 * optimizers.scores(records["optimizers"])
    scores = scores[~scores.index.isin(optimizers.KINDS["energy"], level="problem")]
    edge = optimizers.choices(records["optimizers"])["at_edge"]
    pairs, untuned = [], []
    for problem, by_arm in scores.groupby(level="problem"):
        names = [name for name in by_arm if by_arm[name].notna().any()]
        at_edge = {name for name in names if edge.get((problem, name), True)}
        untuned += [f"{name} on {problem}" for name in sorted(at_edge)]
        for a, b in combinations(names, 2):
            both = by_arm[[a, b]].dropna()
            if len(both):
                # The better one first, so that every difference is a lead.
                first, second = (a, b) if both[a].mean() >= both[b].mean() else (b, a)
                pairs.append((problem, first, second, both[first], both[second], not {a, b} & at_edge))
    if not pairs:
        raise NotMeasured("no two tuned optimizers with a seed in common")
    confidence = _bonferroni(len(pairs))
    leads = [
        Lead(
            problem,
            first,
            second,
            paired_difference(a, b, confidence, "points"),
            equivalent_means(a, b, SCORE_MARGIN),
            tuned,
        )
        for problem, first, second, a, b, tuned in pairs
    ]
    return leads, untuned


def clear_leads(leads: list[Lead]) -> list[Lead]:
    """Those that show that optimizers differ, the clearest first."""
    # Test parts are small: with a few seeds differences can be equal by chance, and leave no spread to judge by.
    enough = min(lead.interval.n for lead in leads) >= FEWEST_SEEDS
    clear = [lead for lead in leads if enough and lead.tuned and not lead.equal and lead.interval.low > 0]
    return sorted(clear, key=lambda lead: -lead.interval.low)


def c25(records: Records) -> Finding:
    """C25. Leads in test score between tuned optimizers, simultaneous over pairs and tasks."""
    leads, untuned = test_score_leads(records)
    rows = _of_study(records, "tuned")
    cited = tables.cite(rows[~rows["problem"].isin(optimizers.KINDS["energy"])])
    if clear := clear_leads(leads):
        return Finding(CONFIRMED, Number.of(clear[0].interval, cited))
    largest = max(leads, key=lambda lead: lead.interval.value).interval
    number = Number.of(largest, cited)
    enough = min(lead.interval.n for lead in leads) >= FEWEST_SEEDS
    if not untuned and all(lead.equal for lead in leads) and enough:
        return Finding(REFUTED, number)
    at_edge = f"; the best rate is at the edge of what was searched for {', '.join(untuned)}" if untuned else ""
    return Finding(OPEN, number, f"{largest.n} seeds do not tell {len(leads)} pairs of tuned optimizers apart{at_edge}")
