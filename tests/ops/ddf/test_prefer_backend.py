"""`prefer_backend` and DDFNET_BACKEND: what "auto" takes first."""

import os
import subprocess
import sys
from unittest.mock import patch

import pytest
import torch

import ddfnet
from ddfnet.ops.ddf import api, plain
from ddfnet.ops.filters.api import unsupported


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(1, 4, 5, 6), torch.randn(1, 4, 3, 3)


def test_within_a_block() -> None:
    before = api.preferred_backend()
    with patch.object(plain, "ddf_forward", side_effect=plain.ddf_forward) as used:
        with ddfnet.prefer_backend("torch"):
            ddfnet.ddf(*inputs())
            assert used.call_count == 1
            assert "preferred" in str(unsupported(inputs()[0], 3, 1))
            ddfnet.ddf_up(inputs()[0], inputs()[1])
            assert used.call_count == 2
            ddfnet.ddf(*inputs(), backend="reference")
            with ddfnet.prefer_backend("reference"):
                ddfnet.ddf(*inputs())
            assert api.preferred_backend() == "torch"
        assert used.call_count == 2
    assert api.preferred_backend() == before


def test_from_a_call_on() -> None:
    before = api.preferred_backend()
    try:
        ddfnet.prefer_backend("torch")
        assert api.preferred_backend() == "torch"
    finally:
        ddfnet.prefer_backend(before)


def test_one_that_cannot_serve_is_passed_over() -> None:
    x = torch.empty(1, 4, 5, 6, device="meta")
    with ddfnet.prefer_backend("numba"):
        assert ddfnet.ddf(x, torch.empty(1, 4, 3, 3, device="meta")).shape == x.shape
        assert unsupported(inputs()[0], 3, 1) is None


def test_an_unknown_name() -> None:
    message = r"backend: expected one of 'auto', 'reference', 'numba', 'triton', 'torch', got 'cuda'"
    with pytest.raises(ValueError, match=message):
        ddfnet.prefer_backend("cuda")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "expected"), [("torch", "torch"), ("", "auto"), ("cuda", "DDFNET_BACKEND: expected one of")]
)
def test_the_environment_variable(value: str, expected: str) -> None:
    script = "import ddfnet.ops.ddf.api as api; print(api.preferred_backend())"
    environment = {**os.environ, "DDFNET_BACKEND": value}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert expected in (done.stderr if done.returncode else done.stdout)
    assert (done.returncode != 0) == (value == "cuda")
