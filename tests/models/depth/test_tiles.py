"""Windows give the network's result on the whole image, whatever their size and the ratio; and where pixels lie."""

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ddfnet.models.depth.grid import Axis, interpolate
from ddfnet.models.depth.joint_upsampling import DDFUpNet, JointUpsampler, PacJointUpsample
from ddfnet.models.depth.tiles import reach_of, upsample_tiled

EPS = torch.finfo(torch.float32).eps


def inputs(low: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Depth and image that get rougher to the right, so that the averages of windows differ from the image's."""
    generator = torch.Generator().manual_seed(0)
    depth = 0.5 + (torch.rand(*low, generator=generator) - 0.5) * torch.linspace(0, 1, low[1])
    rgb = 128 + 254 * (torch.rand(*size, 3, generator=generator) - 0.5) * torch.linspace(0, 1, size[1])[:, None]
    return depth, rgb.to(torch.uint8)


def sensitive(network: JointUpsampler) -> JointUpsampler:
    """The network with activations that do not fade, and with channel filters that follow the pooled features alone."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.normal_(module.bias, std=0.0 if "channel_branch" in name else 0.3)
    return network.eval()


def test_at_the_networks_own_sizes_it_is_the_network() -> None:
    torch.manual_seed(0)
    network = DDFUpNet(4)
    depth, rgb = inputs((9, 12), (35, 47))
    with torch.no_grad():
        expected = network.eval()(depth[None, None], rgb.permute(2, 0, 1)[None] / 255)[0, 0]
    torch.testing.assert_close(upsample_tiled(network, depth, rgb, tile=76), expected)


@pytest.mark.parametrize(
    ("network", "low", "size"),
    [
        (lambda: DDFUpNet(4), (26, 33), (104, 132)),
        (lambda: DDFUpNet(4), (26, 33), (102, 129)),  # not multiples of 4
        (lambda: DDFUpNet(4), (26, 33), (65, 82)),  # 2.5x
        (lambda: DDFUpNet(4), (26, 33), (107, 132)),  # rounded down to the depth's rows
        (lambda: DDFUpNet(8, residual=True), (20, 23), (160, 181)),
        (lambda: PacJointUpsample(4, residual=True), (21, 24), (84, 96)),
    ],
)
def test_windows_leave_no_seam(network: Any, low: tuple[int, int], size: tuple[int, int]) -> None:
    """To 16 ulp of the largest value; a window with averages of its own is off by a thousand times as much."""
    torch.manual_seed(0)
    network = sensitive(network())
    depth, rgb = inputs(low, size)
    whole = upsample_tiled(network, depth, rgb, tile=10_000)
    bound = 16 * EPS * float(whole.abs().max())
    smallest = network.scale_factor * (2 * reach_of(network) + 1)
    tiled = upsample_tiled(network, depth, rgb, tile=smallest + 8 * network.scale_factor + 1)
    assert (tiled - whole).abs().max() <= bound
    if isinstance(network, DDFUpNet) and size[0] == network.scale_factor * low[0]:
        reach = reach_of(network)
        left = upsample_tiled(network, depth[:, : reach + 3], rgb[:, : network.scale_factor * (reach + 3)], tile=10_000)
        inner = 3 * network.scale_factor  # beyond the reach of the cut
        assert (left - whole[:, : left.shape[1]])[:, :inner].abs().max() > 1000 * bound


@pytest.mark.parametrize(
    ("make", "factor"),
    [
        (partial(DDFUpNet, backend="reference"), 2),
        (partial(DDFUpNet, backend="reference", kernel_size=5), 2),
        (PacJointUpsample, 2),
    ],
)
def test_reach_is_what_an_output_pixel_sees(make: Any, factor: int) -> None:
    """What lies beyond it has no gradient; a depth pixel less, and something has: windows overlap no more than they must."""
    torch.manual_seed(0)
    network = make(factor, residual=True).double().eval()
    for module in network.modules():
        if isinstance(module, nn.AdaptiveAvgPool2d):
            module.register_forward_hook(lambda module, args, output: output.detach())
    reach = reach_of(network)
    side = 2 * reach + 5
    for pixel in (side // 2 * factor, side // 2 * factor + factor - 1):
        seen = torch.zeros(side, dtype=torch.float64)
        for _ in range(3):  # ReLUs are shut at some inputs
            depth = torch.rand(1, 1, side, side, dtype=torch.float64, requires_grad=True)
            rgb = torch.rand(1, 3, side * factor, side * factor, dtype=torch.float64)
            (grad,) = torch.autograd.grad(network(depth, rgb)[0, 0, pixel, pixel], depth)
            seen += grad[0, 0].abs().amax(1) + grad[0, 0].abs().amax(0)
        distance = (seen.nonzero() - side // 2).abs().max()
        assert reach - 1 <= distance <= reach


def test_windows_are_no_larger_than_the_tile_and_progress_tells_of_each() -> None:
    torch.manual_seed(0)
    network = DDFUpNet(4)
    sizes, told = [], []
    network.guidance_encoder.register_forward_pre_hook(lambda module, args: sizes.append(tuple(args[0].shape[2:])))
    depth, rgb = inputs((26, 33), (104, 132))
    upsample_tiled(network, depth, rgb, tile=103, progress=lambda done, total: told.append((done, total)))
    windows = 4 * 5  # of at most 25 depth pixels, of which 9 at each end are not kept
    assert max(max(size) for size in sizes) <= 100
    assert told == [(done, 3 * windows) for done in range(1, 3 * windows + 1)]  # a pass a stage, and one to the end
    assert not any(module._forward_hooks for module in network.modules())
    assert network.training
    with pytest.raises(ValueError, match="tile: expected at least 76 pixels at 4x, got 75"):
        upsample_tiled(network, depth, rgb, tile=75)


@given(st.integers(1, 60), st.integers(1, 300), st.sampled_from([2, 4, 8, 16]), st.integers(0, 4), st.integers(1, 20))
def test_parts_cover_a_side_once(low: int, length: int, factor: int, reach: int, inner: int) -> None:
    axis = Axis(low, length, factor)
    parts = axis.parts(2 * reach + inner, reach)
    for name, end in (("inner", low), ("image", length)):
        edges = [(getattr(part, f"{name}_start"), getattr(part, f"{name}_stop")) for part in parts]
        assert [edge[0] for edge in edges] == [0, *(edge[1] for edge in edges[:-1])]
        assert edges[-1][1] == end
    for part in parts:
        assert part.stop - part.start <= max(2 * reach + inner, 1)
        assert part.start == max(0, part.inner_start - reach)
        assert part.stop == min(low, part.inner_stop + reach)
        pixels = axis.network_positions(part.image_start, part.image_stop)
        assert ((pixels >= factor * part.inner_start) & (pixels < factor * part.inner_stop)).all()


def test_positions_of_the_training_protocol() -> None:
    """PAC-Net's: depth pixel i on image pixel 8i + 3."""
    axis = Axis(5, 37, 8)
    assert axis.exact
    assert axis.depth_positions(0, 37)[3::8].tolist() == [0, 1, 2, 3, 4]
    assert axis.image_positions(0, 40).tolist() == [*range(37), 36, 36, 36]


@pytest.mark.parametrize(("low", "length", "factor"), [(10, 25, 4), (10, 65, 8), (9, 9, 4), (93, 375, 4)])
def test_positions_of_other_ratios(low: int, length: int, factor: int) -> None:
    """The middle of depth pixel i is that of the i-th equal part of the image, and the networks' pixels agree with it."""
    axis = Axis(low, length, factor)
    assert not axis.exact
    middle = (torch.arange(low, dtype=torch.float64) + 0.5) * length / low - 0.5  # in image pixels
    in_image = axis.image_positions(0, low * factor)[(factor - 1) // 2 :: factor]
    torch.testing.assert_close(in_image, middle)
    back = axis.depth_positions(0, length)
    expected = ((torch.arange(length, dtype=torch.float64) + 0.5) * low / length - 0.5).clamp(0, low - 1)
    inside = (back > 0) & (back < low - 1)
    torch.testing.assert_close(back[inside], expected[inside])


def test_interpolation() -> None:
    """Linear: planes, the cubic kernel: parabolas are met exactly; and at whole positions both are the map itself."""
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (8, 9)), indexing="ij")
    at = torch.tensor([1.0, 2.25, 3.5, 5.75], dtype=torch.float64)
    plane, parabola = 2 * rows - columns, rows.square() - rows * columns
    torch.testing.assert_close(interpolate(plane, at, at), 2 * at[:, None] - at)
    torch.testing.assert_close(interpolate(parabola, at, at, cubic=True), at.square()[:, None] - at[:, None] * at)
    x = torch.randn(3, 8, 9)
    for cubic in (False, True):
        whole = torch.arange(2, 7, dtype=torch.float64)
        assert torch.equal(interpolate(x, whole, whole, cubic=cubic), x[:, 2:7, 2:7])
        beyond = interpolate(x, torch.tensor([-1.0, 9.0], dtype=torch.float64), whole, cubic=cubic)
        torch.testing.assert_close(beyond, x[:, [0, 7], 2:7])
