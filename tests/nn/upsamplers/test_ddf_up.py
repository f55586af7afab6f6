"""`DDFUp` against a plain definition of Fig. 5, its guides, and every option of it."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.ops.ddf.backends import BACKENDS
from torch import Tensor

from ddfnet import DDFUp


def normalised(raw: Tensor) -> Tensor:
    """Over dimension 2."""
    return (raw - raw.mean(2, keepdim=True)) / (raw.std(2, keepdim=True) + 1e-10)


def figure_5(layer: DDFUp, x: Tensor, guide: Tensor | None) -> Tensor:
    """r*r DDF operations from the layer's weights in float64, one after the other, with unfolded patches.

    `guide` has x's size or, with guide_scale r, the output's.
    """
    state = {name: value.double() for name, value in layer.state_dict().items()}
    r, k, heads, (batch, channels, height, width) = layer.scale_factor, layer.kernel_size, layer.heads, x.shape
    padding, taps = k // 2 * layer.dilation, k * k
    patches = F.unfold(x, k, dilation=layer.dilation, padding=padding).reshape(batch, channels, taps, height, width)
    squeezed = F.conv2d(x.mean((2, 3), keepdim=True), *(state[f"channel_branch.1.{n}"] for n in ("weight", "bias")))
    all_channel = F.conv2d(squeezed.relu(), *(state[f"channel_branch.3.{n}"] for n in ("weight", "bias")))
    y = x.new_zeros(batch, channels, r * height, r * width)
    for i in range(r):
        for j in range(r):
            operation = i * r + j
            of_channels = slice(operation * channels * taps, (operation + 1) * channels * taps)
            channel = normalised(all_channel[:, of_channels].reshape(batch, channels, taps))
            channel = channel * state["channel_branch.4.std"][of_channels].reshape(channels, taps)
            own = slice(operation * heads * taps, (operation + 1) * heads * taps)
            if guide is None:
                depthwise = state["spatial_branch.0.guidance.weight"][operation * channels : (operation + 1) * channels]
                guidance = F.conv2d(x, depthwise, padding=1, groups=channels)
                weight, bias = (state[f"spatial_branch.0.predict.{n}"][own] for n in ("weight", "bias"))
            else:
                weight, bias = state["spatial_branch.0.weight"], state["spatial_branch.0.bias"]
                guidance = guide
                if layer.guide_scale == 1:
                    weight, bias = weight[own], bias[own]
                else:
                    guidance = guide[:, :, i::r, j::r]
            spatial = F.conv2d(guidance, weight, bias).reshape(batch, heads, taps, height, width)
            spatial = (normalised(spatial) / k).repeat_interleave(channels // heads, dim=1)
            channel = channel[..., None, None]
            filters = channel * spatial if layer.combine == "mul" else channel + spatial
            y[:, :, i::r, j::r] = (filters * patches).sum(2)
    return y


OPTIONS: list[dict[str, Any]] = [
    {},
    {"scale_factor": 1},
    {"scale_factor": 3, "heads": 2, "combine": "add"},
    {"kernel_size": 5, "dilation": 2},
    {"guide_channels": 5},
    {"guide_channels": 5, "guide_scale": 2, "heads": 4},
    {"scale_factor": 4, "guide_channels": 3, "guide_scale": 4},
    {"scale_factor": 3, "guide_channels": 3, "heads": 2, "kernel_size": 5, "squeeze_ratio": 0.5},
]
MEMORY_FORMATS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}


def guide_for(layer: DDFUp, x: Tensor) -> Tensor | None:
    if layer.guide_channels is None:
        return None
    size = [layer.guide_scale * length for length in x.shape[2:]]
    return torch.randn(x.shape[0], layer.guide_channels, *size, dtype=x.dtype)


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_figure_5(options: dict[str, Any], memory_format: str) -> None:
    torch.manual_seed(0)
    layer = DDFUp(8, **options, backend="torch")
    wide = DDFUp(8, **options, dtype=torch.float64, backend="torch")
    wide.load_state_dict(layer.state_dict())
    for size in ((5, 7), (4, 3), (1, 1)):
        x = torch.randn(2, 8, *size).to(memory_format=MEMORY_FORMATS[memory_format])
        guide = guide_for(layer, x)
        expected = figure_5(layer, x.double(), None if guide is None else guide.double())
        y = layer(x, guide)
        assert y.shape == (2, 8, layer.scale_factor * size[0], layer.scale_factor * size[1])
        assert y.is_contiguous(memory_format=MEMORY_FORMATS[memory_format])
        torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(wide(x.double(), None if guide is None else guide.double()), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends(backend: Any) -> None:
    layer, plain = DDFUp(8, heads=2, backend=backend), DDFUp(8, heads=2, backend="reference")
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, 8, 5, 6)
    torch.testing.assert_close(layer(x), plain(x))


@pytest.mark.parametrize("guide_scale", [1, 3])
def test_a_guide_of_any_size_is_resized(guide_scale: int) -> None:
    layer = DDFUp(4, 3, guide_channels=2, guide_scale=guide_scale, backend="torch").double()
    x = torch.randn(2, 4, 4, 5, dtype=torch.float64)
    size = (4 * guide_scale, 5 * guide_scale)
    for given in ((4, 5), (12, 15), (7, 30), (1, 1)):
        guide = torch.randn(2, 2, *given, dtype=torch.float64)
        resized = F.interpolate(guide, size=size, mode="bilinear", align_corners=False, antialias=True)
        torch.testing.assert_close(layer(x, guide), layer(x, resized), rtol=0, atol=0)
    # A flat guide is flat at every size: the filters of all pixels are those of one pixel.
    flat = torch.randn(2, 2, 1, 1, dtype=torch.float64)
    _, filters = layer.filters(x, flat.expand(-1, -1, 7, 9))
    assert filters is not None
    if guide_scale == 3:
        torch.testing.assert_close(filters, filters[..., :1, :1].expand_as(filters))


def test_the_guide_decides_the_filters_and_gets_gradients() -> None:
    layer = DDFUp(4, guide_channels=2, guide_scale=2, backend="torch").double()
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    guide = torch.randn(1, 2, 10, 10, dtype=torch.float64, requires_grad=True)
    y = layer(x, guide)
    (grad,) = torch.autograd.grad(y[0, :, 3, 8].sum(), guide)
    assert grad[0, :, 3, 8].abs().sum() > 0
    assert grad.count_nonzero() == 2  # each output pixel's filter comes from its own guide pixel


def test_gradients() -> None:
    layer = DDFUp(2, guide_channels=2, backend="torch").double()
    inputs = [torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda x, guide, *_: layer(x, guide), (*inputs, *layer.parameters()))


def test_size_crops_at_the_bottom_and_the_right() -> None:
    layer = DDFUp(4, 3)
    x = torch.randn(2, 4, 3, 4)
    y = layer(x)
    for size in ((9, 12), (8, 12), (7, 10)):
        assert torch.equal(layer(x, size=size), y[:, :, : size[0], : size[1]])
    assert torch.equal(layer(x, size=torch.Size([7, 11])), y[:, :, :7, :11])
    for size, message in (
        ((6, 12), "size: expected a height of 7 to 9 for 3 upsampled 3 times, got 6"),
        ((10, 12), "size: expected a height of 7 to 9 for 3 upsampled 3 times, got 10"),
        ((9, 9), "size: expected a width of 10 to 12 for 4 upsampled 3 times, got 9"),
        ((9,), r"size: expected \(height, width\), got \(9,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            layer(x, size=size)


@pytest.mark.parametrize("branches", ["both", "spatial", "channel"])
@pytest.mark.parametrize("norm", ["filter", "sigmoid", "batch", "none"])
def test_norms_and_branches(norm: Any, branches: Any) -> None:
    layer = DDFUp(6, heads=1 if branches == "channel" else 2, norm=norm, branches=branches, backend="torch").double()
    x = torch.randn(3, 6, 5, 7, dtype=torch.float64)
    channel, spatial = layer.filters(x)
    assert (channel is None) == (branches == "spatial")
    assert (spatial is None) == (branches == "channel")
    if channel is not None:
        assert channel.shape == (3, 4, 6, 3, 3)
    if spatial is not None:
        assert spatial.shape == (3, 2, 9, 10, 14)
    filters = [f for f in (channel, spatial) if f is not None]
    if norm == "filter" and spatial is not None:  # a gain of 1, and no ReLU's
        torch.testing.assert_close(spatial.std(2), torch.full_like(spatial.std(2), 1 / 3))
    if norm == "sigmoid":
        assert all(((f > 0) & (f < 1)).all() for f in filters)
    if norm == "batch":  # statistics of each operation of its own
        for f in filters:
            own = f if f is channel else torch.stack([f[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)
            dims = (0,) if f is channel else (0, 4, 5)
            torch.testing.assert_close(own.mean(dims), torch.zeros_like(own.mean(dims)), rtol=0, atol=1e-9)
    layer(x).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in layer.parameters())


def test_every_operation_has_filters_of_its_own() -> None:
    layer = DDFUp(4, backend="torch").double()
    y = layer(torch.randn(1, 4, 6, 6, dtype=torch.float64))
    phases = [y[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
    assert not any(torch.allclose(a, b) for n, a in enumerate(phases) for b in phases[n + 1 :])


def test_affine_of_the_paper() -> None:
    names = {name for name, _ in DDFUp(4, affine="paper").named_parameters()}
    affine = {f"{branch}.{name}" for branch in ("spatial_branch.1", "channel_branch.4") for name in ("alpha", "beta")}
    assert affine <= names
    assert "channel_branch.4.std" not in names


def test_empty_batch() -> None:
    for options in ({}, {"guide_channels": 3, "guide_scale": 2}):
        layer = DDFUp(4, **options, backend="torch")
        x = torch.empty(0, 4, 5, 6, requires_grad=True)
        y = layer(x, guide_for(layer, x))
        assert y.shape == (0, 4, 10, 12)
        y.sum().backward()
        assert x.grad is not None


def test_device_and_dtype() -> None:
    meta = DDFUp(8, heads=2, device="meta")
    assert {t.device.type for t in meta.state_dict().values()} == {"meta"}
    assert meta(torch.empty(2, 8, 5, 6, device="meta")).shape == (2, 8, 10, 12)
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        layer = DDFUp(8, guide_channels=2, dtype=dtype, backend="torch")
        assert {t.dtype for t in layer.parameters()} == {dtype}
        guide = torch.randn(2, 2, 17, 16).to(dtype)
        assert layer(torch.randn(2, 8, 5, 6).to(dtype), guide).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"guide_channels": 3}], ids=str)
def test_autocast(options: dict[str, Any], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = DDFUp(8, **options, backend="torch")
    x, guide = torch.randn(2, 8, 9, 7), None if not options else torch.randn(2, 3, 20, 20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x.to(dtype), guide)
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in layer.parameters())
    exact = layer(x, guide)
    assert (y.float() - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize(
    "options", [{}, pytest.param({"guide_channels": 2, "guide_scale": 2}, marks=pytest.mark.slow)], ids=str
)
def test_compiles_to_one_graph(options: dict[str, Any]) -> None:
    layer = DDFUp(4, heads=2, **options, backend="torch")
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=True)
    for height, width in ((5, 6), (7, 4), (9, 11)):
        x = torch.randn(2, 4, height, width, requires_grad=True)
        arguments = (x, guide_for(layer, x))
        with torch._dynamo.config.patch(error_on_recompile=True):
            y = compiled(*arguments, size=(2 * height - 1, 2 * width))
        expected = layer(*arguments, size=(2 * height - 1, 2 * width))
        torch.testing.assert_close(y, expected)
        (got,), (grad,) = (torch.autograd.grad(output.square().sum(), x) for output in (y, expected))
        torch.testing.assert_close(got, grad)


def test_reset_parameters() -> None:
    layer = DDFUp(8, affine="paper")
    with torch.no_grad():
        for p in layer.parameters():
            p.fill_(7.0)
    torch.manual_seed(3)
    layer.reset_parameters()
    assert not any((p == 7).any() for p in layer.parameters())
    torch.manual_seed(3)
    again = DDFUp(8, affine="paper", device="meta").to_empty(device="cpu")
    again.reset_parameters()
    assert all(torch.equal(p, q) for p, q in zip(layer.parameters(), again.parameters(), strict=True))


def test_repr_says_what_is_not_default() -> None:
    assert DDFUp(8).extra_repr() == "8, scale_factor=2"
    layer = DDFUp(8, 3, kernel_size=5, guide_channels=2, guide_scale=3, heads=4, combine="add", backend="torch")
    assert layer.extra_repr() == (
        "8, scale_factor=3, kernel_size=5, guide_channels=2, guide_scale=3, heads=4, combine='add', backend='torch'"
    )
    assert eval(f"DDFUp({layer.extra_repr()})").extra_repr() == layer.extra_repr()


def test_copies() -> None:
    layer, x = DDFUp(8, heads=2, backend="torch"), torch.randn(2, 8, 5, 6)
    stored = io.BytesIO()
    torch.save(layer.state_dict(), stored)
    stored.seek(0)
    loaded = DDFUp(8, heads=2, backend="torch")
    loaded.load_state_dict(torch.load(stored, weights_only=True))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), loaded):
        assert torch.equal(twin(x), layer(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels: expected an int >= 1, got 0"),
        ({"scale_factor": 0}, "scale_factor: expected an int >= 1, got 0"),
        ({"scale_factor": 1.5}, "scale_factor: expected an int >= 1, got 1.5"),
        ({"dilation": 0}, "dilation: expected an int >= 1, got 0"),
        ({"heads": 3}, "heads: expected a divisor of channels = 8, got 3"),
        ({"kernel_size": 4}, "kernel_size: expected an odd number, got 4"),
        ({"norm": "layer"}, "norm: expected 'filter', 'sigmoid', 'batch' or 'none', got 'layer'"),
        ({"backend": "cuda"}, "backend: expected one of"),
        ({"guide_channels": 0}, "guide_channels: expected an int >= 1, got 0"),
        ({"guide_channels": 4, "guide_scale": 3}, "guide_scale: expected 1 or scale_factor = 2, got 3"),
        ({"guide_scale": 2}, "guide_scale: expected 1, since guide_channels is None, got 2"),
        ({"guide_channels": 4, "branches": "channel"}, "guide_channels: expected None with branches='channel', got 4"),
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DDFUp(**({"channels": 8} | options))


def test_wrong_input() -> None:
    layer, guided, x = DDFUp(8), DDFUp(8, guide_channels=3), torch.ones(2, 8, 4, 4)
    for wrong in (torch.ones(2, 9, 4, 4), torch.ones(8, 4, 4)):
        with pytest.raises(ValueError, match=r"x: expected \(B, 8, H, W\), got \("):
            layer(wrong)
    with pytest.raises(
        TypeError, match=r"x: expected torch.float32, the layer's dtype, or autocast, got torch.float64"
    ):
        layer(x.double())
    with pytest.raises(ValueError, match=r"guide: expected None, since guide_channels is None, got \(2, 8, 4, 4\)"):
        layer(x, x)
    with pytest.raises(ValueError, match=r"guide: expected \(B, 3, height, width\), got None"):
        guided(x)
    for shape in ((2, 4, 4, 4), (1, 3, 4, 4), (2, 3, 4)):
        with pytest.raises(ValueError, match=r"guide: expected \(2, 3, height, width\), got \("):
            guided(x, torch.ones(shape))
    with pytest.raises(TypeError, match=r"guide: expected torch\.float32"):
        guided(x, torch.ones(2, 3, 4, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match="guide: expected the device of x, cpu, got meta"):
        guided(x, torch.ones(2, 3, 4, 4, device="meta"))
