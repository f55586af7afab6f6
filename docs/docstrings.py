"""Docstrings of the house as griffe, which mkdocstrings stands on, reads them."""

import re
from collections.abc import Iterator
from typing import Any

from griffe import Extension, Object

EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)
ENTRY = re.compile(r"^( +)(\w+(?:, \w+)+): ")


class Docstrings(Extension):
    """`Example:` as the section of examples, and `stride, dilation: ...` as an entry for each of the two."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            text = EXAMPLE.sub(r"\1Examples:", obj.docstring.value)
            obj.docstring.value = "\n".join(_split(text.splitlines()))


def _split(lines: list[str]) -> Iterator[str]:
    """The lines of a docstring, those entries of `Args:` that describe several arguments once for each."""
    in_args, start = False, 0
    for number, line in enumerate(lines):
        if line and not line.startswith(" "):
            in_args = line == "Args:"
        if number < start:
            continue
        entry = ENTRY.match(line) if in_args else None
        if entry is None:
            yield line
            continue
        start = number + 1
        while start < len(lines) and lines[start].startswith(entry[1] + " "):  # of the same entry
            start += 1
        rest = [line[entry.end() :], *lines[number + 1 : start]]
        for name in entry[2].split(", "):
            yield f"{entry[1]}{name}: {rest[0]}"
            yield from rest[1:]
