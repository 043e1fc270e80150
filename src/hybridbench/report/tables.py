"""Tables for readers: the ledger and the comparisons of numbers, as data frames and as plain HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from IPython.display import display

from hybridbench.analysis.claims import Verdict
from hybridbench.analysis.tables import Number
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


def tuned_table(numbers: Mapping[str, Number], names: Sequence[str]) -> pd.DataFrame:
    """Best learning rate and test score of every optimizer in `names` on every task that compares them.

    Raises:
        DataError: there is no comparison of optimizers.
    """
    tasks = [ending.removesuffix(f"_{name}") for ending in _endings(numbers, "best_rate_inside_") for name in names]
    tasks = sorted({task for task in tasks if f"sweep_seeds_{task}" in numbers})
    return pd.DataFrame(
        {
            "task": task,
            "optimizer": name,
            "best learning rate": numbers[f"best_rate_{task}_{name}"].text,
            "inside the grid": numbers[f"best_rate_inside_{task}_{name}"].text,
            "validation loss": numbers[f"tuned_val_loss_{task}_{name}"].text,
            "test score": numbers[f"tuned_test_score_{task}_{name}"].text,
        }
        for task in tasks
        for name in names
        if f"best_rate_{task}_{name}" in numbers
    )


def show_table(frame: pd.DataFrame) -> None:
    """Show a table in a notebook in full: left-aligned HTML, and the same as plain text."""
    with pd.option_context("display.max_colwidth", None):
        html = frame.to_html(index=False, border=0, justify="left").replace("<td>", '<td style="text-align: left">')
    display({"text/html": html, "text/plain": frame.to_string(index=False)}, raw=True)
