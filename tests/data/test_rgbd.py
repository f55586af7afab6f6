"""Photographs with depth: the Motorcycle's parts, what is common to all sources."""

import numpy as np
import pytest
import skimage.data

from ddfnet.data.rgbd import GAP, Motorcycle, RGBDImage, cropped


@pytest.mark.parametrize(("part", "width"), [("train", 368), ("test", 288)])
def test_the_parts_have_sides_of_sixteenths_and_unknowns(part: str, width: int) -> None:
    (image,) = Motorcycle(part)  # type: ignore[arg-type]
    assert image.rgb.shape == (496, width, 3)
    assert image.rgb.dtype == np.uint8
    assert image.depth.shape == (496, width)
    assert image.depth.dtype == np.float32
    assert not np.isinf(image.depth).any()
    assert 0.05 < np.isnan(image.depth).mean() < 0.1
    assert image.unit == "px"
    assert part in image.name


def test_the_parts_are_the_left_view_with_a_gap_between() -> None:
    rgb, _, disparity = skimage.data.stereo_motorcycle()
    train, test = Motorcycle("train")[0], Motorcycle("test")[-1]
    start = round(0.6 * rgb.shape[1])
    for image, first in ((train, 0), (test, start)):
        there = slice(0, 496), slice(first, first + image.depth.shape[1])
        np.testing.assert_array_equal(image.rgb, rgb[there])
        known = np.isfinite(disparity[there])
        np.testing.assert_array_equal(image.depth[known], disparity[there][known])
        assert np.isnan(image.depth[~known]).all()
    assert train.depth.shape[1] + GAP <= start


def test_a_missing_picture_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline() -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(skimage.data, "stereo_motorcycle", offline)
    with pytest.raises(FileNotFoundError, match=r"expected scikit-image's pictures .* \(ConnectionError: no route\)"):
        Motorcycle("train")


def test_errors() -> None:
    with pytest.raises(ValueError, match='part: expected "train" or "test", got \'val\''):
        Motorcycle("val")  # type: ignore[arg-type]
    with pytest.raises(IndexError, match="index: expected one of 1 images, got 1"):
        Motorcycle("test")[1]


def test_cropped() -> None:
    image = RGBDImage(np.zeros((37, 50, 3), np.uint8), np.zeros((37, 50), np.float32), "a", "m")
    assert cropped(image).depth.shape == (32, 48)
    assert cropped(image, 5).rgb.shape == (35, 50, 3)
    with pytest.raises(ValueError, match=r"a: expected sides of at least 40 pixels, got \(37, 50\)"):
        cropped(image, 40)
