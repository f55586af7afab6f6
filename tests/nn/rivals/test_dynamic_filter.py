"""`DynamicFilter` against its definition over gathered patches, Table 1, and the contract of drop-in layers."""

import pytest
import torch
from tests.nn.contract import equals, holds, patches
from torch import Tensor

from ddfnet.models.complexity import complexity
from ddfnet.nn.rivals.dynamic_filter import DynamicFilter


@pytest.mark.parametrize(("k", "stride", "dilation"), [(3, 1, 1), (3, 2, 2), (5, 2, 1)])
def test_equals_its_definition(k: int, stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    layer = DynamicFilter(3, k, stride=stride, dilation=dilation, backend="torch")

    def plain(p: dict[str, Tensor], x: Tensor) -> Tensor:
        raw = torch.einsum("bcpq,fc->bfpq", x[..., ::stride, ::stride], p["predict.weight"][..., 0, 0])
        filters = (raw + p["predict.bias"].view(-1, 1, 1)).unflatten(1, (3, 3, k * k))
        return torch.einsum("boctpq,bctpq->bopq", filters, patches(x, k, stride, dilation))

    equals(layer, plain)


def test_contract() -> None:
    holds(DynamicFilter, {"backend": "torch"}, channels=4)


def test_costs_are_those_of_table_1() -> None:
    """c^3 k^2 weights (and a bias each filter value), n c^3 k^2 multiply-adds to predict and n c^2 k^2 to apply."""
    layer = DynamicFilter(8)
    cost = complexity(layer, (1, 8, 5, 6))
    assert layer.predict.weight.numel() == 8**3 * 9
    assert cost.multiply_adds == 30 * 8**3 * 9 + 30 * 8**2 * 9


def test_keeps_the_variance() -> None:
    torch.manual_seed(0)
    y = DynamicFilter(16, backend="torch")(torch.randn(4, 16, 24, 24))[..., 1:-1, 1:-1]
    assert 0.8 < y.std() < 1.25
