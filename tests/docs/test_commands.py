"""Every `ddfnet` command on the pages is one that the command line takes: its options are parsed, and nothing is run."""

import argparse
import itertools
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse
import pytest
import yaml
from tests.docs.pages import PAGES, command_lines, name_of

from ddfnet import recipes
from ddfnet.cli import COMMANDS, main

STAND_INS = {
    "N": "1",
    "NAME": "ddf_resnet_mini",
    "RECIPES": "garments",
    "fashion_mnist/NETWORK": "fashion_mnist/resnet_mini",
}


class Parsed(BaseException):
    """Options that were understood; past what `main` catches."""


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Each command line as it stands, and what `ddfnet` is given by it."""
    for line in command_lines(page):
        if "ddfnet" not in line:
            continue
        for end, words in itertools.groupby(shlex.split(line, comments=True), "&&".__eq__):
            command = [] if end else list(words)
            if "ddfnet" in command:
                yield line.strip(), [stand_in(word) for word in command[command.index("ddfnet") + 1 :]]


def stand_in(word: str) -> str:
    """What a page's word stands for, so that it can be parsed; a released checkpoint becomes a run on ImageNet."""
    return "RELEASED" if word.endswith(".pth") else STAND_INS.get(word, word)


ALL = [(f"{name_of(page)}: {line}", arguments) for page in PAGES for line, arguments in commands(page)]


@pytest.fixture
def where_they_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what commands name: runs, and a place for results."""
    monkeypatch.chdir(tmp_path)
    small, large = "fashion_mnist/ddf_resnet_mini", "imagenet/ddf_mul_resnet50"
    for run, recipe in (("RUN", small), ("DIR", small), ("RELEASED", large)):
        Path(run).mkdir(parents=True)
        Path(run, "config.yaml").write_text(yaml.safe_dump(recipes.load(recipe)), encoding="utf-8")
    Path("benchmarks/results").mkdir(parents=True)
    return tmp_path


class Parsers:
    """Stands over argparse, and ends a command with `Parsed` when the last of its parsers is content."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.depth = 0  # of calls: parsers ask themselves and each other
        for kind in (argparse.ArgumentParser, jsonargparse.ArgumentParser):
            monkeypatch.setattr(kind, "parse_args", self.watched(kind.parse_args))
        known = argparse.ArgumentParser.parse_known_args
        monkeypatch.setattr(
            argparse.ArgumentParser, "parse_known_args", self.watched(known, only="ddfnet evaluate depth")
        )
        monkeypatch.setattr(argparse.ArgumentParser, "error", self.refuse)

    def watched(self, parse: Callable[..., Any], only: str | None = None) -> Callable[..., Any]:
        def watched(parser: argparse.ArgumentParser, *args: Any, **options: Any) -> Any:
            self.depth += 1
            try:
                found = parse(parser, *args, **options)
            finally:
                self.depth -= 1
            if self.depth or only not in (None, parser.prog):
                return found
            if only is not None and found[1]:
                raise AssertionError(f"unrecognized arguments: {found[1]}")
            raise Parsed

        return watched

    @staticmethod
    def refuse(parser: argparse.ArgumentParser, message: str) -> NoReturn:
        raise AssertionError(f"{parser.prog}: {message}")


@pytest.mark.parametrize(("line", "arguments"), ALL, ids=[line for line, _ in ALL])
def test_a_command_of_a_page_is_understood(
    line: str,
    arguments: list[str],
    where_they_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if len(arguments) == 1 and arguments[0] in COMMANDS and line.endswith(f": ddfnet {arguments[0]}"):
        return  # the command's name, in a sentence
    Parsers(monkeypatch)
    try:
        code = main(arguments)
    except Parsed:
        return
    except SystemExit as end:  # of --help
        code = end.code
    told = capsys.readouterr()
    assert (code, told.err) == (0, ""), f"{line}: {told.err}"
    assert {"--help", "--version", "help"} & set(arguments), f"{line}: ran, and parsed nothing"


def test_the_commands_are_found() -> None:
    assert len(ALL) > 60
    assert {arguments[0] for _, arguments in ALL} >= {
        "train",
        "evaluate",
        "upsample",
        "bench",
        "tables",
        "show",
        "study",
    }
