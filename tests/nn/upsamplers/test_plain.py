"""The plain upsamplers against their definitions, the contract that all share, and Table 6's cost of each."""

from functools import partial
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ddfnet.models.complexity import complexity
from ddfnet.nn.upsamplers.contract import Upsampler, shuffle_phases
from ddfnet.nn.upsamplers.plain import Name, upsample_layer

NAMES = get_args(Name)
# What each is called with where its kernels' own tests are not meant: numba's take seconds to compile.
PLAIN: dict[str, dict[str, Any]] = {"ddf": {"backend": "torch"}, "carafe": {"backend": "torch"}}


def make(name: Any, channels: int, scale_factor: int = 2, **options: Any) -> nn.Module:
    return upsample_layer(name, channels, scale_factor, **PLAIN.get(name, {}), **options)


@pytest.mark.parametrize("scale_factor", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_one_contract(name: Any, scale_factor: int) -> None:
    r = scale_factor
    layer = make(name, 8, r)
    assert isinstance(layer, Upsampler)
    assert (layer.channels, layer.scale_factor, layer.guide_channels) == (8, r, None)
    for height, width in ((3, 4), (1, 1)):
        x = torch.randn(2, 8, height, width, requires_grad=True)
        y = layer(x)
        assert y.shape == (2, 8, r * height, r * width)
        assert y.dtype == x.dtype
        size = (r * (height - 1) + 1, r * width)
        assert layer(x, size=size).shape == (2, 8, *size)
        grads = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
        assert all(torch.isfinite(grad).all() for grad in grads)
    if name not in ("nearest", "bilinear"):  # which are drawn to any size, as in torchvision's pyramid
        assert torch.equal(layer(x, size=size), y[:, :, : size[0], : size[1]])
        with pytest.raises(ValueError, match="size: expected a height of"):
            layer(x, size=(r + 1, 1))
    with pytest.raises(ValueError, match=r"x: expected \(B, 8, H, W\), got \(2, 7, 3, 4\)"):
        layer(torch.ones(2, 7, 3, 4))
    with pytest.raises(ValueError, match="guide: expected None"):
        layer(x, x)
    with pytest.raises(ValueError, match="scale_factor: expected an int >= 1, got 0"):
        make(name, 8, 0)


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_half_types_and_meta(name: Any) -> None:
    torch.manual_seed(0)
    layer, x = make(name, 8), torch.randn(2, 8, 5, 6)
    y = layer(x)
    torch.testing.assert_close(layer(x.contiguous(memory_format=torch.channels_last)), y)
    with torch.autocast("cpu", torch.bfloat16):
        low = layer(x)
    assert (low.float() - y).norm() < 0.05 * y.norm()
    for dtype in (torch.float64, torch.bfloat16):
        again = make(name, 8, dtype=dtype)
        assert {p.dtype for p in again.parameters()} <= {dtype}
        assert again(x.to(dtype)).dtype == dtype
    meta = make(name, 8, device="meta")
    assert meta(x.to("meta")).shape == y.shape


@pytest.mark.parametrize("name", NAMES)
def test_reset_parameters_draws_what_init_draws(name: Any) -> None:
    torch.manual_seed(0)
    layer = make(name, 8)
    with torch.no_grad():
        for p in layer.parameters():
            p.fill_(7.0)
    torch.manual_seed(1)
    layer.reset_parameters()
    torch.manual_seed(1)
    again = make(name, 8, device="meta").to_empty(device="cpu")
    again.reset_parameters()
    for p, q in zip(layer.parameters(), again.parameters(), strict=True):
        assert not (p == 7).any()
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", ["carafe", "dysample"])
def test_compiles_to_one_graph(name: Any) -> None:
    torch._dynamo.reset()
    layer = make(name, 8)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=True)
    for height, width in ((5, 6), (7, 4)):
        x = torch.randn(2, 8, height, width)
        torch.testing.assert_close(
            compiled(x, size=(2 * height - 1, 2 * width)), layer(x, size=(2 * height - 1, 2 * width))
        )


def test_interpolations_are_pytorchs_at_every_size() -> None:
    x = torch.randn(2, 3, 5, 7)
    for mode in ("nearest", "bilinear"):
        layer = upsample_layer(mode, 3, 2)  # type: ignore[arg-type]
        assert torch.equal(layer(x), F.interpolate(x, scale_factor=2, mode=mode))
        assert torch.equal(layer(x, size=(9, 20)), F.interpolate(x, size=(9, 20), mode=mode))
        assert not list(layer.parameters())


@pytest.mark.parametrize("r", [1, 2, 3])
def test_deconv_by_its_definition(r: int) -> None:
    """Every pixel of x adds its weighted 3x3 stencil around output pixel (r*p, r*q)."""
    layer, x = upsample_layer("deconv", 3, r).double(), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    weight, bias = layer.state_dict().values()  # (in, out, 3, 3), (out,)
    expected = torch.zeros(2, 3, 4 * r + 2, 5 * r + 2, dtype=torch.float64)
    for p in range(4):
        for q in range(5):
            expected[:, :, r * p : r * p + 3, r * q : r * q + 3] += torch.einsum("bi,iouv->bouv", x[:, :, p, q], weight)
    expected = expected[:, :, 1 : 4 * r + 1, 1 : 5 * r + 1] + bias[:, None, None]
    torch.testing.assert_close(layer(x), expected)


def test_pixel_shuffle_by_its_definition() -> None:
    """Output pixel (r*p + i, r*q + j) of channel c is channel c*r*r + i*r + j of the convolution at (p, q)."""
    layer, x = upsample_layer("pixel_shuffle", 3, 2).double(), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    wide = F.conv2d(x, *layer.state_dict().values(), padding=1)
    y = layer(x)
    for i in range(2):
        for j in range(2):
            torch.testing.assert_close(y[:, :, i::2, j::2], wide[:, i * 2 + j :: 4])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_shuffle_phases_is_pixel_shuffle_with_the_channels_in_the_other_order(
    memory_format: torch.memory_format,
) -> None:
    x = torch.randn(2, 9 * 5, 3, 4).contiguous(memory_format=memory_format)
    y = shuffle_phases(x, 3, x)
    assert y.is_contiguous(memory_format=memory_format)
    by_channel = x.unflatten(1, (9, 5)).transpose(1, 2).flatten(1, 2)
    assert torch.equal(y, F.pixel_shuffle(by_channel, 3))


def test_by_function_and_by_unknown_name() -> None:
    made = upsample_layer(partial(upsample_layer, "carafe", kernel_size=3), 4, 2)
    assert made(torch.randn(1, 4, 3, 3)).shape == (1, 4, 6, 6)
    with pytest.raises(ValueError, match=r"upsample: expected 'ddf', 'nearest', .* or a function, got 'bicubic'"):
        upsample_layer("bicubic", 4)  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError):
        Upsampler(4)(torch.ones(1, 4, 2, 2))


# Table 6: three levels of an 800 x 1280 image's pyramid, 256 channels, each upsampled twice: n = 21,000 pixels.
LEVELS = ((25, 40), (50, 80), (100, 160))
N, C, K = 21_000, 256, 9
CHANNEL_BRANCH = 51 * C + 51 * 4 * C * K  # once a level: squeeze to int(0.2 * 256) = 51, then the four operations' taps
MULTIPLY_ADDS = {
    "nearest": 0,
    "bilinear": 0,  # the paper's 0.02B is one an element of the output, interpolation counted by elements
    "deconv": N * C * C * 9,
    "pixel_shuffle": N * C * 4 * C * 9,
    "carafe": N * (C * 64 + 64 * 9 * 100 + 4 * C * 25),
    # A 3x3 depthwise convolution and a 1x1 to K taps for each of the four operations, and one a tap applied: 3 * 9,216. One
    # depthwise convolution that all four shared would give 0.44B: the paper's 0.58B is that of four.
    "ddf": N * (4 * C * 9 + 4 * C * K + 4 * C * K) + 3 * CHANNEL_BRANCH,
    "dysample": N * (2 * C * 2 * 4 * 4),  # offsets and scope; grid_sample is no multiply-add to the counter
}
PUBLISHED = {"nearest": 0.0, "deconv": 12.39, "pixel_shuffle": 49.55, "carafe": 2.09, "ddf": 0.58}


@pytest.mark.parametrize("name", NAMES)
def test_table_6(name: Any) -> None:
    """In 10^9 as PAPER.md's note has them at three levels.

    The paper mixes: its DDF-Up figure is that of three levels; pixel shuffle's 50.18 and CARAFE's 2.12 to 2.14 are of four,
    with one of 13 x 20 pixels more, and with biases and interpolated elements counted too.
    """
    layer = upsample_layer(name, C, 2, device="meta")
    total = sum(complexity(layer, (1, C, *size)).multiply_adds for size in LEVELS)
    assert total == MULTIPLY_ADDS[name]
    if name in PUBLISHED:
        assert round(total / 1e9, 2) == PUBLISHED[name]
    fourth = complexity(layer, (1, C, 13, 20)).multiply_adds
    elements = 4 * C * (N + 13 * 20)  # of the output at four levels
    if name == "pixel_shuffle":
        assert round((total + fourth + elements) / 1e9, 2) == 50.18  # the bias's additions
    if name == "carafe":
        assert round((total + fourth) / 1e9, 2) == 2.12
        assert round((total + fourth + elements) / 1e9, 2) == 2.14
    if name == "bilinear":
        assert round(elements / 1e9, 2) == 0.02
