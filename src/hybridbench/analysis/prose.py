"""No number in prose that did not come from `claims.json`.

Typst text reads its numbers by name, so any decimal, percentage or ratio that stands in it as a literal is reported.
Markdown (README, the notebooks' "What we found") cannot read JSON: there a literal is accepted where `claims.json` holds it
in so many digits. Code, links, versions, dates and arXiv ids are not prose.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from hybridbench import paths
from hybridbench.analysis.tables import ELSEWHERE
from hybridbench.errors import DataError

#: Where a generated table of README.md begins and ends, by its name.
BEGIN, END = "<!-- {}:begin -->", "<!-- {}:end -->"

#: A decimal, a percentage, or a ratio such as 12x; "4 × 4" is a shape, not a ratio.
NUMBER = re.compile(
    r"(?<![\w.])\d+(?:\.\d+)?(?:e[-−+]?\d+)?(?:\s?%|\s?[x×](?!\w)(?!\s*\d))"
    r"|(?<![\w.])\d+\.\d+(?:e[-−+]?\d+)?(?![\w.]*\d)"
)
#: What looks like a quoted number and is none: blanked out before the search, in both languages.
NOT_PROSE = (
    re.compile(r"https?://[^\s)\]>\"]+"),
    re.compile(r"(?:arXiv:|doi:|\b10\.\d{4,9}/)\S+", re.IGNORECASE),
    re.compile(r"\b\d{4}-\d{2}-\d{2}\b"),
    re.compile(r"\bv?\d+\.\d+\.\d+\S*"),
    re.compile(
        r"\b(?:Python|PennyLane|Lightning|TensorFlow|CUDA|Keras|NumPy|SciPy|Typst|papermill|nbval|JupyterLab"
        r"|Apache(?: License)?|version|section|Version|Section)[\s-]+v?\d+\.\d+(?:(?:,| or| and|, or|, and)\s\d+\.\d+)*"
    ),
)  # fmt: skip
MARKDOWN_CODE = (
    re.compile(r"^(```+|~~~+).*?^\1", re.MULTILINE | re.DOTALL),
    re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL),
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"\]\([^)\s]*\)"),
)


class Stray(NamedTuple):
    """A number that prose states and `claims.json` does not."""

    file: str  #: relative to the checkout
    line: int
    number: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.number!r} does not come from claims.json"


def _blank(text: str, patterns: Iterable[re.Pattern]) -> str:
    """The text with all matches blanked out, line numbers kept."""
    for pattern in patterns:
        text = pattern.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)
    return text


def _normal(number: str) -> str:
    return re.sub(r"\s", "", number).replace("−", "-").replace("×", "x")


def known_numbers(claims: dict) -> set[str]:
    """Every number that stands in a text of `claims.json`, as written there."""
    texts = [value for row in claims["claims"] for value in row.values() if isinstance(value, str)]
    texts += [number[key] for number in claims["numbers"].values() for key in ("text", "short")]
    texts = [text.removesuffix(f" ({ELSEWHERE})") for text in texts]
    found = {_normal(match) for text in texts for match in NUMBER.findall(text)}
    # "5.4 [3.1, 7.7] %": each of the three is a percentage too.
    for text in texts:
        if text.rstrip().endswith("%"):
            found |= {f"{digits}%" for digits in re.findall(r"\d+(?:\.\d+)?", text)}
    # A number without a unit is a ratio, also where it is written without decimals.
    ratios = [number[key] for number in claims["numbers"].values() if number.get("unit") == "1" for key in ("text", "short")]
    found |= {digits for text in ratios for digits in re.findall(r"(?<![\d.])\d+(?![\d.])", text)}
    return found | {f"{number}x" for number in found if re.fullmatch(r"[\d.]+", number)}


def stray_in(text: str, known: set[str]) -> list[tuple[int, str]]:
    """Line and number of everything in `text` (prose only) that is not in `known`."""
    text = _blank(text, NOT_PROSE)
    found = [(text.count("\n", 0, match.start()) + 1, match.group()) for match in NUMBER.finditer(text)]
    return [(line, number) for line, number in found if _normal(number) not in known]


def markdown_prose(text: str) -> str:
    """Markdown with code, comments and link targets blanked out, and the generated tables too."""
    generated = BEGIN.format(r"(\w+)") + ".*?" + END.format(r"\1")
    return _blank(text, (re.compile(generated, re.DOTALL), *MARKDOWN_CODE))


def typst_prose(text: str) -> str:
    """Typst with code, raw text and comments blanked out; content blocks inside code are prose again."""
    out, i, stack = [], 0, ["prose"]  # stack of "prose" and of the brackets that code is inside of
    keep = out.append

    def skip(until: int) -> int:
        keep(re.sub(r"[^\n]", " ", text[i:until]))
        return until

    while i < len(text):
        mode, char = stack[-1], text[i]
        if text.startswith("//", i) and (i == 0 or text[i - 1] != ":"):
            i = skip(len(text) if (end := text.find("\n", i)) < 0 else end)
        elif text.startswith("/*", i):
            i = skip(len(text) if (end := text.find("*/", i)) < 0 else end + 2)
        elif char == "`":
            fence = re.match("`+", text[i:]).group()
            i = skip(len(text) if (end := text.find(fence, i + len(fence))) < 0 else end + len(fence))
        elif char == "\\" and mode == "prose":
            i = skip(i + 2)
        elif mode != "prose" and char == '"':
            i = skip(i + re.match(r'"(?:[^"\\]|\\.)*"?', text[i:]).end())
        elif mode == "prose" and char == "#" and (start := re.match(r"#([A-Za-z_][\w.-]*|[({\"])", text[i:])):
            if start.group(1) in {"let", "set", "show", "import", "include", "if", "for", "while", "else"}:
                stack.append("line")
                i = skip(i + start.end())
            elif start.group(1) in "({":
                stack.append(start.group(1))
                i = skip(i + start.end())
            elif start.group(1) == '"':
                i = skip(i + 1 + re.match(r'"(?:[^"\\]|\\.)*"?', text[i + 1 :]).end())
            else:
                i = skip(i + start.end())
                if text[i : i + 1] == "(":
                    stack.append("(")
                    i = skip(i + 1)
                elif text[i : i + 1] == "[":
                    stack.append("prose")
                    i = skip(i + 1)
        elif mode == "line" and char == "\n":
            stack.pop()
            keep(char)
            i += 1
        elif mode == "prose":
            if char == "[":
                stack.append("prose")
            elif char == "]" and len(stack) > 1:
                stack.pop()
                # A call may take several content blocks: f[..][..].
                if text[i + 1 : i + 2] == "[":
                    stack.append("prose")
                    i = skip(i + 1)
            keep(char)
            i += 1
        else:
            if char in "({":
                stack.append(char)
            elif char == "[":
                stack.append("prose")
            elif char in ")}" and mode in "({":
                stack.pop()
                if stack[-1] == "prose" and text[i + 1 : i + 2] == "[":
                    stack.append("prose")
                    i = skip(i + 1)
            i = skip(i + 1)
    return "".join(out)


def conclusions(notebook: Path) -> list[tuple[int, str]]:
    """Markdown of a notebook's "What we found" up to the next section: (line in the file, text) for each line."""
    raw = notebook.read_text(encoding="utf-8")
    lines, inside, found = raw.splitlines(), False, []
    at = 0
    for cell in json.loads(raw)["cells"]:
        if cell["cell_type"] != "markdown":
            continue
        source = "".join(cell["source"]) if isinstance(cell["source"], list) else cell["source"]
        for line in source.splitlines():
            if re.match(r"#{1,2}\s", line):
                inside = line.lstrip("# ").strip().lower() == "what we found"
            if inside:
                # A notebook may hold its text with or without escapes.
                quoted = {json.dumps(line, ensure_ascii=escaped)[1:-1] for escaped in (False, True)}
                at = next((n for n in range(at, len(lines)) if any(q in lines[n] for q in quoted)), at)
                found.append((at + 1, line))
    return found


def check(files: Iterable[Path], claims: dict) -> list[Stray]:
    """All stray numbers in Typst (.typ), Markdown (.md) and notebook (.ipynb) files.

    Raises:
        DataError: a file of another kind.
    """
    known = known_numbers(claims)
    found = []
    for file in files:
        name = paths.relative(file)
        if file.suffix == ".ipynb":
            for line, text in conclusions(file):
                found += [Stray(name, line, number) for _, number in stray_in(markdown_prose(text), known)]
            continue
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".md":
            hits = stray_in(markdown_prose(text), known)
        elif file.suffix == ".typ":
            # Typst reads the JSON by name and has no reason to state a number: only the protocol's own may stand there.
            protocol = {_normal(n["text"]) for key, n in claims["numbers"].items() if key.startswith("protocol_")}
            hits = stray_in(typst_prose(text), protocol)
        else:
            raise DataError(f"{name} is neither Typst, Markdown nor a notebook: its prose cannot be read.")
        found += [Stray(name, line, number) for line, number in hits]
    return found


def checked_files() -> list[Path]:
    """The files whose prose quotes results: the paper, the README and the notebooks, as far as they are there."""
    root = paths.root()
    named = [root / "paper/paper.typ", root / "README.md"]
    return [file for file in named if file.is_file()] + sorted((root / "notebooks").glob("*.ipynb"))


def readme_table(claims: dict) -> str:
    """The claims as a Markdown table: what was claimed, the verdict, the number behind it or what is missing."""
    marks = {"confirmed": "✔ confirmed", "refuted": "✘ refuted", "open": "◇ open"}
    lines = ["| | claim of the original study | verdict | number | what it is |", "|---|---|---|---|---|"]
    for row in claims["claims"]:
        verdict = marks[row["verdict"]] + (f": {row['missing']}" if row["verdict"] == "open" else "")
        lines.append(f"| {row['id']} | {row['claim']} | {verdict} | {row['text']} | {row['quantity']} |")
    return "\n".join(lines)


def optimizers_table(claims: dict) -> str:
    """The optimizers as a Markdown table, best for classification first: scores and learning rates, kind by kind."""
    numbers, start = claims["numbers"], "advice_"
    ranked = sorted((name for name in numbers if name.startswith(start)), key=lambda name: -numbers[name]["value"])
    found = sorted((name.removeprefix(start).split(":") for name in ranked if name.count(":") == 1), key=lambda key: key[0])
    kinds = list(dict.fromkeys(kind for kind, _ in found))
    cells = "".join(f" | {kind} | learning rates" for kind in kinds)
    lines = [f"| optimizer{cells} |", "|---" * (1 + 2 * len(kinds)) + "|"]
    for optimizer in dict.fromkeys(optimizer for _, optimizer in found):
        row = [f"`{optimizer}`"]  # what one types
        for kind in kinds:
            names = [f"{start}{kind}:{optimizer}{end}" for end in ("", ":rate_low", ":rate_high")]
            score, low, high = (numbers[name]["text"] if name in numbers else "–" for name in names)
            row += [score, low if low == high else f"{low} to {high}"]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


TABLES = {"claims": readme_table, "optimizers": optimizers_table}


def with_tables(text: str, claims: dict) -> str:
    """`text` with the tables between their markers renewed.

    Raises:
        DataError: there is not exactly one pair of markers for each table.
    """
    for name, table in TABLES.items():
        begin, end = BEGIN.format(name), END.format(name)
        if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
            raise DataError(f"README.md needs one line {begin} and, after it, one line {end} for the generated table.")
        head, rest = text.split(begin)
        text = f"{head}{begin}\n{table(claims)}\n{end}{rest.split(end)[1]}"
    return text


def update_readme(readme: Path | None = None, claims_file: Path | None = None) -> bool:
    """Renew the README's tables from `data/claims.json`; returns whether anything changed.

    Raises:
        DataError: no `claims.json`, or no markers in the README.
    """
    readme = readme or paths.root() / "README.md"
    text = readme.read_text(encoding="utf-8")
    renewed = with_tables(text, load_claims(claims_file))
    if renewed != text:
        paths.write_atomically(readme, renewed)
    return renewed != text


def renew_table(page: Path, table: str) -> None:
    """Put a generated Markdown table into a page, in place of the one with the same header.

    Raises:
        DataError: the page has no table with this header.
    """
    header = table.split("\n", 1)[0]
    text = page.read_text(encoding="utf-8")
    renewed, count = re.subn(rf"^{re.escape(header)}\n(\|.*\n)*", lambda _: table, text, flags=re.MULTILINE)
    if not count:
        raise DataError(f"{paths.relative(page)} has no table with the header {header!r}: write this line where it belongs.")
    if renewed != text:
        paths.write_atomically(page, renewed)


def load_claims(file: Path | None = None) -> dict:
    """The content of `data/claims.json` or of another such file.

    Raises:
        DataError: it is missing or damaged.
    """
    file = file or paths.data_dir() / "claims.json"
    if not file.is_file():
        raise DataError(f"{paths.relative(file)} is missing: run 'hybridbench claims' first.")
    try:
        claims = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{paths.relative(file)} is damaged ({error}): run 'hybridbench claims' again.") from error
    if not isinstance(claims, dict) or not {"claims", "numbers"} <= set(claims):
        raise DataError(f"{paths.relative(file)} holds no claims and numbers: run 'hybridbench claims' again.")
    return claims
