"""Docstrings of the house as griffe, which mkdocstrings stands on, reads them."""

import re
from collections.abc import Iterator
from typing import Any

from griffe import Extension, Object

EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)
ENTRY = re.compile(r"^( +)(\w+(?:, \w+)+): ")
TIMES = re.compile(r"(?<!\*)\*(?!\*)")  # one asterisk, which Markdown would take for emphasis


class Docstrings(Extension):
    """`Example:` as the section of examples, `r*r` as it stands, and `stride, dilation: ...` as an entry for each."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    text, *example = EXAMPLE.split(docstring, maxsplit=1)
    parts = text.split("`")
    parts[::2] = [TIMES.sub(r"\\*", part) for part in parts[::2]]  # every other one is code
    text = "\n".join(_split("`".join(parts).split("\n")))
    return text + "Examples:".join(example)


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
