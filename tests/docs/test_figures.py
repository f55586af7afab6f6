"""The tables on the pages say what the files in `benchmarks/results` do."""

import csv
import importlib.util
from types import ModuleType

import pytest
from tests.docs.pages import REPOSITORY, name_of


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", REPOSITORY / "docs" / "figures.py")
    if spec is None or spec.loader is None:
        raise ImportError("docs/figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_files(figures: ModuleType) -> None:
    """Where this fails, `python docs/figures.py` writes them anew; then the sentences around them want a look."""
    stale = []
    for page in figures.PAGES:
        text = page.read_text(encoding="utf-8")
        if figures.filled(text, figures.FIGURES) != text:
            stale.append(name_of(page))
    assert stale == []


def test_every_table_has_its_place(figures: ModuleType) -> None:
    names = [found[1] for page in figures.PAGES for found in figures.BLOCK.findall(page.read_text(encoding="utf-8"))]
    assert sorted(names) == sorted([*figures.FIGURES, "tables"])


def test_a_table_is_made_anew(figures: ModuleType) -> None:
    text = "before\n<!-- figures: op -->\nold\n<!-- end -->\nafter <!-- figures: other -->\n<!-- end -->"
    assert figures.filled(text, {"op": lambda: "new"}) == text.replace("old\n", "\nnew\n\n")


def test_a_ratio_is_the_file_s(figures: ModuleType) -> None:
    wanted = ("ddf", "32x512x7x7-k3", "nchw", "forward")
    with (REPOSITORY / "benchmarks" / "results" / "cpu_op.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if (row["subject"], row["case"], row["layout"], row["direction"]) == wanted:
                assert f"| 32x512x7x7-k3 | {float(row['ratio_to_rival']):.2f} / " in figures.op()


@pytest.mark.slow
def test_the_paper_s_tables_are_those_of_the_command(figures: ModuleType) -> None:
    page = REPOSITORY / "docs" / "tables.md"
    text = page.read_text(encoding="utf-8")
    assert figures.filled(text, {"tables": figures.paper_tables}) == text
