"""One page of everything: the paper's tables beside ours, every result file and its picture, in a single HTML file.

The page asks for nothing outside itself: pictures and files are in it as data, and its policy forbids it more.
"""

import base64
import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment as Templates
from jinja2 import FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

import ddfnet
from ddfnet.bench.paper import beside
from ddfnet.bench.paper.evidence import Kind, kind
from ddfnet.bench.paper.ours import Cell

TEMPLATE = Path(__file__).with_name("report.html.jinja")
TITLES: dict[Kind, str] = {
    "benchmark": "times and memory, by ddfnet bench",
    "study": "scores of trained networks, by ddfnet study",
    "comparison": "ways to upsample depth, by ddfnet evaluate depth",
}
ORDER = tuple(TITLES)
UNFOLDED = 30  # rows of a table that is open from the start
MARKS = {  # how the overview names what ours are, in its order
    "agrees": "exact, as printed",
    "differs": "exact, differs",
    "unprinted": "exact, not printed",
    "measured": "measured here",
    "needs": "needs data",
    "absent": "not here",
}


@dataclass(frozen=True)
class Value:
    """A cell of a result file: as it is shown, and as the file has it."""

    text: str
    exact: str
    number: bool


@dataclass(frozen=True)
class Sheet:
    """A result file. Columns that have one value in all rows stand apart, once; empty ones are left out."""

    name: str
    kind: Kind
    means: Sequence[tuple[str, ...]]  # of a study: a line of headings, and one a recipe; none of the others
    headings: Sequence[str]
    rows: Sequence[Sequence[Value]]
    same: Sequence[tuple[str, str]]
    download: str  # the file, as a data: address
    picture: str  # a PNG, as a data: address, or ""

    @property
    def anchor(self) -> str:
        return self.name.replace(".", "-")

    @property
    def title(self) -> str:
        return TITLES[self.kind]

    @property
    def is_unfolded(self) -> bool:
        return len(self.rows) <= UNFOLDED and not self.means


def sheet(path: Path, picture: bytes | None) -> Sheet:
    """A file of results, CSV or JSON, with its picture, a PNG.

    Raises:
        ValueError: no command of ddfnet wrote it.
        OSError: it can't be read.
    """
    content = path.read_bytes()
    is_json = path.suffix == ".json"
    text = content.decode("utf-8")
    rows = json.loads(text) if is_json else list(csv.DictReader(io.StringIO(text)))
    found = kind(path, rows)
    means = _means(rows) if found == "study" else []
    if found == "study":
        rows = [row for row in rows if row["seed"].isdigit()]
    columns = {name: [_text(row[name]) for row in rows] for name in rows[0]}
    filled = {name: values for name, values in columns.items() if any(values)}
    several = [name for name, values in filled.items() if len(set(values)) > 1]
    return Sheet(
        name=path.name,
        kind=found,
        means=means,
        headings=[name.replace("_", " ") for name in several],
        rows=[[value(filled[name][place]) for name in several] for place in range(len(rows))],
        same=[
            (name.replace("_", " "), value(values[0]).text) for name, values in filled.items() if name not in several
        ],
        download=data_address("application/json" if is_json else "text/csv;charset=utf-8", content),
        picture="" if picture is None else data_address("image/png", picture),
    )


def _means(rows: Sequence[Mapping[str, str]]) -> list[tuple[str, ...]]:
    """Of the rows of a study: headings, then a line a recipe, the mean of each test score and its spread."""
    scores = [name for name in rows[0] if name.startswith("test_")]
    counts = [name for name in ("parameters", "multiply_adds") if name in rows[0]]
    lines = [("recipe", "seeds", *(name.replace("_", " ") for name in (*counts, *scores)))]
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        of = {row["seed"]: row for row in rows if row["recipe"] == recipe}
        runs = [row for seed, row in of.items() if seed.isdigit()]
        spread = of.get("std", {})
        told = [value(runs[0][name]).text for name in counts]
        for name in scores:
            mean = value(of["mean"][name]).text
            told.append(f"{mean} \N{PLUS-MINUS SIGN} {value(spread[name]).text}" if spread.get(name) else mean)
        lines.append((recipe, str(len(runs)), *told))
    return lines


def _code(text: str) -> Markup:
    """What stands between backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _text(found: Any) -> str:
    return "" if found is None else str(found)


def value(text: str) -> Value:
    """A cell; numbers with a fraction are shown to four significant digits, and whole ones in groups of three.

    Example:
        >>> value("1.23456").text, value("16843748").text, value("ddf").number
        ('1.235', '16,843,748', False)
    """
    try:
        number = float(text)
    except ValueError:
        return Value(text, text, number=False)
    if not math.isfinite(number):
        return Value(text, text, number=True)
    if number == int(number) and "." not in text:
        return Value(f"{int(number):,}", text, number=True)
    decimals = max(0, 3 - math.floor(math.log10(abs(number)))) if number else 1
    return Value(f"{number:,.{min(decimals, 8)}f}", text, number=True)


def data_address(media_type: str, content: bytes) -> str:
    """An address that has the content in it."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def render(tables: Sequence[beside.Filled], sheets: Iterable[Sheet], *, date: str) -> str:
    """The page.

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
        sheets=sorted(sheets, key=lambda sheet: (ORDER.index(sheet.kind), sheet.name)),
        standing=standing,
        tables=tables,
        version=ddfnet.__version__,
        zip=zip,
    )


def standing(cell: Cell, digits: int) -> str:
    """Which of `MARKS` a cell has, "" where neither side has anything to say."""
    if cell.mark == "exact":
        return {True: "agrees", False: "differs", None: "unprinted"}[cell.agrees(digits)]
    if cell.mark in ("measured", "needs"):
        return cell.mark
    return "absent" if cell.printed is not None else ""


def count(filled: beside.Filled) -> Counter[str]:
    """How many cells of a table have each of `MARKS`."""
    table, cells = filled
    return Counter(
        standing(cell, column.digits) for row in cells for cell, column in zip(row, table.columns, strict=True)
    )
