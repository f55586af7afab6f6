"""The pixel-adaptive layers: parameters as the authors lay them out, and one call of the operation."""

import pytest
import torch

from ddfnet.nn.rivals.pac import PacConv2d, PacConvTranspose2d
from ddfnet.ops.pac.api import pac_conv2d, pac_conv_transpose2d


def test_parameters_are_the_authors() -> None:
    torch.manual_seed(0)
    for layer, shape in ((PacConv2d(6, 8, 5), (8, 6, 5, 5)), (PacConvTranspose2d(6, 8, 5), (6, 8, 5, 5))):
        assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {"weight": shape, "bias": (8,)}
        bound = (6 * 25) ** -0.5
        assert 0.95 * bound < layer.weight.abs().max() <= bound
        assert layer.bias is not None
        assert 0 < layer.bias.abs().max() <= bound
    assert [name for name, _ in PacConv2d(6, 8, 5, bias=False).named_parameters()] == ["weight"]


def test_calls_the_operation() -> None:
    x, guide = torch.randn(2, 6, 5, 7), torch.randn(2, 3, 10, 13)
    up = PacConvTranspose2d(6, 4, 5, stride=2, dilation=2)
    assert torch.equal(up(x, guide), pac_conv_transpose2d(x, guide, up.weight, up.bias, stride=2, dilation=2))
    layer = PacConv2d(6, 4, 3, stride=2, bias=False)
    near = guide[..., :5, :7]
    assert torch.equal(layer(x, near), pac_conv2d(x, near, layer.weight, stride=2))


def test_repr_and_reset() -> None:
    layer = PacConv2d(6, 4, 3, dilation=2, bias=False)
    assert layer.extra_repr() == "6, 4, 3, dilation=2, bias=False"
    before = layer.weight.clone()
    layer.reset_parameters()
    assert not torch.equal(layer.weight, before)


def test_errors() -> None:
    with pytest.raises(ValueError, match="kernel_size: expected an odd number, got 4"):
        PacConv2d(6, 4, 4)
    with pytest.raises(ValueError, match="stride: expected an int >= 1, got 0"):
        PacConvTranspose2d(6, 4, 3, stride=0)
    with pytest.raises(TypeError, match=r"guide: expected torch\.float32, the layer's dtype"):
        PacConv2d(6, 4, 3)(torch.ones(1, 6, 4, 4), torch.ones(1, 3, 4, 4, dtype=torch.float64))
