"""`upsample_depth` on maps with unknown pixels, marks of them, and values far off from all others."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.depth_scene import scene

import ddfnet
from ddfnet.models.depth.convex_up_net import ConvexUpNet
from ddfnet.models.depth.grid import Samples


def test_unknown_pixels_are_filled_however_they_are_marked(network: ConvexUpNet) -> None:
    depth, rgb = scene((9, 12), (72, 96))
    results = []
    for mark in (0, np.nan, np.inf, -np.inf):
        depth[2:7, 3:8] = mark
        depth[0, 11] = mark
        results.append(ddfnet.upsample_depth(depth, rgb, network=network, samples="point"))
    known = depth[np.isfinite(depth)]
    for result in results:
        assert np.array_equal(result, results[0])
        assert known.min() <= result.min() <= result.max() <= known.max()


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_masked_pixels_are_unknown(network: ConvexUpNet, dtype: Any) -> None:
    depth, rgb = scene((9, 12), (72, 96))
    values = (depth * 1000).astype(dtype)
    hidden = values.copy()
    hidden[3, 4:6] = 60000
    masked = np.ma.masked_equal(hidden, 60000)
    values[3, 4:6] = 0
    found = ddfnet.upsample_depth(masked, rgb, network=network)
    assert not isinstance(found, np.ma.MaskedArray)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, ddfnet.upsample_depth(values, rgb, network=network))


def around(pixels: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """The image pixels of these depth pixels and of all that touch them."""
    padded = np.pad(pixels, 1)
    sides = [slice(0, -2), slice(1, -1), slice(2, None)]
    touched = np.any([padded[rows, columns] for rows in sides for columns in sides], axis=0)
    return touched.repeat(factor, 0).repeat(factor, 1)


@pytest.mark.parametrize("mark", [65535.0, -9999.0, 1e9])
@pytest.mark.parametrize("samples", ["point", "average"])
def test_far_off_values_stay_where_they_are(network: ConvexUpNet, mark: float, samples: Samples) -> None:
    """No pixel mixes them but those of the depth pixels next to them; the others keep their range and their resolution."""
    depth, rgb = scene((9, 12), (72, 96))
    far = np.zeros(depth.shape, bool)
    far[2:5, 3:6] = far[7, 10] = True
    marked = depth.copy()
    marked[far] = mark
    if mark < 0:  # a second negative value, lest it is taken for a mark
        marked[2, 3] = mark - 1
    result = ddfnet.upsample_depth(marked, rgb, network=network, samples=samples)
    beyond = ~around(far, 8)
    assert beyond.sum() > 1000
    beside = 0 if samples == "point" else np.ptp(depth)  # averages may overshoot by the map's range
    assert depth.min() - beside <= result[beyond].min() <= result[beyond].max() <= depth.max() + beside
    assert len(np.unique(result[beyond])) > 1000
    assert abs(result[3 * 8 + 3, 4 * 8 + 3] - mark) < max(
        2, 1e-6 * abs(mark)
    )  # depth pixel (3, 4), and all others around it


def test_what_float32_cannot_hold_beside_the_others_is_unknown(network: ConvexUpNet) -> None:
    depth, rgb = scene((9, 12), (72, 96))
    depth[2:5, 3:6] = np.nan
    expected = ddfnet.upsample_depth(depth, rgb, network=network)
    depth[2:5, 3:6] = 3.4e38
    with pytest.warns(
        UserWarning, match=r"depth: 3\.4e\+38 to 3\.4e\+38, more than 1e\+12 times .*, in 9 of 108 pixels"
    ):
        assert np.array_equal(ddfnet.upsample_depth(depth, rgb, network=network), expected)


def test_65535_in_16_bits(network: ConvexUpNet) -> None:
    """Unknown where it stands apart, with a warning unless it is named; a depth in a map of floats."""
    depth, rgb = scene((9, 12), (72, 96))
    numbers = np.round(1000 * depth).astype(np.uint16)
    numbers[2:4, 5:8] = 0
    expected = ddfnet.upsample_depth(numbers, rgb, network=network)
    numbers[2:4, 5:8] = 65535
    with pytest.warns(
        UserWarning, match="depth: 65535, far from all other values, is taken for unknown, in 6 of 108 pixels"
    ):
        assert np.array_equal(ddfnet.upsample_depth(numbers, rgb, network=network), expected)
    assert np.array_equal(ddfnet.upsample_depth(numbers, rgb, network=network, unknown=65535), expected)
    assert ddfnet.upsample_depth(numbers.astype(np.float32), rgb, network=network).max() > 60000


def test_zero_may_be_known(network: ConvexUpNet) -> None:
    depth, rgb = scene((9, 12), (72, 96))
    depth[2:4, 5:8] = 0
    result = ddfnet.upsample_depth(depth, rgb, network=network, samples="point", zero_is_known=True)
    assert (result[2 * 8 + 3, 5 * 8 + 3 : 8 * 8 : 8] == 0).all()
    assert ddfnet.upsample_depth(depth, rgb, network=network, samples="point").min() >= 1


@pytest.mark.parametrize("factor", [1, 4])
def test_a_hole_wider_than_what_the_network_sees(small: ConvexUpNet, factor: int) -> None:
    """Its middle goes on smoothly, between the depths at its rim: a plane stays a plane there."""
    plane = np.broadcast_to(np.linspace(1, 3, 96), (96, 96)).copy()
    expected = plane.repeat(factor, 0).repeat(factor, 1)
    plane[12:84, 12:84] = np.nan
    rgb = np.zeros((96 * factor, 96 * factor, 3), np.uint8)
    result = ddfnet.upsample_depth(plane, rgb, network=small)
    middle = slice(40 * factor, 56 * factor)
    assert np.abs(result - expected)[middle, middle].max() < 0.05


def test_lines_of_a_lidar_are_filled(network: ConvexUpNet) -> None:
    depth, rgb = scene((64, 48), (64, 48))
    sparse = np.zeros_like(depth)
    sparse[::8, ::2] = depth[::8, ::2]
    result = ddfnet.upsample_depth(sparse, rgb, network=network)
    assert np.array_equal(result[sparse != 0], sparse[sparse != 0])
    assert sparse[sparse != 0].min() <= result.min() <= result.max() <= sparse.max()


def test_all_equal_but_one(network: ConvexUpNet) -> None:
    depth = np.full((6, 7), 5.0)
    depth[3, 3] = 65535
    result = ddfnet.upsample_depth(depth, np.zeros((48, 56, 3), np.uint8), network=network, samples="point")
    far = np.zeros(depth.shape, bool)
    far[3, 3] = True
    assert np.abs(result[~around(far, 8)] - 5).max() <= 4 * np.finfo(np.float32).eps * 65535
    assert result.max() > 30000


def test_marks_that_are_named_are_unknown(network: ConvexUpNet) -> None:
    depth, rgb = scene((9, 12), (72, 96))
    depth[2:4, 5:8] = np.nan
    expected = ddfnet.upsample_depth(depth, rgb, network=network)
    marked = depth.copy()
    marked[2, 5:8], marked[3, 5:8] = 65535, 2.5
    for marks in ((65535, 2.5), [2.5, 65535.0], np.array([65535, 2.5])):
        found = ddfnet.upsample_depth(marked, rgb, network=network, unknown=marks)
        assert np.array_equal(found, expected)
    marked[3, 5:8] = 65535
    assert np.array_equal(
        ddfnet.upsample_depth(torch.from_numpy(marked), rgb, network=network, unknown=65535), expected
    )
    millimetres = np.nan_to_num(np.round(1000 * depth), nan=65535).astype(np.uint16)
    named = ddfnet.upsample_depth(millimetres, rgb, network=network, unknown=65535)
    millimetres[millimetres == 65535] = 0
    assert np.array_equal(named, ddfnet.upsample_depth(millimetres, rgb, network=network))
    with pytest.raises(ValueError, match=r"got only unknown ones: NaN, inf, 65535, 2\.5, 0"):
        ddfnet.upsample_depth(np.full((9, 12), 2.5), rgb, network=network, unknown=(65535, 2.5))


def test_negative_values(network: ConvexUpNet) -> None:
    """The only one is a mark; several are depths, as those of a negated map are."""
    depth, rgb = scene((9, 12), (72, 96))
    depth[2:4, 5:8] = np.nan
    expected = ddfnet.upsample_depth(depth, rgb, network=network)
    for mark, dtype in ((-1, np.float32), (-9999, np.float32), (-1, np.int16)):
        marked = np.nan_to_num(depth if dtype == np.float32 else np.round(1000 * depth), nan=mark).astype(dtype)
        found = ddfnet.upsample_depth(marked, rgb, network=network)
        if dtype == np.float32:
            assert np.array_equal(found, expected)
        else:
            assert np.abs(found / 1000 - expected).max() < 0.01
    signed = depth - 2
    assert signed[~np.isnan(signed)].min() < 0 < signed[~np.isnan(signed)].max()
    np.testing.assert_allclose(ddfnet.upsample_depth(signed, rgb, network=network), expected - 2, atol=1e-5)
    negated = ddfnet.upsample_depth(np.full((2, 2), -1.0), rgb[:8, :8], network=network)
    assert np.array_equal(negated, np.full((8, 8), -1.0))
