"""`FilterNorm`: Eq. 3 by hand in both forms and kinds, and what it starts from."""

import math

import pytest
import torch
from torch import Tensor

import ddfnet
from ddfnet.nn.filter_norm import FilterNorm


def by_hand(x: Tensor, filters: int, taps: int) -> Tensor:
    """(D - mean) / (unbiased std + 1e-10), one filter at a time, for x (B, N*K, H, W)."""
    y = torch.empty_like(x)
    for b, n, h, w in torch.cartesian_prod(*(torch.arange(m) for m in (x.shape[0], filters, *x.shape[2:]))).tolist():
        raw = x[b, n * taps : (n + 1) * taps, h, w]
        mean = sum(raw.tolist()) / taps
        std = math.sqrt(sum((value - mean) ** 2 for value in raw.tolist()) / (taps - 1))
        y[b, n * taps : (n + 1) * taps, h, w] = (raw - mean) / (std + 1e-10)
    return y


@pytest.mark.parametrize(("nonlinearity", "gain"), [("relu", 2**0.5), ("linear", 1.0)])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_released(kernel_size: int, nonlinearity: str, gain: float) -> None:
    taps = kernel_size**2
    x = torch.randn(2, 2 * taps, 3, 2, dtype=torch.float64)
    spatial = FilterNorm(2, kernel_size, kind="spatial", nonlinearity=nonlinearity, dtype=torch.float64)
    assert dict(spatial.named_parameters()) == {}
    assert spatial.state_dict() == {}
    torch.testing.assert_close(spatial(x), by_hand(x, 2, taps) * gain / kernel_size)

    channel = FilterNorm(2, kernel_size, kind="channel", nonlinearity=nonlinearity, dtype=torch.float64)
    assert [(name, p.shape) for name, p in channel.named_parameters()] == [("std", (2 * taps,))]
    x = torch.randn(3, 2 * taps, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(channel(x), by_hand(x, 2, taps) * channel.std[:, None, None])
    torch.testing.assert_close(channel(x[..., 0, 0]), channel(x)[..., 0, 0])  # (B, N*K) too


def test_paper() -> None:
    for kind, learned in (("spatial", 1), ("channel", 4)):
        layer = FilterNorm(4, 3, kind=kind, affine="paper", dtype=torch.float64)
        shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
        assert shapes == {"alpha": (learned,), "beta": (learned,)}
        x = torch.randn(2, 36, 2, 3, dtype=torch.float64)
        torch.testing.assert_close(layer(x), by_hand(x, 4, 9) * 2**0.5 / 3)
        with torch.no_grad():
            layer.alpha.copy_(torch.arange(1.0, learned + 1))
            layer.beta.copy_(torch.arange(learned) - 0.5)
        alpha, beta = (p.expand(4).repeat_interleave(9)[:, None, None] for p in (layer.alpha, layer.beta))
        torch.testing.assert_close(layer(x), by_hand(x, 4, 9) * alpha + beta)


def test_starts_as_randn_times_gain_over_k() -> None:
    torch.manual_seed(0)
    layer = FilterNorm(2000, 5, kind="channel")
    n, sigma = layer.std.numel(), 2**0.5 / 5
    assert abs(layer.std.mean().item()) < 4 * sigma / n**0.5
    assert abs(layer.std.std().item() - sigma) < 4 * sigma / (2 * n) ** 0.5
    assert 0.94 < (layer.std.abs() < 2 * sigma).float().mean() < 0.97
    before = layer.std.detach().clone()
    layer.reset_parameters()
    assert not torch.equal(before, layer.std)
    with torch.no_grad():
        layer = FilterNorm(2, 3, affine="paper")
        layer.alpha.zero_()
        layer.beta.fill_(3)
    layer.reset_parameters()
    assert (layer.alpha.item(), layer.beta.item()) == (pytest.approx(2**0.5 / 3), 0)


def test_constant_filter() -> None:
    x = torch.full((1, 18, 2, 2), 4.0, requires_grad=True)
    layer = FilterNorm(2, 3)
    y = layer(x)
    assert torch.equal(y, torch.zeros_like(y))
    y.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_device_dtype_repr() -> None:
    layer = FilterNorm(4, 3, kind="channel", device="meta", dtype=torch.bfloat16)
    assert (layer.std.device.type, layer.std.dtype) == ("meta", torch.bfloat16)
    assert repr(layer) == "FilterNorm(4, kernel_size=3, kind='channel')"
    assert ddfnet.FilterNorm is FilterNorm


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": 0}, "filters: expected an int >= 1, got 0"),
        ({"kernel_size": 1}, "kernel_size: expected an odd number >= 3, got 1"),
        ({"kernel_size": 4}, "kernel_size: expected an odd number >= 3, got 4"),
        ({"kind": "depth"}, "kind: expected 'spatial' or 'channel', got 'depth'"),
        ({"affine": True}, "affine: expected 'released' or 'paper', got True"),
    ],
)
def test_errors(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FilterNorm(**({"filters": 2} | options))


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match=r"x: expected \(B, 18, ...\), got \(2, 9, 4, 4\)"):
        FilterNorm(2, 3)(torch.ones(2, 9, 4, 4))
