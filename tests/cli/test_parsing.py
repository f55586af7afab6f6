"""The types of options, and the parser that raises what is wrong."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ddfnet.cli import main
from ddfnet.cli.parsing import Parser, file_to_write, folder_to_write, seconds, whole


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (whole(0), "0", 0),
        (whole(1), "12", 12),
        (seconds, "0.5", 0.5),
        (file_to_write(".csv", ".json"), "a.json", Path("a.json")),
        (folder_to_write, "new/folder", Path("new/folder")),
    ],
)
def test_values_are_read(
    read: Callable[[str], Any], text: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text", "sentence"),
    [
        (whole(1), "0", "--x: expected an int >= 1, got 0"),
        (whole(0), "-1", "--x: expected an int >= 0, got -1"),
        (whole(0), "1.5", "--x: expected an int >= 0, got 1.5"),
        (seconds, "0", "--x: expected a number > 0, got 0"),
        (seconds, "inf", "--x: expected a number > 0, got inf"),
        (seconds, "nan", "--x: expected a number > 0, got nan"),
        (seconds, "soon", "--x: expected a number > 0, got soon"),
        (file_to_write(".png", ".svg"), "a.gif", "--x: expected a name that ends in .png, .svg, got a.gif"),
        (file_to_write(".csv"), "no/a.csv", "--x: the folder no is not there"),
        (file_to_write(".csv"), "is.csv", "--x: expected a file, is.csv is a folder"),
        (folder_to_write, "file", "--x: expected a folder, file is a file"),
    ],
)
def test_a_wrong_value_is_one_sentence(
    read: Callable[[str], Any], text: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("is.csv").mkdir()
    Path("file").touch()
    parser = Parser()
    parser.add_argument("--x", type=read)
    with pytest.raises(argparse.ArgumentError) as error:
        parser.parse_args([f"--x={text}"])
    assert str(error.value) == sentence


def test_commands_return_2_and_help_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--nope"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == "ddfnet info: unrecognized arguments: --nope"
    assert main(["tables", "--help"]) == 0
    assert "--markdown" in capsys.readouterr().out
