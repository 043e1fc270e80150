"""Made-up records of the optimizer study in the shape of real ones: every column, all phases, and planted truths.

Adam is the fastest and ends best, then NAdam, momentum, and plain descent, whose best rate lies beyond the range that is
searched first. Momentum diverges above a rate and carries over to test data worst. The classical model beats the hybrid one,
which beats its twin. In the basins NAdam is slower and ends better than Adam. On the Ising chain two starts beat N(0, 1).
"""

import itertools
import json

import numpy as np
import pandas as pd
import sealed

from hybridbench.measurement import schema

PROBLEMS = ("digits_3v5", "diabetes", "basins")
ARMS = ("sgd", "momentum", "adam", "nadam")
ENERGIES = ("tfim", "basins", "original")
STEPS, EVERY = 300, 15
TUNING_SEEDS = (1000, 1001, 1002)
RATES = tuple(float(f"{10**exponent:.4g}") for exponent in np.arange(-4, 1.25, 0.5))

#: By arm; an arm that is not named here has the value under "".
BEST_RATE = {"sgd": 30.0, "momentum": 0.3, "adam": 0.03, "nadam": 0.1, "": 0.05}
SPEED = {"sgd": 1.0, "momentum": 4.0, "adam": 8.0, "nadam": 6.0, "": 5.0}  #: e-folds of the loss in a run at the best rate
DECADES = {"sgd": 0.5, "momentum": 0.5, "adam": 1.0, "nadam": 0.7, "": 0.6}  #: how forgiving: width of the bell of speeds
DEFAULT_RATE = {"sgd": 0.01, "momentum": 0.01, "": 0.001}
DIVERGES_ABOVE = {"momentum": 3.0, "": np.inf}
DIVERGED_FROM = 75  #: step of the first row of a diverged run that is no number
GAP = {"momentum": 0.10, "": 0.02}  #: training score less test score
BASIN_SHARE = {"nadam": 0.9, "adam": 0.8, "": 0.7}  #: coordinates in the global basin at the end
MODEL = {"hybrid": 0.0, "separable": -0.03, "classical": 0.02}  #: added to every score of a data task
UNTRAINED = {"diabetes": 1.0, "basins": 1.5, "tfim": 9.8, "original": 0.4, "": 0.7}
START_SPEED = {"normal": 6.0, "uniform": 5.0, "small": 12.0, "identity": 10.0}
DEPTHS = (2, 4, 8)

BASE = {**sealed.provenance(sealed.GPU), "proof": "", "created_utc": "2026-11-23T00:00:00+00:00"}


def of(truth, names):
    """A planted truth for a column of names."""
    return names.map(lambda name: truth.get(name, truth.get("")))


def _setting(problem, model, optimizer, rate, phase, seeds, knobs="[]", n_layers=2, start="uniform", every=EVERY):
    setting = {
        "problem": problem, "model": model, "optimizer": optimizer, "learning_rate": float(rate), "knobs": knobs,
        "phase": phase, "seeds": json.dumps(list(seeds)), "steps": STEPS, "every": every, "n_qubits": 8,
        "n_layers": n_layers, "batch_size": 32, "start": start, "revision": 1,
    }  # fmt: skip
    return {"record": schema.config_name("TrialConfig", setting), "study": "optimizers", **setting}


def _points(optimizer, points):
    """Learning rates and knobs that are tried: the same rates for every arm, and ten more where the best one lies beyond."""
    rates = [10 ** (-4 + 5 * (k + 0.5) / points) for k in range(points)]
    if BEST_RATE.get(optimizer, 0) > 10:
        rates += [rates[-1] * 100 ** (k / 10) for k in range(1, 11)]
    knobs = [json.dumps([["momentum", 0.9]]) if optimizer == "momentum" else "[]"] * len(rates)
    return [(float(f"{rate:.6g}"), knob) for rate, knob in zip(rates, knobs, strict=True)]


def _rows(settings):
    """The rows of settings: seeds by steps."""
    runs = pd.DataFrame(settings)
    runs["seed"] = runs["seeds"].map(json.loads)
    runs = runs.explode("seed", ignore_index=True).astype({"seed": int})
    problem = runs["problem"].map({name: k for k, name in enumerate(sorted(runs["problem"].unique()))})
    # Equal seeds are equally easy for all arms; what is left of a run's luck is too little to hide a better rate.
    luck = np.random.default_rng(7).normal(size=(problem.max() + 1, 2000))[problem, runs["seed"]]
    runs["factor"] = 1 + 0.05 * luck + 1e-5 * np.random.default_rng(8).normal(size=len(runs))
    bell = (np.log10(runs["learning_rate"]) - np.log10(of(BEST_RATE, runs["optimizer"]))) / of(DECADES, runs["optimizer"])
    runs["fit"] = np.exp(-(bell.astype(float) ** 2) / 2)  #: of the learning rate, 1 at the best
    runs["speed"] = of(SPEED, runs["optimizer"]) * runs["fit"]
    starts = runs["phase"] == "starts"
    runs.loc[starts, "speed"] = of(START_SPEED, runs["start"]) / (1 + 0.05 * runs["n_layers"])
    spans = {(phase, every): every for phase, every in zip(runs["phase"], runs["every"], strict=True)}
    spans = {key: STEPS // 4 if key[0] in ("tuning", "rates") else every for key, every in spans.items()}
    steps = [{"phase": p, "every": e, "step": s} for (p, e), span in spans.items() for s in range(0, STEPS + 1, span)]
    rows = runs.merge(pd.DataFrame(steps), on=["phase", "every"]).sort_values(["record", "seed", "step"], ignore_index=True)

    done = rows["step"] / STEPS
    untrained = of(UNTRAINED, rows["problem"]).astype(float)
    energy = rows["problem"].isin(ENERGIES)
    floor = np.where(energy, 0.01, 0.2) * untrained
    loss = (floor + (untrained - floor) * np.exp(-rows["speed"] * done)) * rows["factor"]
    rows["train_loss"], rows["val_loss"], rows["test_loss"] = loss, 1.05 * loss, np.where(energy, np.nan, 1.1 * loss)
    shift = np.where(energy, 0.0, of(MODEL, rows["model"]).astype(float))
    train = 1 - loss / untrained * np.where(rows["problem"] == "diabetes", 1.0, 0.5) + shift
    inside = 0.407 + done * rows["fit"] * (of(BASIN_SHARE, rows["optimizer"]).astype(float) - 0.407)
    inside = inside + 0.1 * (rows["factor"] - 1)
    score = np.where(energy, 1 - loss / untrained, train)
    score = np.where(rows["problem"] == "basins", inside, score)
    rows["train_score"] = rows["val_score"] = score
    rows["test_score"] = np.where(energy, np.nan, train - of(GAP, rows["optimizer"]).astype(float))
    lost = (rows["learning_rate"] > of(DIVERGES_ABOVE, rows["optimizer"]).astype(float)) & (rows["step"] >= DIVERGED_FROM)
    rows.loc[lost, [f"{part}_{what}" for part in ("train", "val", "test") for what in ("loss", "score")]] = np.nan
    rows["n_parameters"] = 62
    rows["batch_losses"] = [
        json.dumps([float(f"{loss:.5g}")] * every if step and loss == loss else []) if phase == "tuned" else ""
        for phase, every, step, loss in zip(rows["phase"], rows["every"], rows["step"], rows["train_loss"], strict=True)
    ]
    return rows.drop(columns=["factor", "fit", "speed"])


def study(problems=PROBLEMS, arms=ARMS, seeds=5, points=20, start_seeds=12):
    """The table of a whole study; `points` of tuning before any widening."""
    pairs = [(p, m) for p in problems for m in MODEL if m == "hybrid" or p not in ("basins", "original")]
    tuning = _rows(
        [
            _setting(problem, model, arm, rate, "tuning", TUNING_SEEDS, knobs)
            for (problem, model), arm in itertools.product(pairs, arms)
            if not (arm == "qng" and model == "classical")
            for rate, knobs in _points(arm, points)
        ]
    )
    ends = tuning[tuning["step"] == STEPS].fillna({"val_loss": np.inf})
    best = ends.groupby(["problem", "model", "optimizer", "learning_rate", "knobs"])["val_loss"].mean()
    best = best.groupby(level=["problem", "model", "optimizer"]).idxmin()
    own = range(seeds)
    settings = []
    for problem, model, arm, rate, knobs in best:
        settings.append(_setting(problem, model, arm, rate, "tuned", own, knobs))
        if model == "hybrid":
            settings.append(_setting(problem, model, arm, DEFAULT_RATE.get(arm, DEFAULT_RATE[""]), "default", own))
            settings += [_setting(problem, model, arm, rate, "rates", own) for rate in RATES]
            if arm == "adam":
                settings.append(_setting(problem, model, arm, rate, "control", [100 + seed for seed in own], knobs))
    settings += [
        _setting("tfim", "hybrid", "adam", 0.03, "starts", range(start_seeds), n_layers=depth, start=start, every=5)
        for depth, start in itertools.product(DEPTHS, START_SPEED)
    ]
    return pd.concat([tuning, _rows(settings)], ignore_index=True).assign(**BASE)


def write(folder, table):
    """The table as records of one's own, in the build folder `folder`."""
    place = folder / "records" / "optimizers"
    place.mkdir(parents=True, exist_ok=True)
    table.to_parquet(place / f"{BASE['machine']}.parquet", index=False)
