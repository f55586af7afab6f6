"""Put our numbers beside the paper's: counted on the models now, or read from what was measured."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import timm
import torch
from torch import nn

from ddfnet.bench.paper.evidence import ResultFile, measured, score
from ddfnet.bench.paper.printed import Column, PaperTable, Row, command
from ddfnet.models import complexity
from ddfnet.nn.ddf import DDF
from ddfnet.nn.upsamplers.plain import upsample_layer

# Counted: "agrees", "differs", "unprinted". No number of ours: "needs" data, "absent", "theirs". "" where neither has one.
Mark = Literal["agrees", "differs", "unprinted", "measured", "needs", "absent", "theirs", ""]


@dataclass(frozen=True)
class Cell:
    """The paper's number and ours, both in the column's unit; None where there is none."""

    row: Row
    column: Column
    mark: Mark
    printed: float | None = None
    ours: float | None = None
    as_printed: float | None = None  # ours, counted as the paper counts
    formula: str = ""  # whose value is `printed`
    source: str = ""  # where and when ours was measured, or the command that makes it


def fill(table: PaperTable, files: Sequence[ResultFile]) -> list[list[Cell]]:
    """Return the cells of a table, by row and column, with what result files have."""
    times = measured(files, table) if table.is_measured else {}

    def cell(row: Row, column: Column) -> Cell:
        printed = row.paper.get(column.name)
        absent: Mark = "" if printed is None else "absent"
        if column.source == "print":
            return Cell(row, column, "theirs" if absent else "", printed)
        if column.source in ("weights", "work", "filters", "parameters", "multiply_adds"):
            return _counted(table, row, column) or Cell(row, column, absent, printed)
        found = times.get((row.label, column.name)) if column.is_measured else score(files, row, column)
        if found is not None:
            return Cell(row, column, "measured", printed, found[0] * column.scale, source=found[1])
        if column.is_measured:
            return Cell(row, column, absent, printed, source=measuring(table))
        needs = bool(row.recipe or row.command)
        return Cell(row, column, "needs" if needs else absent, printed, source=command(row, column) if needs else "")

    return [[cell(row, column) for column in table.columns] for row in table.rows]


def measuring(table: PaperTable) -> str:
    """Return the command that measures the times and bytes of a table."""
    return f"ddfnet tables {table.number} --measure"


def _counted(table: PaperTable, row: Row, column: Column) -> Cell | None:
    """Return a cell whose number is counted on a model; None if the row has no model, or a layer's row no terms."""
    printed = row.paper.get(column.name)
    formula = ""
    counts: list[float] = []  # ours, and as the paper counts where that differs
    if row.layer and printed is not None:
        formula = row.formulas[table.columns.index(column)]
        counts = [layer_counts(row.layer, **table.at)[column.source]]
    elif row.upsampler:
        counts = upsampler_multiply_adds(row.upsampler, json.dumps(table.at))
    elif row.network:
        found = network_counts(row.network, json.dumps(row.network_args), row.input_size)
        counts = [found.parameters] if column.source == "parameters" else [found.multiply_adds, found.published]
    if not counts:
        return None
    ours, as_printed = [*(count * column.scale for count in counts), None][:2]
    mark: Mark = "unprinted"
    if printed is not None:
        rounded = {f"{count:.{column.digits}f}" for count in (ours, as_printed) if count is not None}
        mark = "agrees" if f"{printed:.{column.digits}f}" in rounded else "differs"
    return Cell(row, column, mark, printed, ours, as_printed, formula=formula)


@cache
def network_counts(network: str, arguments: str, size: int) -> Any:
    """Return the `Complexity` of a timm network on one image of `size` pixels; `arguments` are JSON."""
    with torch.device("meta"):
        model = timm.create_model(network, **json.loads(arguments))
    return complexity(model, (1, 3, size, size))


@cache
def upsampler_multiply_adds(name: str, at: str) -> list[float]:
    """Return the multiply-adds of 2x upsampling the levels of Table 6; then with the fourth and one for each element made.

    Nearest upsampling copies: it has none by either counting.
    """
    channels, levels, fourth = json.loads(at).values()
    layer = upsample_layer(name, channels, 2, device="meta")  # type: ignore[arg-type]
    counts = [complexity(layer, (1, channels, *size)).multiply_adds for size in (*levels, fourth)]
    elements = sum(4 * channels * rows * columns for rows, columns in (*levels, fourth))
    return [sum(counts[:-1]), sum(counts) + elements * (name != "nearest")]


@cache
def layer_counts(name: str, *, n: int, c: int, k: int, sigma: float) -> dict[str, int]:
    """Return parameters, multiply-adds and elements of generated filters of a layer of Table 1, on a square map.

    Args:
        name: "dense", "depthwise", "dynamic_filter" or "ddf".
        n: pixels, a square number.
        c: channels in and out.
        k: side of the filters.
        sigma: squeeze ratio of "ddf".
    """
    x = torch.empty(1, c, math.isqrt(n), math.isqrt(n), device="meta")
    generated = applied = 0
    layer: nn.Module
    if name == "ddf":
        layer = ddf = DDF(c, k, squeeze_ratio=sigma, device="meta")
        generated = sum(filters.numel() for filters in ddf.filters(x) if filters is not None)
    elif name == "dynamic_filter":
        layer = nn.Conv2d(c, c * c * k * k, 1, bias=False, device="meta")  # predicts a C x C x k x k filter a pixel
        generated = applied = layer(x).numel()  # one multiply-add for each element of a filter
    else:
        groups = {"dense": 1, "depthwise": c}[name]
        layer = nn.Conv2d(c, c, k, padding=k // 2, groups=groups, bias=False, device="meta")
    counted = complexity(layer, x.shape)
    return {"weights": counted.parameters, "work": counted.multiply_adds + applied, "filters": generated}
