"""`SelfGuidedPac` against its definition over gathered patches, and the contract of drop-in layers."""

import pytest
import torch
from tests.nn.contract import GEOMETRIES, equals, holds, patches
from torch import Tensor

from ddfnet.nn.rivals.self_guided_pac import SelfGuidedPac


@pytest.mark.parametrize(("k", "stride", "dilation"), GEOMETRIES)
def test_equals_its_definition(k: int, stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    layer = SelfGuidedPac(4, k, stride=stride, dilation=dilation, guide_channels=3)

    def plain(p: dict[str, Tensor], x: Tensor) -> Tensor:
        guide = torch.einsum("bchw,dc->bdhw", x, p["guide.weight"][..., 0, 0])
        centre = guide[..., ::stride, ::stride].unsqueeze(2)
        distance = (patches(guide, k, stride, dilation) - centre).square().sum(1)  # (B, K, P, Q)
        weighted = patches(x, k, stride, dilation) * (-distance / 2).exp().unsqueeze(1)
        return torch.einsum("oct,bctpq->bopq", p["pac.weight"].flatten(2), weighted)

    equals(layer, plain)


def test_contract() -> None:
    holds(SelfGuidedPac, {"guide_channels": 3})


def test_errors() -> None:
    with pytest.raises(ValueError, match="guide_channels: expected an int >= 1, got 0"):
        SelfGuidedPac(4, guide_channels=0)
