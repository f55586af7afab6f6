"""What lies far off is told from a scene's own range; scenes that are wide by themselves keep it whole."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ddfnet.data.depth.generated import GeneratedScenes
from ddfnet.data.depth.photographs import Motorcycle
from ddfnet.data.depth.protocols import low_resolution
from ddfnet.models.depth.range import inlier_range

Values = NDArray[np.float64]


def room(count: int = 1000) -> Values:
    """Millimetres."""
    return np.random.default_rng(0).uniform(500, 3000, count)


def of(values: Values) -> tuple[float, float]:
    return inlier_range(torch.from_numpy(np.random.default_rng(1).permutation(values)))


def ends(values: Values) -> tuple[float, float]:
    return float(values.min()), float(values.max())


@pytest.mark.parametrize(
    "others",
    [
        [1e4 * 1000],
        [65535.0] * 10,
        [65535.0] * 900,
        [-9999.0] * 300,
        [-1e5, 1e5],
        [65535.0] * 100 + [-9999.0] * 100 + [3.4e38],
        [*np.linspace(3100, 65535, 8)],  # strays without a gap
        [*np.linspace(-6e4, 65535, 8)],
        [*np.linspace(20_000, 24_000, 200)],  # a background through a window
    ],
    ids=lambda others: f"{len(others)}-to-{max(others):.3g}",
)
def test_values_far_off(others: list[float]) -> None:
    """In any unit, to either side, in any order; strays that are as near as half the range are kept."""
    values = np.concatenate([room(), others])
    for unit in (1.0, -1e-3, 1024.0):
        least, greatest = of(unit * values)
        kept = sorted((least / unit, greatest / unit))
        near = [other for other in others if -1000 < other < 4500]
        assert kept == pytest.approx(ends(np.concatenate([room(), near])), rel=1e-12)


@pytest.mark.parametrize(
    "values",
    [
        np.geomspace(1, 1000, 2000),  # out of doors
        1 / np.linspace(1 / 60, 1, 2000),
        np.concatenate([np.linspace(1, 4, 800), np.linspace(10, 12, 200)]),  # a wall behind a door
        np.concatenate([np.linspace(5, 20, 950), np.linspace(40, 60, 50)]),  # a disparity, something near
        np.concatenate([np.linspace(1, 1.3, 600), np.linspace(3, 3.2, 400)]),  # a portrait
        np.concatenate([np.full(500, 1000.0), np.linspace(500, 3000, 500)]),
        np.repeat([1.0, 9.0], 500),
        np.array([3.0]),
        np.array([1.0, 1e6]),
        np.full(7, -2.0),
    ],
    ids=lambda values: f"{values[0]:.3g}-to-{values[-1]:.3g}",
)
def test_scenes_keep_their_range(values: Values) -> None:
    assert of(values) == ends(values)
    assert of(-values) == ends(-values)


def test_a_constant_map_with_a_value_far_off() -> None:
    assert of(np.array([5.0] * 20 + [65535.0])) == (5.0, 5.0)


def test_real_and_generated_maps_keep_their_range() -> None:
    for images in (Motorcycle("train"), Motorcycle("test"), GeneratedScenes(2, seed=0, size=64)):
        for index in range(len(images)):
            depth = low_resolution(images[index].depth.astype(np.float64), 4)
            known = depth[np.isfinite(depth)]
            for values in (known, 1 / known, -known):
                assert of(values) == ends(values)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300))
def test_more_than_half_of_the_values_are_left(values: list[float]) -> None:
    least, greatest = of(np.array(values))
    assert {least, greatest} <= set(values)
    inliers = [value for value in values if least <= value <= greatest]
    assert 2 * len(inliers) > len(values)


def test_a_range_of_any_width_is_cut_no_further() -> None:
    """Of values that are strays to one another on every scale, more than half are left."""
    values = np.geomspace(1e-300, 1e300, 4000)
    least, _ = of(values)
    assert least == values[0]
    assert 2 * np.sum(values <= of(values)[1]) > len(values)
