"""The parser of every command. Options are checked as they are read, and what is wrong is one sentence.

For `train` and `evaluate`, `experiment.make_parser` lets jsonargparse read the options off the classes that they build. All
other commands use argparse, which every installation has: `ddfnet upsample` and `ddfnet info` run without jsonargparse.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

PICTURES = (".png", ".svg", ".pdf")


class Parser(argparse.ArgumentParser):
    """A parser that raises `argparse.ArgumentError`, as jsonargparse's does; `ddfnet.cli.main` prints it and returns 2."""

    def error(self, message: str) -> NoReturn:
        raise argparse.ArgumentError(None, message.removeprefix("argument "))


def whole(least: int) -> Callable[[str], int]:
    """Return a type of option: whole numbers from `least` up."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected an int >= {least}, got {text}")
        return int(text)

    return read


def seconds(text: str) -> float:
    """Read a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number > 0, got {text}")
    return number


def file_to_write(*endings: str) -> Callable[[str], Path]:
    """Return a type of option: a file with one of the endings, in a folder that exists."""

    def read(text: str) -> Path:
        path = Path(text)
        if path.suffix not in endings:
            raise argparse.ArgumentTypeError(f"expected a name that ends in {', '.join(endings)}, got {path}")
        if not path.parent.is_dir():
            raise argparse.ArgumentTypeError(f"the folder {path.parent} is not there")
        if path.is_dir():
            raise argparse.ArgumentTypeError(f"expected a file, {path} is a folder")
        return path

    return read


def folder_to_write(text: str) -> Path:
    """Read a folder that exists or can be made."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder, {path} is a file")
    return path


def cpu_or_cuda(name: str | None) -> str:
    """Return the device that `--device` names, by default CUDA if PyTorch sees a GPU; raise ValueError if it sees none."""
    import torch

    device = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device: expected a device that is there, got cuda, and PyTorch sees none")
    return device
