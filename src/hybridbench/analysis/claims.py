"""The claim ledger: 28 claims of the original study, a rule for each, and what the records say.

A rule is a function of the records. It returns *confirmed*, *refuted* or *open* with the number it looked at; none is
typed by hand, and the same code decides the shipped records and a reader's own. `docs/protocol.md` holds the rules in
words, and what was changed in them since.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hybridbench import paths
from hybridbench.analysis import rules
from hybridbench.analysis.numbers import numbers_of
from hybridbench.analysis.prose import load_claims
from hybridbench.analysis.rules import CONFIRMED, OPEN, REFUTED, Finding
from hybridbench.analysis.tables import NotMeasured, Number, Records
from hybridbench.errors import DataError
from hybridbench.measurement.records import shipped_studies
from hybridbench.measurement.schema import STUDIES


@dataclass(frozen=True)
class ClaimRule:
    """One row of the ledger before the records are looked at."""

    id: str
    claim: str  #: the original's words, short
    where: str  #: where the original says it
    rule: str  #: one sentence: what confirms, what refutes
    quantity: str  #: what the number is
    find: Callable[[Records], Finding]
    needs_gpu: bool = False
    instead: str = ""  #: what the number is while the claim's own cannot be measured


@dataclass(frozen=True)
class Verdict:
    """One row of the ledger after the records were looked at."""

    id: str
    claim: str
    where: str
    rule: str
    quantity: str
    needs_gpu: bool
    verdict: str
    number: Number | None
    missing: str

    @property
    def text(self) -> str:
        """The number with its interval, or "–"."""
        return self.number.text if self.number else "–"


# ------------------------------------------------------------------------------------------------------------ the ledger
_STEP = "on the measured workload nearest to the study's (8 qubits, batch 100)"
_FASTER = (
    f"Confirmed if the 95 % interval of the ratio of median step times, paired, {_STEP}, lies above 1; refuted if it lies "
    "below 1 or its 90 % interval lies within 5 % of 1."
)

LEDGER: tuple[ClaimRule, ...] = (
    ClaimRule(
        "C01",
        "a GPU trains 1.3x faster than a CPU",
        "abstract",
        "On the study's exact workload, fastest CPU arm against fastest proven GPU arm in one run: confirmed if the "
        "95 % interval of the ratio holds 1.3 and not 1, refuted if it does not hold 1.3.",
        "step time, CPU over GPU",
        rules.gpu_ratio(1.3, lightning=True),
        needs_gpu=True,
        instead="step time on the CPU, Lightning in a loop over broadcast default.qubit",
    ),
    ClaimRule(
        "C02",
        "the choice of optimizer saves 25 % of training time",
        "abstract",
        "Saving in step time of every optimizer that needs no more than a gradient against Adam, on the study's own "
        "workload in PennyLane, with simultaneous 95 % intervals: confirmed if one lower bound is at least 25 %, refuted "
        "if every upper bound is below 25 %.",
        "largest saving in step time against Adam",
        rules.c02,
    ),
    ClaimRule(
        "C03",
        "mixed precision improves efficiency",
        "abstract",
        _FASTER,
        "step time, complex128 over complex64",
        rules.arm_rule("precision", "complex128", "complex64"),
    ),
    ClaimRule(
        "C04",
        "batched execution improves efficiency",
        "abstract",
        _FASTER,
        "time of the circuit's value and gradient, loop over the batch over broadcast",
        rules.arm_rule("batching", "loop", "broadcast"),
    ),
    ClaimRule(
        "C05",
        "compilation (torch.compile) improves efficiency",
        "abstract",
        "TensorFlow's counterpart, tf.function against eager, over the study's 100 steps with the first call "
        "included: confirmed if the 95 % interval of the ratio of times lies above 1; refuted if it lies below 1 or "
        "its 90 % interval lies within 5 % of 1.",
        "time of 100 steps with the first call, eager over a TensorFlow graph",
        rules.c05,
    ),
    ClaimRule(
        "C06",
        "parameter initialisation improves efficiency",
        "abstract",
        "Adam's steps to 0.975 of the ground-state energy of an Ising chain from N(0,1), small-angle and identity-block "
        "starts over circuit depth: median differences over paired seeds, a miss counting as one evaluation after the last, "
        "with simultaneous 95 % intervals. Confirmed if one start is faster than N(0,1) at every depth with an interval "
        "that excludes 0, refuted if none is at any depth; ten seeds or more.",
        "steps saved against N(0,1) by the better start, at the depth where it saves least",
        rules.c06,
    ),
    ClaimRule(
        "C07",
        "lightning.gpu has low latency",
        "architecture",
        "A proven lightning.gpu step against lightning.qubit's in one run: " + _FASTER[0].lower() + _FASTER[1:],
        "step time, lightning.qubit over lightning.gpu",
        rules.c07,
        needs_gpu=True,
        instead="step time on the CPU, default.qubit over lightning.qubit",
    ),
    ClaimRule(
        "C08",
        "Table 2 ranks FusedAdam first",
        "results",
        "On the original energy: refuted if FusedAdam follows Adam's trajectory to 0.000001 at every step and seed and "
        "every rate up to the study's largest, 0.5 (one trajectory has one rank), or ends significantly below another "
        "optimizer at rate 0.0001; confirmed if it ends above all.",
        "largest difference between the energies of FusedAdam and Adam",
        rules.c08,
    ),
    ClaimRule(
        "C09",
        "FusedAdam reaches a 12 % better energy than Adam",
        "results",
        "Paired difference of final energies at rate 0.0001, in percent of Adam's, over seeds: refuted if the upper "
        "bound of the 95 % interval is below 12 %, confirmed if it is not and the lower bound is above 0.",
        "FusedAdam's final energy above Adam's",
        rules.c09,
    ),
    ClaimRule(
        "C10",
        "FusedAdam: best energy 0.51 and speed-up 2.53 %",
        "metrics",
        "Both numbers have to hold: confirmed if the 95 % intervals of FusedAdam's best final energy and of its "
        "speed-up over Adam hold 0.51 and 2.53 % (and not 0); refuted if either is excluded, or if removing the whole"
        " update, the most that any fusing can do, would gain less than 2.53 %.",
        "FusedAdam's best mean final energy over learning rates",
        rules.c10,
    ),
    ClaimRule(
        "C11",
        "learning rate 0.001 beats higher rates for every optimizer",
        "results",
        "Paired differences of final energy between each higher rate up to 0.5 and 0.001 for Adam, RMSprop, NAdam and"
        " Adagrad, simultaneous 95 % intervals: refuted if one lies above 0, confirmed if all lie below 0.",
        "clearest lead of a higher rate over 0.001 in final energy",
        rules.c11,
    ),
    ClaimRule(
        "C12",
        "learning rate 0.01 is the best balance",
        "conclusion",
        "Every optimizer on the original energy and on every other problem of the optimizer study: refuted if in most cases "
        "another rate is better than 0.01 (final energy or validation loss, simultaneous 95 % intervals over paired seeds "
        "exclude 0; a rate at which a seed diverges beats none, and is beaten by one at which none does), confirmed if in "
        "every case 0.01 is better than every other rate by the same intervals.",
        "cases in which another rate is better",
        rules.c12,
    ),
    ClaimRule(
        "C13",
        "run time does not depend on the learning rate",
        "results",
        "Adam's step time at rate 0.001 against 0.1: confirmed if the 90 % interval of the paired ratio lies within 5"
        " % of 1, refuted if the 95 % interval lies outside.",
        "step time, rate 0.001 over 0.1",
        rules.c13,
    ),
    ClaimRule(
        "C14",
        "Adagrad and RMSprop are more sensitive to the learning rate",
        "results",
        "Width in decades of the learning rates within 5 % of the best final energy, on a grid of at least five "
        "decades: confirmed if the narrower of Adam's and NAdam's widths exceeds the wider of Adagrad's and RMSprop's"
        " with a 95 % bootstrap interval over seeds above 0, refuted if that interval lies below 0.",
        "narrower width of Adam and NAdam less wider width of Adagrad and RMSprop",
        rules.c14,
    ),
    ClaimRule(
        "C15",
        "RMSprop is fastest, highest and unstable",
        "Table 3",
        "RMSprop with bias correction, with Keras's and with PyTorch's defaults, each at its best rate, against the "
        "others at theirs: confirmed if it leads in steps to target and in final energy and varies more over seeds "
        "under all three settings, refuted if it does not under one.",
        "RMSprop's final energy above Adam's, each at its best rate",
        rules.c15,
    ),
    ClaimRule(
        "C16",
        "Adagrad is very slow and poor at high learning rates",
        "Table 3, metrics",
        "Adagrad on the original energy at every measured rate from 0.1 up: refuted if at one of them the lower bound"
        " of the mean final energy (simultaneous 95 %, over seeds) is at least 0.95, confirmed if rates up to 10 are "
        "measured and every upper bound is below 0.95.",
        "Adagrad's best mean final energy at rates from 0.1 up",
        rules.c16,
    ),
    ClaimRule(
        "C17",
        "NAdam starts slower and escapes local minima",
        "Table 3",
        "A non-convex workload with known basins, both optimizers tuned, paired seeds: confirmed if NAdam's success rate "
        "(coordinates that end in the global basin) exceeds Adam's and its early progress (fall of the loss up to the first "
        "evaluation) is below Adam's, both with simultaneous 95 % intervals that exclude 0; refuted if either interval lies "
        "on the other side, or the 90 % interval of the success rates' difference lies within 2 points; five seeds or more.",
        "NAdam's success rate above Adam's",
        rules.c17,
    ),
    ClaimRule(
        "C18",
        "Adam (0.01) and FusedAdam (0.1) converge in 65 to 85 epochs, Adagrad at 83",
        "metrics",
        "Median steps to 0.9, 0.95 and 0.99 of the optimum over seeds: confirmed if at one of these targets the 95 % "
        "intervals of both Adam (0.01) and FusedAdam (0.1) lie within 65 to 85, refuted if at each of them one lies "
        "wholly outside.",
        "FusedAdam's steps to 0.95 of the optimum at rate 0.1",
        rules.c18,
    ),
    ClaimRule(
        "C19",
        "RMSprop gains 1.3x without lightning.gpu",
        "metrics",
        "The baseline is not given; read as CPU against TensorFlow's GPU in one run of the study's workload: "
        "confirmed if the 95 % interval of the ratio holds 1.3 and not 1, refuted if it does not hold 1.3.",
        "step time, CPU over GPU without lightning.gpu",
        rules.gpu_ratio(1.3, lightning=False),
        needs_gpu=True,
        instead="step time on the CPU, Lightning in a loop over broadcast default.qubit",
    ),
    ClaimRule(
        "C20",
        "FusedAdam suits large-scale tasks",
        "conclusion",
        "Update time of FusedAdam and Adam over ten to ten million parameters: confirmed if from some size on the 95 "
        "% interval of the ratio stays above 1, refuted if at the largest size it lies below 1 or within 5 % of 1.",
        "update time at the largest size, Adam over FusedAdam",
        rules.c20,
    ),
    ClaimRule(
        "C21",
        "8 qubits advance on work with at most 4",
        "Table 1",
        "Parameters of the original circuit on 8 qubits whose gradient is ever non-zero: refuted if there are at most"
        " four, confirmed if all are live.",
        "live parameters of the original circuit",
        rules.c21,
    ),
    ClaimRule(
        "C22",
        "gradients are taken by adjoint or parameter-shift",
        "architecture",
        "Confirmed, as a free choice, if adjoint and parameter-shift gradients agree with backprop's to 0.000001 on "
        "every circuit, so that either would have given the same training; refuted if one does not.",
        "largest difference between gradients: either way would give the same",
        rules.c22,
    ),
    ClaimRule(
        "C23",
        "vectorisation, compilation caching and GPU simulators cut run time significantly",
        "architecture",
        "Three rungs: broadcast against loop, graph against eager (step), lightning.gpu against lightning.qubit. "
        "Confirmed if each ratio's 95 % interval lies above 1, refuted if one lies below 1 or its 90 % interval lies "
        "within 5 % of 1.",
        "step time of the first rung measured",
        rules.c23,
        needs_gpu=True,
    ),
    ClaimRule(
        "C24",
        "ran on a Tesla T4 and a Xeon Silver 4214 with CUDA 11.8 and APEX",
        "set-up",
        "A proven run of the study's workload on that hardware: confirmed if the 95 % interval of CPU over GPU time "
        "holds its printed 0.70 and not 1, refuted if it does not hold 0.70.",
        "step time, CPU over GPU",
        rules.c24,
        needs_gpu=True,
        instead="the share of our rows that carry their environment",
    ),
    ClaimRule(
        "C25",
        "optimizers affect generalisation",
        "README",
        "Test scores of all pairs of optimizers on every data task, each at the setting with the lowest validation loss in "
        "tuning, paired seeds: refuted if all best rates lie inside the range searched and all 90 % intervals lie within 2 "
        "points, confirmed if for a pair whose best rates do the 90 % interval does not and the simultaneous 95 % interval "
        "excludes 0; five seeds or more.",
        "clearest lead in test score between tuned optimizers",
        rules.c25,
    ),
    ClaimRule(
        "C26",
        "scaling the quantum part is feasible with classical hardware",
        "README (RQ3)",
        "Feasible means the study's 100 steps of batch 100 (smaller batches scaled up in proportion) of the layer's "
        "circuit in at most one hour on 20 qubits with Lightning, CPU or GPU: confirmed if the measured median step is "
        "that fast, refuted if it is slower.",
        "time of 100 steps on 20 qubits",
        rules.c26,
        instead="factor in step time for one more qubit",
    ),
    ClaimRule(
        "C27",
        "consumer GPUs are the bottleneck",
        "conclusion",
        "Fit of launch time plus memory traffic to proven GPU steps: confirmed if traffic is more than half of a step"
        " of the study's workload with a 95 % interval, refuted if launches are.",
        "share of a step spent on memory traffic",
        rules.c27,
        needs_gpu=True,
    ),
    ClaimRule(
        "C28",
        "4 optimizers x 4 learning rates were compared",
        "set-up",
        "The full factorial is run here (the study's own record stops in its 4th of 16): confirmed if all 16 "
        "combinations have a run to the last step, refuted if all have records and one stops early.",
        "combinations with a complete run here; the study's own record stops in its 4th",
        rules.c28,
    ),
)


def decide(source: str | Records = "shipped") -> list[Verdict]:
    """The 28 verdicts from the records of `source`, in order C01 … C28.

    Args:
        source: "shipped" (`data/records`), "build" (this machine's own) or opened records.

    Raises:
        DataError: a record file is damaged; missing records are not an error but leave claims open.
        ConfigurationError: another source.
    """
    records = Records.of(source)
    return [_decide(row, records) for row in LEDGER]


def _decide(row: ClaimRule, records: Records) -> Verdict:
    try:
        found = row.find(records)
    except NotMeasured as gap:
        found = Finding(OPEN, None, str(gap))
    return Verdict(
        row.id,
        row.claim,
        row.where,
        row.rule,
        f"not the claim's number, but: {row.instead}" if found.instead and row.instead else row.quantity,
        row.needs_gpu,
        found.verdict,
        found.number,
        found.missing if found.verdict == OPEN else "",
    )


def numbers(source: str | Records = "shipped", ledger: list[Verdict] | None = None) -> dict[str, Number]:
    """Every quoted number beyond the ledger, by name, in name order; what was not measured is absent.

    Args:
        source: as in `decide`.
        ledger: what `decide` found, if it was asked already.

    Raises:
        DataError, ConfigurationError: as `decide`.
    """
    records = Records.of(source)
    return _numbers(records, decide(records) if ledger is None else ledger)


def _numbers(records: Records, ledger: list[Verdict]) -> dict[str, Number]:
    found = numbers_of(records)
    verdicts = [row.verdict for row in ledger]
    for verdict in (CONFIRMED, REFUTED, OPEN):
        found[f"claims_{verdict}"] = Number(verdicts.count(verdict), n=len(verdicts))
    return dict(sorted(found.items()))


def write_claims(source: str = "shipped", path: Path | None = None) -> Path:
    """Write the ledger and all numbers as JSON: equal records, equal bytes.

    Args:
        source: which records.
        path: where; `data/claims.json` for shipped, `build/claims.json` for own unless told otherwise.
    """
    path = path or (paths.data_dir() if source == "shipped" else paths.build_dir()) / "claims.json"
    records = Records(source)
    decided = [_decide(row, records) for row in LEDGER]
    ledger = [
        {
            "id": row.id,
            "claim": row.claim,
            "where": row.where,
            "rule": row.rule,
            "quantity": row.quantity,
            "needs_gpu": row.needs_gpu,
            "verdict": row.verdict,
            "number": row.number.as_dict() if row.number else None,
            "text": row.text,
            "missing": row.missing,
        }
        for row in decided
    ]
    quoted = {name: number.as_dict() for name, number in _numbers(records, decided).items()}
    content = {"claims": ledger, "numbers": quoted}
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    paths.write_atomically(path, f"{text}\n")
    return path


def check_quoted(file: Path | None = None) -> None:
    """Compare what `data/claims.json` quotes with what is shipped: a table that is gone opens claims without a word.

    Raises:
        DataError: a study that a number rests on has no shipped records.
    """
    if not (file or paths.data_dir() / "claims.json").is_file():
        return
    content = load_claims(file)
    try:
        numbers = [*content["numbers"].values(), *(row["number"] for row in content["claims"] if row["number"])]
        quoted = {re.split(r"[/ ]", record)[0] for number in numbers for record in number["records"]}
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(
            "data/claims.json is not as it was written: take it from git again ('git checkout -- data')."
        ) from error
    if gone := sorted((quoted & set(STUDIES)) - set(shipped_studies())):
        raise DataError(
            f"data/records has no table of {', '.join(gone)}, and data/claims.json quotes numbers from it: take it from git "
            "again ('git checkout -- data'), or remove data/claims.json where it is to be left out."
        )


def rules_as_markdown() -> str:
    """The ledger's rules as a Markdown table, for `docs/protocol.md`."""
    shown = {row.id: row.quantity + (f"; until it can be measured, {row.instead}" if row.instead else "") for row in LEDGER}
    rows = "\n".join(
        f"| {row.id} | {row.claim} | {row.rule} | {shown[row.id]} | {'yes' if row.needs_gpu else 'no'} |" for row in LEDGER
    )
    return f"| id | claim | rule | number shown | needs a GPU |\n|---|---|---|---|---|\n{rows}\n"
