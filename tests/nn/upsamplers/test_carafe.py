"""`CARAFE` against its definition, term by term."""

import pytest
import torch
import torch.nn.functional as F
from tests.ops.ddf.backends import PLAIN
from torch import Tensor

from ddfnet.nn.upsamplers.carafe import CARAFE


def reassembled(layer: CARAFE, x: Tensor) -> Tensor:
    """Each output pixel a weighted mean of the k x k neighbours of its source, outside of x zero."""
    r, k, heads, (batch, channels, height, width) = layer.scale_factor, layer.kernel_size, layer.heads, x.shape
    state = layer.state_dict()
    compressed = F.conv2d(x, state["channel_compressor.weight"], state["channel_compressor.bias"])
    weight = state["content_encoder.weight"]
    encoded = F.conv2d(compressed, weight, state["content_encoder.bias"], padding=weight.shape[-1] // 2)
    encoded = encoded.reshape(batch, heads, k * k, r, r, height, width).exp()
    kernels = encoded / encoded.sum(2, keepdim=True)
    padded = F.pad(x, (k // 2,) * 4).reshape(batch, heads, channels // heads, height + k - 1, width + k - 1)
    y = x.new_zeros(batch, heads, channels // heads, r * height, r * width)
    for row in range(r * height):
        for column in range(r * width):
            p, i, q, j = row // r, row % r, column // r, column % r
            taps = padded[..., p : p + k, q : q + k].flatten(3)  # (B, G, C/G, K)
            y[..., row, column] = torch.einsum("bgct,bgt->bgc", taps, kernels[:, :, :, i, j, p, q])
    return y.flatten(1, 2)


@pytest.mark.parametrize("backend", PLAIN)
@pytest.mark.parametrize(
    ("scale_factor", "options"),
    [(2, {}), (3, {"kernel_size": 3, "encoder_kernel_size": 5, "heads": 2, "compressed_channels": 5}), (1, {})],
)
def test_equals_its_definition(scale_factor: int, options: dict, backend: str) -> None:
    torch.manual_seed(0)
    layer = CARAFE(6, scale_factor, **options, backend=backend).double()  # type: ignore[arg-type]
    with torch.no_grad():
        layer.content_encoder.weight.mul_(500)  # else all weights are near 1 / K
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(x), reassembled(layer, x))


def test_starts_as_the_mean_of_the_taps() -> None:
    layer = CARAFE(4)
    filters = layer.filters(torch.randn(1, 4, 5, 6))
    assert filters.shape == (1, 1, 25, 10, 12)
    torch.testing.assert_close(filters.sum(2), torch.ones(1, 1, 10, 12))
    torch.testing.assert_close(filters, torch.full_like(filters, 1 / 25), rtol=0.1, atol=0)


def test_weights_of_mmcvs_layer_fit() -> None:
    shapes = {name: tuple(p.shape) for name, p in CARAFE(256).named_parameters()}
    assert shapes == {
        "channel_compressor.weight": (64, 256, 1, 1),
        "channel_compressor.bias": (64,),
        "content_encoder.weight": (100, 64, 3, 3),
        "content_encoder.bias": (100,),
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "kernel_size: expected an odd number, got 4"),
        ({"encoder_kernel_size": 2}, "encoder_kernel_size: expected an odd number, got 2"),
        ({"heads": 4}, "heads: expected a divisor of channels = 6, got 4"),
        ({"compressed_channels": 0}, "compressed_channels: expected an int >= 1, got 0"),
    ],
)
def test_errors(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CARAFE(6, **options)


def test_repr() -> None:
    assert CARAFE(6, heads=2).extra_repr() == "6, scale_factor=2, heads=2"
