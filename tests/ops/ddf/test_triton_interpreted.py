"""The Triton kernels on the CPU, by Triton's interpreter, against the oracle: forward and all gradients, every option."""

import pytest
from tests.ops.interpreted import outcomes

pytest.importorskip("triton", reason="Triton is not installed")


def test_few() -> None:
    found = outcomes("tests.ops.ddf.interpret", "few")
    assert len(found) >= 5
    assert {name: error for name, error in found.items() if error is not None} == {}


@pytest.mark.release
def test_quick() -> None:
    found = outcomes("tests.ops.ddf.interpret", "quick")
    assert len(found) >= 20
    assert {name: error for name, error in found.items() if error is not None} == {}


@pytest.mark.slow
def test_every_small_case() -> None:
    found = outcomes("tests.ops.ddf.interpret", "slow")
    assert {name: error for name, error in found.items() if error is not None} == {}
