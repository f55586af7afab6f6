"""The generated scenes: a function of seed and index alone, complete depth, edges of the kinds asked for."""

import numpy as np
import pytest
from torch.utils.data import DataLoader

from ddfnet.data.depth.generated import GeneratedScenes
from ddfnet.data.depth.photographs import RGBDImage

SIZE = 128


def same(a: RGBDImage, b: RGBDImage) -> bool:
    return np.array_equal(a.rgb, b.rgb) and np.array_equal(a.depth, b.depth) and a[2:] == b[2:]


def first(items: list[RGBDImage]) -> RGBDImage:
    return items[0]


@pytest.fixture(scope="module")
def items() -> list[RGBDImage]:
    return list(GeneratedScenes(40, seed=0, size=SIZE))


def test_an_item_depends_on_seed_and_index_alone(items: list[RGBDImage]) -> None:
    longer = GeneratedScenes(1000, seed=0, size=SIZE)
    for index in (31, 3, 3):
        assert same(longer[index], items[index])
    assert not same(GeneratedScenes(40, seed=1, size=SIZE)[3], items[3])
    assert not np.array_equal(items[3].rgb, items[4].rgb)


def test_workers_draw_the_same(items: list[RGBDImage]) -> None:
    loader = DataLoader(GeneratedScenes(2, seed=0, size=SIZE), batch_size=1, num_workers=1, collate_fn=first)
    assert all(same(one, other) for one, other in zip(loader, items, strict=False))


def test_every_item_is_whole(items: list[RGBDImage]) -> None:
    for item in items:
        assert item.rgb.shape == (SIZE, SIZE, 3)
        assert item.rgb.dtype == np.uint8
        assert item.depth.shape == (SIZE, SIZE)
        assert item.depth.dtype == np.float32
        assert item.depth.flags.c_contiguous
        assert np.isfinite(item.depth).all()
        assert item.depth.min() > 0
        assert item.depth.max() > item.depth.min()
        assert item.rgb.std() > 2
    assert {item.unit for item in items} == {"m", "px"}
    assert {item.name.split("(")[1] for item in items} == {"room)", "street)", "workbench)", "floating)"}


def test_depth_edges_and_contrast_are_together_and_apart(items: list[RGBDImage]) -> None:
    """Contrast is likelier at depth edges than elsewhere, but many edges have none, and much contrast is no edge."""
    at_edges, elsewhere = [], []
    for item in items:
        depth = np.log(item.depth)
        edge = np.abs(np.diff(depth, axis=1)) > 0.1
        step = np.abs(np.diff(item.rgb.astype(np.float32).mean(2), axis=1))
        at_edges.append(step[edge])
        elsewhere.append(step[~edge])
    steps, others = np.concatenate(at_edges), np.concatenate(elsewhere)
    assert np.median(steps) > 3 * np.median(others)
    assert (steps < 4).mean() > 0.05
    assert (others > 12).mean() > 0.02
    assert 0.01 < len(steps) / (len(steps) + len(others)) < 0.2


def test_the_depth_has_one_sample_a_pixel(items: list[RGBDImage]) -> None:
    """At a jump, nothing lies between: a mean of near and far would."""
    jumps = between = 0
    for item in items:
        depth = np.log(item.depth)
        left, middle, right = depth[:, :-2], depth[:, 1:-1], depth[:, 2:]
        jump = np.abs(right - left) > 0.5
        share = (middle - left)[jump] / (right - left)[jump]
        jumps += jump.sum()
        between += ((share > 0.25) & (share < 0.75)).sum()
    assert jumps > 1000
    assert between < 0.1 * jumps


def test_errors() -> None:
    with pytest.raises(ValueError, match="count: expected an int >= 0, got -1"):
        GeneratedScenes(-1, 0)
    for size in (0, 100):
        with pytest.raises(ValueError, match=f"size: expected a multiple of 64 pixels, got {size}"):
            GeneratedScenes(1, 0, size)
    with pytest.raises(IndexError, match="index: expected one of 2 images, got 2"):
        GeneratedScenes(2, 0)[2]
