"""Figures as files: pdf, svg and png with the same bytes every time, and a json that says what they show and from what."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure

from hybridbench import paths
from hybridbench.errors import ConfigurationError
from hybridbench.measurement.checksums import sha256
from hybridbench.report.style import use_style

#: Neither dates nor library versions go into the files: the same figure, the same bytes.
METADATA: dict[str, dict[str, str | None]] = {
    "pdf": {"Creator": "hybridbench", "Producer": None, "CreationDate": None},
    "svg": {"Creator": "hybridbench", "Date": None},
    "png": {"Software": None},
}


def table_sha256(table: pd.DataFrame) -> str:
    """SHA-256 of a table's rows as CSV, in the order given: two equal tables, one checksum."""
    return hashlib.sha256(table.to_csv(index=False, lineterminator="\n").encode()).hexdigest()


def describe_input(name: str, source: pd.DataFrame | Path) -> dict[str, Any]:
    """What one input of a figure was: a table of records (rows, records, commits, machines) or a file."""
    if isinstance(source, pd.DataFrame):
        known: dict[str, Any] = {"input": name, "sha256": table_sha256(source), "rows": len(source)}
        if "record" in source:
            known["records"] = int(source["record"].nunique())
        # The commits that made the records, not the one that draws: the file changes only when its data do.
        for column, key in (("commit", "commits"), ("machine", "machines")):
            if column in source:
                known[key] = sorted(source[column].unique().tolist())
        return known
    return {"input": name, "file": paths.relative(source), "sha256": sha256(source)}


def save_figure(
    fig: Figure,
    name: str,
    caption: str,
    alt: str,
    inputs: Mapping[str, pd.DataFrame | Path],
    folder: Path | None = None,
) -> list[Path]:
    """Write `name`.pdf, .svg, .png and .json; nothing appears unless all four could be made.

    Args:
        fig: the figure; it stays open.
        name: file name without ending, lower case with dashes or underscores.
        caption: what a reader should see in it; stands below the figure in the paper.
        alt: what is drawn, for readers who cannot see it.
        inputs: what it was made from: study → table of records, or a name → file.
        folder: where; `build/figures` unless told otherwise.

    Raises:
        ConfigurationError: caption, alt text or inputs are empty: a figure without them is of no use to a reader.
    """
    if not caption.strip() or not alt.strip() or not inputs:
        raise ConfigurationError(f"Figure {name!r} needs a caption, an alt text and at least one input.")
    folder = folder or paths.build_dir() / "figures"
    about = {
        "figure": name,
        "caption": caption,
        "alt": alt,
        "inputs": [describe_input(key, inputs[key]) for key in sorted(inputs)],
    }
    made: dict[str, bytes] = {"json": (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode()}
    with use_style():
        for kind, metadata in METADATA.items():
            buffer = io.BytesIO()
            fig.savefig(buffer, format=kind, metadata=metadata, bbox_inches="tight")
            made[kind] = buffer.getvalue()
    written = {folder / f"{name}.{kind}": content for kind, content in made.items()}
    for file, content in written.items():
        paths.write_atomically(file, content)
    return list(written)


def show(fig: Figure, alt: str) -> None:
    """Show a figure in a notebook as a PNG with `alt` as its text, and close it.

    The text stands in the output's metadata, where nbconvert's templates look for it, and as the plain-text form.
    """
    if not alt.strip():
        raise ConfigurationError("A figure in a notebook needs an alt text: say what is drawn.")
    buffer = io.BytesIO()
    with use_style():
        fig.savefig(buffer, format="png", dpi=fig.dpi, metadata=METADATA["png"], bbox_inches="tight")
    plt.close(fig)
    image = base64.b64encode(buffer.getvalue()).decode()
    display({"image/png": image, "text/plain": f"Figure: {alt}"}, metadata={"image/png": {"alt": alt}}, raw=True)
