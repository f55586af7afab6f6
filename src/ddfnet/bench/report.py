"""One page of everything: the paper's tables beside ours, every result file and its picture, in a single HTML file.

The page asks for nothing outside itself: pictures and files are in it as data, and its policy forbids all else.
"""

import base64
import csv
import io
import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment as Templates
from jinja2 import FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

import ddfnet
from ddfnet.bench.paper import beside
from ddfnet.bench.paper.evidence import Kind, kind
from ddfnet.bench.results import Environment
from ddfnet.package_data import package_folder

TEMPLATE = package_folder("bench") / "report.html.jinja"
TITLES: dict[Kind, str] = {
    "benchmark": "times and memory, by ddfnet bench",
    "study": "scores of trained networks, by ddfnet study",
    "comparison": "ways to upsample depth, by ddfnet evaluate depth",
}
ORDER = tuple(TITLES)
UNFOLDED = 30  # rows of a table that is open from the start
MOST = 2_000  # rows of a file that are shown; the file itself has all
# Columns whose numbers are names, not amounts.
NAMES = {field.name for field in fields(Environment)}
NAMES |= {"case", "kornia", "pytorch-lightning", "seed", "timm", "torchvision"}
MARKS = {  # the overview's names of the marks, in its order
    "agrees": "exact, as printed",
    "differs": "exact, differs",
    "unprinted": "exact, not printed",
    "measured": "measured here",
    "needs": "needs data",
    "absent": "not built or measured",
    "theirs": "not ours to make",
}


@dataclass(frozen=True)
class Value:
    """A cell of a result file: as it is shown, and as the file has it."""

    text: str
    exact: str
    number: bool


@dataclass(frozen=True)
class Sheet:
    """A result file. Columns with one value in all rows stand apart, once; empty ones are left out."""

    name: str
    kind: Kind
    means: Sequence[tuple[str, ...]]  # of a study: a line of headings, and one a recipe; empty for other files
    headings: Sequence[str]
    count: int  # of rows, of which no more than `MOST` are here
    rows: Sequence[Sequence[Value]]
    same: Sequence[tuple[str, str]]
    download: str  # the file, as a data: address
    picture: str = ""  # a PNG, as a data: address, or ""

    @property
    def title(self) -> str:
        return TITLES[self.kind]

    def drawn(self, png: bytes | None) -> "Sheet":
        """Return the same sheet with its picture, if there is one."""
        return self if png is None else replace(self, picture=data_address("image/png", png))

    @property
    def is_unfolded(self) -> bool:
        return self.count <= UNFOLDED and not self.means


def sheet(path: Path) -> Sheet:
    """Read a file of results, CSV or JSON.

    Raises:
        ValueError: no command of ddfnet wrote it, or rows were lost or damaged since.
        OSError: it can't be read.
    """
    content = path.read_bytes()
    is_json = path.suffix == ".json"
    text = content.decode("utf-8-sig")
    rows = json.loads(text) if is_json else list(csv.DictReader(io.StringIO(text)))
    found = kind(path, rows)
    if not is_json and any(None in row or None in row.values() for row in rows):
        raise ValueError(f"{path}: expected as many cells in every row as it has columns")
    if found == "study":
        rows = [row for row in rows if row["seed"].isdigit()]
        if not rows:
            raise ValueError(f"{path}: expected a run or more of `ddfnet study`, got none")
    means = _means(rows) if found == "study" else []
    columns = {name: [_text(row[name]) for row in rows] for name in rows[0]}
    filled = {name: values for name, values in columns.items() if any(values)}
    several = [name for name, values in filled.items() if len(set(values)) > 1]
    return Sheet(
        name=path.name,
        kind=found,
        means=means,
        headings=[name.replace("_", " ") for name in several],
        count=len(rows),
        rows=[[_value(name, filled[name][place]) for name in several] for place in range(min(len(rows), MOST))],
        same=[
            (name.replace("_", " "), _value(name, values[0]).text)
            for name, values in filled.items()
            if name not in several
        ],
        download=data_address("application/json" if is_json else "text/csv;charset=utf-8", content),
    )


def _value(column: str, text: str) -> Value:
    return Value(text, text, number=False) if column in NAMES else value(text)


def _means(rows: Sequence[Mapping[str, str]]) -> list[tuple[str, ...]]:
    """Return headings, then a line for each recipe of a study: the mean of each test score and its spread (n - 1)."""
    scores = [name for name in rows[0] if name.startswith("test_")]
    counts = [name for name in ("parameters", "multiply_adds") if name in rows[0]]
    lines = [("recipe", "seeds", *(name.replace("_", " ") for name in (*counts, *scores)))]
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        runs = [row for row in rows if row["recipe"] == recipe]
        cells = [value(runs[0][name]).text for name in counts]
        for name in scores:
            scores_of = [float(row[name]) for row in runs if row[name]]
            mean = value(f"{statistics.fmean(scores_of):.8f}").text if scores_of else ""
            spread = value(f"{statistics.stdev(scores_of):.8f}").text if len(scores_of) > 1 else ""
            cells.append(f"{mean} \N{PLUS-MINUS SIGN} {spread}" if spread else mean)
        lines.append((recipe, str(len(runs)), *cells))
    return lines


def _code(text: str) -> Markup:
    """Mark what stands between backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _text(found: Any) -> str:
    return "" if found is None else str(found)


def value(text: str) -> Value:
    """Read a cell: numbers with a fraction are shown to four significant digits, whole ones in groups of three digits.

    Example:
        >>> value("1.23456").text, value("16843748").text, value("ddf").number
        ('1.235', '16,843,748', False)
    """
    if re.fullmatch(r"-?(nan|inf)", text):
        return Value(text, text, number=True)
    if not re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?", text):
        return Value(text, text, number=False)
    if re.fullmatch(r"-?\d+", text):
        return Value(f"{int(text):,}", text, number=True)
    number = float(f"{float(text):.3e}")
    if number and abs(number) < 1e-4:
        return Value(f"{number:.3e}", text, number=True)
    decimals = max(0, 3 - math.floor(math.log10(abs(number)))) if number else 1
    return Value(f"{number:,.{decimals}f}", text, number=True)


def data_address(media_type: str, content: bytes) -> str:
    """Return an address that contains the content."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def render(tables: Sequence[beside.Filled], sheets: Iterable[Sheet], *, date: str) -> str:
    """Write the page.

    Args:
        tables: the paper's, with ours beside them.
        sheets: the result files.
        date: when the page is made, as it is to be shown.
    """
    templates = Templates(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["code"] = _code
    return templates.get_template(TEMPLATE.name).render(
        beside=beside,
        counts=[count(filled) for filled in tables],
        date=date,
        marks=MARKS,
        sheets=list(enumerate(sorted(sheets, key=lambda sheet: (ORDER.index(sheet.kind), sheet.name)))),
        tables=tables,
        version=ddfnet.__version__,
        zip=zip,
    )


def count(filled: beside.Filled) -> Counter[str]:
    """Count a table's cells by their marks."""
    return Counter(cell.mark for row in filled[1] for cell in row)
