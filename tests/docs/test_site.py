"""The documentation site is built without a warning, and has what its pages promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import REPOSITORY


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    # Not --quiet, with which --strict overlooks warnings.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return folder


def test_formulas_are_drawn_by_the_browser_itself(site: Path) -> None:
    page = (site / "operator.html").read_text(encoding="utf-8")
    assert page.count("<math ") > 20
    assert "arithmatex" not in page


def test_the_reference_describes_what_the_package_offers(site: Path) -> None:
    import ddfnet

    page = (site / "api.html").read_text(encoding="utf-8")
    for name in ddfnet.__all__:
        assert f'id="ddfnet.{name}"' in page
    parameters = re.search(r'id="ddfnet\.DDF".*?id="ddfnet\.DDFUp"', page, re.DOTALL)
    assert parameters is not None
    for name in ("stride", "dilation"):  # described by one entry of the docstring
        assert f"<code>{name}</code>" in parameters[0]
    assert "G*K channels" in parameters[0]  # and not in italics from one asterisk to the next
    assert "&gt;&gt;&gt;" in parameters[0]


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|iframe)[^>]* src="(?:https?:)?//', text), page.name
        assert not re.findall(r'<link[^>]* rel="(?:stylesheet|preload)"[^>]* href="(?:https?:)?//', text), page.name


def test_pages_from_outside_of_docs_are_there_with_their_pictures(site: Path) -> None:
    for name in ("index", "zh", "changelog", "contributing", "weights"):
        assert (site / f"{name}.html").is_file()
    for page in site.glob("*.html"):
        for source in re.findall(r'<img [^>]*src="([^"]+)"', page.read_text(encoding="utf-8")):
            assert (page.parent / source).is_file(), f"{page.name}: {source}"
