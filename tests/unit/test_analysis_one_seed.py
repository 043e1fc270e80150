"""One seed decides nothing: the original study's tables rest on one, and no rule over seeds may."""

import analysis_records as planted
import numpy as np
import pytest

from hybridbench.analysis import rules, statistics
from hybridbench.analysis.tables import NotMeasured, Records

RATES = [0.0001, 0.001, 0.01, 0.1, 0.5, 1.0, 3.0, 10.0]
#: Effects so large that anybody who believes one seed would find each of these claims decided.
FINAL = {"adam": 0.9, "fused_adam": 0.9, "nadam": 0.5, "adagrad": 0.99, "rmsprop": 0.2}
FINAL |= {"rmsprop_corrected": 0.1, "rmsprop_torch": 0.1}


@pytest.fixture
def one_seed(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path))
    for name, best in FINAL.items():
        for rate in RATES:
            planted.write_energy(name, rate, [best - 0.05 * abs(np.log10(rate / 0.1))], every=5)
    for name, score in {"adam": 0.6, "nadam": 0.95}.items():
        planted.write_trial([score], optimizer=name, early=0.1 if name == "nadam" else 0.3, problem="basins")
        planted.write_trial([score], optimizer=name, problem="wine")
        for rate in RATES:
            loss = float("nan") if rate == 0.01 else 0.1
            planted.write_trial([score], [loss], optimizer=name, learning_rate=rate, phase="rates", every=75)
            planted.write_trial([score], [loss], optimizer=name, learning_rate=rate, phase="tuning", every=75)
    for start in ("normal", "small", "identity"):
        for depth in (2, 4):
            when = [300 if start == "normal" else 30]
            planted.write_trial([0.99], when=when, start=start, n_layers=depth, phase="starts", problem="tfim", every=5)
    return Records("build")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a spread of one value
@pytest.mark.parametrize("claim", ["c06", "c08", "c09", "c11", "c12", "c14", "c15", "c16", "c17", "c18", "c25"])
def test_no_rule_decides_by_one_seed(one_seed, claim):
    found = getattr(rules, claim)(one_seed)
    assert found.verdict == rules.OPEN, found
    assert found.missing


def test_c08_says_what_it_needs(one_seed):
    assert rules.c08(one_seed).missing == "one seed, two are needed"


def test_c12_does_not_take_one_seed_that_diverged_for_a_rate_that_is_beaten(tmp_path, monkeypatch):
    """At 0.01 the only seed diverges on most problems: one example, and no majority of cases."""
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path))
    for rate in RATES:
        planted.write_energy("adam", rate, [0.9], every=5)
        for problem in ("wine", "breast_cancer", "digits_3v5"):
            loss = float("nan") if rate == 0.01 else 0.1
            planted.write_trial([0.9], [loss], problem=problem, learning_rate=rate, phase="rates", every=75)
    found = rules.c12(Records("build"))
    assert (found.verdict, found.number.value) == (rules.OPEN, 0)


@pytest.mark.parametrize("interval", [statistics.mean_interval([0.9]), statistics.paired_difference([0.9], [0.1])])
def test_one_value_has_no_interval(interval):
    assert not interval.bounded


def test_a_median_of_one_has_none_either_and_no_seed_is_no_measurement(tmp_path, monkeypatch):
    assert not statistics.median_interval([0.9]).bounded
    assert not statistics.median_ratio([0.9], [0.1]).bounded
    assert not statistics.seed_interval(1, lambda rows: 1.0, 0.95, "1").bounded
    monkeypatch.setenv("HYBRIDBENCH_BUILD", str(tmp_path))
    with pytest.raises(NotMeasured):
        rules.c08(Records("build"))
