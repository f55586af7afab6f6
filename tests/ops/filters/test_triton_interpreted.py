"""The filter prediction's kernels on the CPU, by Triton's interpreter, within the error bounds of `bounded.py`."""

import pytest
from tests.ops.interpreted import outcomes

pytest.importorskip("triton", reason="Triton is not installed")


def test_few() -> None:
    found = outcomes("tests.ops.filters.interpret", "few")
    assert len(found) >= 6
    assert {name: error for name, error in found.items() if error is not None} == {}


@pytest.mark.release
def test_quick() -> None:
    found = outcomes("tests.ops.filters.interpret", "quick")
    assert len(found) >= 16
    assert {name: error for name, error in found.items() if error is not None} == {}


@pytest.mark.slow
def test_every_check() -> None:
    found = outcomes("tests.ops.filters.interpret", "slow")
    assert {name: error for name, error in found.items() if error is not None} == {}
