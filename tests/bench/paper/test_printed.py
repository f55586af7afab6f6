"""The file of the paper's numbers: whole, consistent, and every command in it one that `ddfnet train` takes."""

import math
import re
import shlex
from pathlib import Path

import pytest

from ddfnet import recipes
from ddfnet.bench.paper.printed import Column, Row, choose, command, tables
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
    for number, table in tables().items():
        columns = {column.name for column in table.columns}
        for row in table.rows:
            assert row.paper.keys() <= columns, row.label
            assert row.paper, row.label
            assert len(row.formulas) == (len(row.paper) if number == "1" else 0), row.label


def test_how_many_numbers_are_printed() -> None:
    """Counted by hand in the paper's tables: none was lost, and none came in."""
    printed = {name: sum(len(row.paper) for row in table.rows) for name, table in tables().items()}
    expected = {"1": 10, "2": 8, "3a": 8, "3b": 6, "3c": 9, "4": 28, "5": 54, "6": 30, "7": 33, "A": 24, "C": 4}
    assert printed == expected


def test_formulas_have_the_values_beside_them() -> None:
    """A formula is a sum of products of symbols, each with its power: "ck² + nc²k²"."""
    table = tables()["1"]
    at = {"\N{GREEK SMALL LETTER SIGMA}" if name == "sigma" else name: value for name, value in table.at.items()}
    for row in table.rows:
        for text, value in zip(row.formulas, row.paper.values(), strict=True):
            terms = [re.findall(r"(\w)([²³]?)", term) for term in text.split(" + ")]
            products = [math.prod(at[name] ** {"": 1, "²": 2, "³": 3}[power] for name, power in term) for term in terms]
            assert sum(products) == pytest.approx(value, rel=1e-12), text


def test_every_command_is_one_that_trains() -> None:
    parser = make_parser("ddfnet train", "", "")
    found = {
        command(row, column)
        for table in tables().values()
        for row in table.rows
        for column in table.columns
        if row.recipe and column.source == "score"
    }
    assert len(found) > 20
    for words in map(shlex.split, found):
        assert words[:3] == ["ddfnet", "train", "--config"]
        assert words[3] in recipes.names()
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


def test_a_recipe_by_factor() -> None:
    column = Column(name="x8", source="score", heading="8x", digits=2, score="test_rmse", data="NYU", factor=8)
    row = Row(label="x", paper={}, recipe="nyu/some_x{factor}")
    assert command(row, column) == "ddfnet train --config nyu/some_x8 --data.root nyu_depth_v2_labeled.mat"


def test_recipes_follow_from_networks() -> None:
    rows = {row.label: row for row in tables()["5"].rows}
    assert (rows["R101 DDF"].recipe, rows["R101 DDF"].changes) == ("imagenet/ddf_mul_resnet101", {})
    assert (rows["R50 base"].recipe, rows["R50 base"].changes) == ("imagenet/resnet50", {})
    cbam = {"model.network": "resnet101", "model.network_args.block_args": {"attn_layer": "cbam"}}
    assert (rows["R101 CBAM"].recipe, rows["R101 CBAM"].changes) == ("imagenet/resnet50", cbam)
    assert tables()["C"].rows[-1].recipe == "imagenet/ddf_mul_wide_resnet50d_288"


def test_changes_of_a_row_by_option() -> None:
    """As a command takes them."""
    column = Column(name="top1", source="score", heading="top-1", digits=1, score="test_accuracy", data="ImageNet")
    changes = {"model.network": "resnet101", "model.network_args.block_args": {"attn_layer": "cbam"}}
    row = Row(label="x", paper={}, recipe="imagenet/resnet50", changes=changes)
    assert command(row, column).endswith(
        " --data.root IMAGENET --model.network resnet101 --model.network_args.block_args '{attn_layer: cbam}'"
    )
