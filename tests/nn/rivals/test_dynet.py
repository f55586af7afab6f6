"""`DyNetConv` against its definition over gathered patches, and the contract of drop-in layers."""

import pytest
import torch
from tests.nn.contract import GEOMETRIES, equals, holds, patches
from torch import Tensor

from ddfnet.nn.rivals.dynet import DyNetConv


@pytest.mark.parametrize(("k", "stride", "dilation"), GEOMETRIES)
def test_equals_its_definition(k: int, stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    layer = DyNetConv(4, k, stride=stride, dilation=dilation, group_size=3)

    def plain(p: dict[str, Tensor], x: Tensor) -> Tensor:
        outputs = []
        for sample, gathered in zip(x.mean((2, 3)), patches(x, k, stride, dilation), strict=True):
            raw = p["coefficients.weight"] @ sample + p["coefficients.bias"]
            mix = 1 / (1 + (-raw).exp())
            for o in range(4):
                kernel = sum(mix[4 * g + o] * p["weight"][g, o] for g in range(3))
                outputs.append((kernel.view(4, k * k)[..., None, None] * gathered).sum((0, 1)))
        return torch.stack(outputs).unflatten(0, (2, 4))

    equals(layer, plain)


def test_contract() -> None:
    holds(DyNetConv, {"group_size": 3})


def test_errors() -> None:
    with pytest.raises(ValueError, match="group_size: expected an int >= 1, got 0"):
        DyNetConv(4, group_size=0)
