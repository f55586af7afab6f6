"""What was measured, read from result files: of `ddfnet bench` for times and bytes, of `ddfnet study` for scores."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ddfnet.bench.paper.printed import Column, PaperTable, Row
from ddfnet.bench.results import Result, read

BENCHMARKS = ("layer", "op")  # in the order they are taken where a row names none
LAYOUTS = ("nchw", "channels_last")
CLOCKS = ("cpu", "eager", "queued", "graph")
MEBI = 2**20
# Table 7's images and protocol, in the columns of `ddfnet evaluate depth`.
NYU = {"dataset": "nyu (test)", "images": "449", "protocol": "pac", "unit": "cm"}
Kind = Literal["benchmark", "study", "comparison"]  # by the command: bench, study, evaluate depth


@dataclass
class Evidence:
    """Results by the path of the file that they are from."""

    kinds: dict[Path, Kind] = field(default_factory=dict)  # of all files that were taken in
    benchmarks: dict[str, list[Result]] = field(default_factory=dict)
    studies: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    comparisons: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    def add(self, path: Path) -> None:
        """Takes in a result file.

        Raises:
            ValueError: ddfnet wrote no such file.
            OSError: it can't be read.
        """
        if path.suffix == ".json":
            self.benchmarks[str(path)] = read(path)
            self.kinds[path] = "benchmark"
            return
        try:
            rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: expected a CSV file ({error})") from None
        found = kind(path, rows)
        if found == "study":
            self.studies[str(path)] = rows
        elif found == "benchmark":
            self.benchmarks[str(path)] = read(path)
        else:
            self.comparisons[str(path)] = rows
        self.kinds[path] = found

    def measured(self, table: PaperTable) -> dict[tuple[str, str], tuple[float, str]]:
        """Times and bytes by row and column, with their source: all of one file, that with most of them, then the latest.

        Only forward calls in float32 count: those are the paper's.
        """
        best: tuple[int, str] = (0, "")
        found: dict[tuple[str, str], tuple[float, str]] = {}
        for name, results in self.benchmarks.items():
            cells = {}
            for row in table.rows:
                for column in table.columns:
                    result = _result(results, row, column)
                    value = None if result is None else _value(result, column)
                    if result is not None and value is not None:
                        cells[row.label, column.name] = value, _describe(result, Path(name).name)
            date = max((result.environment.date for result in results), default="")
            if (len(cells), date) > best:
                best, found = (len(cells), date), cells
        return found

    def score(self, recipe: str, changes: Mapping[str, Any], name: str) -> tuple[float, str] | None:
        """Return the mean of a test score over the seeds of a recipe with these changes, and its source; None without one.

        A run with any other change is another experiment's.
        """
        for file, rows in self.studies.items():
            runs = [row for row in rows if row["recipe"] == recipe and row["seed"].isdecimal() and row.get(name)]
            runs = [row for row in runs if row.get("changes") and json.loads(row["changes"]) == changes]
            if runs:
                mean = sum(float(row[name]) for row in runs) / len(runs)
                first, seeds = runs[0], f"{len(runs)} seed{'s' * (len(runs) > 1)}"
                where = f"{seeds}, {first.get('device', '')}, {first.get('date', '')[:10]}"
                return mean, f"{Path(file).name}: {where}: {first['command']}"
        return None

    def compared(self, method: str, factor: int) -> tuple[float, str] | None:
        """The error of a way to upsample depth on all test images of NYU (Table 7), and its source; None without one."""
        wanted = {**NYU, "method": method, "factor": str(factor)}
        for file, rows in self.comparisons.items():
            for row in rows:
                if wanted.items() <= row.items():
                    source = f"{Path(file).name}: {row.get('options', '')}, {row.get('date', '')[:10]}"
                    return float(row["rmse"]), source
        return None


def kind(path: Path, rows: Sequence[Mapping[str, str]]) -> Kind:
    """Which command wrote a CSV file, by its columns.

    Raises:
        ValueError: none of ours.
    """
    columns = rows[0].keys() if rows else set()
    signs: dict[Kind, set[str]] = {
        "study": {"recipe", "seed", "command"},
        "benchmark": {"benchmark"},
        "comparison": {"protocol", "factor", "method"},
    }
    for name, sign in signs.items():
        if sign <= columns:
            return name
    raise ValueError(f"{path}: expected a result file of `ddfnet bench`, `ddfnet study` or `ddfnet evaluate depth`")


def collect(paths: Sequence[Path]) -> tuple[Evidence, list[str]]:
    """Evidence of files, and of all .csv in folders; and a sentence for each file of a folder that is no result file.

    Raises:
        ValueError: a file that was named is no result file, or a path is not there.
    """
    evidence = Evidence()
    left_out = []
    for path in paths:
        if not path.exists():
            raise ValueError(f"--results: expected result files or a folder of them, {path} is not there")
        if path.is_file():
            evidence.add(path)
            continue
        for file in sorted(path.glob("*.csv")):
            try:
                evidence.add(file)
            except ValueError as error:
                left_out.append(f"left out: {error}")
    return evidence, left_out


def _result(results: Sequence[Result], row: Row, column: Column) -> Result | None:
    allowed = (row.benchmark,) if row.benchmark else BENCHMARKS
    fitting = [
        result
        for result in results
        if (result.subject, result.case, result.dtype, result.direction)
        == (row.timed, column.case, "float32", "forward")
        and result.benchmark in allowed
    ]
    return min(
        fitting,
        key=lambda r: (allowed.index(r.benchmark), LAYOUTS.index(r.layout), CLOCKS.index(r.clock)),
        default=None,
    )


def _value(result: Result, column: Column) -> float | None:
    if column.source == "milliseconds":
        return result.median_ms
    if result.input_bytes is None or result.extra_bytes is None:
        return None
    return (result.input_bytes + result.extra_bytes) / MEBI


def _describe(result: Result, file: str) -> str:
    where: Any = result.environment
    threads = f", {where.threads} threads" if where.device == "cpu" else f", {result.clock} clock, TF32 {where.tf32}"
    return f"{file}: {where.device_name}{threads}, torch {where.torch}, {where.date[:10]}, {result.layout}"
