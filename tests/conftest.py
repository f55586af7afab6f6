"""What every test stands on: one thread per pytest-xdist worker, lines that do not wrap, hypothesis without a clock."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.uncompiled import leave_out_compiled_kernels

if "PYTEST_XDIST_WORKER" in os.environ:  # what starts the workers needs no PyTorch
    import torch

    torch.set_num_threads(1)  # a worker a core

os.environ["COLUMNS"] = "1000"  # whatever the terminal, and however long the paths that are printed

settings.register_profile("ddfnet", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ddfnet")

TESTS = Path(__file__).parent
# What they hold does not depend on the kernels, which tests/ops, tests/nn and the main job of .ci/run compile.
UNCOMPILED = (
    "bench",
    "cli",
    "docs",
    "models",
    "nn/rivals",
    "nn/test_replace.py",
    "tasks",
    "test_compile.py",
)


@pytest.fixture(scope="module", autouse=True)
def which_kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """Without those that are compiled, in the folders and files named above."""
    with pytest.MonkeyPatch.context() as patch:
        if any(request.path.is_relative_to(TESTS / place) for place in UNCOMPILED):
            leave_out_compiled_kernels(patch.setattr)
        yield
