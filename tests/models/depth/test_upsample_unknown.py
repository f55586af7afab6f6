"""`upsample_depth` on maps with unknown pixels, marks of them, and values far off from all others."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.depth_scene import scene

import ddfnet
from ddfnet.models.depth.joint_upsampling import DDFUpNet


def test_unknown_pixels_are_filled_however_they_are_marked(network: DDFUpNet) -> None:
    depth, rgb = scene((9, 12), (72, 96))
    results = []
    for mark in (0, np.nan, np.inf, -np.inf):
        depth[2:7, 3:8] = mark
        depth[0, 11] = mark
        results.append(ddfnet.upsample_depth(depth, rgb, network=network))
    known = depth[np.isfinite(depth)]
    for result in results:
        assert np.array_equal(result, results[0])
        assert known.min() <= result.min() <= result.max() <= known.max()


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_masked_pixels_are_unknown(network: DDFUpNet, dtype: Any) -> None:
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


@pytest.mark.parametrize("mark", [65535.0, -9999.0, 1e30])
def test_far_off_values_change_nothing_beyond_the_pixels_next_to_them(network: DDFUpNet, mark: float) -> None:
    """Bit for bit what is made of the map where they are unknown; and at their own pixels they are found again."""
    depth, rgb = scene((9, 12), (72, 96))
    holed, marked = depth.copy(), depth.copy()
    far = np.zeros(depth.shape, bool)
    far[2:5, 3:6] = far[7, 10] = True
    holed[far], marked[far] = np.nan, mark
    if mark < 0:  # a second negative value, lest it is taken for a mark
        marked[2, 3] = mark - 1
    expected = ddfnet.upsample_depth(holed, rgb, network=network)
    result = ddfnet.upsample_depth(marked, rgb, network=network)
    beyond = ~around(far, 8)
    assert beyond.sum() > 1000
    assert np.array_equal(result[beyond], expected[beyond])
    assert result[3 * 8 + 3, 4 * 8 + 3] == np.float32(mark)  # depth pixel (3, 4), and all others around it
    assert (np.abs(result[around(far, 8)]) > 0.4 * abs(mark)).mean() > 0.2


def test_a_marked_map_is_tiled_without_seams_and_told_as_one_work(network: DDFUpNet) -> None:
    depth, rgb = scene((24, 31), (187, 245))
    depth[5:9, 7:20] = 65535
    told: dict[int, list[tuple[int, int]]] = {}
    results = []
    for tile in (1536, 216):
        told[tile] = []
        results.append(
            ddfnet.upsample_depth(
                depth, rgb, network=network, tile=tile, progress=lambda *done, told=told[tile]: told.append(done)
            )
        )
    assert told[1536] == [(1, 2), (2, 2)]
    total = told[216][-1][1]
    assert total > 8
    assert told[216] == [(done, total) for done in range(1, total + 1)]
    difference = np.abs(results[0] - results[1])
    far = results[0] > 3
    assert difference[far].max() <= 64 * np.finfo(np.float32).eps * 65535
    assert difference[~far].max() <= 16 * np.finfo(np.float32).eps * 3


def test_above_16_far_off_values_stay_where_they_are(weights: dict[int, DDFUpNet]) -> None:
    depth, rgb = scene((5, 6), (105, 126))
    holed = depth.copy()
    depth[2, 2], holed[2, 2] = 1e4, 0
    told: list[tuple[int, int]] = []
    result = ddfnet.upsample_depth(depth, rgb, progress=lambda *done: told.append(done))
    assert told == [(done, 4) for done in range(1, 5)]  # two maps, two steps
    far = result > 3
    rows, columns = np.nonzero(far)
    assert far[2 * 21 + 10, 2 * 21 + 10]
    assert (rows.min() > 21, rows.max() < 4 * 21, columns.min() > 21, columns.max() < 4 * 21) == (True,) * 4
    np.testing.assert_array_equal(result[:21], ddfnet.upsample_depth(holed, rgb)[:21])


def test_all_equal_but_one(network: DDFUpNet) -> None:
    depth = np.full((6, 7), 5.0)
    depth[3, 3] = 65535
    result = ddfnet.upsample_depth(depth, np.zeros((48, 56, 3), np.uint8), network=network)
    far = np.zeros(depth.shape, bool)
    far[3, 3] = True
    assert np.array_equal(np.unique(result[~around(far, 8)]), [5.0])
    assert result.max() > 30000


def test_marks_that_are_named_are_unknown(network: DDFUpNet) -> None:
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
    with pytest.raises(ValueError, match=r"got only unknown ones: NaN, inf, 65535, 2\.5 or 0"):
        ddfnet.upsample_depth(np.full((9, 12), 2.5), rgb, network=network, unknown=(65535, 2.5))


def test_negative_values(network: DDFUpNet) -> None:
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
    np.testing.assert_allclose(ddfnet.upsample_depth(signed, rgb, network=network), expected - 2, atol=1e-6)
    negated = ddfnet.upsample_depth(np.full((2, 2), -1.0), rgb[:8, :8], network=network)
    assert np.array_equal(negated, np.full((8, 8), -1.0))


def test_a_far_off_value_is_not_mixed_with_the_others(network: DDFUpNet) -> None:
    depth, rgb = scene((9, 12), (72, 96))
    depth[2:5, 3:9] = 65535
    result = ddfnet.upsample_depth(depth, rgb, network=network)
    assert ((result == 65535) | (result <= 3)).all()
    assert (result == 65535).any()
