"""The contract of drop-in layers, that of `DDF`, and how one is held to a plain definition of itself."""

import copy
import inspect
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import ddfnet
from ddfnet.nn.rivals.contract import DropIn

SIZES = ((7, 9), (8, 6), (2, 1))  # odd, even, smaller than a dilated filter
GEOMETRIES = [(k, s, d) for k in (3, 5) for s in (1, 2) for d in (1, 2)]

Plain = Callable[[dict[str, Tensor], Tensor], Tensor]  # of the parameters by name and x


def patches(x: Tensor, k: int, stride: int, dilation: int) -> Tensor:
    """(B, C, K, P, Q): what each tap of each output pixel reads, zero beyond the image, by indexing."""
    batch, channels, height, width = x.shape
    margin = k // 2 * dilation
    padded = x.new_zeros(batch, channels, height + 2 * margin, width + 2 * margin)
    padded[:, :, margin : margin + height, margin : margin + width] = x
    rows, columns = torch.arange(0, height, stride), torch.arange(0, width, stride)
    taps = [
        padded[:, :, rows[:, None] + u * dilation, columns[None] + v * dilation] for u in range(k) for v in range(k)
    ]
    return torch.stack(taps, dim=2)


def equals(layer: DropIn, plain: Plain) -> None:
    """Output and the gradients of x and of every parameter, in float64, are those of the plain definition."""
    layer = layer.double()
    for size in SIZES:
        x = torch.randn(2, layer.channels, *size, dtype=torch.float64, requires_grad=True)
        inputs = {"x": x, **dict(layer.named_parameters())}
        y = layer(x)
        assert y.shape == (2, layer.channels, *(-(-n // layer.stride) for n in size))
        expected = plain(dict(layer.named_parameters()), x)
        torch.testing.assert_close(y, expected)
        grad_y = torch.randn_like(y)
        found = torch.autograd.grad(y, list(inputs.values()), grad_y)
        wanted = torch.autograd.grad(expected, list(inputs.values()), grad_y)
        for name, grad, want in zip(inputs, found, wanted, strict=True):
            assert want.any() or size != SIZES[0], name  # a guide says nothing where the centre tap is the only one
            torch.testing.assert_close(grad, want, msg=lambda text, name=name: f"{name}: {text}")


def holds(tried: type[DropIn], own: dict[str, object], channels: int = 16) -> None:
    """Everything of the contract that is not a layer's arithmetic; `own`: options of the layer that are not defaults."""
    torch.manual_seed(0)
    no_compilation = {"backend": "torch"} if "backend" in inspect.signature(tried).parameters else {}
    layer_class = partial(tried, **no_compilation)
    layer = layer_class(channels, bias=True).eval()
    x = torch.randn(2, channels, 6, 5)
    y = layer(x)
    with torch.no_grad():
        layer.bias.copy_(torch.arange(float(channels)))
    torch.testing.assert_close(layer(x), y + torch.arange(float(channels)).view(-1, 1, 1))
    torch.testing.assert_close(copy.deepcopy(layer)(x), layer(x))
    twin = copy.deepcopy(layer).to(memory_format=torch.channels_last)
    torch.testing.assert_close(twin(x.to(memory_format=torch.channels_last)), layer(x))

    empty = layer(torch.empty(0, channels, 6, 5))
    assert empty.shape == (0, channels, 6, 5)
    empty.sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = layer(x.bfloat16())
        assert (layer(x).float() - layer(x.float())).norm() < 0.05 * y.norm()
    assert low.shape == y.shape
    assert layer_class(channels, dtype=torch.bfloat16).eval()(x.bfloat16()).dtype == torch.bfloat16

    meta = layer_class(channels, stride=2, device="meta", bias=True)
    assert {t.device.type for t in meta.state_dict().values()} == {"meta"}
    assert meta(torch.empty(2, channels, 5, 6, device="meta")).shape == (2, channels, 3, 3)
    fresh = meta.to_empty(device="cpu")
    fresh.reset_parameters()
    assert torch.isfinite(fresh(x)).all()
    assert not fresh.bias.any()
    torch.manual_seed(3)
    fresh.reset_parameters()
    drawn = [p.clone() for p in fresh.parameters()]
    torch.manual_seed(3)
    fresh.reset_parameters()
    assert all(torch.equal(p, q) for p, q in zip(fresh.parameters(), drawn, strict=True))

    assert tried(channels).extra_repr() == f"{channels}, kernel_size=3"
    options = {"kernel_size": 5, "stride": 2, "dilation": 3, **own, "bias": True}
    described = eval(f"dict({tried(channels, **options).extra_repr().removeprefix(f'{channels}, ')})")
    assert described == options

    network = nn.Sequential(
        nn.Conv2d(3, channels, 3), nn.Conv2d(channels, channels, 3, stride=2, padding=2, dilation=2)
    )
    ddfnet.replace_conv2d(network, layer=layer_class)
    new = network[1]
    assert isinstance(new, tried)
    assert (new.stride, new.dilation, new.bias is not None) == (2, 2, True)
    assert network(torch.randn(2, 3, 9, 8)).shape == (2, channels, 4, 3)

    for name in ("channels", "stride", "dilation"):
        with pytest.raises(ValueError, match=f"{name}: expected an int >= 1, got 0"):
            layer_class(**({"channels": channels} | {name: 0}))
    with pytest.raises(ValueError, match="kernel_size: expected an odd number, got 4"):
        layer_class(channels, 4)
    for wrong in (torch.ones(2, channels + 1, 4, 4), torch.ones(channels, 4, 4)):
        with pytest.raises(ValueError, match=rf"x: expected \(B, {channels}, H, W\), got \("):
            layer(wrong)
    with pytest.raises(TypeError, match=r"x: expected torch\.float32, the layer's dtype, or autocast"):
        layer(x.double())
