"""Ours in the places of the paper's: counted from the models now, or read from what was measured."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import nn

from ddfnet.bench.paper.evidence import Evidence
from ddfnet.bench.paper.printed import Column, PaperTable, Row, by_option, command, evaluate, formula, measuring
from ddfnet.models import complexity
from ddfnet.nn.ddf import DDF
from ddfnet.nn.upsamplers.plain import upsample_layer

Mark = Literal["exact", "measured", "needs", "not measured", "not built", "none"]
Count = tuple[float, float | None]  # ours, and as the paper counts where that is another number


@dataclass(frozen=True)
class Cell:
    """The paper's number and ours. Both are in the column's unit; None where there is none."""

    mark: Mark
    printed: float | None = None
    ours: float | None = None
    as_printed: float | None = None  # ours, counted as the paper counts
    formula: str = ""  # whose value is `printed`
    source: str = ""  # where and when ours was measured, or the command that makes it
    data: str = ""  # what it needs

    def agrees(self, digits: int) -> bool | None:
        """Whether ours, by either counting, rounds to the print; None where ours is not exact or nothing is printed."""
        if self.mark != "exact" or self.printed is None:
            return None
        counts = [count for count in (self.ours, self.as_printed) if count is not None]
        return any(f"{count:.{digits}f}" == f"{self.printed:.{digits}f}" for count in counts)


def fill(table: PaperTable, evidence: Evidence, recipes: Collection[str]) -> list[list[Cell]]:
    """The cells of a table, by row and column.

    Args:
        table: of `printed.choose`.
        evidence: what was measured.
        recipes: names of those there are, which make what was not.
    """
    measured = evidence.measured(table) if table.is_measured else {}
    return [[_cell(table, row, column, measured, evidence, recipes) for column in table.columns] for row in table.rows]


def _cell(
    table: PaperTable,
    row: Row,
    column: Column,
    measured: Mapping[tuple[str, str], tuple[float, str]],
    evidence: Evidence,
    recipes: Collection[str],
) -> Cell:
    printed = row.paper.get(column.name)
    if column.is_measured:
        if (row.label, column.name) in measured:
            value, source = measured[row.label, column.name]
            return Cell("measured", printed, value, source=source)
        return Cell("not measured", printed, source=measuring(table))
    if column.source in ("weights", "work", "filters"):
        terms = row.terms.get(column.name)
        if terms is None:
            return Cell("none")
        counts = layer_counts(row.layer, **table.at)
        return Cell("exact", evaluate(terms, table.at), counts[column.source], formula=formula(terms))
    if column.source == "print":
        return Cell("none", printed)
    if column.source == "score":
        return _score(row, column, printed, evidence, recipes)
    count = _count(table, row, column)
    if count is None:
        return Cell("none") if printed is None else Cell("not built", printed)
    ours, as_printed = (None if value is None else value * column.scale for value in count)
    return Cell("exact", printed, ours, as_printed)


def _score(row: Row, column: Column, printed: float | None, evidence: Evidence, recipes: Collection[str]) -> Cell:
    built = bool(row.recipe or row.command) and (not row.network or _is_built(row.network))
    if not built:
        return Cell("none") if printed is None else Cell("not built", printed)
    recipe = row.recipe.format(factor=column.factor)
    compared = evidence.compared(row.method, column.factor)
    found = evidence.score(recipe, by_option(row.changes), column.score) if recipe else compared
    if found is not None:
        value, source = found
        return Cell("measured", printed, value * column.scale, source=source)
    return Cell("needs", printed, source=command(row, column, recipes), data=column.data)


def _count(table: PaperTable, row: Row, column: Column) -> Count | None:
    if row.upsampler:
        sizes = tuple(map(tuple, table.at["levels"])), tuple(table.at["fourth"])
        return upsampler_multiply_adds(row.upsampler, table.at["channels"], *sizes)
    if not row.network or not _is_built(row.network):
        return None
    counts = network_counts(row.network, json.dumps(row.network_args), row.input_size)
    return (counts.parameters, None) if column.source == "parameters" else (counts.multiply_adds, counts.published)


def _is_built(network: str) -> bool:
    import timm

    return bool(timm.is_model(network))


@cache
def network_counts(network: str, arguments: str, size: int) -> Any:
    """`Complexity` of a network of timm on one image of `size` pixels; `arguments` of `timm.create_model`, as JSON."""
    import timm

    with torch.device("meta"):
        model = timm.create_model(network, **json.loads(arguments))
    return complexity(model, (1, 3, size, size))


@cache
def upsampler_multiply_adds(
    name: str, channels: int, levels: tuple[tuple[int, int], ...], fourth: tuple[int, int]
) -> Count:
    """Multiply-adds of 2x upsampling `levels`, and with a `fourth` and an operation for each element that comes out.

    Nearest upsampling copies: it has no operations by either counting.
    """
    layer = upsample_layer(name, channels, 2, device="meta")  # type: ignore[arg-type]

    def total(sizes: Sequence[tuple[int, int]]) -> int:
        return sum(complexity(layer, (1, channels, *size)).multiply_adds for size in sizes)

    all_levels = (*levels, fourth)
    elements = 0 if name == "nearest" else sum(4 * channels * rows * columns for rows, columns in all_levels)
    return total(levels), total(all_levels) + elements


@cache
def layer_counts(name: str, *, n: int, c: int, k: int, sigma: float) -> dict[str, int]:
    """Parameters, multiply-adds and generated filter elements of a layer of Table 1, counted on a square map.

    Args:
        name: "dense", "depthwise", "dynamic_filter" or "ddf".
        n: pixels, a square number.
        c: channels in and out.
        k: side of the filters.
        sigma: squeeze ratio of "ddf".
    """
    side = round(n**0.5)
    if side**2 != n:
        raise ValueError(f"n: expected a square number of pixels, got {n}")
    x = torch.empty(1, c, side, side, device="meta")
    layer: nn.Module
    generated = 0
    if name == "ddf":
        layer = ddf = DDF(c, k, squeeze_ratio=sigma, device="meta")
        generated = sum(filters.numel() for filters in ddf.filters(x) if filters is not None)
    elif name == "dynamic_filter":
        layer = nn.Conv2d(c, c * c * k * k, 1, bias=False, device="meta")  # predicts a C x C x k x k filter a pixel
        generated = layer(x).numel()
    elif name in ("dense", "depthwise"):
        groups = c if name == "depthwise" else 1
        layer = nn.Conv2d(c, c, k, padding=k // 2, groups=groups, bias=False, device="meta")
    else:
        raise ValueError(f"name: expected 'dense', 'depthwise', 'dynamic_filter' or 'ddf', got {name!r}")
    counted = complexity(layer, x.shape)
    applied = generated if name == "dynamic_filter" else 0  # one multiply-add for each element of a filter
    return {"weights": counted.parameters, "work": counted.multiply_adds + applied, "filters": generated}
