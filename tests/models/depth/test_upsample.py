"""`upsample_depth`: any unit, kind, dtype, size and ratio; and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.depth_scene import scene

import ddfnet
from ddfnet.models.depth import joint_upsampling
from ddfnet.models.depth.joint_upsampling import DDFUpNet
from ddfnet.models.depth.upsample import bicubic_depth


@pytest.mark.parametrize("unit", [1000.0, 1 / 1024, 1e-6])
def test_the_unit_does_not_matter(network: DDFUpNet, unit: float) -> None:
    """To 8 ulp of the largest value; to a power of two, bit for bit."""
    depth, rgb = scene((9, 12), (72, 96))
    depth[2:4, 5:8] = 0
    metres = ddfnet.upsample_depth(depth, rgb, network=network)
    other = ddfnet.upsample_depth(depth * np.float32(unit), rgb, network=network)
    bound = 8 * float(np.finfo(np.float32).eps) * metres.max() * (np.log2(unit) % 1 != 0)
    assert np.abs(other / unit - metres).max() <= bound


def test_an_offset_is_kept(network: DDFUpNet) -> None:
    depth, rgb = scene((9, 12), (72, 96))
    depth = depth.astype(np.float64)
    moved = ddfnet.upsample_depth(depth + 1000, rgb, network=network)
    np.testing.assert_allclose(moved, ddfnet.upsample_depth(depth, rgb, network=network) + 1000, rtol=1e-9)


def test_it_is_the_network_between_the_least_and_the_greatest_known_value(network: DDFUpNet) -> None:
    depth, rgb = scene((9, 12), (70, 91))
    least, most = depth.min(), depth.max()
    with torch.no_grad():
        low = torch.from_numpy((depth - least) / (most - least))[None, None]
        output = network.eval()(low, torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255)[0, 0].clamp(0, 1).numpy()
    result = ddfnet.upsample_depth(depth, rgb, network=network)
    np.testing.assert_allclose(result, least + output * (most - least), rtol=1e-6)
    assert result.min() >= least
    assert result.max() <= most


def test_kinds_and_dtypes(network: DDFUpNet) -> None:
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


def test_views_and_read_only_arrays(network: DDFUpNet, recwarn: pytest.WarningsRecorder) -> None:
    depth, rgb = scene((5, 6), (40, 48))
    expected = ddfnet.upsample_depth(depth[:, ::-1].copy(), rgb[:, ::-1].copy(), network=network)
    depth.flags.writeable = rgb.flags.writeable = False
    assert np.array_equal(ddfnet.upsample_depth(depth[:, ::-1], rgb[:, ::-1], network=network), expected)
    assert not recwarn


def test_what_was_given_is_left_as_it_was(network: DDFUpNet) -> None:
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
def test_a_constant_map_stays_one(network: DDFUpNet, value: float) -> None:
    depth = np.full((5, 6), np.float32(value), dtype=np.float64)
    depth[1:3] = np.nan
    result = ddfnet.upsample_depth(depth, np.zeros((40, 48, 3), np.uint8), network=network)
    assert np.array_equal(result, np.full((40, 48), np.float32(value)))
    result[0, 0] = 0  # its pixels are its own
    assert result[0, 1] == np.float32(value)


def test_one_pixel(network: DDFUpNet) -> None:
    result = ddfnet.upsample_depth(np.ones((1, 1)), np.zeros((8, 7, 3), np.uint8), network=network)
    assert np.array_equal(result, np.ones((8, 7)))


def test_at_ratio_1_only_unknown_pixels_change() -> None:
    depth, rgb = scene((9, 12), (9, 12))
    assert np.array_equal(ddfnet.upsample_depth(depth, rgb), depth)
    holed = depth.copy()
    holed[3:5, 3:5] = 0
    result = ddfnet.upsample_depth(holed, rgb)
    assert np.array_equal(result[holed != 0], depth[holed != 0])
    assert (result > 0).all()


@pytest.mark.parametrize(
    ("size", "factor"),
    [
        ((36, 48), 4),
        ((33, 45), 4),  # rounded up to the depth's size
        ((39, 51), 4),  # rounded down to it
        ((10, 13), 4),  # 1.1x
        ((40, 53), 8),
        ((72, 96), 8),
        ((81, 108), 16),
        ((144, 190), 16),
    ],
)
def test_the_next_factor_is_taken(weights: dict[int, DDFUpNet], size: tuple[int, int], factor: int) -> None:
    depth, rgb = scene((9, 12), size)
    result = ddfnet.upsample_depth(depth, rgb)
    assert result.shape == size
    assert np.array_equal(result, ddfnet.upsample_depth(depth, rgb, network=weights[factor]))


@pytest.mark.parametrize("size", [(22, 31), (45, 60), (72, 96), (99, 132), (160, 213), (288, 384), (300, 402)])
def test_a_plane_stays_where_it_is(weights: dict[int, DDFUpNet], size: tuple[int, int]) -> None:
    """At every ratio, up to 33x, within a thirtieth of an image pixel, away from the border.

    Above 16x what is between samples bends twice. The networks add nothing here: their last layer is at zero, which leaves
    bilinear interpolation.
    """
    for factor, network in weights.items():
        torch.nn.init.zeros_(network.decoder[-1].weight)
        torch.nn.init.zeros_(network.decoder[-1].bias)
        joint_upsampling.save(network, joint_upsampling.WEIGHTS / f"ddf_up_net_x{factor}.safetensors")
    low = (9, 12)
    rows, columns = np.meshgrid(*(np.arange(1.0, length + 1) for length in low), indexing="ij")
    for plane, axis in ((rows, 0), (columns, 1)):
        result = ddfnet.upsample_depth(plane, np.zeros((*size, 3), np.uint8))
        ratio = size[axis] / low[axis]
        first = 3 if size == (72, 96) else (ratio - 1) / 2  # at 8x, by protocol pac
        expected = (np.arange(size[axis]) - first) / ratio + 1
        border = int(2 * ratio)
        difference = ratio * (np.moveaxis(result, axis, -1) - expected)
        assert np.abs(difference[:, border:-border]).max() < 1 / 30


def test_bicubic_has_the_same_positions(weights: dict[int, DDFUpNet]) -> None:
    """On a plane it is exact; at 8x depth pixel i lies on image pixel 8i + 3, at 2.5x in the middle of its part."""
    plane = torch.arange(1.0, 13, dtype=torch.float64).expand(9, 12)
    exact = bicubic_depth(plane, (72, 96))[20]
    torch.testing.assert_close(exact[16:80], (torch.arange(16, 80, dtype=torch.float64) - 3) / 8 + 1)
    between = bicubic_depth(plane, (23, 30))[10]
    torch.testing.assert_close(between[5:25], (torch.arange(5, 25, dtype=torch.float64) + 0.5) / 2.5 + 0.5)


def test_above_16_in_two_steps(weights: dict[int, DDFUpNet]) -> None:
    depth, rgb = scene((3, 4), (63, 84))
    told: list[tuple[int, int]] = []
    result = ddfnet.upsample_depth(depth, rgb, progress=lambda done, total: told.append((done, total)))
    assert result.shape == (63, 84)
    assert told == [(1, 2), (2, 2)]


def test_sizes_and_tiles(network: DDFUpNet) -> None:
    """The result does not depend on the tile: to 16 ulp of the range, as `upsample_tiled`."""
    depth, rgb = scene((24, 31), (187, 245))
    whole = ddfnet.upsample_depth(depth, rgb, network=network)
    tiled = ddfnet.upsample_depth(depth, rgb, network=network, tile=216)
    assert np.abs(whole - tiled).max() <= 16 * np.finfo(np.float32).eps * depth.max()


def test_without_weights_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint_upsampling, "WEIGHTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="no weights ship for 4"):
        ddfnet.upsample_depth(*scene((9, 12), (36, 48)))


@pytest.mark.parametrize(
    ("low", "size", "message"),
    [
        ((9, 12), (72, 72), "rgb: expected the aspect of the depth map, got 9x12 and 72x72, ratios of 8 and 6"),
        ((9, 12), (48, 36), "rgb: expected the aspect of the depth map, got 9x12 and 48x36, ratios of 5.333 and 3"),
        ((100, 100), (800, 780), "rgb: expected the aspect of the depth map"),
        ((9, 12), (8, 12), "rgb: expected an image at least as large as the depth map, got 9x12 and 8x12"),
        ((9, 12), (81, 108), "network: expected a factor of at least the ratio of the sizes, 9, got 8"),
    ],
)
def test_sizes_that_do_not_fit(network: DDFUpNet, low: Any, size: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ddfnet.upsample_depth(*scene(low, size), network=network)


def test_errors(network: DDFUpNet) -> None:
    depth, rgb = scene((5, 6), (40, 48))

    def call(depth: Any, rgb: Any, **options: Any) -> None:
        ddfnet.upsample_depth(depth, rgb, network=network, **options)

    with pytest.raises(
        ValueError, match="depth: expected at least one known pixel, got only unknown ones: NaN, inf or 0"
    ):
        call(np.array([[0, np.nan, np.inf]]), np.zeros((8, 24, 3), np.uint8))
    with pytest.raises(TypeError, match="depth: expected a NumPy array or a tensor, got list"):
        call([[1.0]], rgb)
    for values in (depth > 2, depth.astype(complex), depth.astype(str)):
        with pytest.raises(TypeError, match="depth: expected a floating or integer dtype, got "):
            call(values, rgb)
    with pytest.raises(TypeError, match=r"depth: expected a floating or integer dtype, got torch\.bool"):
        call(torch.ones(5, 6, dtype=torch.bool), rgb)
    with pytest.raises(ValueError, match=r"depth: expected \(h, w\), got \(1, 5, 6\)"):
        call(depth[None], rgb)
    with pytest.raises(ValueError, match=r"rgb: expected \(H, W, 3\), got \(40, 48\)"):
        call(depth, rgb[..., 0])
    with pytest.raises(ValueError, match=r"rgb: expected \(H, W, 3\), got \(3, 40, 48\)"):
        call(depth, rgb.transpose(2, 0, 1))
    with pytest.raises(TypeError, match=r"rgb: expected uint8, got torch\.float32"):
        call(depth, rgb.astype(np.float32))
    with pytest.raises(ValueError, match="tile: expected at least 152 pixels at 8x, got 64"):
        call(depth, rgb, tile=64)
    for marks in ("65535", None, [None, 1.0]):
        with pytest.raises(TypeError, match="unknown: expected a number or a sequence of numbers, got "):
            call(depth, rgb, unknown=marks)


def test_networks_that_do_not_fit() -> None:
    depth, rgb = scene((9, 12), (36, 48))
    with pytest.raises(TypeError, match="network: expected a DDFUpNet or PacJointUpsample, got Conv2d"):
        ddfnet.upsample_depth(depth, rgb, network=torch.nn.Conv2d(1, 1, 1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"network: expected weights in float32, got torch\.bfloat16"):
        ddfnet.upsample_depth(depth, rgb, network=DDFUpNet(4).bfloat16())


def test_a_range_beyond_float64(network: DDFUpNet) -> None:
    depth, rgb = np.array([[-1e308, -5e307], [1.0, 1e308]]), np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match=r"depth: expected a range that float64 holds, got -1e\+308 to 1e\+308"):
        ddfnet.upsample_depth(depth, rgb, network=network)


def test_a_masked_photograph(network: DDFUpNet) -> None:
    depth, rgb = scene((9, 12), (72, 96))
    masked = np.ma.masked_less(rgb, 9)
    assert np.array_equal(
        ddfnet.upsample_depth(depth, masked, network=network), ddfnet.upsample_depth(depth, rgb, network=network)
    )
