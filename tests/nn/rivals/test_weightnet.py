"""`DwWeightNet` against its definition over gathered patches, and the contract of drop-in layers."""

import pytest
import torch
from tests.nn.contract import GEOMETRIES, equals, holds, patches
from torch import Tensor

from ddfnet.nn.rivals.weightnet import DwWeightNet


@pytest.mark.parametrize(("k", "stride", "dilation"), GEOMETRIES)
@pytest.mark.parametrize("activations", [1, 2])
def test_equals_its_definition(k: int, stride: int, dilation: int, activations: int) -> None:
    torch.manual_seed(0)
    layer = DwWeightNet(4, k, stride=stride, dilation=dilation, activations=activations, backend="torch")

    def plain(p: dict[str, Tensor], x: Tensor) -> Tensor:
        hidden = x.mean((2, 3)) @ p["reduce.weight"].flatten(1).T + p["reduce.bias"]
        hidden = hidden @ p["activate.weight"].flatten(1).T + p["activate.bias"]
        hidden = (1 / (1 + (-hidden).exp())).unflatten(1, (4, activations))  # channel by channel
        filters = torch.einsum("bcm,ctm->bct", hidden, p["predict.weight"].reshape(4, k * k, activations))
        return torch.einsum("bct,bctpq->bcpq", filters, patches(x, k, stride, dilation))

    equals(layer, plain)


def test_contract() -> None:
    holds(DwWeightNet, {"reduction": 8, "activations": 2, "backend": "torch"})


@pytest.mark.parametrize(("channels", "width"), [(64, 16), (256, 16), (512, 32)])
def test_width_of_the_reduction(channels: int, width: int) -> None:
    assert DwWeightNet(channels, device="meta").reduce.out_channels == width


def test_errors() -> None:
    for name in ("reduction", "activations"):
        with pytest.raises(ValueError, match=f"{name}: expected an int >= 1, got 0"):
            DwWeightNet(4, **{name: 0})
