"""The oracle itself: by hand, its two forms against each other, and its bound against results that are wrong."""

import numpy as np
import pytest
import torch
from tests.cases import SMALL
from tests.oracle import assert_within_bound, draw, expected_of, half_ulp, oracle, oracle_by_taps, oracle_on

from ddfnet.bench.cases import OpCase


def test_by_hand() -> None:
    x = np.array([[[[1.0, 2.0, 3.0]]]])
    channel = np.zeros((1, 1, 3, 3))
    channel[0, 0, 1] = [10, 20, 30]
    spatial = np.ones((1, 1, 9, 1, 3))
    spatial[0, 0, :, 0, 1] = 2
    result = oracle(x, channel, spatial, np.ones((1, 1, 1, 3)), k=3)
    assert result.y.value.tolist() == [[[[20 + 60, 2 * (10 + 40 + 90), 20 + 60]]]]
    assert result.y.count.tolist() == [[[[2, 3, 2]]]]  # the row above and the one below are outside
    result = oracle(x, channel, spatial, np.ones((1, 1, 1, 3)), k=3, combine="add")
    assert result.y.value.tolist() == [[[[21 * 1 + 31 * 2, 12 * 1 + 22 * 2 + 32 * 3, 11 * 2 + 21 * 3]]]]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_loops_agree_with_taps(case: OpCase) -> None:
    loops = expected_of(case, torch.float64)
    taps = oracle_on(case, *draw(case, torch.float64), by=oracle_by_taps)
    for a, b in zip((loops.y, *loops.grads), (taps.y, *taps.grads), strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            np.testing.assert_array_equal(a.count, b.count)
            np.testing.assert_allclose(a.magnitude, b.magnitude, rtol=1e-12)
            assert (np.abs(a.value - b.value) <= 1e-12 * a.magnitude).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_half_ulp(dtype: torch.dtype) -> None:
    for value in (1.0, 1.5, 3.0, 0.7, 1e-3, torch.finfo(torch.float16).tiny):
        here = torch.tensor(value, dtype=dtype)
        following = torch.nextafter(here.float(), torch.tensor(9.0)) if dtype == torch.float32 else None
        if dtype == torch.float64:
            following = torch.nextafter(here, torch.tensor(9.0, dtype=dtype))
        if following is None:
            following = (here.view(torch.int16) + 1).view(dtype)
        assert 2 * half_ulp(np.array(here.double().item()), dtype) == (following.double() - here.double()).item()


def test_bound_catches_one_ulp_too_many() -> None:
    case = OpCase(2, 8, 7, 9)
    for dtype in (torch.bfloat16, torch.float16):
        expected = expected_of(case, dtype).y
        right = torch.from_numpy(expected.value).to(dtype)
        assert_within_bound(right, expected)
        wrong = right.clone()
        wrong.view(torch.int16)[1, 2, 3, 4] += 1
        with pytest.raises(AssertionError, match=r"y\[1, 2, 3, 4\].* 1 of 1008"):
            assert_within_bound(wrong, expected)
    nan = torch.full(case.out_shape, torch.nan)
    with pytest.raises(AssertionError, match="not finite"):
        assert_within_bound(nan, expected_of(case, torch.float32).y)
