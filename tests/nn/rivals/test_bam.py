"""`BAM` against its definition, written out."""

from typing import Any

import pytest
import torch
from tests.nn.contract import patches
from torch import Tensor

from ddfnet.nn.rivals.bam import BAM


def plain(p: dict[str, Tensor], x: Tensor, dilation: int, combine: str) -> Tensor:
    def conv(name: str, x: Tensor, dilation: int = 1) -> Tensor:
        weight = p[f"{name}.weight"]
        gathered = patches(x, weight.shape[-1], 1, dilation)
        return torch.einsum("oct,bctpq->bopq", weight.flatten(2), gathered) + p[f"{name}.bias"].view(-1, 1, 1)

    def normalised(name: str, x: Tensor) -> Tensor:
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
        scale, shift = (p[f"{name}.{kind}"].view(-1, 1, 1) for kind in ("weight", "bias"))
        return ((x - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)

    channel = normalised("channel_branch.2", conv("channel_branch.1", x.mean((2, 3), keepdim=True)))
    channel = conv("channel_branch.4", channel)
    spatial = normalised("spatial_branch.1", conv("spatial_branch.0", x))
    spatial = normalised("spatial_branch.4", conv("spatial_branch.3", spatial, dilation))
    spatial = normalised("spatial_branch.7", conv("spatial_branch.6", spatial, dilation))
    spatial = conv("spatial_branch.9", spatial)
    attention = channel * spatial if combine == "mul" else channel + spatial
    return x * (1 + 1 / (1 + (-attention).exp()))


@pytest.mark.parametrize("options", [{}, {"dilation": 1, "combine": "add"}])
def test_equals_its_definition(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = BAM(8, reduction=4, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():  # also the norms', which start as ones and zeros
            parameter.normal_()
    for size in ((7, 9), (4, 1)):
        x = torch.randn(3, 8, *size, dtype=torch.float64, requires_grad=True)
        inputs = {"x": x, **dict(layer.named_parameters())}
        y, expected = layer(x), plain(inputs, x, options.get("dilation", 4), options.get("combine", "mul"))
        torch.testing.assert_close(y, expected)
        grad = torch.randn_like(y)
        found, wanted = (torch.autograd.grad(z, list(inputs.values()), grad) for z in (y, expected))
        for name, ours, theirs in zip(inputs, found, wanted, strict=True):
            torch.testing.assert_close(ours, theirs, msg=lambda text, name=name: f"{name}: {text}")


def test_device_dtype_reset_and_repr() -> None:
    layer = BAM(32, device="meta")
    assert layer(torch.empty(2, 32, 5, 6, device="meta")).shape == (2, 32, 5, 6)
    fresh = layer.to_empty(device="cpu")
    fresh.reset_parameters()
    x = torch.randn(2, 32, 5, 6)
    assert torch.isfinite(fresh(x)).all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fresh(x.bfloat16()).dtype == torch.bfloat16
    assert BAM(8, dtype=torch.float64)(x[:, :8].double()).dtype == torch.float64
    assert layer.extra_repr() == "32"


def test_errors() -> None:
    with pytest.raises(ValueError, match="reduction: expected an int >= 1, got 0"):
        BAM(8, reduction=0)
    with pytest.raises(ValueError, match="combine: expected 'mul' or 'add', got 'max'"):
        BAM(8, combine="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"x: expected \(B, 8, H, W\), got \(2, 9, 4, 4\)"):
        BAM(8)(torch.ones(2, 9, 4, 4))
    with pytest.raises(TypeError, match=r"x: expected torch\.float32, the layer's dtype, or autocast"):
        BAM(8)(torch.ones(2, 8, 4, 4, dtype=torch.float64))
