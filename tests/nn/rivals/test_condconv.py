"""`CondConv` and `DwCondConv` against a plain definition and timm's layer, and the contract of drop-in layers."""

import pytest
import torch
from tests.nn.contract import GEOMETRIES, equals, holds, patches
from timm.layers import CondConv2d
from torch import Tensor

from ddfnet.nn.rivals.condconv import CondConv, DwCondConv


def kernels(p: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """Each sample's, one expert after another."""
    found = []
    for sample in x.mean((2, 3)):
        weights = 1 / (1 + (-(p["routing.weight"] @ sample) - p["routing.bias"]).exp())
        found.append(sum(w * expert for w, expert in zip(weights, p["weight"], strict=True)))
    return found


@pytest.mark.parametrize(("k", "stride", "dilation"), GEOMETRIES)
@pytest.mark.parametrize("depthwise", [False, True])
def test_equals_its_definition(k: int, stride: int, dilation: int, depthwise: bool) -> None:
    torch.manual_seed(0)
    options = {"stride": stride, "dilation": dilation, "experts": 3}
    layer = DwCondConv(4, k, **options, backend="torch") if depthwise else CondConv(4, k, **options)

    def plain(p: dict[str, Tensor], x: Tensor) -> Tensor:
        gathered = patches(x, k, stride, dilation)
        terms = "ct,ctpq->cpq" if depthwise else "oct,ctpq->opq"
        return torch.stack(
            [
                torch.einsum(terms, w.view(*[4] * (2 - depthwise), k * k), a)
                for w, a in zip(kernels(p, x), gathered, strict=True)
            ]
        )

    equals(layer, plain)


@pytest.mark.parametrize("depthwise", [False, True])
def test_equals_timms_layer(depthwise: bool) -> None:
    torch.manual_seed(0)
    layer = DwCondConv(4, stride=2, dilation=2, backend="torch") if depthwise else CondConv(4, stride=2, dilation=2)
    layer = layer.double()
    groups = 4 if depthwise else 1
    theirs = CondConv2d(4, 4, 3, stride=2, dilation=2, padding=2, groups=groups, num_experts=8).double()
    with torch.no_grad():
        theirs.weight.copy_(layer.weight)
    x = torch.randn(3, 4, 7, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(x), theirs(x, layer.routing(x.mean((2, 3))).sigmoid()))


def test_experts_are_drawn_as_timms() -> None:
    torch.manual_seed(0)
    for layer, theirs, taps in (
        (CondConv(16), CondConv2d(16, 16, 3, num_experts=8), 16 * 9),
        (DwCondConv(256), CondConv2d(256, 256, 3, groups=256, num_experts=8), 9),
    ):
        for bound in (layer.weight.abs().max(), theirs.weight.abs().max()):
            assert 0.99 < bound * taps**0.5 <= 1 + 1e-6


def test_contract() -> None:
    holds(CondConv, {"experts": 3})
    holds(DwCondConv, {"experts": 3, "backend": "torch"})


def test_errors() -> None:
    for layer in (CondConv, DwCondConv):
        with pytest.raises(ValueError, match="experts: expected an int >= 1, got 0"):
            layer(4, experts=0)
