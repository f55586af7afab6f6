"""The workflows are YAML of the form that is meant, and run what is in the repository."""

import re
from typing import Any

import pytest
import yaml
from tests.docs.pages import REPOSITORY

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))


def read(name: str) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load((REPOSITORY / ".github" / "workflows" / name).read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", [path.name for path in WORKFLOWS])
def test_a_workflow_is_complete(name: str) -> None:
    workflow = read(name)
    assert True in workflow  # YAML's reading of `on`
    assert workflow["permissions"] == {"contents": "read"}  # jobs ask for what they need beyond
    for job in workflow["jobs"].values():
        assert {job[key] for key in ("uses",) if key in job} or job["steps"]
        for needed in [job.get("needs", [])] if isinstance(job.get("needs", []), str) else job.get("needs", []):
            assert needed in workflow["jobs"]
        if "uses" in job:
            assert (REPOSITORY / job["uses"]).is_file()
        for step in job.get("steps", ()):
            assert ("uses" in step) != ("run" in step)
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", step["uses"])
            for script in re.findall(r"bash (\S+)", step.get("run", "")):
                assert (REPOSITORY / script).is_file()


def test_a_release_is_tested_before_it_is_published_by_trust() -> None:
    jobs = read("release.yml")["jobs"]
    assert read("release.yml")[True] == {"push": {"tags": ["v*"]}}
    assert set(jobs["publish"]["needs"]) == {"test", "build"}
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["docs"]["permissions"] == {"pages": "write", "id-token": "write"}
    assert "secrets" not in (REPOSITORY / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")


def test_the_release_compares_versions_where_they_stand() -> None:
    script = next(
        step["run"] for step in read("release.yml")["jobs"]["build"]["steps"] if "CHANGELOG.md" in step.get("run", "")
    )
    for line, file in re.findall(r'grep -Fx "(.+)" (\S+)$', script, re.MULTILINE):
        import ddfnet

        wanted = line.replace('\\"', '"').replace("$version", ddfnet.__version__)
        assert wanted in (REPOSITORY / file).read_text(encoding="utf-8").splitlines()
