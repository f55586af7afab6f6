"""Results go to a file and come back equal; the file is whole or not there."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ddfnet.bench.results import Result, environment, read, write


@pytest.fixture
def results() -> list[Result]:
    first = Result(
        benchmark="op",
        case="2x8x7x9-k3",
        direction="forward",
        dtype="float32",
        layout="nchw",
        clock="cpu",
        subject="ddf",
        backend="torch",
        median_ms=1.25,
        lower_quartile_ms=1.0,
        upper_quartile_ms=1.0 / 3.0,
        samples=7,
        rival="depthwise",
        ratio_to_rival=1.5,
        bytes_moved=12345678901,
        environment=environment("cpu"),
    )
    return [first, replace(first, subject="depthwise", backend="", ratio_to_rival=1.0)]


@pytest.mark.parametrize("ending", [".csv", ".json"])
def test_round_trip(results: list[Result], tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"results{ending}"
    write(results, path)
    assert read(path) == results
    assert list(tmp_path.iterdir()) == [path]


def test_every_row_says_where_and_when(results: list[Result], tmp_path: Path) -> None:
    write(results, tmp_path / "results.csv")
    header, *rows = (tmp_path / "results.csv").read_text().splitlines()
    assert {"device", "device_name", "threads", "tf32", "torch", "ddfnet", "date"} <= set(header.split(","))
    assert all(results[0].environment.date in row for row in rows)


def test_a_failed_write_leaves_the_old_file(results: list[Result], tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write(results, path)
    unwritable = replace(results[0], case={1, 2})  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        write([*results, unwritable], path)
    assert read(path) == results
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", "x,y\n1,2\n"), ("a.json", "{"), ("a.json", '[{"case": 1}]'), ("a.json", "[1]")]
)
def test_other_files_are_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match="not a result file"):
        read(tmp_path / name)


def test_unknown_ending(results: list[Result], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.csv or \.json"):
        write(results, tmp_path / "results.txt")


def test_a_file_from_before_a_column(results: list[Result], tmp_path: Path) -> None:
    """It is None in all rows; a column that every row needs can't be left out."""
    write(results, tmp_path / "results.json")
    rows = json.loads((tmp_path / "results.json").read_text())
    (tmp_path / "old.json").write_text(json.dumps([{k: v for k, v in row.items() if k != "published"} for row in rows]))
    assert read(tmp_path / "old.json") == [replace(row, published=None) for row in results]
    (tmp_path / "old.json").write_text(json.dumps([{k: v for k, v in row.items() if k != "clock"} for row in rows]))
    with pytest.raises(ValueError, match="clock"):
        read(tmp_path / "old.json")
