"""What is built to be published: `.ci/wheel` makes it, looks into it and runs it in a fresh environment."""

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.docs.pages import REPOSITORY


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("uv") is None, reason="needs uv")
def test_the_wheel_runs_where_nothing_else_is_installed(tmp_path: Path) -> None:
    done = subprocess.run(["bash", REPOSITORY / ".ci" / "wheel", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "a DDF layer ran forward and backward" in done.stdout
    assert {path.suffix for path in tmp_path.iterdir()} >= {".whl", ".gz"}
