"""Smoothing within 8-bit steps, and the parts of the data set."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddfnet.data.depth import eight_bit
from ddfnet.data.depth.eight_bit import BLOCKS, MARGIN, STEP, Lu, NYUDepth8Bit, smoothed


def test_smooths_a_slope_within_its_steps_and_leaves_edges() -> None:
    row = np.repeat(np.arange(6, dtype=np.uint8), 8)
    values = np.tile(np.concatenate([row, np.full(8, 200, np.uint8)]), (12, 1))
    found = smoothed(values)
    assert ((found >= values) & (found < values + 1)).all()
    slope = (np.arange(48) + 0.5) / 8
    inner = slice(8, 40)
    assert np.abs(found[5, inner] - slope[inner]).max() < 0.26  # 0.4375 before
    assert (found[:, 48:] == 200.5).all()


def test_reads_and_keeps_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eight_bit, "IMAGES", 6)
    monkeypatch.setattr(eight_bit, "TRAINING", 4)
    monkeypatch.setattr(eight_bit, "HEIGHT", 8)
    monkeypatch.setattr(eight_bit, "WIDTH", 10)
    rng = np.random.default_rng(0)
    for name in ("rgb", "depth"):
        (tmp_path / name).mkdir()
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (8, 10, 3), np.uint8)).save(tmp_path / "rgb" / f"{i:04d}.jpg")
        Image.fromarray(np.full((8, 10), 10 + i, np.uint8)).save(tmp_path / "depth" / f"{i:04d}.png")
    images = NYUDepth8Bit(tmp_path, "test", cache=tmp_path / "cache")
    assert [image.name for image in images] == ["nyu 0004", "nyu 0005"]
    np.testing.assert_allclose(images[0].depth, 14.5 * STEP, rtol=2e-4)
    (tmp_path / "rgb" / "0000.jpg").unlink()  # they come from the cache now
    assert len(NYUDepth8Bit(tmp_path, "train", cache=tmp_path / "cache")) == 4
    with pytest.raises(ValueError, match="part: expected"):
        NYUDepth8Bit(tmp_path, "all", cache=tmp_path / "cache")  # type: ignore[arg-type]


def test_blocks_for_validation_lie_in_the_training_images() -> None:
    assert all(MARGIN <= first < last <= 1000 - MARGIN for first, last in BLOCKS)


def test_lu_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"RGBD_01_ouput_color\.png"):
        Lu(tmp_path)
