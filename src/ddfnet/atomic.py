"""Files that are whole or absent. Below all floors: the standard library alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_or_absent(path: Path) -> Iterator[Path]:
    """Give a hidden path beside `path` to write to; move it to `path` once it is written and on the disk.

    After an error nothing is left; after a kill, at most the hidden file, which the next write overwrites. The suffix of
    `path` is kept, since libraries choose formats by it.
    """
    partial = path.with_name(f".partial-{path.name}")
    try:
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole_or_absent(path) as partial:
        partial.write_text(text, encoding="utf-8")
