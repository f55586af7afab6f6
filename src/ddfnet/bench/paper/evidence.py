"""Read what was measured from the result files of `ddfnet bench`, `ddfnet study` and `ddfnet evaluate depth`."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ddfnet.bench.paper.printed import Column, PaperTable, Row
from ddfnet.bench.results import Result, read

BENCHMARKS = ("layer", "op")  # the order of preference where a row names none
LAYOUTS = ("nchw", "channels_last")
CLOCKS = ("cpu", "eager", "queued", "graph")
# Table 7's images and protocol, in the columns of `ddfnet evaluate depth`.
NYU = {"dataset": "nyu (test)", "images": "449", "protocol": "pac", "unit": "cm"}
Kind = Literal["benchmark", "study", "comparison"]  # by the command: bench, study, evaluate depth
COLUMNS: dict[Kind, set[str]] = {  # that only files of this kind have
    "study": {"recipe", "seed", "command"},
    "benchmark": {"benchmark"},
    "comparison": {"protocol", "factor", "method"},
}
Found = tuple[float, str]  # a number and its source


@dataclass(frozen=True)
class ResultFile:
    """A result file: instances of `Result` of a benchmark, else texts by column."""

    path: Path
    kind: Kind
    rows: Sequence[Any]


def kind(path: Path, rows: Sequence[Mapping[str, str]]) -> Kind:
    """Return what wrote a file, by its columns; raise ValueError if it was none of our commands."""
    for name, columns in COLUMNS.items():
        if rows and columns <= rows[0].keys():
            return name
    raise ValueError(f"{path}: expected a result file of `ddfnet bench`, `ddfnet study` or `ddfnet evaluate depth`")


def read_file(path: Path) -> ResultFile:
    """Read a result file; raise ValueError if it is none, OSError if it can't be read."""
    if path.suffix == ".json":
        return ResultFile(path, "benchmark", read(path))
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected a CSV file ({error})") from None
    found = kind(path, rows)
    return ResultFile(path, found, read(path) if found == "benchmark" else rows)


def collect(paths: Sequence[Path]) -> tuple[list[ResultFile], list[str]]:
    """Read files, and all .csv of folders; the second list has a sentence for each that is no result file.

    Raises:
        ValueError: a file that was named is no result file, or a path is not there.
    """
    files, left_out = [], []
    for path in paths:
        if not path.exists():
            raise ValueError(f"--results: expected result files or a folder of them, {path} is not there")
        for file in sorted(path.glob("*.csv")) if path.is_dir() else [path]:
            try:
                files.append(read_file(file))
            except ValueError as error:
                if file == path:
                    raise
                left_out.append(f"left out: {error}")
    return files, left_out


def measured(files: Sequence[ResultFile], table: PaperTable) -> dict[tuple[str, str], Found]:
    """Return times (ms) and bytes (MiB) by row and column, all from one file: that with most of them, then the latest."""
    found = []
    for file in files:
        if file.kind == "benchmark":
            cells = {
                (row.label, column.name): (value, _describe(result, file.path.name))
                for row in table.rows
                for column in table.columns
                if (result := _result(file.rows, row, column)) and (value := _value(result, column)) is not None
            }
            found.append((len(cells), max((result.environment.date for result in file.rows), default=""), cells))
    return max(found, key=lambda entry: entry[:2], default=(0, "", {}))[2]


def score(files: Sequence[ResultFile], row: Row, column: Column) -> Found | None:
    """Return a row's test score, the mean over the seeds of its recipe or what its command wrote; None without one.

    A run counts only if it made exactly the row's changes to the recipe, as it wrote them into its summary.
    """
    recipe, changes = row.recipe.format(factor=column.factor), by_option(row.changes)
    compared = {**NYU, "method": row.method, "factor": str(column.factor)}.items()
    for file in files:
        if file.kind == "study" and recipe:
            runs = [each for each in file.rows if each["recipe"] == recipe and each["seed"].isdecimal()]
            runs = [each for each in runs if each.get(column.score) and each.get("changes")]
            runs = [each for each in runs if json.loads(each["changes"]) == changes]
            if runs:
                mean = sum(float(each[column.score]) for each in runs) / len(runs)
                first, seeds = runs[0], f"{len(runs)} seed{'s' * (len(runs) > 1)}"
                where = f"{seeds}, {first.get('device', '')}, {first.get('date', '')[:10]}"
                return mean, f"{file.path.name}: {where}: {first['command']}"
        elif file.kind == "comparison" and row.method:
            for each in file.rows:
                if compared <= each.items():
                    source = f"{file.path.name}: {each.get('options', '')}, {each.get('date', '')[:10]}"
                    return float(each["rmse"]), source
    return None


def by_option(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes with those of a mapping one by one, as runs write them: {"a": {"b": 1}} as {"a.b": 1}."""
    found: dict[str, Any] = {}
    for name, value in changes.items():
        inner = by_option(value) if isinstance(value, Mapping) else {"": value}
        found |= {f"{name}.{rest}".removesuffix("."): each for rest, each in inner.items()}
    return found


def _result(results: Sequence[Result], row: Row, column: Column) -> Result | None:
    """Return the forward call in float32, which is what the paper times."""
    allowed = (row.benchmark,) if row.benchmark else BENCHMARKS
    wanted = (row.timed, column.case, "float32", "forward")
    found = [r for r in results if (r.subject, r.case, r.dtype, r.direction) == wanted and r.benchmark in allowed]
    order = [(allowed.index(r.benchmark), LAYOUTS.index(r.layout), CLOCKS.index(r.clock)) for r in found]
    return found[order.index(min(order))] if found else None


def _value(result: Result, column: Column) -> float | None:
    if column.source == "milliseconds":
        return result.median_ms
    if result.input_bytes is None or result.extra_bytes is None:
        return None
    return (result.input_bytes + result.extra_bytes) / 2**20


def _describe(result: Result, file: str) -> str:
    where = result.environment
    threads = f", {where.threads} threads" if where.device == "cpu" else f", {result.clock} clock, TF32 {where.tf32}"
    return f"{file}: {where.device_name}{threads}, torch {where.torch}, {where.date[:10]}, {result.layout}"
