"""README.zh-CN.md says what README.md does: the same code, figures, names, links and pictures."""

import re
from collections import Counter
from pathlib import Path

from tests.docs.pages import README, REPOSITORY, blocks

CHINESE = REPOSITORY / "README.zh-CN.md"
SWITCH = re.compile(r"^.*\[(?:English|简体中文)\]\(.*\).*$", re.MULTILINE)  # from one language to the other
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """The page without its blocks of code and the line that leads to the other language."""
    return FENCE.sub("", SWITCH.sub("", page.read_text(encoding="utf-8"), count=1))


def found(pattern: str, page: Path) -> Counter[str]:
    return Counter(re.findall(pattern, prose(page)))


def test_each_leads_to_the_other() -> None:
    assert "[简体中文](README.zh-CN.md)" in README.read_text(encoding="utf-8").splitlines()[2]
    assert "[English](README.md)" in CHINESE.read_text(encoding="utf-8").splitlines()[2]


def test_the_code_is_the_same() -> None:
    assert [block[:2] for block in blocks(CHINESE)] == [block[:2] for block in blocks(README)]


def test_the_numbers_are_the_same() -> None:
    number = r"(?<![A-Za-z\d_.])\d+(?:,\d{3})*(?:\.\d+)?"
    assert found(number, CHINESE) == found(number, README)


def test_the_names_are_the_same() -> None:
    assert found(r"`[^`]+`", CHINESE) == found(r"`[^`]+`", README)


def test_the_links_and_pictures_are_the_same() -> None:
    assert found(r"\]\(([^)]+)\)", CHINESE) == found(r"\]\(([^)]+)\)", README)


def test_the_shape_is_the_same() -> None:
    """Headings by level, rows of tables, formulas."""
    for pattern in (r"(?m)^#+ ", r"(?m)^\|", r"\$\$[^$]+\$\$"):
        assert found(pattern, CHINESE) == found(pattern, README)
