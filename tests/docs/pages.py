"""The pages that people read, and the code in them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

REPOSITORY = Path(__file__).parents[2]
README = REPOSITORY / "README.md"
PAGES = (
    README,
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "benchmarks" / "README.md",
    REPOSITORY / "src" / "ddfnet" / "models" / "weights" / "README.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
)


class Block(NamedTuple):
    """A fenced block of code."""

    language: str
    code: str
    line: int  # of its first line of code, from 1


def name_of(page: Path) -> str:
    """The page, as a test is called."""
    return page.relative_to(REPOSITORY).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    return [
        Block(token.info.strip(), token.content, token.map[0] + 2)
        for token in tokens
        if token.type == "fence" and token.map is not None
    ]


def command_lines(page: Path) -> Iterator[str]:
    """The lines of a page's shell blocks, comments and continuations resolved, and its code spans that are commands."""
    for block in blocks(page):
        if block.language in ("", "bash"):
            yield from block.code.replace("\\\n", " ").splitlines()
    for inline in MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8")):
        for token in inline.children or ():
            if token.type == "code_inline" and re.match(r"ddfnet [a-z]", token.content):
                yield token.content
