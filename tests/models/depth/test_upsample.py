"""`upsample_depth`: any unit, kind, dtype, size and ratio; and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.depth_scene import scene

import ddfnet
from ddfnet.models.depth import convex_up_net, upsample
from ddfnet.models.depth.convex_up_net import ConvexUpNet
from ddfnet.models.depth.grid import Samples
from ddfnet.models.depth.tiles import HALO
from ddfnet.models.depth.upsample import bicubic_depth


@pytest.mark.parametrize("unit", [1000.0, 1 / 1024, 1e-6])
def test_the_unit_does_not_matter(network: ConvexUpNet, unit: float) -> None:
    """To 64 ulp of the largest value, since the network rounds other numbers; to a power of two, bit for bit."""
    depth, rgb = scene((9, 12), (72, 96))
    depth[2:4, 5:8] = 0
    metres = ddfnet.upsample_depth(depth, rgb, network=network)
    other = ddfnet.upsample_depth(depth * np.float32(unit), rgb, network=network)
    bound = 64 * float(np.finfo(np.float32).eps) * metres.max() * (np.log2(unit) % 1 != 0)
    assert np.abs(other / unit - metres).max() <= bound


def test_an_offset_is_kept(network: ConvexUpNet) -> None:
    depth, rgb = scene((9, 12), (72, 96))
    depth = depth.astype(np.float64)
    moved = ddfnet.upsample_depth(depth + 1000, rgb, network=network)
    np.testing.assert_allclose(moved, ddfnet.upsample_depth(depth, rgb, network=network) + 1000, rtol=1e-8)


@pytest.mark.parametrize("samples", ["point", "average"])
def test_it_is_the_network(network: ConvexUpNet, samples: Samples) -> None:
    depth, rgb = scene((9, 12), (72, 96))
    depth[2:4, 5:8] = np.nan
    with torch.no_grad():
        low, image = torch.from_numpy(depth)[None, None], torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255
        expected = network(low, image, samples=samples)[0, 0].numpy()
    result = ddfnet.upsample_depth(depth, rgb, network=network, samples=samples)
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    if samples == "point":
        assert np.nanmin(depth) <= result.min() <= result.max() <= np.nanmax(depth)


def test_point_samples_come_back_unchanged(network: ConvexUpNet) -> None:
    """Also where subsampling rounded the sides up, and the last sample lies on the image's last pixel or beyond."""
    for size in ((72, 96), (68, 91), (65, 90)):
        depth, rgb = scene((9, 12), size)
        result = ddfnet.upsample_depth(depth, rgb, network=network, samples="point")
        found = result[3::8, 3::8]
        assert np.array_equal(found, depth[: found.shape[0], : found.shape[1]])


def test_shapes(network: ConvexUpNet) -> None:
    """Batches are the maps one by one; channels are first or last."""
    depth, rgb = scene((5, 6), (40, 48))
    other, other_rgb = depth[::-1].copy(), rgb[::-1].copy()
    other[1, 2] = np.nan
    one, two = (ddfnet.upsample_depth(*pair, network=network) for pair in ((depth, rgb), (other, other_rgb)))
    first = rgb.transpose(2, 0, 1)
    assert np.array_equal(ddfnet.upsample_depth(depth, first, network=network), one)
    assert np.array_equal(ddfnet.upsample_depth(depth[None], rgb, network=network), one[None])
    maps, images = np.stack([depth, other])[:, None], np.stack([rgb, other_rgb])
    expected = np.stack([one, two])[:, None]
    for pictures in (images, images.transpose(0, 3, 1, 2)):
        assert np.array_equal(ddfnet.upsample_depth(maps, pictures, network=network), expected)
    assert np.array_equal(ddfnet.upsample_depth(maps[:, 0], images, network=network), expected[:, 0])
    with pytest.raises(ValueError, match="rgb: expected as many images as depth maps, 2, got 1"):
        ddfnet.upsample_depth(maps, rgb, network=network)


def test_floating_images_and_pil_images(network: ConvexUpNet) -> None:
    depth, rgb = scene((5, 6), (40, 48))
    expected = ddfnet.upsample_depth(depth, rgb, network=network)
    for dtype in (np.float32, np.float64):
        found = ddfnet.upsample_depth(depth, (rgb / 255).astype(dtype), network=network)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.array_equal(ddfnet.upsample_depth(depth, Image.fromarray(rgb), network=network), expected)  # type: ignore[arg-type]
    found = ddfnet.upsample_depth(Image.fromarray(depth), rgb, network=network)  # type: ignore[type-var]
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found, expected)
    with pytest.raises(ValueError, match="rgb: expected floats in 0 to 1, got 0 to 255"):
        ddfnet.upsample_depth(depth, np.clip(rgb.astype(np.float32) * 2, 0, 255), network=network)


def test_a_pil_image_is_turned_upright(network: ConvexUpNet, tmp_path: Path) -> None:
    depth, rgb = scene((5, 6), (40, 48))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    Image.fromarray(np.rot90(rgb).copy()).save(tmp_path / "turned.png", exif=exif)
    expected = ddfnet.upsample_depth(depth, rgb, network=network)
    with Image.open(tmp_path / "turned.png") as image:
        assert np.array_equal(ddfnet.upsample_depth(depth, image, network=network), expected)  # type: ignore[arg-type]


def test_float64_as_default_dtype(network: ConvexUpNet) -> None:
    pairs = [scene((5, 6), size) for size in ((40, 48), (23, 28), (5, 6))]
    pairs[2][0][1:3, 1:3] = np.nan
    expected = [ddfnet.upsample_depth(*pair, network=network, confidence=True) for pair in pairs]
    torch.set_default_dtype(torch.float64)
    try:
        found = [ddfnet.upsample_depth(*pair, network=network, confidence=True) for pair in pairs]
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_confidence(network: ConvexUpNet) -> None:
    """1 on a plain surface, less at a step; and 1 at known point samples, which mix nothing."""
    _, rgb = scene((9, 12), (72, 96))
    depth = np.ones((9, 12), np.float32)
    depth[:, 6:] = 2
    full, confidence = ddfnet.upsample_depth(depth, rgb, network=network, samples="point", confidence=True)
    np.testing.assert_array_equal(full, ddfnet.upsample_depth(depth, rgb, network=network, samples="point"))
    assert 0 <= confidence.min() < 0.5
    assert confidence[:, :32].min() > 0.999
    assert confidence[:, 72:].min() > 0.999
    assert confidence[3::8, 3::8].min() > 0.999
    mixed = (full > 1.2) & (full < 1.8)
    assert mixed.any()
    assert confidence[mixed].max() < 0.25  # of two values with a weight of at least 0.2
    batch = ddfnet.upsample_depth(depth[None, None], rgb, network=network, samples="point", confidence=True)
    np.testing.assert_array_equal(batch, np.stack([full, confidence])[:, None, None])


def test_kinds_and_dtypes(network: ConvexUpNet) -> None:
    depth, rgb = scene((5, 6), (40, 48))
    expected = ddfnet.upsample_depth(depth, rgb, network=network)
    assert isinstance(expected, np.ndarray)
    assert expected.dtype == np.float32
    for made, dtype in ((np.float16, np.float16), (np.float64, np.float64), (np.dtype(">f4"), np.float32)):
        result = ddfnet.upsample_depth(depth.astype(made), rgb, network=network)
        assert result.dtype == dtype
        np.testing.assert_allclose(
            result, expected, rtol=4 * float(np.finfo(np.float16 if made == np.float16 else "f4").eps)
        )
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        tensor = torch.from_numpy(depth).to(dtype).requires_grad_()
        result = ddfnet.upsample_depth(tensor, torch.from_numpy(rgb), network=network)
        assert isinstance(result, torch.Tensor)
        assert (result.dtype, result.shape, result.requires_grad) == (dtype, (40, 48), False)
    assert torch.equal(ddfnet.upsample_depth(torch.from_numpy(depth), rgb, network=network), torch.from_numpy(expected))
    millimetres = np.round(1000 * depth).astype(np.uint16)
    from_integers = ddfnet.upsample_depth(millimetres, rgb, network=network)
    assert from_integers.dtype == np.float32
    assert np.array_equal(from_integers, ddfnet.upsample_depth(millimetres.astype(np.float32), rgb, network=network))


def test_views_and_read_only_arrays(network: ConvexUpNet, recwarn: pytest.WarningsRecorder) -> None:
    depth, rgb = scene((5, 6), (40, 48))
    expected = ddfnet.upsample_depth(depth[:, ::-1].copy(), rgb[:, ::-1].copy(), network=network)
    depth.flags.writeable = rgb.flags.writeable = False
    assert np.array_equal(ddfnet.upsample_depth(depth[:, ::-1], rgb[:, ::-1], network=network), expected)
    assert not recwarn


def test_what_was_given_is_left_as_it_was(network: ConvexUpNet) -> None:
    depth, rgb = scene((5, 6), (40, 48))
    depth[0, 0] = np.nan
    before = depth.copy(), rgb.copy()
    network.train()
    ddfnet.upsample_depth(depth, rgb, network=network)
    assert np.array_equal(depth, before[0], equal_nan=True)
    assert np.array_equal(rgb, before[1])
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("value", [2.5, 0.1, 65535.0])
def test_a_constant_map_stays_one(network: ConvexUpNet, value: float) -> None:
    depth = np.full((5, 6), np.float32(value), dtype=np.float64)
    depth[1:3] = np.nan
    result = ddfnet.upsample_depth(depth, np.zeros((40, 48, 3), np.uint8), network=network)
    assert np.array_equal(result, np.full((40, 48), np.float32(value)))
    result[0, 0] = 0  # its pixels are its own
    assert result[0, 1] == np.float32(value)


def test_one_pixel(network: ConvexUpNet) -> None:
    result = ddfnet.upsample_depth(np.ones((1, 1)), np.zeros((8, 7, 3), np.uint8), network=network)
    assert np.array_equal(result, np.ones((8, 7)))


def test_at_ratio_1_only_unknown_pixels_change(network: ConvexUpNet) -> None:
    depth, rgb = scene((9, 12), (9, 12))
    assert np.array_equal(ddfnet.upsample_depth(depth, rgb, network=network), depth)
    holed = depth.copy()
    holed[3:5, 3:5] = 0
    result = ddfnet.upsample_depth(holed, rgb, network=network)
    assert np.array_equal(result[holed != 0], depth[holed != 0])
    assert (result > 0).all()
    other = ddfnet.upsample_depth(holed, np.roll(rgb, 1, 0), network=network)
    assert not np.array_equal(result, other)  # the image is looked at


@pytest.mark.parametrize("size", [(13, 18), (22, 31), (45, 60), (72, 96), (99, 132), (300, 402)])
@pytest.mark.parametrize("samples", ["point", "average"])
def test_a_plane_stays_where_it_is(
    weights: ConvexUpNet, size: tuple[int, int], samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a tenth of an image pixel, away from the border, by a network that interpolates.

    Above 32x, in two steps, within a 64th of the samples' distance: the second step bends what is between the first one's.
    """
    monkeypatch.setattr(convex_up_net, "FLOOR", 1e-6)
    for module in (weights.head, *weights.fill, weights.embed):
        torch.nn.init.zeros_(module.weight)
        torch.nn.init.zeros_(module.bias)
    convex_up_net.save(weights, convex_up_net.WEIGHTS, dtype=torch.float32)
    low = (9, 12)
    rows, columns = np.meshgrid(*(np.arange(1.0, length + 1) for length in low), indexing="ij")
    for plane, axis in ((rows, 0), (columns, 1)):
        result = ddfnet.upsample_depth(plane, np.zeros((*size, 3), np.uint8), samples=samples)
        ratio = size[axis] / low[axis]
        first = 3 if size == (72, 96) and samples == "point" else (ratio - 1) / 2
        expected = (np.arange(size[axis]) - first) / ratio + 1
        border = int(2 * ratio)
        difference = ratio * (np.moveaxis(result, axis, -1) - expected)
        assert np.abs(difference[:, border:-border]).max() < (0.1 if ratio <= 32 else ratio / 64)


def test_bicubic_has_the_same_positions() -> None:
    """On a plane it is exact; point sample i lies on image pixel 8i + 3 at 8x, an average in the middle of its part."""
    plane = torch.arange(1.0, 13, dtype=torch.float64).expand(9, 12)
    exact = bicubic_depth(plane, (72, 96), samples="point")[20]
    torch.testing.assert_close(exact[16:80], (torch.arange(16, 80, dtype=torch.float64) - 3) / 8 + 1)
    exact = bicubic_depth(plane, (72, 96))[20]
    torch.testing.assert_close(exact[16:80], (torch.arange(16, 80, dtype=torch.float64) - 3.5) / 8 + 1)
    between = bicubic_depth(plane, (23, 30), samples="point")[10]
    torch.testing.assert_close(between[5:25], (torch.arange(5, 25, dtype=torch.float64) + 0.5) / 2.5 + 0.5)


def test_above_32_in_two_steps(network: ConvexUpNet) -> None:
    depth, rgb = scene((3, 4), (127, 170))
    told: list[tuple[int, int]] = []
    result = ddfnet.upsample_depth(depth, rgb, network=network, progress=lambda done, total: told.append((done, total)))
    assert result.shape == (127, 170)
    spread = np.ptp(depth)
    assert depth.min() - spread <= result.min() <= result.max() <= depth.max() + spread
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize("size", [(384, 496), pytest.param((374, 490), marks=pytest.mark.release)])
def test_the_result_does_not_depend_on_the_tile(small: ConvexUpNet, size: tuple[int, int]) -> None:
    """To 64 ulp of the depths, at 8x and between two powers of two."""
    depth, rgb = scene((48, 62), size)
    depth[5:9, 10:15] = np.nan
    least = 2 * (small.reach + small.stride) + small.stride
    whole = ddfnet.upsample_depth(depth, rgb, network=small, confidence=True)
    told: list[tuple[int, int]] = []
    tiled = ddfnet.upsample_depth(
        depth, rgb, network=small, tile=least + 16, confidence=True, progress=lambda *done: told.append(done)
    )
    assert len(told) >= 4
    assert np.abs(whole - tiled)[0].max() <= 64 * np.finfo(np.float32).eps * np.nanmax(depth)
    assert np.abs(whole - tiled)[1].max() <= 1e-3


def test_without_weights_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convex_up_net, "WEIGHTS", tmp_path / "absent.safetensors")
    upsample._shipped.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"absent\.safetensors: no such file"):
        ddfnet.upsample_depth(*scene((9, 12), (36, 48)))


def test_weights_are_read_once(weights: ConvexUpNet, monkeypatch: pytest.MonkeyPatch) -> None:
    depth, rgb = scene((5, 6), (40, 48))
    expected = ddfnet.upsample_depth(depth, rgb)
    convex_up_net.WEIGHTS.unlink()
    assert np.array_equal(ddfnet.upsample_depth(depth, rgb), expected)
    np.testing.assert_allclose(ddfnet.upsample_depth(depth, rgb, network=weights), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("low", "size", "message"),
    [
        ((9, 12), (72, 72), "rgb: expected the aspect of the depth map, got 9x12 and 72x72, ratios of 8 and 6"),
        ((9, 12), (48, 36), "rgb: expected the aspect of the depth map, got 9x12 and 48x36, ratios of 5.333 and 3"),
        ((100, 100), (800, 780), "rgb: expected the aspect of the depth map"),
        ((9, 12), (8, 12), "rgb: expected an image at least as large as the depth map, got 9x12 and 8x12"),
    ],
)
def test_sizes_that_do_not_fit(network: ConvexUpNet, low: Any, size: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ddfnet.upsample_depth(*scene(low, size), network=network)


def test_errors(network: ConvexUpNet) -> None:
    depth, rgb = scene((5, 6), (40, 48))

    def call(depth: Any, rgb: Any, **options: Any) -> None:
        ddfnet.upsample_depth(depth, rgb, network=network, **options)

    with pytest.raises(
        ValueError, match="depth: expected at least one known pixel, got only unknown ones: NaN, inf, 0"
    ):
        call(np.array([[0, np.nan, np.inf]]), np.zeros((8, 24, 3), np.uint8))
    with pytest.raises(TypeError, match="depth: expected a NumPy array, a tensor or a PIL image, got list"):
        call([[1.0]], rgb)
    for values in (depth > 2, depth.astype(complex), depth.astype(str)):
        with pytest.raises(TypeError, match="depth: expected a floating or integer dtype, got "):
            call(values, rgb)
    with pytest.raises(TypeError, match=r"depth: expected a floating or integer dtype, got torch\.bool"):
        call(torch.ones(5, 6, dtype=torch.bool), rgb)
    with pytest.raises(ValueError, match=r"depth: expected \(h, w\), .* or \(B, 1, h, w\), got \(1, 2, 5, 6\)"):
        call(np.stack([depth, depth])[None], rgb)
    for image in (rgb[..., 0], rgb[:, :, :2], rgb[None, None]):
        with pytest.raises(ValueError, match=r"rgb: expected \(H, W, 3\), \(3, H, W\), "):
            call(depth, image)
    with pytest.raises(TypeError, match=r"rgb: expected uint8, or floats in 0 to 1, got torch\.int32"):
        call(depth, rgb.astype(np.int32))
    with pytest.raises(ValueError, match=f"tile: expected at least {2 * HALO + 32} pixels, got 64"):
        call(depth, rgb, tile=64)
    with pytest.raises(ValueError, match="samples: expected 'point' or 'average', got 'middle'"):
        call(depth, rgb, samples="middle")
    for marks in ("65535", None, [None, 1.0]):
        with pytest.raises(TypeError, match="unknown: expected a number or a sequence of numbers, got "):
            call(depth, rgb, unknown=marks)


def test_networks_that_do_not_fit() -> None:
    depth, rgb = scene((9, 12), (36, 48))
    with pytest.raises(
        TypeError, match="network: expected a ConvexUpNet, got Linear without reach, stride, statistics"
    ):
        ddfnet.upsample_depth(depth, rgb, network=torch.nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"network: expected weights in float32, got torch\.bfloat16"):
        ddfnet.upsample_depth(depth, rgb, network=ConvexUpNet().bfloat16())


def test_a_range_beyond_float64(network: ConvexUpNet) -> None:
    depth, rgb = np.array([[-1e308, -5e307], [1.0, 1e308]]), np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match=r"depth: expected a range that float64 holds, got -1e\+308 to 1e\+308"):
        ddfnet.upsample_depth(depth, rgb, network=network)


def test_a_masked_photograph(network: ConvexUpNet) -> None:
    depth, rgb = scene((9, 12), (72, 96))
    masked = np.ma.masked_less(rgb, 9)
    assert np.array_equal(
        ddfnet.upsample_depth(depth, masked, network=network), ddfnet.upsample_depth(depth, rgb, network=network)
    )
