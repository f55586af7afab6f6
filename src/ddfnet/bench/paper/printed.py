"""What the paper prints, read from `printed.yaml`: tables of rows and columns, and where ours come from."""

import math
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import yaml

from ddfnet.package_data import package_folder

Source = Literal[
    "parameters", "multiply_adds", "weights", "work", "filters", "milliseconds", "megabytes", "score", "print"
]
Term = Mapping[str, int]  # a product of powers: {"c": 2, "k": 2} is c^2 k^2
FILE = package_folder("bench/paper") / "printed.yaml"
SYMBOLS = {"sigma": "\N{GREEK SMALL LETTER SIGMA}"}
POWERS = {1: "", 2: "\N{SUPERSCRIPT TWO}", 3: "\N{SUPERSCRIPT THREE}"}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A quantity of a table; the fields are described at the head of `printed.yaml`."""

    name: str
    source: Source
    heading: str
    digits: int  # of the print, behind the point
    unit: str = ""
    scale: float = 1.0  # what ours is multiplied by to have the unit
    case: str = ""
    score: str = ""
    data: str = ""
    factor: int = 0

    @property
    def title(self) -> str:
        """Heading and unit."""
        return f"{self.heading}, {self.unit}" if self.unit else self.heading

    @property
    def is_measured(self) -> bool:
        """Whether ours is read from a result file of `ddfnet bench`."""
        return self.source in ("milliseconds", "megabytes")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a table; the fields are described at the head of `printed.yaml`."""

    label: str
    paper: Mapping[str, float] = field(default_factory=dict)
    terms: Mapping[str, Sequence[Term]] = field(default_factory=dict)
    network: str = ""
    network_args: Mapping[str, Any] = field(default_factory=dict)
    input_size: int = 224
    upsampler: str = ""
    layer: str = ""
    timed: str = ""
    benchmark: str = ""  # the only one that `timed` may come from; any, the layer's first, where it is ""
    recipe: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)  # to the recipe, by the names of options
    command: str = ""  # what scores the row where nothing is trained, and no recipe does
    method: str = ""  # its name in what that command writes
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """One table of the paper."""

    number: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    at: Mapping[str, Any] = field(default_factory=dict)  # the sizes at which layers are counted

    @property
    def is_measured(self) -> bool:
        """Whether ours are times or bytes."""
        return any(column.is_measured for column in self.columns)


@cache
def _read() -> tuple[dict[str, str], dict[str, PaperTable]]:
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    tables = {}
    for number, table in content["tables"].items():
        columns = [
            Column(name=name, source=column["from"], **{key: value for key, value in column.items() if key != "from"})
            for name, column in table["columns"].items()
        ]
        rows = [Row(**row) for row in table["rows"]]
        rest = {key: value for key, value in table.items() if key not in ("columns", "rows")}
        tables[number] = PaperTable(number=number, columns=columns, rows=rows, **rest)
    return content["commands"], tables


def tables() -> dict[str, PaperTable]:
    """Every table by its number: "1", "2", "3a" to "3c", "4" to "7", "A", "C"."""
    return dict(_read()[1])


def choose(numbers: Sequence[str]) -> list[PaperTable]:
    """The tables of these numbers, in the paper's order and all of them where none is given; "3" is 3a, 3b and 3c.

    Raises:
        ValueError: there is no such table.
    """
    known = tables()
    wanted = set()
    for number in numbers:
        found = [name for name in known if name.lower() == number.lower() or name.rstrip("abc") == number]
        if not found:
            raise ValueError(f"N: expected tables among {', '.join(known)} (3 for 3a to 3c), got {number!r}")
        wanted.update(found)
    return [table for name, table in known.items() if name in wanted or not numbers]


def command(row: Row, column: Column, recipes: Collection[str]) -> str:
    """What makes the row's score of the column, "" where its recipe is not among these names."""
    if row.command:
        return row.command
    recipe = row.recipe.format(factor=column.factor)
    if recipe not in recipes:
        return ""
    words = [word for name, value in row.changes.items() for word in (f"--{name}", _as_option(value))]
    return " ".join([_read()[0][column.data].format(recipe=recipe), *map(shlex.quote, words)])


def _as_option(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True)
    return text.removesuffix("...\n").strip()


def by_option(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes with those of a mapping one by one, as runs write them."""
    found: dict[str, Any] = {}
    for name, value in changes.items():
        inner = by_option(value) if isinstance(value, Mapping) else {"": value}
        found |= {f"{name}.{rest}".removesuffix("."): each for rest, each in inner.items()}
    return found


def measuring(table: PaperTable) -> str:
    """What measures the times and bytes of a table."""
    return f"ddfnet tables {table.number} --measure"


def evaluate(terms: Sequence[Term], at: Mapping[str, float]) -> float:
    """The sum of the terms, with the sizes in the symbols' places.

    Example:
        >>> evaluate([{"c": 1, "k": 2}, {"sigma": 1, "c": 2}], {"c": 10, "k": 3, "sigma": 0.5})
        140.0
    """
    return math.fsum(math.prod(at[symbol] ** power for symbol, power in term.items()) for term in terms)


def formula(terms: Sequence[Term]) -> str:
    """The sum as it is written."""
    products = ("".join(SYMBOLS.get(name, name) + POWERS[power] for name, power in term.items()) for term in terms)
    return " + ".join(products)
