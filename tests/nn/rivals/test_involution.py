"""`Involution` against its definition over gathered patches, and the contract of drop-in layers."""

import pytest
import torch
from tests.nn.contract import GEOMETRIES, equals, holds, patches
from torch import Tensor

from ddfnet.nn.rivals.involution import Involution


@pytest.mark.parametrize(("k", "stride", "dilation"), GEOMETRIES)
def test_equals_its_definition(k: int, stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    layer = Involution(8, k, stride=stride, dilation=dilation, group_channels=4, reduction=2, backend="torch")

    def plain(p: dict[str, Tensor], x: Tensor) -> Tensor:
        rows, columns = (range(0, n, stride) for n in x.shape[2:])
        windows = [[x[:, :, i : i + stride, j : j + stride].mean((2, 3)) for j in columns] for i in rows]
        pooled = torch.stack([torch.stack(row, -1) for row in windows], -2)  # (B, C, P, Q)
        reduced = torch.einsum("bcpq,rc->brpq", pooled, p["reduce.0.weight"][..., 0, 0])
        mean, var = reduced.mean((0, 2, 3), keepdim=True), reduced.var((0, 2, 3), correction=0, keepdim=True)
        scale, shift = (p[f"reduce.1.{name}"].view(-1, 1, 1) for name in ("weight", "bias"))
        reduced = ((reduced - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)
        filters = torch.einsum("brpq,fr->bfpq", reduced, p["span.weight"][..., 0, 0]) + p["span.bias"].view(-1, 1, 1)
        filters = filters.unflatten(1, (2, k * k)).repeat_interleave(4, dim=1)  # (B, C, K, P, Q)
        return (filters * patches(x, k, stride, dilation)).sum(2)

    equals(layer, plain)


def test_contract() -> None:
    holds(Involution, {"group_channels": 8, "reduction": 2, "backend": "torch"})


def test_pooling_is_of_what_lies_inside() -> None:
    layer = Involution(16, stride=2)
    seen: list[Tensor] = []
    layer.reduce.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    layer(torch.ones(1, 16, 5, 3))
    assert torch.equal(seen[0], torch.ones(1, 16, 3, 2))


def test_errors() -> None:
    with pytest.raises(ValueError, match="group_channels: expected a divisor of channels = 24, got 16"):
        Involution(24)
    with pytest.raises(ValueError, match="reduction: expected an int >= 1, got 0"):
        Involution(16, reduction=0)
