"""`ODConv` against its definition over gathered patches, and the contract of drop-in layers."""

import pytest
import torch
from tests.nn.contract import GEOMETRIES, equals, holds, patches
from torch import Tensor

from ddfnet.nn.rivals.odconv import ODConv


def definition(p: dict[str, Tensor], x: Tensor, k: int, stride: int, dilation: int, temperature: float) -> Tensor:
    """Eq. 2 as it stands, logits over the temperature: every attention multiplies every kernel, one sample after another."""
    channels, kernels = x.shape[1], p["weight"].shape[0]
    squeezed = x.mean((2, 3)) @ p["squeeze.0.weight"][..., 0, 0].T
    mean, var = squeezed.mean(0), squeezed.var(0, correction=0)
    squeezed = (squeezed - mean) / (var + 1e-5).sqrt() * p["squeeze.1.weight"] + p["squeeze.1.bias"]
    outputs = []
    for sample, gathered in zip(squeezed.clamp(min=0), patches(x, k, stride, dilation), strict=True):

        def head(name: str, sample: Tensor = sample) -> Tensor:
            return p[f"{name}.weight"][..., 0, 0] @ sample + p[f"{name}.bias"]

        def sigmoid(name: str) -> Tensor:
            return 1 / (1 + (-head(name) / temperature).exp())

        of_inputs, of_outputs = sigmoid("input_head"), sigmoid("output_head")
        of_taps = sigmoid("tap_head").view(k, k) if k > 1 else torch.ones(1, 1, dtype=x.dtype)
        raw = (head("kernel_head") / temperature).exp() if kernels > 1 else torch.ones(1, dtype=x.dtype)
        total = torch.zeros(channels, channels, k, k, dtype=x.dtype)
        for weight, kernel in zip(raw / raw.sum(), p["weight"], strict=True):
            total = total + weight * torch.einsum(
                "o,c,uv,ocuv->ocuv", of_outputs, of_inputs, of_taps, kernel.view_as(total)
            )
        outputs.append(torch.einsum("oct,ctpq->opq", total.flatten(2), gathered))
    return torch.stack(outputs)


@pytest.mark.parametrize(("k", "stride", "dilation"), [*GEOMETRIES, (1, 1, 1), (1, 2, 1)])
@pytest.mark.parametrize("kernels", [1, 3])
def test_equals_its_definition(k: int, stride: int, dilation: int, kernels: int) -> None:
    torch.manual_seed(0)
    layer = ODConv(4, k, stride=stride, dilation=dilation, kernels=kernels, temperature=2.5)
    equals(layer, lambda p, x: definition(p, x, k, stride, dilation, 2.5))


def test_width_of_the_squeeze() -> None:
    assert ODConv(64).squeeze[1].num_features == 16  # 64 / 16 is below the least
    assert ODConv(512).squeeze[1].num_features == 32
    assert ODConv(512, reduction=4).squeeze[1].num_features == 128


def test_size_is_that_of_the_authors() -> None:
    """Their ResNet50 of four kernels, 90.67M, has ODConv in its 1x1 layers too, but not in its shortcuts."""

    def size(c: int, o: int, k: int) -> int:
        width = max(16, c // 16)
        heads = c + o + 4 + (k * k if k > 1 else 0)
        return 4 * c * o * k * k + c * width + 2 * width + (width + 1) * heads

    total = 3 * 64 * 49 + 2 * 64 + 2048 * 1000 + 1000  # stem and classifier
    c = 64
    for blocks, inner in ((3, 64), (4, 128), (6, 256), (3, 512)):
        total += c * 4 * inner + 2 * 4 * inner  # shortcut
        for _ in range(blocks):
            total += size(c, inner, 1) + size(inner, inner, 3) + size(inner, 4 * inner, 1) + 2 * 6 * inner
            c = 4 * inner
    assert round(total / 1e6, 2) == 90.67
    for channels in (64, 512):
        assert sum(p.numel() for p in ODConv(channels).parameters()) == size(channels, channels, 3)


def test_a_high_temperature_weighs_all_kernels_alike() -> None:
    torch.manual_seed(0)
    layer = ODConv(4).eval()
    layer.temperature = 1e6
    of_kernels = layer.attentions(torch.randn(3, 4, 5, 5))[3]
    torch.testing.assert_close(of_kernels, torch.full((3, 4), 0.25), rtol=1e-5, atol=0)


def test_contract() -> None:
    holds(ODConv, {"kernels": 3, "reduction": 2, "temperature": 30.0})


def test_errors() -> None:
    for name in ("kernels", "reduction"):
        with pytest.raises(ValueError, match=f"{name}: expected an int >= 1, got 0"):
            ODConv(4, **{name: 0})
    with pytest.raises(ValueError, match=r"temperature: expected a number > 0, got 0"):
        ODConv(4, temperature=0)
