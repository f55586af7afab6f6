"""Every block of Python on the pages runs, a page's in their order and one after the other."""

from pathlib import Path

import pytest
import torch
from tests.docs.pages import PAGES, blocks, name_of

WITH_PYTHON = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if block.language == "python":
            code = compile("\n" * (block.line - 1) + block.code, str(page), "exec")  # errors name the page's own line
            exec(code, names)


def test_the_pages_with_python_are_found() -> None:
    assert {"README.md", "docs/operator.md", "docs/layers.md", "docs/depth.md"} <= set(map(name_of, WITH_PYTHON))
