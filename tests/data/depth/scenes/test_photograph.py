"""Textures and light: the colours asked for, no texel of what is for testing, shadows that are no depth edges."""

import numpy as np
import pytest
import skimage.data

from ddfnet.data.depth.scenes.canvas import Canvas
from ddfnet.data.depth.scenes.photograph import photograph
from ddfnet.data.depth.scenes.textures import PHOTOGRAPHS, SIDE, Material, albedo, bank, materials


def plain(colour: tuple[float, float, float]) -> Material:
    return Material(
        0, np.eye(2, dtype=np.float32), np.zeros(2, np.float32), np.zeros((3, 3), np.float32), np.array(colour, "f4"), 0
    )


def test_the_motorcycle_and_what_must_be_downloaded_are_no_textures() -> None:
    from pathlib import Path

    assert "stereo_motorcycle" not in PHOTOGRAPHS
    shipped = {path.stem for path in (Path(skimage.data.__file__).parent).iterdir()}
    renamed = {"cat": "chelsea", "immunohistochemistry": "ihc"}
    assert {renamed.get(name, name) for name in PHOTOGRAPHS} <= shipped


def test_textures_repeat_without_a_seam_at_every_level() -> None:
    """Across the border neighbours differ as they do inside; photographs and noise alike, on average."""
    stock = bank()
    texels = stock.texels[: stock.starts[1]].reshape(stock.count, SIDE, SIDE, 3).astype(np.float32)
    inside = np.abs(np.diff(texels, axis=2)).mean()
    border = np.abs(texels[:, :, 0] - texels[:, :, -1]).mean()
    assert border < 1.5 * inside


def test_albedo_is_the_texel_in_the_materials_colours() -> None:
    stock = bank()
    texels = stock.texels[SIDE * SIDE :][: SIDE * SIDE].reshape(SIDE, SIDE, 3)
    colours = np.diag([0.5, 0.25, 1.0]).astype(np.float32)
    material = Material(
        1, np.eye(2, dtype=np.float32), np.zeros(2, np.float32), colours, np.full(3, 0.1, np.float32), 0
    )
    places = np.arange(10, 20, dtype=np.float32) + np.float32(0.5)  # centres of texels; once more around the texture
    found = albedo(material, places + SIDE, places - SIDE, np.full(10, 0.4, np.float32))
    expected = texels[range(10, 20), range(10, 20)] / 255 * [0.5, 0.25, 1.0] + 0.1
    np.testing.assert_allclose(found, expected, rtol=16 * np.finfo(np.float32).eps)


def test_a_far_texture_is_its_mean() -> None:
    stock = bank()
    material = Material(
        5, np.eye(2, dtype=np.float32), np.zeros(2, np.float32), np.eye(3, dtype=np.float32), np.zeros(3, np.float32), 0
    )
    rng = np.random.default_rng(0)
    u, v = rng.uniform(0, SIDE, (2, 4000)).astype(np.float32)
    near = albedo(material, u, v, np.full(4000, 0.5, np.float32))
    far = albedo(material, u, v, np.full(4000, 1e4, np.float32))
    assert far.std(0).max() < 0.5 * near.std(0).max()
    texels = stock.texels[5 * SIDE * SIDE : 6 * SIDE * SIDE] / 255
    # The mean of 4000 draws, to five of its own deviations, and the levels' rounding.
    np.testing.assert_allclose(near.mean(0), texels.mean(0), atol=5 * texels.std() / np.sqrt(4000) + 1 / 255)


def test_materials_stay_near_one_another_without_contrast() -> None:
    def spread(contrast: float) -> float:
        made = materials(np.random.default_rng(0), 40, contrast=contrast, scale=1.0)
        return float(np.std([material.colour + material.colours.sum(1) / 2 for material in made], axis=0).mean())

    assert spread(0.1) < 0.7 * spread(1.0)


@pytest.mark.parametrize("seed", range(6))
def test_one_colour_under_light_is_a_photograph(seed: int) -> None:
    canvas = Canvas(128, focal=128, height=1.0, pitch=0.2)
    canvas.patch([0, 4, 1], [40, 0, 0], [0, 0, 40], 1)
    canvas.patch([0, 0, 0], [40, 0, 0], [0, 40, 0], 0)
    canvas.ellipsoid([0, 2.5, 0.5], [0.4, 0.4, 0.4], 0)
    picture = photograph(np.random.default_rng(seed), canvas, [plain((0.6, 0.5, 0.4))] * 2, size=64)
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert 20 < picture.mean() < 250
    assert picture.std() > 1
