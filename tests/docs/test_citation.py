"""CITATION.cff is in its format, and it, the changelog and the README agree with the package and with each other."""

import re
import tomllib
from typing import Any

import pytest
import yaml
from tests.docs.pages import README, REPOSITORY

import ddfnet

# Keys of the format 1.2.0 (https://github.com/citation-file-format/citation-file-format): all of a citation, and those of
# references and persons that a conference paper could want.
REQUIRED = {"authors", "cff-version", "message", "title"}
ALLOWED = REQUIRED | {"abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords", "license"}
ALLOWED |= {"license-url", "preferred-citation", "references", "repository", "repository-artifact", "repository-code"}
ALLOWED |= {"type", "url", "version"}
OF_A_REFERENCE = {"authors", "collection-title", "conference", "doi", "editors", "end", "identifiers", "month", "pages"}
OF_A_REFERENCE |= {"publisher", "start", "title", "type", "url", "year"}
OF_A_PERSON = {"affiliation", "family-names", "given-names", "name-particle", "name-suffix", "orcid"}


@pytest.fixture(scope="module")
def citation() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    return found


def test_the_citation_is_in_its_format(citation: dict[str, Any]) -> None:
    assert set(citation) >= REQUIRED
    assert set(citation) <= ALLOWED
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] in ("software", "dataset")
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors"} <= set(paper) <= OF_A_REFERENCE
    assert paper["type"] == "conference-paper"
    assert all(isinstance(value, str) for value in (citation["version"], citation["license"], paper["url"]))
    assert isinstance(paper["year"], int)
    assert "name" in paper["conference"]
    for author in paper["authors"]:
        assert {"family-names", "given-names"} <= set(author) <= OF_A_PERSON
    for identifier in paper["identifiers"]:
        assert {"type", "value"} <= set(identifier) <= {"type", "value", "description"}
        assert identifier["type"] in ("doi", "url", "swh", "other")


def test_it_cites_this_package_and_the_paper_that_the_readme_does(citation: dict[str, Any]) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == ddfnet.__version__
    assert citation["license"] == project["license"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in project["authors"]]
    paper = citation["preferred-citation"]
    assert paper["url"] == project["urls"]["Paper"]
    names = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    readme = README.read_text(encoding="utf-8")
    for value in (paper["title"], names, str(paper["year"]), paper["collection-title"]):
        assert f"{{{value}}}" in readme


def test_the_changelog_keeps_its_form() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    for heading in headings[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", heading)
    released = [heading.split("]")[0].removeprefix("[") for heading in headings[1:]]
    assert ddfnet.__version__ in released or f"What {ddfnet.__version__} will be" in text
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
