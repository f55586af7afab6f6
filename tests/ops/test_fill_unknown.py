"""`fill_unknown`: known pixels stay, holes go on as what surrounds them, and no map is filled from nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ddfnet.ops.fill_unknown import SWEEPS, fill_unknown


def plane(height: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (2 + 0.3 * rows + 0.1 * columns).to(dtype)


def test_what_is_known_is_returned_bit_for_bit_in_a_new_tensor() -> None:
    depth = torch.randn(3, 5, 7)
    filled = fill_unknown(depth)
    assert torch.equal(filled, depth)
    assert filled.data_ptr() != depth.data_ptr()
    assert torch.equal(fill_unknown(torch.zeros(2, 2)), torch.zeros(2, 2))  # zero is a value here


@given(
    st.integers(1, 13), st.integers(1, 13), st.integers(0, 2**31), st.floats(0, 1), st.sampled_from([1.0, 1e4, 1e-4])
)
def test_known_pixels_stay_and_holes_keep_to_their_range(
    height: int, width: int, seed: int, share: float, unit: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    depth = unit * torch.randn(height, width, generator=generator)
    unknown = torch.rand(height, width, generator=generator) < share
    unknown[seed % height, seed % width] = False
    holes = torch.tensor([torch.nan, torch.inf, -torch.inf])[torch.arange(height * width) % 3].view(height, width)
    filled = fill_unknown(torch.where(unknown, holes, depth))
    assert torch.equal(filled[~unknown], depth[~unknown])
    assert filled.min() == depth[~unknown].min()
    assert filled.max() == depth[~unknown].max()


def test_a_plane_goes_on_through_a_hole() -> None:
    """To 2% of what it climbs in the hole, which is 50 x 60 pixels: far wider than the sweeps of one level reach."""
    depth = plane(97, 131)
    holed = depth.clone()
    holed[20:70, 30:90] = torch.nan
    hole = depth[20:70, 30:90]
    assert (fill_unknown(holed)[20:70, 30:90] - hole).abs().max() < 0.02 * (hole.max() - hole.min())


def test_a_narrow_hole_is_the_mean_of_its_rims() -> None:
    """It starts within 1 of it, and every sweep halves what is missing: two of the four neighbours are right."""
    depth = torch.tensor([1.0, torch.nan, 3.0], dtype=torch.float64).repeat(8, 1)
    assert (fill_unknown(depth)[:, 1] - 2).abs().max() <= 2.0**-SWEEPS


def test_a_half_without_any_known_pixel_takes_on_the_rim() -> None:
    depth = torch.full((6, 11), 7.25)
    depth[:, 1:] = torch.inf
    assert torch.equal(fill_unknown(depth), torch.full((6, 11), 7.25))


def test_maps_of_a_batch_do_not_touch() -> None:
    generator = torch.Generator().manual_seed(0)
    depth = torch.randn(2, 3, 9, 10, generator=generator)
    depth[torch.rand(depth.shape, generator=generator) < 0.6] = torch.nan
    filled = fill_unknown(depth)
    for i in range(2):
        for j in range(3):
            assert torch.equal(filled[i, j], fill_unknown(depth[i, j]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_averaged_in_float32(dtype: torch.dtype) -> None:
    depth = plane(12, 15, dtype)
    depth[4:8, 3:9] = torch.nan
    filled = fill_unknown(depth)
    assert filled.dtype == dtype
    assert torch.equal(filled, fill_unknown(depth.float()).to(dtype))


def test_non_contiguous() -> None:
    depth = torch.randn(9, 8)
    depth[2:5, 1:6] = torch.nan
    assert torch.equal(fill_unknown(depth.mT), fill_unknown(depth.mT.contiguous()))


def test_gradients_reach_the_known_pixels_and_are_finite() -> None:
    """Every pixel is a mean of known ones: the gradients of a hole's sum add up to its size."""
    values = torch.randn(7, 6, dtype=torch.float64, requires_grad=True)
    unknown = torch.zeros(7, 6, dtype=torch.bool)
    unknown[2:5, 1:4] = True
    filled = fill_unknown(values.masked_fill(unknown, torch.nan))
    (grad,) = torch.autograd.grad(filled[unknown].sum(), values)
    assert not grad[unknown].any()
    assert grad.sum().item() == pytest.approx(9)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"depth: expected at least one known pixel, got only NaN and inf$"):
        fill_unknown(torch.full((3, 4), torch.nan))
    depth = torch.zeros(4, 2, 2)
    depth[2] = torch.inf
    with pytest.raises(ValueError, match="got only NaN and inf in 1 of 4 maps"):
        fill_unknown(depth)
    with pytest.raises(TypeError, match=r"depth: expected a floating dtype, got torch\.int32"):
        fill_unknown(torch.zeros(2, 2, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"depth: expected \(\.\.\., H, W\), got \(3,\)"):
        fill_unknown(torch.zeros(3))
