"""Tables for readers: the ledger and the comparisons of numbers, as data frames and as plain HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from IPython.display import display

from hybridbench.analysis.claims import Verdict
from hybridbench.analysis.statistics import median_ratio
from hybridbench.analysis.tables import Number, arms, is_gpu, pair, runs
from hybridbench.design.routes import route_of
from hybridbench.errors import DataError

#: Shapes beside the words, so that nothing is told by colour alone.
SHAPES = {"confirmed": "●", "refuted": "✖", "open": "◇"}


def ledger_table(claims: Sequence[Verdict]) -> pd.DataFrame:
    """The whole ledger, one row a claim: id, claim, verdict, number, what the number is, and what is missing."""
    return pd.DataFrame(
        {
            "id": claim.id,
            "claim": claim.claim,
            "verdict": f"{SHAPES[claim.verdict]} {claim.verdict}",
            "number": claim.text,
            "what the number is": claim.quantity,
            "missing": claim.missing,
        }
        for claim in claims
    )


def _endings(numbers: Mapping[str, Number], prefix: str) -> list[str]:
    found = [name.removeprefix(prefix) for name in numbers if name.startswith(prefix)]
    if not found:
        raise DataError(f"The records give no number {prefix}…: run the notebooks that train first ('hybridbench run').")
    return found


def score_table(numbers: Mapping[str, Number]) -> pd.DataFrame:
    """Test scores of the three models, one row a task, with the paired differences to the hybrid model.

    Raises:
        DataError: no task has all three models.
    """
    return pd.DataFrame(
        {
            "task": task,
            "hybrid": numbers[f"test_score_{task}_hybrid"].short,
            "separable twin": numbers[f"test_score_{task}_separable"].short,
            "classical": numbers[f"test_score_{task}_classical"].short,
            "hybrid − separable": numbers[f"hybrid_minus_separable_{task}"].text,
            "hybrid − classical": numbers[f"hybrid_minus_classical_{task}"].text,
        }
        for task in _endings(numbers, "hybrid_minus_classical_")
    )


#: Columns of `optimizer_table` and the beginning of the number that stands in each.
OPTIMIZER_COLUMNS = {
    "lowest tuned rate": "study_rate_lowest_",
    "highest": "study_rate_highest_",
    "tuned score": "study_iqm_",
    "score by default": "study_iqm_default_",
    "targets reached": "study_target_reached_",
    "steps to 90 % of the drop": "study_near_steps_",
    "good rates": "study_width_",
    "P(better than Adam)": "study_improvement_",
    "p (Holm)": "study_p_",
}


def optimizer_table(numbers: Mapping[str, Number], names: Sequence[str]) -> pd.DataFrame:
    """What the optimizer study found for every optimizer in `names` that it tuned, one row an optimizer.

    Raises:
        DataError: there is no study of optimizers.
    """
    columns = OPTIMIZER_COLUMNS.items()
    if not any(f"study_iqm_{name}" in numbers for name in names):
        raise DataError("The records hold no tuned optimizers: run 'hybridbench study' first.")
    return pd.DataFrame(
        {
            "optimizer": name,
            **{column: numbers[key].text if (key := prefix + name) in numbers else "–" for column, prefix in columns},
        }
        for name in names
        if f"study_iqm_{name}" in numbers
    )


def gpu_table(timing: pd.DataFrame) -> pd.DataFrame:
    """Proven GPU cells, one row each: the fastest arm of either side, their ratio, and what the GPU arm cost.

    Memory is in MiB, energy in J for a step, the first call (building, tracing, compiling) in seconds; "–" where the driver
    or the cell does not tell. The copy that measures the bandwidth is no step and left out.

    Args:
        timing: rows of the study "timing".

    Raises:
        DataError: no row has a proof.
    """
    proven = timing[is_gpu(timing) & (timing["part"] == "step")]
    proven = proven[proven["arm"].map(lambda arm: route_of(arm).backend != "")]
    if proven.empty:
        raise DataError("The records hold no proven GPU row: run 'hybridbench gpu' where there is an NVIDIA GPU.")

    def told(value: float) -> str:
        return "–" if value is None or not math.isfinite(value) else f"{value:.3g}"

    rows = []
    for run in runs(proven):
        medians = run.groupby("arm")["seconds"].median().sort_values()
        on_gpu = {name: about["gpu"] for name, about in arms(run).items()}
        best = next(arm for arm in medians.index if on_gpu[arm])
        others = [arm for arm in medians.index if not on_gpu[arm]]
        of_gpu = run[run["arm"] == best].iloc[0]
        ratio = Number.of(median_ratio(*pair(run, others[0], best))).text if others else "–"
        about = dict(zip(("cell", "qubits", "layers", "batch", "threads"), of_gpu[_SIZE], strict=True))
        rows.append(
            {
                **about,
                "fastest on the GPU": best,
                "ms": f"{1e3 * medians[best]:.3g}",
                "fastest on the CPU": others[0] if others else "–",
                "CPU time over GPU time": ratio,
                "first call (s)": f"{of_gpu['first_call_seconds']:.3g}",
                "memory (MiB)": told(of_gpu.get("gpu_memory_mib")),
                "energy (J)": told(of_gpu.get("gpu_energy_joules")),
            }
        )
    return pd.DataFrame(rows)


def bandwidth_table(timing: pd.DataFrame) -> pd.DataFrame:
    """What the GPU's memory moves in a second, GB/s: by a plain copy, and by the CUDA engine's step (cell "bandwidth").

    Args:
        timing: rows of the study "timing".

    Raises:
        DataError: the cell was not measured.
    """
    rows = timing[timing["cell"] == "bandwidth"]
    if rows.empty:
        raise DataError("The records hold no bandwidth of a GPU: run 'hybridbench gpu --part engine' first.")
    speed = (rows["traffic_bytes"] / rows["seconds"] / 1e9).groupby([rows["gpus"], rows["arm"]]).median()
    share = speed / speed.xs("copy, gpu", level="arm")
    return pd.DataFrame({"GB/s": speed.map("{:.4g}".format), "share of the copy": share.map("{:.0%}".format)}).reset_index()


_SIZE = ["cell", "n_qubits", "n_layers", "batch_size", "threads"]


def show_table(frame: pd.DataFrame) -> None:
    """Show a table in a notebook in full: left-aligned HTML, and the same as plain text."""
    with pd.option_context("display.max_colwidth", None):
        html = frame.to_html(index=False, border=0, justify="left").replace("<td>", '<td style="text-align: left">')
    display({"text/html": html, "text/plain": frame.to_string(index=False)}, raw=True)
