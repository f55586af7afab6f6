"""`ddfnet tables` end to end: what it prints, writes, measures and refuses."""

import csv
from pathlib import Path

import pytest

from ddfnet.bench.cases import OpCase
from ddfnet.bench.paper import measuring
from ddfnet.bench.results import read
from ddfnet.cli import main


def test_tables_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells, page = tmp_path / "cells.csv", tmp_path / "page.md"
    assert main(["tables", "1", "3c", "--csv", str(cells), "--markdown", str(page)]) == 0
    printed = capsys.readouterr().out
    for text in ("Table 1.", "Table 3c.", "16.8 | 16.844 ✓", "2.298 | 2.2668 (2.2987) ≠", "79.1 | needs ImageNet"):
        assert text in printed
    assert "sigma 0.2: ddfnet train --config imagenet/ddf_mul_resnet50 --data.root IMAGENET" in printed

    rows = list(csv.DictReader(cells.read_text().splitlines()))
    row = next(row for row in rows if row["row"] == "sigma 0.2" and row["column"] == "parameters")
    assert (row["table"], row["unit"], row["paper"], row["ours"]) == ("3c", "M", "16.8", "16.843748")
    assert (row["mark"], row["agrees"]) == ("exact", "yes")
    differing = [row for row in rows if row["agrees"] == "no"]
    assert differing
    assert all(row["note"] for row in differing)
    assert {row["mark"] for row in rows} == {"exact", "needs ImageNet"}

    text = page.read_text()
    assert "| DwConv | ck² = 2,304 | 2,304 ✓ |" in text
    heads = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in heads} == {8}  # a label, and three quantities twice
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.csv", "page.md"]


def test_measuring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(measuring, "TABLE_2", (OpCase(1, 8, 6, 7),))
    monkeypatch.setattr(measuring, "TABLE_A", (OpCase(2, 8, 5, 5),))
    kept = tmp_path / "kept.csv"
    options = ["--device", "cpu", "--seconds", "0.001", "--measure", str(kept)]
    assert main(["tables", "2", "A", "1", *options]) == 0
    found = {(row.benchmark, row.case, row.subject) for row in read(kept)}
    table_2 = {("layer", "1x8x6x7-k3", name) for name in ("ddf", "dense", "depthwise", "pac")}
    table_a = {("layer", "2x8x5x5-k3", name) for name in ("ddf", "dense", "depthwise")}
    assert found == table_2 | table_a | {("op", "2x8x5x5-k3", "ddf")}
    assert {(row.direction, row.dtype, row.layout) for row in read(kept)} == {("forward", "float32", "nchw")}
    assert "356.3 | not measured" in capsys.readouterr().out  # what was measured here is of other sizes


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["9"], "N: expected tables among"),
        (["1", "--csv", "a.txt"], "--csv: expected a name that ends in .csv, got a.txt"),
        (["1", "--markdown", "nowhere/a.md"], "--markdown: the folder nowhere is not there"),
        (["1", "--measure"], "--measure: expected Table 2 or A among N"),
        (["2", "--device", "cpu"], "--device and --threads: expected only with --measure"),
        (["2", "--measure", "--seconds", "0"], "--seconds: expected a number > 0, got 0"),
        (["2", "--results", "nowhere"], "--results: expected result files or a folder of them, nowhere is not there"),
    ],
)
def test_what_is_refused(
    argv: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tables", *argv]) in (1, 2)  # found while options are read, or later
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
