"""LSNet's aggregation and convolution against their definition, and a stand-in for its checkpoints."""

import pytest
import torch
import torch.nn.functional as F
from tests.nn.elsewhere.plain import assert_same, draw, filled, unfolded
from tests.ops.ddf.backends import PLAIN
from torch import Tensor

from ddfnet.nn import LKP, LSConv, ska


def aggregated(x: Tensor, weights: Tensor, k: int) -> Tensor:
    """Channel c has the weights c mod N."""
    own = weights[:, torch.arange(x.shape[1]) % weights.shape[1]]
    return torch.einsum("bctpq,bctpq->bcpq", own, unfolded(x, k))


@pytest.mark.parametrize("backend", PLAIN)
@pytest.mark.parametrize(("channels", "count", "k"), [(6, 2, 3), (6, 6, 3), (4, 1, 5)])
def test_ska(channels: int, count: int, k: int, backend: str) -> None:
    x, weights = draw(2, channels, 6, 5), draw(2, count, k * k, 6, 5, seed=1)
    assert_same(ska(x, weights, backend=backend), aggregated(x, weights, k), (x, weights))  # type: ignore[arg-type]


def test_ska_errors() -> None:
    with pytest.raises(ValueError, match=r"N a divisor of C, got \(1, 6, 5, 5\) and \(1, 4, 9, 5, 5\)"):
        ska(torch.randn(1, 6, 5, 5), torch.randn(1, 4, 9, 5, 5))


def published(channels: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an LSConv's entries in LSNet's checkpoints."""
    half, count = channels // 2, channels // 8
    convolutions = {"cv1": (half, channels, 1, 1), "cv2": (half, 1, 7, 7), "cv3": (half, half, 1, 1)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in convolutions.items():
        shapes[f"lkp.{name}.c.weight"] = shape
        shapes |= {f"lkp.{name}.bn.{kind}": (half,) for kind in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"lkp.{name}.bn.num_batches_tracked"] = ()
    shapes |= {"lkp.cv4.weight": (9 * count, half, 1, 1), "lkp.cv4.bias": (9 * count,)}
    shapes |= {"lkp.norm.weight": (9 * count,), "lkp.norm.bias": (9 * count,)}
    shapes |= {f"bn.{kind}": (channels,) for kind in ("weight", "bias", "running_mean", "running_var")}
    return shapes | {"bn.num_batches_tracked": ()}


def test_a_checkpoint_of_lsnet_fits() -> None:
    layer = LSConv(16, backend="torch").double().eval()
    assert {name: tuple(t.shape) for name, t in layer.state_dict().items()} == published(16)
    state = filled(layer)
    layer.load_state_dict(state)
    state |= dict(layer.named_parameters())
    x = draw(2, 16, 6, 5)

    def norm(name: str, y: Tensor) -> Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{kind}"].view(-1, 1, 1) for kind in ("running_mean", "running_var", "weight", "bias")
        )
        return (y - mean) / (var + 1e-5).sqrt() * weight + bias

    seen = norm("lkp.cv1.bn", F.conv2d(x, state["lkp.cv1.c.weight"])).clamp(min=0)
    seen = norm("lkp.cv2.bn", F.conv2d(seen, state["lkp.cv2.c.weight"], padding=3, groups=8))
    seen = norm("lkp.cv3.bn", F.conv2d(seen, state["lkp.cv3.c.weight"])).clamp(min=0)
    taps = F.conv2d(seen, state["lkp.cv4.weight"], state["lkp.cv4.bias"]).view(2, 2, 9, 6, 5)
    mean, var = taps.mean((2, 3, 4), keepdim=True), taps.var((2, 3, 4), correction=0, keepdim=True)
    taps = (taps - mean) / (var + 1e-5).sqrt()
    taps = taps * state["lkp.norm.weight"].view(2, 9, 1, 1) + state["lkp.norm.bias"].view(2, 9, 1, 1)
    expected = norm("bn", aggregated(x, taps, 3)) + x
    assert_same(layer(x), expected, (x, *layer.parameters()))


def test_errors_and_repr() -> None:
    with pytest.raises(ValueError, match="group_channels: expected a divisor of channels = 12, got 8"):
        LKP(12)
    with pytest.raises(ValueError, match=r"x: expected \(B, 16, H, W\), got \(1, 8, 4, 4\)"):
        LSConv(16)(torch.randn(1, 8, 4, 4))
    assert LSConv(16).extra_repr() == "16, large_kernel_size=7, kernel_size=3"
