"""The two protocols: where their samples lie, what they do with unknown pixels, PAC-Net's normalisation."""

import numpy as np
import pytest
import torch
from PIL import Image

from ddfnet.data.depth.protocols import PROTOCOLS, Normalisation, border, low_resolution

FACTORS = [1, 2, 4, 8, 16]


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_ramp_tells_where_the_samples_lie(factor: int, protocol: str) -> None:
    """A bicubic mean of a ramp is its middle, but where the kernel, four low pixels wide, is cut by the border."""
    rows, columns = np.mgrid[: 16 * factor, : 12 * factor].astype(np.float64)
    low = low_resolution(np.stack([rows, columns]), factor, protocol)
    assert low.shape == (2, 16, 12)
    expected = np.mgrid[:16, :12] * factor + PROTOCOLS[protocol].sample_position(factor)
    inside = (slice(None), slice(2, -2), slice(2, -2))
    # Products and a sum of up to 4 * factor + 1 terms a direction, weights summing to at most 1.25 in magnitude.
    bound = 2 * (4 * factor + 2) * np.finfo(np.float64).eps * 1.25**2 * rows.max()
    assert np.abs(low - expected)[inside].max() <= bound


def test_pac_is_pure_subsampling() -> None:
    depth = torch.arange(2 * 3 * 16 * 24.0).view(2, 3, 16, 24)
    low = low_resolution(depth, 8)
    assert torch.equal(low, depth[..., 3::8, 3::8])
    low.zero_()
    assert depth[0, 0, 3, 3] == 3 * 24 + 3  # a copy


def test_bicubic_is_pillows() -> None:
    depth = np.random.default_rng(0).random((48, 64), np.float32)
    for factor in (2, 4, 8, 16):
        small = Image.fromarray(depth).resize((64 // factor, 48 // factor), Image.Resampling.BICUBIC)
        low = low_resolution(depth, factor, "bicubic")
        assert low.dtype == np.float32
        # Each: two passes of 4 * factor + 1 products and sums in fp32, weights of magnitude up to 1.25 together.
        bound = 2 * 2 * (4 * factor + 2) * np.finfo(np.float32).eps * 1.25**2
        assert np.abs(low - np.asarray(small)).max() <= bound


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_kinds_and_dtypes_are_kept(dtype: torch.dtype, protocol: str) -> None:
    low = low_resolution(torch.ones(1, 16, 16, dtype=dtype), 4, protocol)
    assert low.dtype == dtype
    assert low.shape == (1, 4, 4)


def test_unknown_pixels_take_no_part() -> None:
    """Values under the unknown pixels would change the result if they did."""
    generator = np.random.default_rng(0)
    depth = np.full((64, 64), 5.0)
    depth[generator.random((64, 64)) < 0.3] = np.nan
    depth[32:48, 32:48] = np.nan
    assert np.isnan(low_resolution(depth, 8, "pac")).sum() == np.isnan(depth[3::8, 3::8]).sum()
    low = low_resolution(depth, 8, "bicubic")
    assert np.isnan(low[4:6, 4:6]).all()
    assert np.isnan(low).sum() < 10
    known = ~np.isnan(low)
    np.testing.assert_allclose(low[known], 5.0, rtol=200 * np.finfo(np.float64).eps)


def test_the_border_is_six_pixels() -> None:
    assert [border(name) for name in PROTOCOLS] == [6, 6]
    assert all("\n" not in protocol.description for protocol in PROTOCOLS.values())


def test_errors() -> None:
    depth = torch.zeros(16, 16)
    with pytest.raises(ValueError, match="protocol: expected one of pac, bicubic, got 'nearest'"):
        low_resolution(depth, 4, "nearest")
    with pytest.raises(ValueError, match="protocol: expected one of pac, bicubic, got 'nearest'"):
        border("nearest")
    with pytest.raises(ValueError, match="factor: expected an int >= 1, got 0"):
        low_resolution(depth, 0)
    with pytest.raises(ValueError, match=r"expected sides that are multiples of 8, \(..., H, W\), got \(16, 12\)"):
        low_resolution(depth[:, :12], 8)
    with pytest.raises(TypeError, match=r"depth: expected a floating dtype, got torch\.uint16"):
        low_resolution(np.zeros((16, 16), np.uint16), 4)


def test_normalisation_is_each_maps_own_and_skips_unknowns() -> None:
    low = torch.tensor([[[2.0, 4.0], [torch.nan, 6.0]], [[7.0, 7.0], [7.0, 7.0]]])
    scale = Normalisation.of(low)
    expected = torch.tensor([[[0.0, 0.5], [torch.nan, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(scale.apply(low), expected, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(scale.undo(expected), low, rtol=0, atol=0, equal_nan=True)
    with pytest.raises(ValueError, match="low: expected at least one known value a map"):
        Normalisation.of(torch.full((1, 2, 2), torch.nan))
