"""`unknown_pixels`: what says "unknown" by custom or by name, and that maps with signs of their own are left alone."""

import pytest
import torch

from ddfnet.ops.unknown_depth import unknown_pixels

NAN, INF = torch.nan, torch.inf


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_by_custom_and_by_name(dtype: torch.dtype) -> None:
    depth = torch.tensor([[NAN, INF, -INF, 0.0, -0.0], [1.0, 2.0, 0.1, 2.0, -9.3]], dtype=dtype)
    assert unknown_pixels(depth[:, :4]).tolist() == [[True] * 4, [False] * 4]
    assert unknown_pixels(depth[:, :4], (2, 0.1, 7)).tolist() == [[True] * 4, [False, True, True, True]]
    assert unknown_pixels(depth, (-9.3,))[1].tolist() == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("values", "marks", "unknown"),
    [
        ([-1, 3, 4, -1], (), [True, False, False, True]),
        ([-9999, 3, 4, NAN], (), [True, False, False, True]),
        ([-1, 3, -2, -1], (), [False] * 4),  # a map with a sign
        ([-1, -1, 0, NAN], (), [False, False, True, True]),  # no other value beside it
        ([-1, 3, -9999, -1], (-9999,), [True, False, True, True]),  # the only one that is left
        ([-1, 3, 4, -1], (3, 4), [False, True, True, False]),
    ],
)
def test_the_only_negative_value_is_a_mark(values: list[float], marks: tuple[float, ...], unknown: list[bool]) -> None:
    assert unknown_pixels(torch.tensor(values, dtype=torch.float32), marks).tolist() == unknown


def test_marks_that_the_dtype_does_not_hold() -> None:
    """As values were rounded; what became inf there is unknown anyway."""
    depth = torch.tensor([1.0, -9999.0, 1e30], dtype=torch.float64).half()
    assert unknown_pixels(depth, (-9999, 1e30)).tolist() == [False, True, True]
    assert unknown_pixels(torch.ones(2), (NAN,)).tolist() == [False, False]


def test_integers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"depth: expected a floating dtype, got torch\.int32"):
        unknown_pixels(torch.ones(2, dtype=torch.int32))


def test_zero_may_be_a_depth() -> None:
    depth = torch.tensor([0.0, 1.0, torch.nan])
    assert unknown_pixels(depth, zero_is_known=True).tolist() == [False, False, True]
    assert unknown_pixels(depth, [0], zero_is_known=True).tolist() == [True, False, True]  # named is named
    # Beside zeros alone a negative value is no mark: a mark needs a positive depth beside it.
    assert unknown_pixels(torch.tensor([0.0, -1.0]), zero_is_known=True).tolist() == [False, False]


@pytest.mark.parametrize(
    ("others", "apart"),
    [
        ([400, 9000], True),
        ([400], True),
        ([32767, 65535 - 32768], True),
        ([1, 32768], True),  # a gap of 32767, a range of 32767
        ([1, 32769], False),
        ([2000, 50000], False),
        ([], False),  # nothing to stand apart from
    ],
)
def test_65535_is_a_mark_where_it_stands_apart(others: list[int], apart: bool) -> None:
    depth = torch.tensor([*others, 65535.0, 0.0])
    expected = [*[False] * len(others), apart, True]
    assert unknown_pixels(depth, sixteen_bits=True).tolist() == expected
    assert not unknown_pixels(depth)[-2]  # in a map of floats it is a depth


def test_the_default_dtype_does_not_matter() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert unknown_pixels(torch.tensor([1.1, 2.0], dtype=torch.float32), [1.1]).tolist() == [True, False]
    finally:
        torch.set_default_dtype(torch.float32)
