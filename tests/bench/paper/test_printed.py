"""The file of the paper's numbers: whole, consistent, and every command in it one that `ddfnet train` takes."""

import shlex
from pathlib import Path

import pytest

from ddfnet import recipes
from ddfnet.bench.paper.printed import Column, Row, by_option, choose, command, evaluate, formula, tables
from ddfnet.cli import main
from ddfnet.cli.experiment import make_parser, with_recipe


def test_which_tables_there_are() -> None:
    assert list(tables()) == ["1", "2", "3a", "3b", "3c", "4", "5", "6", "7", "A", "C"]


@pytest.mark.parametrize(
    ("asked", "given"),
    [(["3"], ["3a", "3b", "3c"]), (["a", "3b"], ["3b", "A"]), (["6", "1", "6"], ["1", "6"]), ([], list(tables()))],
)
def test_tables_are_chosen_by_number(asked: list[str], given: list[str]) -> None:
    assert [table.number for table in choose(asked)] == given


@pytest.mark.parametrize("number", ["9", "B", "3d", "", "ab"])
def test_an_unknown_number(number: str) -> None:
    with pytest.raises(ValueError, match=r"^N: expected tables among 1, 2, 3a"):
        choose([number])


def test_every_print_has_a_column_and_every_row_a_print() -> None:
    for table in tables().values():
        columns = {column.name for column in table.columns}
        for row in table.rows:
            assert {*row.paper, *row.terms} <= columns, row.label
            assert row.paper or row.terms, row.label


def test_how_many_numbers_are_printed() -> None:
    """Counted by hand in the paper's tables: none was lost, and none came in."""
    printed = {name: sum(len(row.paper) for row in table.rows) for name, table in tables().items()}
    expected = {"1": 0, "2": 8, "3a": 8, "3b": 6, "3c": 9, "4": 28, "5": 54, "6": 30, "7": 33, "A": 24, "C": 4}
    assert printed == expected


def test_a_sum_of_terms() -> None:
    terms = [{"c": 1, "k": 2}, {"sigma": 1, "c": 2}, {"sigma": 1, "c": 2, "k": 2}]
    assert formula(terms) == "ck² + \N{GREEK SMALL LETTER SIGMA}c² + \N{GREEK SMALL LETTER SIGMA}c²k²"
    assert evaluate(terms, {"c": 256, "k": 3, "sigma": 0.2}) == pytest.approx(256 * 9 + 0.2 * 256**2 * 10, rel=1e-15)


def test_every_command_is_one_that_trains() -> None:
    parser = make_parser("ddfnet train", "", "")
    found = {
        command(row, column, recipes.names())
        for table in tables().values()
        for row in table.rows
        for column in table.columns
        if row.recipe and column.source == "score"
    } - {""}
    assert len(found) > 20
    for words in map(shlex.split, found):
        assert words[:2] == ["ddfnet", "train"]
        parser.parse_args(with_recipe(words[2:], ""))


def test_every_command_that_scores_is_one_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Up to the data, which is not there."""
    monkeypatch.chdir(tmp_path)
    rows = [row for table in tables().values() for row in table.rows if row.command]
    assert [row.label for row in rows] == ["Bicubic", "GF", "JBU"]
    assert not any(row.recipe or row.changes for row in rows)
    for line in {row.command for row in rows}:
        words = shlex.split(line)
        assert words[0] == "ddfnet"
        assert main(words[1:]) == 1
        assert "nyu_depth_v2_labeled.mat" in capsys.readouterr().err


def test_a_recipe_that_is_not_there_has_no_command() -> None:
    column = Column(name="x8", source="score", heading="8x", digits=2, score="test_rmse", data="NYU", factor=8)
    row = Row(label="x", recipe="nyu/some_x{factor}")
    assert command(row, column, ["nyu/some_x4"]) == ""
    assert (
        command(row, column, ["nyu/some_x8"])
        == "ddfnet train --config nyu/some_x8 --data.root nyu_depth_v2_labeled.mat"
    )


def test_changes_of_a_row_by_option() -> None:
    """As a command takes them, and one by one, as runs write them."""
    column = Column(name="top1", source="score", heading="top-1", digits=1, score="test_accuracy", data="ImageNet")
    changes = {"model.network": "resnet101", "model.network_args.block_args": {"attn_layer": "cbam"}}
    row = Row(label="x", recipe="imagenet/resnet50", changes=changes)
    assert command(row, column, ["imagenet/resnet50"]).endswith(
        " --data.root IMAGENET --model.network resnet101 --model.network_args.block_args '{attn_layer: cbam}'"
    )
    one_by_one = {"model.network": "resnet101", "model.network_args.block_args.attn_layer": "cbam"}
    assert by_option(changes) == one_by_one
