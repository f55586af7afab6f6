"""Read what the paper prints from `printed.yaml`: tables of rows and columns, and where ours come from."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml

from ddfnet.package_data import package_folder

FILE = package_folder("bench/paper") / "printed.yaml"
ROOTS = {"ImageNet": "IMAGENET", "COCO": "COCO", "NYU": "nyu_depth_v2_labeled.mat"}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A quantity of a table; the head of `printed.yaml` describes the fields."""

    name: str
    source: str
    heading: str
    digits: int  # of the print, behind the point
    unit: str = ""
    scale: float = 1.0
    case: str = ""
    score: str = ""
    data: str = ""
    factor: int = 0

    @property
    def title(self) -> str:
        return f"{self.heading}, {self.unit}" if self.unit else self.heading

    @property
    def is_measured(self) -> bool:
        """True if `ddfnet bench` measures ours."""
        return self.source in ("milliseconds", "megabytes")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a table; the head of `printed.yaml` describes the fields."""

    label: str
    paper: Mapping[str, float]
    formulas: Sequence[str] = ()  # whose values at the table's sizes are `paper`, by column
    network: str = ""
    network_args: Mapping[str, Any] = field(default_factory=dict)
    input_size: int = 224
    upsampler: str = ""
    layer: str = ""
    timed: str = ""
    benchmark: str = ""  # the only one that `timed` may come from; any, the layer's first, where it is ""
    recipe: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)  # to the recipe, by the names of options
    command: str = ""  # scores the row where nothing is trained
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
        return any(column.is_measured for column in self.columns)


def _row(columns: Sequence[Column], *, label: str, paper: Sequence[float | None] = (), **rest: Any) -> Row:
    numbers = {column.name: value for column, value in zip(columns, paper, strict=False) if value is not None}
    network = rest.get("network", "")
    if network.startswith("ddf_"):
        rest = {"recipe": f"imagenet/{network}", **rest}
    elif network:
        changes = {f"model.network_args.{name}": value for name, value in rest.get("network_args", {}).items()}
        changes = changes if network == "resnet50" else {"model.network": network, **changes}
        rest = {"recipe": "imagenet/resnet50", "changes": changes, **rest}
    return Row(label=label, paper=numbers, **rest)


@cache
def tables() -> Mapping[str, PaperTable]:
    """Return every table by its number: "1", "2", "3a" to "3c", "4" to "7", "A", "C"."""
    found = {}
    for number, table in yaml.safe_load(FILE.read_text(encoding="utf-8"))["tables"].items():
        columns = [Column(name=name, **column) for name, column in table.pop("columns").items()]
        rows = [_row(columns, **row) for row in table.pop("rows")]
        found[number] = PaperTable(number=number, columns=columns, rows=rows, **table)
    return found


def choose(numbers: Sequence[str]) -> list[PaperTable]:
    """Return the tables of these numbers in the paper's order, all for none; "3" is 3a, 3b and 3c.

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


def command(row: Row, column: Column) -> str:
    """Return the command that makes the row's score of the column."""
    if row.command:
        return row.command
    words = ["ddfnet", "train", "--config", row.recipe.format(factor=column.factor), "--data.root", ROOTS[column.data]]
    for name, value in row.changes.items():
        words += [f"--{name}", yaml.safe_dump(value, default_flow_style=True).splitlines()[0]]
    return shlex.join(words)
