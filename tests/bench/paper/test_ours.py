"""Ours in the tables' cells: counts held to numbers found otherwise, and what is said where there is no number."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ddfnet.bench.paper import beside
from ddfnet.bench.paper.evidence import read_file
from ddfnet.bench.paper.ours import Cell, fill, layer_counts
from ddfnet.bench.paper.printed import PaperTable, tables
from ddfnet.tasks.depth.comparison import Score, write


def cells(table: PaperTable) -> dict[tuple[str, str], Cell]:
    return {(cell.row.label, cell.column.name): cell for row in fill(table, []) for cell in row}


def test_table_1_counts_layers() -> None:
    """By hand for n = 9 pixels, c = 5, k = 3, sigma = 0.5, squeezed to 2: weights, multiply-adds, filter elements."""
    at = {"n": 9, "c": 5, "k": 3, "sigma": 0.5}
    assert layer_counts("dense", **at) == {"weights": 225, "work": 9 * 225, "filters": 0}
    assert layer_counts("depthwise", **at) == {"weights": 45, "work": 9 * 45, "filters": 0}
    full = {"weights": 5 * 225, "work": 9 * (5 * 225 + 225), "filters": 9 * 225}
    assert layer_counts("dynamic_filter", **at) == full
    spatial, squeeze, expand = 5 * 9 + 9, 5 * 2 + 2, 2 * 45 + 45
    scales = 45  # of the channel filters' normalisation
    work = 9 * 45 + 10 + 90 + 9 * 45  # 1x1 convolution, two linear maps, the taps
    ddf = {"weights": spatial + squeeze + expand + scales, "work": work, "filters": 9 * 9 + 45}
    assert layer_counts("ddf", **at) == ddf


def test_table_1() -> None:
    found = cells(tables()["1"])
    for label in ("Conv", "DwConv"):
        assert [found[label, name].mark for name in ("weights", "work", "filters")] == ["agrees", "agrees", ""]
    assert [found["DDF", name].mark for name in ("weights", "work", "filters")] == ["differs", "differs", "agrees"]


def test_networks_are_counted_as_tables_print_them() -> None:
    table = tables()["4"]
    rows = [row for row in table.rows if row.label in ("R18 base", "R18 DDF", "R50 DDF")]
    found = cells(replace(table, rows=rows))
    assert found["R18 base", "parameters"].ours == pytest.approx(11.689512)
    assert found["R18 DDF", "parameters"].ours == pytest.approx(7.691032)
    assert found["R50 DDF", "parameters"].ours == pytest.approx(16.843748)
    assert found["R50 DDF", "multiply_adds"].ours == pytest.approx(2.266834432)
    assert found["R50 DDF", "multiply_adds"].as_printed == pytest.approx(2.298671852)
    for (label, name), cell in found.items():
        if name == "top1":
            assert (cell.mark, cell.column.data, cell.ours) == ("needs", "ImageNet", None)
            assert cell.source.startswith("ddfnet train --config imagenet/")
        else:
            assert cell.mark == "agrees", label


def test_what_is_scored_without_training_needs_the_data_too() -> None:
    table = tables()["7"]
    found = cells(table)
    command = "ddfnet evaluate depth --data.dataset nyu --data.root nyu_depth_v2_labeled.mat"
    for label, printed in (("Bicubic", 14.22), ("GF", 13.62), ("JBU", 8.29)):
        cell = found[label, "x8"]
        assert (cell.mark, cell.printed, cell.source) == ("needs", printed, command)
        assert beside.ours(cell) == "needs NYU"
    assert found["MRF", "x8"].mark == "absent"
    assert found["PAC-Net", "x8"].source.startswith("ddfnet train --config nyu/pac_x8 ")
    lines = beside.commands(table, fill(table, []))
    assert [line for line in lines if line.startswith("JBU")] == [f"JBU: {command}"]


def test_a_row_without_a_network_is_not_built() -> None:
    table = tables()["4"]
    found = cells(replace(table, rows=[replace(table.rows[-1], network="", recipe="")]))
    assert {cell.mark for cell in found.values()} == {"absent"}
    assert {beside.ours(cell) for cell in found.values()} == {"not built here"}


def test_table_6() -> None:
    """Multiply-adds by hand: of CARAFE and DDF-Up by `tests/nn/test_upsample.py`."""
    found = {label: cell for (label, name), cell in cells(tables()["6"]).items() if name == "multiply_adds"}
    pixels, fourth, elements = 21_000, 21_260, 4 * 256 * 21_260
    shuffle = found["pixel shuffle"]
    assert shuffle.ours == pytest.approx(pixels * 9 * 4 * 256**2 / 1e9)
    assert shuffle.as_printed == pytest.approx((fourth * 9 * 4 * 256**2 + elements) / 1e9)
    assert (found["nearest"].ours, found["nearest"].as_printed) == (0, 0)
    assert found["bilinear"].as_printed == pytest.approx(elements / 1e9)
    agreeing = {label for label, cell in found.items() if cell.mark == "agrees"}
    assert agreeing == set(found) - {"deconvolution"}


def test_no_difference_without_a_reason() -> None:
    """Of the tables that are quick to count; the rest by `test_no_difference_without_a_reason_in_any_table`."""
    _every_difference_has_a_note("1", "6")


@pytest.mark.slow
def test_no_difference_without_a_reason_in_any_table() -> None:
    _every_difference_has_a_note(*tables())


def _every_difference_has_a_note(*numbers: str) -> None:
    for number in numbers:
        table = tables()[number]
        for (label, name), cell in cells(table).items():
            assert cell.mark != "differs" or cell.row.note, (number, label, name)


@pytest.mark.parametrize(
    ("printed", "mark"),
    [(2.27, "agrees"), (2.30, "agrees"), (2.28, "differs"), (None, "unprinted")],  # by either counting, or by none
)
def test_agreement_is_by_rounding(printed: float | None, mark: str) -> None:
    table = tables()["4"]
    paper = {} if printed is None else {"multiply_adds": printed}  # ours is 2.2668, as the paper counts 2.2987
    column = replace(table.columns[1], digits=2)
    [[cell]] = fill(replace(table, columns=[column], rows=[replace(table.rows[-1], paper=paper)]), [])
    assert cell.mark == mark


def test_filters_are_scored_by_the_comparison_on_all_of_nyu(tmp_path: Path) -> None:
    """Written as `ddfnet evaluate depth` writes it; fewer images or another protocol are not the table's."""

    def score(factor: int, **other: Any) -> Score:
        same = {"dataset": "nyu (test)", "images": 449, "protocol": "pac", "method": "guided filter", "unit": "cm"}
        numbers = {"rmse": 13.5, "mae": 1.0, "edge_rmse": 2.0, "seconds": 3.0}
        return Score(factor=factor, options="radius=2", **{**same, **numbers, **other})

    file = tmp_path / "nyu.csv"
    write([score(4, images=4), score(8), score(16, protocol="bicubic")], file, {"date": "2026-01-02T03:04:05"})
    row = fill(tables()["7"], [read_file(file)])[2]
    assert [cell.mark for cell in row] == ["needs", "measured", "needs"]
    assert (row[1].printed, row[1].ours) == (13.62, 13.5)
    assert row[1].source == "nyu.csv: radius=2, 2026-01-02"
