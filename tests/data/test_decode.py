"""One way to read an image for all data sets: upright, of three channels, or refused in a sentence."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from ddfnet.data.decode import displayed_size, read_rgb


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tiff"])
def test_images_are_upright_as_pillow_shows_them(tmp_path: Path, orientation: int, kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 16, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind}"
    Image.fromarray(pixels).save(path, exif=exif)
    with Image.open(path) as image:
        size = displayed_size(image)
        shown = ImageOps.exif_transpose(image).convert("RGB")
    read = read_rgb(path)
    assert read.size == size == ((8, 16) if orientation >= 5 else (16, 8))
    np.testing.assert_array_equal(np.asarray(read), np.asarray(shown))


def test_sixteen_bits_are_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(np.array([[0, 65535]], np.uint16)).save(tmp_path / "a.png", exif=exif)
    assert np.asarray(read_rgb(tmp_path / "a.png"))[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize("value", [0, 9, 77])
def test_orientations_that_mean_nothing_turn_nothing(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    Image.new("RGB", (4, 2)).save(tmp_path / "a.jpg", exif=exif)
    assert read_rgb(tmp_path / "a.jpg").size == (4, 2)


def test_damaged_exif_data_turn_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (4, 2)).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff junk")
    assert read_rgb(tmp_path / "a.jpg").size == (4, 2)
