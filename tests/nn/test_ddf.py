"""`DDF`, the layer, against a plain definition of the released module, and every option of it."""

import copy
import io
import itertools
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.ops.ddf.backends import BACKENDS
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import ddfnet
from ddfnet.nn.ddf import DDF

RELEASED = {  # parameter names of the authors' checkpoints and shapes for C = 20, k = 3, sigma = 0.2, one head
    "spatial_branch.0.weight": (9, 20, 1, 1),
    "spatial_branch.0.bias": (9,),
    "channel_branch.1.weight": (4, 20, 1, 1),
    "channel_branch.1.bias": (4,),
    "channel_branch.3.weight": (180, 4, 1, 1),
    "channel_branch.3.bias": (180,),
    "channel_branch.4.std": (180,),
}


def released(
    x: Tensor, state: dict[str, Tensor], k: int, stride: int, dilation: int, heads: int, combine: str
) -> Tensor:
    """The released module from its weights, with unfolded patches."""
    batch, channels = x.shape[:2]

    def normalised(raw: Tensor) -> Tensor:  # over dimension 2
        return (raw - raw.mean(2, keepdim=True)) / (raw.std(2, keepdim=True) + 1e-10)

    spatial = F.conv2d(x, state["spatial_branch.0.weight"], state["spatial_branch.0.bias"], stride=stride)
    rows, columns = spatial.shape[2:]
    spatial = normalised(spatial.reshape(batch, heads, k * k, rows, columns)) * 2**0.5 / k

    squeezed = F.conv2d(x.mean((2, 3), keepdim=True), state["channel_branch.1.weight"], state["channel_branch.1.bias"])
    channel = F.conv2d(squeezed.relu(), state["channel_branch.3.weight"], state["channel_branch.3.bias"])
    channel = normalised(channel.reshape(batch, channels, k * k)) * state["channel_branch.4.std"].reshape(
        channels, k * k
    )

    patches = F.unfold(x, k, dilation=dilation, padding=k // 2 * dilation, stride=stride)
    patches = patches.reshape(batch, channels, k * k, rows, columns)
    channel, spatial = channel[..., None, None], spatial.repeat_interleave(channels // heads, dim=1)
    return ((channel * spatial if combine == "mul" else channel + spatial) * patches).sum(2)


OPTIONS = [
    dict(zip(("kernel_size", "stride", "dilation", "heads", "combine"), values, strict=True))
    for values in itertools.product((3, 5), (1, 2), (1, 2), (1, 4), ("mul", "add"))
]


@pytest.mark.parametrize(
    "options",
    [pytest.param(o, marks=pytest.mark.release if o["kernel_size"] == 5 else ()) for o in OPTIONS],
    ids=lambda o: "-".join(map(str, o.values())),
)
def test_equals_the_released_module(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = DDF(8, **options)
    for size in ((7, 9), (8, 6), (1, 1)):
        x = torch.randn(2, 8, *size)
        k, stride, dilation, heads, combine = options.values()
        expected = released(x.double(), {n: p.double() for n, p in layer.state_dict().items()}, k, stride, dilation,
                            heads, combine)  # fmt: skip
        y = layer(x)
        assert y.shape == (2, 8, -(-size[0] // stride), -(-size[1] // stride))
        torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-6)
        wide = DDF(8, **options, backend="torch").double()
        wide.load_state_dict(layer.state_dict())
        wide = wide(x.double())
        torch.testing.assert_close(wide, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_backends_and_memory_formats(backend: Any, memory_format: torch.memory_format) -> None:
    layer = DDF(8, heads=2, stride=2, backend=backend)
    plain = DDF(8, heads=2, stride=2, backend="reference")
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, 8, 9, 7)
    y = layer(x.to(memory_format=memory_format))
    assert y.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(y, plain(x))


def test_loads_the_authors_state_dict() -> None:
    layer = DDF(20, backend="torch")
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == RELEASED
    assert set(layer.state_dict()) == set(RELEASED)
    state = {name: torch.randn(shape, dtype=torch.float64) for name, shape in RELEASED.items()}
    layer.double().load_state_dict(state)
    x = torch.randn(2, 20, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(x), released(x, state, 3, 1, 1, 1, "mul"), rtol=1e-6, atol=1e-6)


def test_parameters_of_each_branch() -> None:
    names = lambda **options: {name for name, _ in DDF(20, **options).named_parameters()}  # noqa: E731
    spatial = {name for name in RELEASED if name.startswith("spatial")}
    assert names(branches="spatial") == spatial
    assert names(branches="channel") == set(RELEASED) - spatial
    assert names(bias=True) == set(RELEASED) | {"bias"}
    assert names(norm="sigmoid") == names(norm="none") == set(RELEASED) - {"channel_branch.4.std"}
    batch = {f"{branch}.{name}" for branch in ("spatial_branch.1", "channel_branch.4") for name in ("weight", "bias")}
    assert names(norm="batch") == set(RELEASED) - {"channel_branch.4.std"} | batch
    affine = {f"{branch}.{name}" for branch in ("spatial_branch.1", "channel_branch.4") for name in ("alpha", "beta")}
    assert names(affine="paper") == set(RELEASED) - {"channel_branch.4.std"} | affine


@pytest.mark.parametrize(
    ("channels", "ratio", "width"), [(20, 0.2, 4), (64, 0.2, 12), (4, 0.2, 1), (10, 0.5, 5), (3, 2, 6)]
)
def test_squeeze_width(channels: int, ratio: float, width: int) -> None:
    layer = DDF(channels, squeeze_ratio=ratio)
    assert layer.channel_branch[1].out_channels == layer.channel_branch[3].in_channels == width


@pytest.mark.parametrize("branches", ["both", "spatial", "channel"])
@pytest.mark.parametrize("norm", ["filter", "sigmoid", "batch", "none"])
def test_norms_and_branches(norm: Any, branches: Any) -> None:
    heads = 1 if branches == "channel" else 2
    layer = DDF(6, heads=heads, stride=2, norm=norm, branches=branches, bias=True, backend="torch").double()
    x = torch.randn(3, 6, 5, 7, dtype=torch.float64)
    channel, spatial = layer.filters(x)
    assert (channel is None) == (branches == "spatial")
    assert (spatial is None) == (branches == "channel")

    def expected(raw: Tensor, filters: int, norm_layer: torch.nn.Module) -> Tensor:
        if norm == "filter":
            return norm_layer(raw)
        if norm == "batch":
            return (raw - raw.mean((0, 2, 3), keepdim=True)) / (
                raw.var((0, 2, 3), correction=0, keepdim=True) + 1e-5
            ).sqrt()
        return raw.sigmoid() if norm == "sigmoid" else raw

    if spatial is not None:
        raw = layer.spatial_branch[0](x)
        want = expected(raw, 2, layer.spatial_branch[1]).reshape(3, 2, 9, 3, 4)
        torch.testing.assert_close(spatial, want)
    if channel is not None:
        raw = layer.channel_branch[:4](x)
        torch.testing.assert_close(channel, expected(raw, 6, layer.channel_branch[4]).reshape(3, 6, 3, 3))
    with torch.no_grad():
        layer.bias.copy_(torch.arange(6))
    y = layer(x)
    plain = ddfnet.ddf(x, channel, spatial, stride=2, backend="torch")
    torch.testing.assert_close(y, plain + torch.arange(6.0, dtype=torch.float64).view(6, 1, 1))
    y.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in layer.parameters())


def test_affine_of_the_paper_starts_with_filters_of_the_released_scale() -> None:
    layer = DDF(6, affine="paper").double()
    channel, spatial = layer.filters(torch.randn(2, 6, 5, 5, dtype=torch.float64))
    for filters, dim in ((channel.flatten(2), 2), (spatial, 2)):
        torch.testing.assert_close(filters.std(dim), torch.full_like(filters.std(dim), 2**0.5 / 3))
        torch.testing.assert_close(filters.mean(dim), torch.zeros_like(filters.mean(dim)))


@pytest.mark.parametrize("again", [False, True])
def test_static_start(again: bool) -> None:
    """Spatial filters spread by a fifth around 1; channel filters are nearly those of a depthwise convolution."""
    torch.manual_seed(0)
    layer = DDF(32, affine="paper", init="static").double()
    if again:
        layer.reset_parameters()
    channel, spatial = layer.filters(torch.randn(4, 32, 5, 5, dtype=torch.float64))
    torch.testing.assert_close(spatial.mean(2), torch.ones_like(spatial.mean(2)))
    torch.testing.assert_close(spatial.std(2), torch.full_like(spatial.std(2), 0.2))
    content = channel - channel.mean(0)
    assert content.norm() < 0.1 * channel.norm()
    assert channel.mean(0).flatten(1).corrcoef().fill_diagonal_(0).abs().max() < 0.99  # each channel has its own


@pytest.mark.parametrize("branches", ["both", "spatial", "channel"])
def test_depthwise_start(branches: str) -> None:
    torch.manual_seed(0)
    layer = DDF(6, 5, stride=2, dilation=2, branches=branches, norm="none", init="depthwise", backend="torch").double()
    x = torch.randn(3, 6, 9, 8, dtype=torch.float64)
    depthwise = F.conv2d(x, layer.weight.unsqueeze(1), stride=2, padding=4, dilation=2, groups=6)
    torch.testing.assert_close(layer(x), depthwise)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    channel, spatial = layer.filters(x)
    expected = layer.weight.expand(3, -1, -1, -1)
    if layer.channel_branch is not None:
        assert layer.channel_branch[1].out_channels == 4
        expected = expected * (1 + layer.channel_branch(x).view(3, 6, 5, 5))
    torch.testing.assert_close(channel, expected)
    if layer.spatial_branch is not None:
        torch.testing.assert_close(spatial, 1 + layer.spatial_branch(x).unflatten(1, (1, 25)))
    layer(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    layer.reset_parameters()
    torch.testing.assert_close(layer.filters(x)[0], layer.weight.expand(3, -1, -1, -1))


def test_kernel_size_one_without_filter_norm() -> None:
    assert DDF(4, kernel_size=1, norm="none")(torch.randn(2, 4, 3, 3)).shape == (2, 4, 3, 3)


def test_empty_batch() -> None:
    layer = DDF(4)
    y = layer(torch.empty(0, 4, 5, 6))
    assert y.shape == (0, 4, 5, 6)
    y.sum().backward()
    assert torch.equal(layer.channel_branch[4].std.grad, torch.zeros(36))


def test_device_and_dtype() -> None:
    options: dict[str, Any] = {"heads": 2, "bias": True, "affine": "paper", "backend": "torch"}
    meta = DDF(8, device="meta", **options)
    assert {t.device.type for t in meta.state_dict().values()} == {"meta"}
    assert meta(torch.empty(2, 8, 5, 6, device="meta")).shape == (2, 8, 5, 6)
    for norm in ("filter", "batch"):
        double = DDF(8, dtype=torch.float64, norm=norm, bias=True, backend="torch")
        assert {t.dtype for t in double.parameters()} == {torch.float64}
        assert double(torch.randn(2, 8, 5, 6, dtype=torch.float64)).dtype == torch.float64
    for dtype in (torch.bfloat16, torch.float16):
        assert DDF(8, dtype=dtype, bias=True, backend="torch")(torch.randn(2, 8, 5, 6).to(dtype)).dtype == dtype


@pytest.mark.release
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast(dtype: torch.dtype) -> None:
    """Under autocast the layer answers in its low dtype whatever it is given, near the answer in float32."""
    layer = DDF(8, bias=True)
    x = torch.randn(2, 8, 9, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x.to(dtype))
    y.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in layer.parameters())
    error = (y.float() - layer(x)).norm() / layer(x).norm()
    assert error < 0.05


def test_reset_parameters() -> None:
    layer = DDF(8, bias=True, affine="paper")
    with torch.no_grad():
        for p in layer.parameters():
            p.fill_(7.0)
    torch.manual_seed(3)
    layer.reset_parameters()
    torch.manual_seed(3)
    again = DDF(8, bias=True, affine="paper")
    again.reset_parameters()
    assert not layer.bias.any()
    for name, p in layer.named_parameters():
        assert not (p == 7).any(), name
    torch.manual_seed(3)
    again.reset_parameters()
    for (name, p), q in zip(layer.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q), name
    fresh = DDF(8, device="meta").to_empty(device="cpu")
    fresh.reset_parameters()
    assert torch.isfinite(fresh(torch.randn(1, 8, 5, 5))).all()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_flops_are_the_papers(device: str) -> None:
    """2nck^2 + 2 sigma c^2 (1 + k^2) + 3nck^2 a sample (below Table 1), n = 56, c = 20, k = 3, sigma = 0.2."""
    layer = DDF(20, device=device)
    x = torch.ones(2, 20, 7, 8, device=device)
    with FlopCounterMode(display=False) as counter:
        layer(x)
    assert counter.get_total_flops() == 2 * (2 * 56 * 20 * 9 + 2 * 80 * 10 + 3 * 56 * 20 * 9)


def test_repr_says_what_is_not_default() -> None:
    assert DDF(8).extra_repr() == "8, kernel_size=3"
    options = {
        "stride": 2,
        "dilation": 3,
        "heads": 4,
        "squeeze_ratio": 0.5,
        "combine": "add",
        "norm": "filter",
        "affine": "paper",
        "backend": "torch",
        "bias": True,
    }
    layer = DDF(8, kernel_size=5, **options)
    assert eval(f"DDF({layer.extra_repr()})").extra_repr() == layer.extra_repr()
    assert layer.extra_repr() == (
        "8, kernel_size=5, stride=2, dilation=3, heads=4, squeeze_ratio=0.5, combine='add', affine='paper', "
        "bias=True, backend='torch'"
    )
    assert DDF(8, norm="batch", branches="spatial").extra_repr() == "8, kernel_size=3, norm='batch', branches='spatial'"


def test_copies() -> None:
    layer = DDF(8, heads=2, bias=True)
    x = torch.randn(2, 8, 5, 6)
    stored = io.BytesIO()
    torch.save(layer.state_dict(), stored)
    stored.seek(0)
    loaded = DDF(8, heads=2, bias=True)
    loaded.load_state_dict(torch.load(stored, weights_only=True))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), loaded):
        assert torch.equal(twin(x), layer(x))


def test_compiles_to_one_graph() -> None:
    layer = DDF(8, heads=2, bias=True)
    x = torch.randn(2, 8, 5, 6)
    torch.testing.assert_close(torch.compile(layer, backend="aot_eager", fullgraph=True)(x), layer(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels: expected an int >= 1, got 0"),
        ({"channels": True}, "channels: expected an int >= 1, got True"),
        ({"kernel_size": True}, "kernel_size: expected an odd number, got True"),
        ({"stride": 0}, "stride: expected an int >= 1, got 0"),
        ({"dilation": 0}, "dilation: expected an int >= 1, got 0"),
        ({"heads": 0}, "heads: expected an int >= 1, got 0"),
        ({"heads": 3}, "heads: expected a divisor of channels = 8, got 3"),
        ({"kernel_size": 4}, "kernel_size: expected an odd number, got 4"),
        ({"kernel_size": -3}, "kernel_size: expected an odd number, got -3"),
        ({"kernel_size": 1}, "kernel_size: expected 3 or more with norm='filter'"),
        ({"squeeze_ratio": 0}, "squeeze_ratio: expected a number > 0, got 0"),
        ({"combine": "max"}, "combine: expected 'mul' or 'add', got 'max'"),
        ({"norm": "layer"}, "norm: expected 'filter', 'sigmoid', 'batch' or 'none', got 'layer'"),
        ({"branches": "none"}, "branches: expected 'both', 'spatial' or 'channel', got 'none'"),
        ({"affine": "both"}, "affine: expected 'released' or 'paper', got 'both'"),
        ({"heads": 2, "branches": "channel"}, r"heads: expected 1 with branches='channel' \(heads share .*, got 2"),
        ({"init": "zeros"}, "init: expected 'random', 'static' or 'depthwise', got 'zeros'"),
        ({"init": "depthwise"}, "init: expected 'random' unless norm='none', .* got 'depthwise' with norm='filter'"),
        ({"init": "static"}, "init: expected 'random' unless affine='paper', .* got 'static' with affine='released'"),
        ({"affine": "paper", "norm": "none"}, "affine: expected 'released' with norm='none' .*, got 'paper'"),
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DDF(**({"channels": 8} | options))


def test_wrong_input() -> None:
    layer = DDF(8)
    for x in (torch.ones(2, 9, 4, 4), torch.ones(8, 4, 4)):
        with pytest.raises(ValueError, match=r"x: expected \(B, 8, H, W\), got \("):
            layer(x)
    with pytest.raises(TypeError, match=r"x: expected a torch\.Tensor, got ndarray"):
        layer(torch.ones(2, 8, 4, 4).numpy())
    with pytest.raises(
        ValueError, match="backend: expected one of 'auto', 'reference', 'numba', 'triton', 'torch', got 'cuda'"
    ):
        DDF(8, backend="cuda")(torch.ones(1, 8, 4, 4))


@pytest.mark.parametrize("backend", BACKENDS)
def test_dead_hidden_units_make_no_gradient_explode(backend: Any) -> None:
    """After zeroed biases all hidden units can be 0: the raw filters' std is 0, and so are filters and gradients."""
    torch.manual_seed(0)
    layer = DDF(8, backend=backend)
    with torch.no_grad():
        for module in layer.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.zeros_(module.bias)
        layer.channel_branch[1].weight.fill_(-1.0)
    x = torch.rand(2, 8, 5, 6, requires_grad=True)  # positive means: no unit is alive
    y = layer(x)
    assert not y.any()
    grads = torch.autograd.grad(y.sum(), [x, *layer.parameters()])
    assert all(not grad.any() for grad in grads)
    layer.reset_parameters()
    assert layer(x).any()


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 2)])
def test_padding_modes(mode: str, stride: int, dilation: int) -> None:
    """The filters are those of the layer that pads with zeros; they meet the padded image."""
    torch.manual_seed(0)
    layer = DDF(6, heads=2, stride=stride, dilation=dilation, padding_mode=mode, backend="torch").double()
    x = torch.randn(2, 6, 7, 8, dtype=torch.float64, requires_grad=True)
    channel, spatial = layer.filters(x)
    padded = F.pad(x, (dilation,) * 4, mode=mode)
    patches = F.unfold(padded, 3, dilation=dilation, stride=stride)
    patches = patches.view(2, 6, 9, *spatial.shape[3:])
    expected = torch.einsum("bct,bctpq,bctpq->bcpq", channel.flatten(2), spatial.repeat_interleave(3, 1), patches)
    y = layer(x)
    assert y.shape == DDF(6, stride=stride, dilation=dilation)(x.float()).shape
    torch.testing.assert_close(y, expected)
    grad_y = torch.randn_like(y)
    for found, wanted in zip(
        torch.autograd.grad(y, (x, *layer.parameters()), grad_y),
        torch.autograd.grad(expected, (x, *layer.parameters()), grad_y),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted)
    assert f"padding_mode='{mode}'" in layer.extra_repr()


@pytest.mark.parametrize("branches", ["both", "spatial", "channel"])
def test_valid_padding_leaves_the_border_out(branches: Any) -> None:
    torch.manual_seed(0)
    valid = DDF(6, 5, branches=branches, padding="valid", backend="torch")
    same = DDF(6, 5, branches=branches, backend="torch")
    same.load_state_dict(valid.state_dict())
    x = torch.randn(2, 6, 9, 11)
    torch.testing.assert_close(valid(x), same(x)[..., 2:-2, 2:-2])
    assert DDF(6, padding="valid", stride=2, dilation=2)(x).shape == (2, 6, 3, 4)
    with pytest.raises(
        ValueError, match=r"x: expected a height and width > 4 = \(k - 1\) \* dilation, got \(2, 6, 9, 4\)"
    ):
        valid(x[..., :4])


def test_padding_options_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="padding_mode: expected 'zeros' with padding='valid', got 'reflect'"):
        DDF(6, padding="valid", padding_mode="reflect")
    with pytest.raises(
        ValueError, match="padding_mode: expected 'zeros', 'reflect', 'replicate' or 'circular', got 'x'"
    ):
        DDF(6, padding_mode="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="padding: expected 'same' or 'valid', got 1"):
        DDF(6, padding=1)  # type: ignore[arg-type]
