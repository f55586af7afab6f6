"""Photographs with depth: the Motorcycle's parts, what is common to all sources."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from ddfnet.data.depth.photographs import GAP, Motorcycle, RGBDFolder, RGBDImage, cropped


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


def fill(folder: Path, rgb: str, depth: str, *, side: int = 4) -> None:
    for path in (folder / rgb, folder / depth):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 6, 3), 7, np.uint8)).save(folder / rgb)
    numbers = np.arange(side * 6).reshape(side, 6)
    if depth.endswith("npy"):
        np.save(folder / depth, numbers.astype(np.float32))
    else:
        Image.fromarray(numbers.astype(np.uint16)).save(folder / depth)


@pytest.mark.parametrize("names", [("rgb/b/{}.jpg", "depth/b/{}.{}"), ("{}_rgb.jpg", "{}_depth.{}")])
def test_a_folder_of_pairs(tmp_path: Path, names: tuple[str, str]) -> None:
    fill(tmp_path, names[0].format("2"), names[1].format("2", "npy"))
    fill(tmp_path, names[0].format("1"), names[1].format("1", "png"))
    (tmp_path / "README").write_text("beside")
    folder = RGBDFolder(tmp_path)
    first, second = folder
    assert [first.name[-1], second.name[-1]] == ["1", "2"]
    assert [first.unit, second.unit] == ["mm", "file unit"]
    assert (first.rgb == 7).all()
    np.testing.assert_array_equal(second.depth, [[np.nan, *range(1, 6)], *np.arange(6, 24).reshape(3, 6)])
    assert RGBDFolder(tmp_path, unit="cm")[0].unit == "cm"


def test_what_is_wrong_with_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a folder of photographs and depth maps, found none"):
        RGBDFolder(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"expected rgb/NAME\.\* beside depth/NAME\.\*, or NAME_rgb"):
        RGBDFolder(tmp_path)
    fill(tmp_path, "rgb/a.png", "depth/a.npy", side=5)
    with pytest.raises(ValueError, match=r"a\.npy: expected the photograph's \(4, 6\) pixels, got \(5, 6\)"):
        RGBDFolder(tmp_path)[0]
    (tmp_path / "depth" / "b.png").touch()
    with pytest.raises(
        FileNotFoundError, match=r"b\.png: expected a photograph of the same name beside it, found none"
    ):
        RGBDFolder(tmp_path)
    (tmp_path / "depth" / "b.png").unlink()
    (tmp_path / "rgb" / "a.jpg").touch()
    with pytest.raises(ValueError, match=r"a\.png: expected one file of the name a, found a\.jpg too"):
        RGBDFolder(tmp_path)
    (tmp_path / "depth" / "a.npy").unlink()
    (tmp_path / "rgb" / "a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png: expected a depth map of the same name beside it, found none"):
        RGBDFolder(tmp_path)
