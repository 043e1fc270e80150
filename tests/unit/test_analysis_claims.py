"""Every rule of the ledger is seen confirming, refuting and staying open on records with planted effects and nulls."""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import sealed

sys.path.insert(0, str(Path(__file__).parent))
import atlas_tables
import study_records
from analysis_records import (
    PROOF,
    write_circuit,
    write_energy,
    write_gradients,
    write_timing,
    write_training,
    write_trial,
)

from hybridbench import paths
from hybridbench.analysis import claims, numbers, rules, tables
from hybridbench.analysis.tables import Number, Records
from hybridbench.errors import ConfigurationError, DataError
from hybridbench.measurement import records as record_module

rng = np.random.default_rng(11)
STARTS = 0.6065 + 0.045 * rng.normal(size=6)
NOISE = 0.002 * rng.normal(size=6)
STUDY4 = ("adam", "rmsprop", "nadam", "adagrad")
STUDY = study_records.study()
OPTIMIZERS = dict.fromkeys(("sgd", "rmsprop", "adagrad", "adam", "nadam", "adamw", "fused_adam"), 1.0)


@pytest.fixture
def build(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path))
    return tmp_path


def verdict(claim):
    row = next(row for row in claims.LEDGER if row.id == claim)
    return claims._decide(row, Records("build"))


def test_ledger_has_the_28_claims_in_order_each_with_a_rule():
    assert [row.id for row in claims.LEDGER] == [f"C{i:02d}" for i in range(1, 29)]
    for row in claims.LEDGER:
        assert "onfirmed" in row.rule, row.id
        assert "refuted" in row.rule, row.id
        assert row.rule.endswith("."), row.id
        assert row.claim, row.id
        assert row.where, row.id
    assert {"C01", "C07", "C19", "C27"} <= {row.id for row in claims.LEDGER if row.needs_gpu}


def test_without_records_everything_is_open_and_says_what_is_missing(build):
    found = claims.decide("build")
    assert {row.verdict for row in found} == {"open"}
    assert all(row.missing for row in found)
    assert all(row.text == "–" for row in found)
    assert claims.numbers("build")["claims_open"].value == 28


def test_unknown_source_is_refused():
    with pytest.raises(ConfigurationError, match="'shipped' or 'build'"):
        claims.decide("mine")


FASTER = {"confirmed": 1.5, "refuted": 0.8}
FASTER_CELLS = [("C03", "precision", "complex128", "complex64"), ("C04", "batching", "loop", "broadcast")]


@pytest.mark.parametrize(("claim", "cell", "slow", "fast"), FASTER_CELLS)
def test_speed_claims(build, claim, cell, slow, fast):
    write_timing(cell, {slow: 1.5, fast: 1.0})
    found = verdict(claim)
    assert found.verdict == "confirmed"
    assert found.number.low < 1.5 < found.number.high
    assert found.number.records[0].startswith("timing/")
    assert found.missing == ""


@pytest.mark.parametrize(("claim", "cell", "slow", "fast"), FASTER_CELLS)
@pytest.mark.parametrize(
    ("ratio", "noise", "samples", "expected"),
    [(0.8, 0.02, 30, "refuted"), (1.0, 0.02, 30, "refuted"), (1.0, 1.0, 30, "open"), (1.5, 0.02, 4, "open")],
)
def test_speed_claims_otherwise(build, claim, cell, slow, fast, ratio, noise, samples, expected):
    write_timing(cell, {slow: ratio, fast: 1.0}, noise=noise, samples=samples)
    assert verdict(claim).verdict == expected


def test_the_workload_nearest_to_the_studys_decides(build):
    write_timing("batching", {"loop": 3.0, "broadcast": 1.0}, n_qubits=8, batch_size=64)
    write_timing("batching", {"loop": 0.5, "broadcast": 1.0}, n_qubits=8, batch_size=1)
    write_timing("batching", {"loop": 0.5, "broadcast": 1.0}, n_qubits=2, batch_size=64)
    found = verdict("C04")
    assert found.verdict == "confirmed"
    assert found.number.value == pytest.approx(3.0, rel=0.05)


def test_machines_that_disagree_leave_a_claim_open(build):
    write_timing("batching", {"loop": 3.0, "broadcast": 1.0})
    write_timing("batching", {"loop": 0.5, "broadcast": 1.0}, batch_size=99, on={"cpu": "another"})
    assert verdict("C04").missing == "the machines disagree"


def test_c02_optimizer_saving(build):
    write_timing("original_optimizers", {**OPTIMIZERS, "adagrad": 0.93})
    write_timing("optimizers", {**OPTIMIZERS, "adagrad": 0.5})  # of compiled steps, which the claim is not about
    found = verdict("C02")
    assert found.verdict == "refuted"
    assert found.number.value == pytest.approx(7, abs=2)
    assert found.number.unit == "%"


@pytest.mark.parametrize(("fastest", "noise", "expected"), [(0.6, 0.02, "confirmed"), (0.75, 0.3, "open")])
def test_c02_otherwise(build, fastest, noise, expected):
    write_timing("original_optimizers", {**OPTIMIZERS, "adagrad": fastest}, noise=noise)
    assert verdict("C02").verdict == expected


@pytest.mark.parametrize(
    ("graph", "compile_time", "expected"),
    [(0.1, 2.0, "confirmed"), (1.0, 1.0, "refuted"), (0.1, 500.0, "refuted")],
)
def test_c05_pays_for_its_compilation(build, graph, compile_time, expected):
    write_timing("compile", {"eager": 1.0, "graph": graph}, first={"graph": compile_time})
    assert verdict("C05").verdict == expected


def test_c05_open_and_payback(build):
    write_timing("compile", {"eager": 1.0, "graph": 0.5}, first={"graph": 51.0}, noise=1.0)
    assert verdict("C05").verdict == "open"
    assert claims.numbers("build")["graph_payback"].value > 20


@pytest.mark.parametrize(
    ("slower", "noise", "expected"), [(1.0, 0.02, "confirmed"), (1.3, 0.02, "refuted"), (1.02, 1.0, "open")]
)
def test_c13_independence_of_the_rate(build, slower, noise, expected):
    write_timing("optimizers", {"adam": 1.0, "adam, lr 0.001": slower, "adam, lr 0.1": 1.0}, noise=noise)
    assert verdict("C13").verdict == expected


# ---------------------------------------------------------------------------------------------------------------- on a GPU
@pytest.mark.parametrize(
    ("speedup", "noise", "expected"), [(1.3, 0.02, "confirmed"), (0.7, 0.02, "refuted"), (0.9, 0.4, "open")]
)
@pytest.mark.parametrize("claim", ["C01", "C19"])
def test_gpu_ratio(build, claim, speedup, noise, expected):
    arms = {"default.qubit/broadcast": speedup, "default.qubit/broadcast, gpu": 1.0, "lightning.qubit/loop": 4.0}
    write_timing("original", arms, proof=PROOF, noise=noise)
    assert verdict(claim).verdict == expected


def test_a_gpu_arm_without_proof_is_no_record_and_the_claim_stays_open(build):
    arms = {"default.qubit/broadcast": 1.3, "lightning.qubit/loop": 4.0}
    with pytest.raises(ConfigurationError, match=r"proves nothing of GPU arm 'default\.qubit/broadcast, gpu'"):
        write_timing("original", {**arms, "default.qubit/broadcast, gpu": 1.0})
    write_timing("original", arms)
    found = verdict("C01")
    assert (found.verdict, found.missing) == ("open", "no GPU record")
    assert found.number.value == pytest.approx(4.0 / 1.3, rel=0.05)


@pytest.mark.parametrize(
    ("gpu", "noise", "expected"), [(0.5, 0.02, "confirmed"), (2.0, 0.02, "refuted"), (1.0, 1.0, "open")]
)
def test_c07_latency(build, gpu, noise, expected):
    write_timing("methods", {"lightning.qubit/adjoint": 1.0, "lightning.gpu/adjoint": gpu}, proof=PROOF, noise=noise)
    assert verdict("C07").verdict == expected
    assert verdict("C27").verdict == "open"


def test_c07_without_a_gpu(build):
    write_timing("methods", {"lightning.qubit/adjoint": 1.0, "default.qubit/backprop": 2.0})
    found = verdict("C07")
    assert (found.verdict, found.missing) == ("open", "no GPU record")
    assert found.number.value == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize(
    ("gpu", "graph", "expected"),
    [(0.5, 0.5, "confirmed"), (2.0, 0.5, "refuted"), (None, 2.0, "refuted"), (None, 0.5, "open")],
)
def test_c23_ladder(build, gpu, graph, expected):
    write_timing("batching", {"loop": 3.0, "broadcast": 1.0})
    write_timing("compile", {"eager": 1.0, "graph": graph})
    arms = {"lightning.qubit/adjoint": 1.0, "default.qubit/backprop": 1.5}
    write_timing("methods", arms | ({"lightning.gpu/adjoint": gpu} if gpu else {}), proof=PROOF if gpu else None)
    assert verdict("C23").verdict == expected


@pytest.mark.parametrize(("ratio", "expected"), [(0.7, "confirmed"), (3.0, "refuted")])
def test_c24_on_the_studys_hardware(build, ratio, expected):
    arms = {"default.qubit/broadcast": ratio, "default.qubit/broadcast, gpu": 1.0}
    hardware = {"gpu": "Tesla T4", "cpu": "Intel(R) Xeon(R) Silver 4214"}
    write_timing("original", arms, proof=sealed.proof(gpu="Tesla T4"), on=hardware)
    assert verdict("C24").verdict == expected


def test_c24_elsewhere_shows_that_rows_carry_their_environment(build):
    write_timing("original", {"default.qubit/broadcast": 1.0, "lightning.qubit/loop": 4.0})
    found = verdict("C24")
    assert found.verdict == "open"
    assert found.number.text == "100 %"


@pytest.mark.parametrize(
    ("seconds", "qubits", "expected"), [(1.0, 20, "confirmed"), (60.0, 20, "refuted"), (1.0, 10, "open")]
)
def test_c26_twenty_qubits(build, seconds, qubits, expected):
    write_timing("methods", {"lightning.qubit/adjoint": 0.25 * seconds}, n_qubits=qubits - 2)
    write_timing("methods", {"lightning.qubit/adjoint": seconds}, n_qubits=qubits)
    found = verdict("C26")
    assert found.verdict == expected
    if expected == "open":
        assert found.number.value == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize(("seconds", "expected"), [(0.5, "confirmed"), (2.0, "refuted")])
def test_c26_twenty_qubits_with_a_batch_of_their_own(build, seconds, expected):
    write_timing("methods", {"lightning.qubit/adjoint": 0.1}, n_qubits=10, batch_size=32)
    write_timing("methods", {"lightning.qubit/adjoint": seconds}, n_qubits=20, batch_size=2, samples=10)
    found = verdict("C26")
    assert (found.verdict, found.number.unit, found.number.n) == (expected, "h", 10)
    assert found.number.value == pytest.approx(seconds * 50 * 100 / 3600, rel=0.1)
    assert found.number.low < found.number.value < found.number.high


def test_the_study_s_own_circuit_on_twenty_qubits_is_a_number_and_no_verdict(build):
    write_timing("methods", {"lightning.qubit/adjoint": 0.1}, n_qubits=10)
    arms = {"default.qubit/broadcast": 1.0, "lightning.qubit/loop": 4.0}
    write_timing("original", arms)
    assert "original_100_steps_20_qubits" not in claims.numbers("build")
    write_timing("original", {"lightning.qubit/loop": 0.5}, n_qubits=20, batch_size=2)
    assert claims.numbers("build")["original_100_steps_20_qubits"].value == pytest.approx(0.5 * 50 * 100 / 3600, rel=0.1)
    assert verdict("C26").verdict == "open"


# --------------------------------------------------------------------------------------------------------- original energy
def test_c08_c09_same_trajectory_is_refuted(build):
    for rate in (1e-4, 0.1):
        write_energy("adam", rate, STARTS + 0.006, STARTS)
        write_energy("fused_adam", rate, STARTS + 0.006 + 1e-9, STARTS)
    assert verdict("C08").verdict == "refuted"
    found = verdict("C09")
    assert found.verdict == "refuted"
    assert found.number.high < 12
    numbers = claims.numbers("build")
    assert numbers["adam_gain_lr0.0001"].value == pytest.approx(0.006)
    assert 0 < numbers["same_adam_apart"].value < 100


@pytest.mark.parametrize(
    ("lead", "scatter", "c08", "c09"),
    [(0.2, 0.01, "confirmed", "confirmed"), (-0.2, 0.01, "refuted", "refuted"), (0.02, 0.2, "open", "open")],
)
def test_c08_c09_where_trajectories_differ(build, lead, scatter, c08, c09):
    apart = scatter * np.array([1, -1, 1.1, -0.9, 0.8, -1.2])
    write_energy("adam", 1e-4, STARTS, STARTS)
    write_energy("adagrad", 1e-4, STARTS - 0.001 + NOISE, STARTS)
    write_energy("fused_adam", 1e-4, STARTS + lead + apart, STARTS)
    assert verdict("C08").verdict == c08
    assert verdict("C09").verdict == c09


def test_c09_open_without_its_rate(build):
    write_energy("adam", 0.1, STARTS)
    write_energy("fused_adam", 0.1, STARTS)
    assert verdict("C09").verdict == "open"
    assert "0.0001" in verdict("C09").missing


@pytest.mark.parametrize(
    ("best", "fused_step", "expected"),
    [(1.0, 1 / 1.0253, "refuted"), (0.51, 0.5, "refuted"), (0.51, 1 / 1.0253, "confirmed")],
)
def test_c10_both_numbers_have_to_hold(build, best, fused_step, expected):
    write_energy("fused_adam", 0.1, best + NOISE)
    write_timing("optimizers", {"adam": 1.0, "fused_adam": fused_step}, noise=0.005)
    assert verdict("C10").verdict == expected


def test_c10_bound_by_the_updates_share(build):
    write_timing("parts", {"default.qubit/backprop": 1.0}, parts={"update": 0.01})
    assert verdict("C10").verdict == "refuted"
    assert claims.numbers("build")["fusing_bound"].value == pytest.approx(1.01, abs=0.1)


def test_c10_open(build):
    write_timing("parts", {"default.qubit/backprop": 1.0}, parts={"update": 0.3})
    found = verdict("C10")
    assert found.verdict == "open"
    assert "no energy records" in found.missing


def write_sweep(finals):
    """finals: (optimizer, rate) → final mean energy."""
    for (name, rate), final in finals.items():
        write_energy(name, rate, final + NOISE * (1 + rate) + 0.001 * np.array([1, -1, 1, -1, 1, -1]), STARTS)


@pytest.mark.parametrize(("higher", "expected"), [(0.95, "refuted"), (0.4, "confirmed"), (0.65, "open")])
def test_c11_higher_rates(build, higher, expected):
    write_sweep({(name, 0.001): 0.65 for name in STUDY4} | {(name, 0.1): higher for name in STUDY4})
    assert verdict("C11").verdict == expected


def test_c11_one_optimizer_is_enough_to_refute(build):
    write_sweep({(name, 0.001): 0.65 for name in STUDY4} | {(name, 0.1): 0.4 for name in STUDY4} | {("nadam", 0.5): 0.9})
    assert verdict("C11").verdict == "refuted"


def write_rates(problem, losses):
    """losses: (optimizer, rate) → final validation loss of five seeds, in one value or one a seed."""
    for (name, rate), loss in losses.items():
        wobble = 0.01 * rng.normal(size=5)
        write_trial([0.5] * 5, loss + wobble, problem=problem, optimizer=name, learning_rate=rate, phase="rates")


def write_c12(beaten, problems=("wine",)):
    """Four optimizers on the original energy and on problems; at 0.1 the first `beaten` of them are better than at 0.01."""
    for i, name in enumerate(STUDY4):
        write_sweep({(name, 0.01): 0.8, (name, 0.1): 0.95 if i < beaten else 0.5})
        for problem in problems:
            write_rates(problem, {(name, 0.01): 0.5, (name, 0.1): 0.2 if i < beaten else 0.8})


@pytest.mark.parametrize(("beaten", "expected"), [(4, "refuted"), (0, "confirmed"), (1, "open")])
def test_c12_best_balance(build, beaten, expected):
    write_c12(beaten, ("wine", "basins", "original"))
    found = verdict("C12")
    # The original energy has a study of its own, and counts once.
    assert (found.verdict, found.number.value, found.number.n) == (expected, 25 * beaten, 12)
    assert {citation.split()[0] for citation in found.number.records} == {"energy", "optimizers"}


def test_c12_half_of_the_cases_decide_nothing(build):
    write_c12(4, problems=())
    assert (verdict("C12").verdict, verdict("C12").missing) == ("open", "no optimizers records")


@pytest.mark.parametrize(("lost", "beaten"), [(0.01, 1), (0.1, 0)])
def test_c12_a_rate_that_diverges_loses(build, lost, beaten):
    write_c12(0, problems=())
    nan = np.array([0, 0, math.nan, 0, 0])
    write_rates("wine", {("adam", rate): 0.5 + (nan if rate == lost else 0) for rate in (0.01, 0.1)})
    assert verdict("C12").number.value == pytest.approx(100 * beaten / 5)
    assert verdict("C12").verdict == ("open" if beaten else "confirmed")


RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


def write_widths(narrow, wide, rates=RATES):
    for name in STUDY4:
        good = 1.0 if name in wide else 0.0
        spread = {rate: 1.0 if rate == 0.1 or (good and 1e-3 <= rate <= 1) else 0.3 for rate in rates}
        write_sweep({(name, rate): value for rate, value in spread.items()})


def test_c14_sensitivity(build):
    write_widths(("adagrad", "rmsprop"), ("adam", "nadam"))
    assert verdict("C14").verdict == "confirmed"


def test_c14_refuted(build):
    write_widths(("adam", "nadam"), ("adagrad", "rmsprop"))
    assert verdict("C14").verdict == "refuted"


def test_c14_open_on_a_short_grid_and_between(build):
    write_widths((), ("adagrad", "rmsprop", "adam", "nadam"), rates=RATES[:4])
    found = verdict("C14")
    assert found.verdict == "open"
    assert "decades" in found.missing
    assert found.number.unit == "decades"


@pytest.mark.parametrize(
    ("rates", "final", "expected"),
    [
        ((0.1, 0.5), 0.999, "refuted"),
        ((0.1, 1.0, 10.0), 0.7, "confirmed"),
        ((0.1, 0.5), 0.7, "open"),
        ((1.0, 10.0), 0.95, "open"),
    ],
)
def test_c16_adagrad_at_high_rates(build, rates, final, expected):
    write_sweep({("adagrad", rate): final for rate in rates})
    assert verdict("C16").verdict == expected


@pytest.mark.parametrize(
    ("adam", "fused", "expected"),
    [(82, 80, "confirmed"), (82, 20, "refuted"), (2000, 80, "refuted"), (82, [60] * 4 + [95] * 4, "open")],
)
def test_c18_steps_to_target(build, adam, fused, expected):
    write_energy("adam", 0.01, [1.0] * 8, when=adam)
    write_energy("fused_adam", 0.1, [1.0] * 8, when=fused)
    assert verdict("C18").verdict == expected


def test_c18_missed_target_is_written_in_words(build):
    write_energy("adam", 0.01, [1.0] * 8, when=2000)
    write_energy("fused_adam", 0.1, [1.0] * 8, when=2000)
    assert verdict("C18").text == "not reached in 100 steps"


def test_c28_factorial(build):
    grid = [(name, rate) for name in STUDY4 for rate in (0.001, 0.01, 0.1, 0.5)]
    for name, rate in grid[:-1]:
        write_energy(name, rate, [0.9], every=50)
    assert (verdict("C28").verdict, verdict("C28").number.value) == ("open", 15)
    write_energy(*grid[-1], [0.9], every=50)
    found = verdict("C28")
    assert (found.verdict, found.text) == ("confirmed", "16 of 16")


def test_c28_a_run_that_stops_early_refutes(build):
    grid = [(name, rate) for name in STUDY4 for rate in (0.001, 0.01, 0.1, 0.5)]
    for name, rate in grid:
        write_energy(name, rate, [0.9], every=50, steps=50 if rate == 0.5 and name == "adagrad" else 100)
    assert verdict("C28").verdict == "refuted"


@pytest.mark.parametrize("claim", ["C06", "C15", "C17", "C20", "C25"])
def test_claims_whose_study_is_missing_stay_open(build, claim):
    for name, rate in (("adam", 0.01), ("nadam", 0.01), ("rmsprop", 0.01)):
        write_energy(name, rate, STARTS + 0.1, STARTS)
    write_timing("optimizers", OPTIMIZERS)
    found = verdict(claim)
    assert (found.verdict, found.number) == ("open", None)
    assert found.missing


RMSPROPS = ("rmsprop_corrected", "rmsprop", "rmsprop_torch")
WAVE = np.array([1, -1, 0.5, -0.5, 0.8, -0.8, 0.2, -0.2, 0.9, -0.9])


def write_c15(slow=(), low=(), steady=(), noise=1.0):
    """RMSprops that lead and scatter, but for those named."""
    for name in ("adam", "nadam", "adagrad"):
        write_energy(name, 0.1, 0.97 + 0.0005 * noise * WAVE[::-1], when=60)
        write_energy(name, 0.01, 0.9 + 0.001 * WAVE, when=20)
    for name in RMSPROPS:
        final, spread = 0.96 if name in low else 0.99, 0.0001 if name in steady else 0.004
        write_energy(name, 0.1, final + spread * WAVE, when=80 if name in slow else 20)


def test_c15_confirmed_where_every_rmsprop_leads_and_scatters(build):
    write_c15()
    found = verdict("C15")
    assert found.verdict == "confirmed"
    assert found.number.value == pytest.approx(0.02, abs=0.005)


@pytest.mark.parametrize("failing", ["slow", "low", "steady"])
def test_c15_one_setting_and_one_respect_are_enough_to_refute(build, failing):
    write_c15(**{failing: ("rmsprop_torch",)})
    assert verdict("C15").verdict == "refuted"


def test_c15_open_within_seed_noise(build):
    write_c15(noise=8.0)
    assert verdict("C15").verdict == "open"


def write_c17(success, progress, seeds=8, noise=0.01):
    """NAdam's lead over Adam in share of the global basin and in early progress."""
    wobble = noise * WAVE[:seeds]
    write_trial(0.8 + 0 * wobble, early=0.3, problem="basins", optimizer="adam")
    write_trial(0.8 + success + wobble, early=list(0.3 + progress + wobble), problem="basins", optimizer="nadam")


@pytest.mark.parametrize(
    ("success", "progress", "noise", "expected"),
    [
        (0.1, -0.1, 0.01, "confirmed"),
        (-0.1, -0.1, 0.01, "refuted"),
        (0.1, 0.1, 0.01, "refuted"),
        (0.0, -0.1, 0.001, "refuted"),  # equal success is no escape
        (0.017, -0.1, 0.0001, "refuted"),  # equal: within two points
        (0.023, -0.1, 0.0001, "confirmed"),
        (0.03, -0.1, 0.1, "open"),
        (0.1, 0.0, 0.01, "open"),
    ],
)
def test_c17_basins(build, success, progress, noise, expected):
    write_c17(success, progress, noise=noise)
    found = verdict("C17")
    assert (found.verdict, found.number.unit) == (expected, "points")
    assert found.number.value == pytest.approx(100 * success, abs=0.1)


def test_c17_few_seeds_decide_nothing(build):
    write_c17(0.1, -0.1, seeds=4)
    assert (verdict("C17").verdict, verdict("C17").missing) == ("open", "4 seeds, 5 are needed")


def write_starts(saved, seeds=12, depths=(2, 4, 8)):
    """saved: start → steps that it reaches the target sooner than N(0, 1), one number or one a depth; None never does."""
    for depth in depths:
        for start in ("normal", "uniform", "small", "identity"):
            fewer = saved.get(start, 0)
            fewer = fewer[depth] if isinstance(fewer, dict) else fewer
            when = [9999 if fewer is None else 150 + 15 * (seed % 3) - fewer for seed in range(seeds)]
            settings = {"n_layers": depth, "start": start, "phase": "starts", "problem": "tfim", "every": 5}
            write_trial([0.98] * seeds, when=when, **settings)


@pytest.mark.parametrize(
    ("saved", "expected", "shown"),
    [
        ({"small": 50, "identity": 20}, "confirmed", 50),
        ({"small": -30, "identity": {2: 20, 4: 40, 8: 60}}, "confirmed", 20),
        ({"small": -30, "identity": 0, "uniform": 100}, "refuted", 0),  # a uniform start is not in the claim
        ({"small": {2: 30, 4: 0, 8: 0}, "identity": {2: 0, 4: 30, 8: 30}}, "open", 0),
        ({"small": None, "identity": None}, "refuted", None),
    ],
)
def test_c06_starts(build, saved, expected, shown):
    write_starts(saved)
    found = verdict("C06")
    assert found.verdict == expected
    assert shown is None or found.number.value == shown
    assert found.number.unit == "steps"


def test_c06_a_start_that_arrives_leads_over_one_that_never_does(build):
    write_starts({"normal": None, "uniform": None, "small": 0})
    found = verdict("C06")
    assert (found.verdict, found.number.value) == ("confirmed", 305 - 165)


def test_c06_few_seeds_or_one_depth_decide_nothing(build):
    write_starts({"small": 50}, seeds=6)
    assert verdict("C06").missing == "6 seeds, 10 are needed"


def test_c06_needs_more_than_one_depth(build):
    write_starts({"small": 50}, depths=(2,))
    assert verdict("C06").missing == "runs at one circuit depth only"


@pytest.mark.parametrize(
    ("ratios", "noise", "expected"),
    [
        ({10: 0.7, 10_000_000: 1.5}, 0.02, "confirmed"),
        ({10: 1.5, 10_000_000: 0.7}, 0.02, "refuted"),
        ({10: 1.5, 10_000_000: 1.0}, 0.02, "refuted"),
        ({10: 1.5, 10_000_000: 1.0}, 0.3, "open"),
        ({10: 1.5, 100_000: 1.5}, 0.02, "open"),
    ],
)
def test_c20_update_of_many_parameters(build, ratios, noise, expected):
    arms = {f"adam, {size}": ratio for size, ratio in ratios.items()} | {f"fused_adam, {size}": 1.0 for size in ratios}
    write_timing("update", arms, noise=noise, n_qubits=0, n_layers=0, batch_size=1)
    found = verdict("C20")
    assert found.verdict == expected
    if noise < 0.1:
        assert found.number.value == pytest.approx(ratios[max(ratios)], rel=0.05)
    if max(ratios) < 10_000_000:
        assert found.missing == "updates of up to 100000 parameters only, 10000000 are needed"


# ---------------------------------------------------------------------------------------------------- circuits and training
@pytest.mark.parametrize(("live", "expected"), [(1, "refuted"), (8, "confirmed"), (6, "open")])
def test_c21_live_parameters(build, live, expected):
    write_circuit(live)
    write_circuit(5, circuit="another")
    found = verdict("C21")
    assert (found.verdict, found.text) == (expected, f"{live} of 8")


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ({"lightning.qubit/adjoint": 1e-12, "default.qubit/parameter-shift": 2e-9}, "confirmed"),
        ({"lightning.qubit/adjoint": 1e-12, "default.qubit/parameter-shift": 2e-3}, "refuted"),
        ({"lightning.qubit/adjoint": 1e-12}, "open"),
    ],
)
def test_c22_gradients(build, gaps, expected):
    write_gradients(gaps)
    assert verdict("C22").verdict == expected
    assert verdict("C22").number.value == max(gaps.values())


def test_c22_a_gradient_that_is_not_a_number_agrees_with_nothing(build):
    write_gradients({"lightning.qubit/adjoint": 1e-12, "default.qubit/parameter-shift": math.nan})
    found = verdict("C22")
    assert (found.verdict, found.text) == ("refuted", "not a number")
    assert claims.write_claims("build").is_file()


def write_tuned(scores, inside=True, noise=0.002, losses=None):
    """Tuning points at three rates, the best inside or at the edge, and tuned runs with these mean scores."""
    for name, score in scores.items():
        best = 0.01 if inside else 0.1
        for rate in (0.001, 0.01, 0.1):
            write_trial([0.5] * 2, [0.2 if rate == best else 0.5] * 2, optimizer=name, learning_rate=rate, phase="tuning")
        seeds = score + noise * np.array([1, -1, 0.5, -0.5, 0.2])
        write_trial(seeds, losses, optimizer=name, learning_rate=best)


@pytest.mark.parametrize(
    ("scores", "inside", "expected"),
    [
        ({"adam": 0.95, "sgd": 0.85}, True, "confirmed"),
        ({"adam": 0.95, "sgd": 0.949}, True, "refuted"),
        ({"adam": 0.95, "sgd": 0.85}, False, "open"),
        ({"adam": 0.95, "sgd": 0.949}, False, "open"),
    ],
)
def test_c25_generalisation(build, scores, inside, expected):
    write_tuned(scores, inside, 0.0)
    found = verdict("C25")
    assert (found.verdict, found.number.unit) == (expected, "points")
    assert found.number.value == pytest.approx(100 * (scores["adam"] - scores["sgd"]))
    assert ("edge" in found.missing) == (not inside)


def test_c25_open_within_seed_noise(build):
    write_tuned({"adam": 0.8}, noise=0.1)
    write_tuned({"sgd": 0.79}, noise=-0.1)
    assert verdict("C25").verdict == "open"


def test_c25_energies_have_nothing_to_generalise_to(build):
    write_trial([0.9] * 5, problem="tfim", optimizer="adam")
    write_trial([0.1] * 5, problem="tfim", optimizer="sgd")
    assert verdict("C25").number is None


def test_an_optimizer_that_diverges_everywhere_is_no_crash(build):
    write_tuned({"adam": 0.95, "sgd": 0.85}, noise=0.0)
    lost = [math.nan] * 5
    for phase in ("tuning", "tuned", "rates", "default"):
        write_trial(lost, lost, early=math.nan, optimizer="momentum", learning_rate=0.01, phase=phase)
    assert verdict("C25").verdict == "confirmed"
    assert claims.write_claims("build").is_file()
    found = claims.numbers("build")
    assert found["study_rate_lowest_adam"].text == found["study_rate_highest_adam"].text == "0.01"
    assert found["study_iqm_momentum"].value == 0
    assert found["study_diverged_tuned_momentum"].value == 100


# -------------------------------------------------------------------------------------------------------- numbers and files
def everything():
    for qubits, batch in ((4, 32), (8, 32), (8, 100)):
        arms = {"default.qubit/backprop": 0.1, "lightning.qubit/adjoint": 0.05, "default.qubit/parameter-shift": 1.0}
        write_timing("methods", arms, n_qubits=qubits, batch_size=batch)
    write_timing(
        "parts", {"default.qubit/backprop": 0.1}, parts={"update": 0.05, "quantum forward": 0.3, "quantum backward": 0.5}
    )
    write_timing("batching", {"loop": 3.0, "broadcast": 1.0})
    write_timing("compile", {"eager": 1.0, "graph": 0.1}, first={"graph": 10.0})
    write_timing("precision", {"complex128": 1.0, "complex64": 0.8})
    write_timing("optimizers", OPTIMIZERS | {"adam, lr 0.001": 1.0, "adam, lr 0.1": 1.0})
    updates = {"adam, 10": 0.1, "adam, 1000": 0.9, "fused_adam, 10": 0.05, "fused_adam, 1000": 0.5}
    write_timing("update", updates, n_qubits=0, n_layers=0, batch_size=1)
    write_timing("original", {"default.qubit/broadcast": 0.02, "lightning.qubit/loop": 0.1})
    for name in (*STUDY4, "fused_adam"):
        for rate in (1e-4, 0.001, 0.1):
            write_energy(name, rate, STARTS[:3] + 0.3 * rate, STARTS[:3], every=10)
    for model, score in (("hybrid", 0.9), ("separable", 0.89), ("classical", 0.93)):
        write_training(score + 0.01 * rng.normal(size=4), model=model)
    study_records.write(paths.build_dir(), STUDY)
    write_circuit(1)
    write_gradients({"lightning.qubit/adjoint": 1e-12, "default.qubit/parameter-shift": 2e-9})


def test_numbers_and_claims_file(build):
    everything()
    numbers = claims.numbers("build")
    expected = [
        "backprop_over_lightning",
        "backprop_over_lightning_4q_32b",
        "backprop_over_lightning_max",
        "share_update",
        "share_quantum",
        "fusing_bound",
        "batching_speedup",
        "precision_speedup",
        "graph_speedup",
        "graph_payback",
        "fused_adam_speedup",
        "saving_adagrad",
        "update_fused_adam_1000",
        "update_share_1000",
        "original_loop_over_broadcast",
        "original_live",
        "gradient_gap_max",
        "initial_energy",
        "energy_best_rate_adam",
        "test_score_digits_3v5_hybrid",
        "hybrid_minus_classical_digits_3v5",
        "study_rate_lowest_sgd",
        "study_at_edge",
        "advice_classification:adam",
        "advice_classification:adam:rate_low",
        "study_iqm_adam",
        "study_iqm_default_adam",
        "study_improvement_sgd",
        "study_p_sgd",
        "study_rank_nadam",
        "study_target_steps_adam",
        "study_target_seconds_adam",
        "study_target_reached_sgd",
        "study_near_reached_sgd",
        "study_diverged_tuning_momentum",
        "study_width_adam",
        "study_hybrid_minus_classical_diabetes",
        "study_hybrid_minus_separable_largest",
        "study_gap_hybrid",
        "study_gap_momentum",
        "study_control_p",
        "records_optimizers",
        "machine_cpu",
        "machine_cores",
        "machine_pennylane",
        "records_all",
        "study_gpu_ratio_printed",
    ]
    assert [name for name in expected if name not in numbers] == []
    assert numbers["share_update"].value == pytest.approx(5, abs=0.3)
    assert numbers["share_quantum"].value == pytest.approx(80, abs=3)
    assert numbers["graph_payback"].value == pytest.approx(10, abs=2)
    assert numbers["test_score_digits_3v5_classical"].unit == "%"
    assert numbers["energy_best_rate_adam"].text == "0.1"
    assert numbers["study_target_steps_sgd"].text == "not reached"
    assert numbers["study_target_reached_sgd"].text == "0 %"
    # A step of one second, a tenth of it the smallest update.
    assert numbers["update_share_10"].value == pytest.approx(10, abs=1)
    assert numbers["update_share_1000"].value == pytest.approx(50, abs=3)
    assert numbers["study_gap_momentum"].value == pytest.approx(10)
    assert numbers["study_gap_momentum"].unit == "points"
    assert numbers["study_target_seconds_adam"].value == pytest.approx(numbers["study_target_steps_adam"].value, rel=0.1)
    assert numbers["study_hybrid_minus_classical_largest"].value == pytest.approx(-2, abs=0.5)
    assert numbers["study_hybrid_minus_classical_largest_problem"].text in {"diabetes", "digits_3v5"}
    assert numbers["study_runs"].value == len(STUDY.drop_duplicates(["record", "seed"]))
    assert numbers["study_steps"].value == 300 * numbers["study_runs"].value
    assert numbers["study_widened"].text == "3 of 12"

    first = claims.write_claims("build")
    assert first == build / "claims.json"
    content = json.loads(first.read_text())
    assert [row["id"] for row in content["claims"]] == [row.id for row in claims.LEDGER]
    for row in content["claims"]:
        assert row["verdict"] in {"confirmed", "refuted", "open"}
        assert row["missing"] if row["verdict"] == "open" else row["number"]
    ratio = content["numbers"]["backprop_over_lightning"]
    assert set(ratio) == {"value", "low", "high", "n", "unit", "records", "text", "short"}
    assert re.fullmatch(r"\d\.\d+ \[\d\.\d+, \d\.\d+\]", ratio["text"])
    assert ratio["value"] == float(f"{ratio['value']:.6g}")
    assert not list(build.glob("*.part"))


def study_numbers(**values):
    """Numbers by which the hypotheses are decided; a pair is a low and a high bound."""
    made = {name: Number(0.0, *v) if isinstance(v, tuple) else Number(v) for name, v in values.items()}
    return {name: number.words for name, number in numbers._hypotheses(made).items()}


def test_hypotheses_hold_and_fail_by_their_numbers():
    tuned, default = (0.9, 0.95), (0.7, 0.8)
    good = {
        "study_friedman_p": 0.001,
        "study_p_sgd": 0.001, "study_improvement_sgd": (0.1, 0.4),
        "study_iqm_adam": tuned, "study_iqm_default_adam": default,
        "study_target_steps_qng": 60, "study_target_steps_adam": 90,
        "study_target_seconds_qng": None, "study_target_seconds_adam": 0.1,
        "study_hybrid_minus_classical_wine": (-2, 1),
        "study_control_p": 0.5,
    }  # fmt: skip
    assert study_numbers(**good) == {f"study_h{k}": "holds" for k in range(1, 7)}
    bad = {
        "h1": {"study_friedman_p": 0.2},
        "h2": {"study_improvement_sgd": (0.6, 0.9)},
        "h3": {"study_iqm_default_adam": (0.7, 0.92)},
        "h4": {"study_target_seconds_qng": 0.05},
        "h5": {"study_hybrid_minus_classical_wine": (0.5, 3)},
        "h6": {"study_control_p": 0.01},
    }
    for name, change in bad.items():
        found = study_numbers(**good | change)
        assert [key for key, words in found.items() if words == "fails"] == [f"study_{name}"]
    assert study_numbers() == {}
    # An improvement that Holm's test does not see is none.
    assert study_numbers(**good | {"study_improvement_sgd": (0.6, 0.9), "study_p_sgd": 0.3})["study_h2"] == "holds"


def test_equal_records_equal_bytes_in_whatever_order_they_are_read(build, monkeypatch):
    everything()
    first = claims.write_claims("build").read_bytes()
    honest = record_module.RecordStore.read

    def shuffled(self, configs=None):
        return honest(self, configs).sample(frac=1, random_state=3).reset_index(drop=True)

    monkeypatch.setattr(record_module.RecordStore, "read", shuffled)
    assert claims.write_claims("build").read_bytes() == first


def test_shipped_and_build_are_decided_by_the_same_code(build, monkeypatch):
    everything()
    monkeypatch.setattr(paths, "data_dir", lambda: build / "data")
    sealed.shipping(monkeypatch)
    record_module.ship(["timing", "training", "energy", "circuits", "gradients", "optimizers"])
    own, shipped = claims.decide("build"), claims.decide("shipped")
    assert [(row.id, row.verdict, row.text) for row in own] == [(row.id, row.verdict, row.text) for row in shipped]
    assert {"confirmed", "refuted", "open"} == {row.verdict for row in shipped}


def test_damaged_records_stop_with_a_sentence(build, monkeypatch):
    write_circuit(1)
    monkeypatch.setattr(paths, "data_dir", lambda: build / "data")
    sealed.shipping(monkeypatch)
    (table,) = record_module.ship(["circuits"])
    damaged = bytearray(table.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    table.write_bytes(bytes(damaged))
    with pytest.raises(DataError, match="damaged"):
        claims.decide("shipped")
    own = next((build / "records/circuits").glob("*.parquet"))
    own.write_bytes(b"not a table")
    with pytest.raises(DataError, match="damaged"):
        claims.decide("build")


def test_only_the_newest_revision_counts(build):
    write_timing("batching", {"loop": 0.5, "broadcast": 1.0})
    write_timing("batching", {"loop": 3.0, "broadcast": 1.0}, revision=2)
    assert verdict("C04").verdict == "confirmed"


@pytest.mark.parametrize(
    ("number", "text", "short"),
    [
        (Number(1.9312, 1.8034, 2.1078), "1.93 [1.80, 2.11]", "1.93"),
        (Number(5.41, 3.12, 7.66, unit="%"), "5.4 [3.1, 7.7] %", "5.4 %"),
        (Number(9.0, 6.0, 11.0, unit="qubits"), "9 [6, 11] qubits", "9 qubits"),
        (Number(9.0, 6.0, None, unit="qubits"), "9 [6, ∞] qubits", "9 qubits"),
        (Number(9.0, 6.5, 11.0, unit="steps"), "9.0 [6.5, 11.0] steps", "9.0 steps"),
        (Number(1234.5, 1100.0, 1400.0, unit="ms"), "1234 [1100, 1400] ms", "1234 ms"),
        (Number(16, unit="of 16"), "16 of 16", "16 of 16"),
        (Number(-0.0213, -0.05, 0.01), "−0.021 [−0.050, 0.010]", "−0.021"),
        (Number(2.3e-12), "2.3e−12", "2.3e−12"),
        (Number(0.6065), "0.607", "0.607"),
        (Number(None, 40.0, None, unit="steps", words="not reached"), "not reached", "not reached"),
        (Number(50.0, 40.0, None, unit="steps"), "50 [40, ∞] steps", "50 steps"),
    ],
)
def test_number_texts(number, text, short):
    assert (number.text, number.short) == (text, short)


def test_analysis_loads_no_model_code():
    import subprocess

    code = "import sys, hybridbench.analysis.claims; sys.exit(bool({'tensorflow', 'pennylane'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_protocol_holds_every_rule():
    protocol = (paths.root() / "docs/protocol.md").read_text()
    assert claims.rules_as_markdown() in protocol
    assert "2026-11-23" in protocol


def test_missing_names_are_not_errors_of_the_rule(build):
    write_timing("batching", {"loop": 1.0, "broadcast": 1.0})
    with pytest.raises(tables.NotMeasured, match="no timing of cell"):
        rules.c02(Records("build"))


def gpu_atlas(launch, byte, machine="m1", proof="proven", **more):
    """An atlas of one GPU route: seconds a launch, and a byte that the GPU moves."""
    planted = {("hybridbench.KerasLayer, cuda", "complex64"): ((1e-5, launch, 0.0, 0.0, byte), 2.0**16)}
    return atlas_tables.atlas(planted=planted, machine=machine, proof=proof, **more)


def write_gpu_atlas(build, *args, **more):
    atlas_tables.write(build, gpu_atlas(*args, **more))


@pytest.mark.parametrize(
    ("launch", "byte", "expected"), [(1e-7, 1e-10, "confirmed"), (2e-5, 1e-12, "refuted"), (2.2e-5, 4.3e-10, "open")]
)
def test_c27_launches_or_memory_traffic(build, launch, byte, expected):
    write_gpu_atlas(build, launch, byte, scatter=0.4 if expected == "open" else 0.05)
    found = verdict("C27")
    assert found.verdict == expected
    assert found.number.unit == "%"
    assert found.number.low <= found.number.value <= found.number.high


def test_c27_without_proof_or_gpu_stays_open(build):
    atlas_tables.write(build, atlas_tables.atlas())
    assert (verdict("C27").verdict, verdict("C27").missing) == ("open", "no GPU record")
    write_gpu_atlas(build, 1e-7, 1e-10, proof="", machine="m2")
    with pytest.raises(DataError, match=r"proves nothing of GPU arm 'hybridbench\.KerasLayer, cuda, complex64'"):
        verdict("C27")


def test_c27_too_few_cells_and_machines_that_disagree(build):
    few = gpu_atlas(1e-7, 1e-10)
    atlas_tables.write(build, few[few["record"].isin(few["record"].unique()[:5])])
    assert "too few GPU cells" in verdict("C27").missing
    write_gpu_atlas(build, 1e-7, 1e-10)
    write_gpu_atlas(build, 2e-5, 1e-12, machine="m2")
    assert (verdict("C27").verdict, verdict("C27").missing) == ("open", "the machines disagree")


def test_numbers_of_the_atlas_are_those_of_its_records(build):
    atlas_tables.write(build, atlas_tables.atlas())
    found = numbers.numbers_of(Records("build"))
    table = Records("build")["atlas"]
    assert found["atlas_cells"].value == table["record"].nunique()
    assert (found["atlas_processes"].value, "atlas_process_spread" in found) == (1, False)
    own = table[(table[["n_qubits", "n_layers", "batch_size"]] == (8, 2, 32)).all(axis=1)].groupby("arm")["seconds"].median()
    factor = own["KerasLayer, default.qubit, complex128"] / own["hybridbench.KerasLayer, complex64"]
    assert found["atlas_speedup_hybridbench_keraslayer_complex64_8_2_32"].value == pytest.approx(factor)
    assert found["atlas_break_even_compiled_over_shipped_qubits"].value == 2
    assert found["cost_held_out_within"].value > 90
    assert found["cost_public_small_unbatched"].value == found["cost_public_small_unbatched"].n
    assert found["cost_public_large_unbatched"].value == found["cost_public_large_unbatched"].n
    assert found["cost_public_batch_1000"].value == found["cost_public_batch_1000"].n
    # Several processes are no further cells.
    atlas_tables.write(build, atlas_tables.passes(2.0))
    more = numbers.numbers_of(Records("build"))
    for name in ("atlas_cells", "atlas_sizes", "atlas_cells_held_out", "atlas_times", "atlas_too_slow", "cost_held_out"):
        assert more[name].value == found[name].value, name
    assert more["atlas_processes"].value == 3
    low, high = (more[f"cost_held_out_within_one_pass_{end}"].value for end in ("min", "max"))
    assert 0 < low <= high <= 100
    assert "cost_held_out_within_one_pass_min" not in found
    assert 1.5 < more["atlas_process_spread"].value <= more["atlas_process_spread_twentieth"].value < 3
    assert more["atlas_process_spread_largest"].value >= more["atlas_process_spread_twentieth"].value
    # Another record, another number.
    atlas_tables.write(build, atlas_tables.atlas(spoil=("held_out",)))
    assert numbers.numbers_of(Records("build"))["cost_held_out_within"].value == 0
