"""RedNet's block against its definition, from a stand-in for the authors' checkpoints with their names."""

import pytest
import torch
import torch.nn.functional as F
from tests.nn.elsewhere.plain import assert_same, draw, filled, unfolded
from torch import Tensor

from ddfnet.nn import Involution, RedNetBottleneck

OURS = {"reduce.0.": "conv1.conv.", "reduce.1.": "conv1.bn.", "span.": "conv2.conv."}


def released_name(name: str) -> str:
    for ours, theirs in OURS.items():
        name = name.replace(ours, theirs)
    return name


def published(channels_in: int, channels_out: int, k: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a block's entries in the authors' checkpoints, without what batch norms count."""
    within, reduced = channels_out // 4, channels_out // 16
    shapes: dict[str, tuple[int, ...]] = {
        "conv1.weight": (within, channels_in, 1, 1),
        "conv2.conv1.conv.weight": (reduced, within, 1, 1),
        "conv2.conv2.conv.weight": (k * k * (within // 16), reduced, 1, 1),
        "conv2.conv2.conv.bias": (k * k * (within // 16),),
        "conv3.weight": (channels_out, within, 1, 1),
        "downsample.0.weight": (channels_out, channels_in, 1, 1),
    }
    norms = {"bn1": within, "conv2.conv1.bn": reduced, "bn2": within, "bn3": channels_out, "downsample.1": channels_out}
    for name, count in norms.items():
        shapes |= {f"{name}.{kind}": (count,) for kind in ("weight", "bias", "running_mean", "running_var")}
    return shapes


@pytest.mark.parametrize("stride", [1, 2])
def test_a_checkpoint_of_rednet_fits(stride: int) -> None:
    block = RedNetBottleneck(24, 128, stride=stride, kernel_size=5, backend="torch").double().eval()
    state = filled(block, released_name)
    named = {name: tuple(t.shape) for name, t in state.items() if not name.endswith("num_batches_tracked")}
    assert named == published(24, 128, 5)
    block.load_state_dict(state)
    parameters = {released_name(name): p for name, p in block.named_parameters()}
    x = draw(2, 24, 6, 8)

    def norm(name: str, y: Tensor) -> Tensor:
        mean, var = state[f"{name}.running_mean"].view(-1, 1, 1), state[f"{name}.running_var"].view(-1, 1, 1)
        weight, bias = (parameters[f"{name}.{kind}"].view(-1, 1, 1) for kind in ("weight", "bias"))
        return (y - mean) / (var + 1e-5).sqrt() * weight + bias

    inner = norm("bn1", F.conv2d(x, parameters["conv1.weight"])).clamp(min=0)
    reduced = F.conv2d(F.avg_pool2d(inner, stride), parameters["conv2.conv1.conv.weight"])
    reduced = norm("conv2.conv1.bn", reduced).clamp(min=0)
    filters = F.conv2d(reduced, parameters["conv2.conv2.conv.weight"], parameters["conv2.conv2.conv.bias"])
    filters = filters.unflatten(1, (2, 25)).repeat_interleave(16, dim=1)
    y = torch.einsum("bctpq,bctpq->bcpq", filters, unfolded(inner, 5, padding=2, stride=stride))
    y = norm("bn3", F.conv2d(norm("bn2", y).clamp(min=0), parameters["conv3.weight"]))
    shortcut = norm("downsample.1", F.conv2d(x, parameters["downsample.0.weight"], stride=stride))
    assert_same(block(x), (y + shortcut).clamp(min=0), (x, *block.parameters()))


def test_both_namings_of_an_involution_load() -> None:
    layer, other = Involution(16), Involution(16)
    released = {released_name(name): t for name, t in layer.state_dict().items()}
    assert set(released) & set(layer.state_dict()) == set()
    names = list(released)
    for state in (layer.state_dict(), released):
        other.reset_parameters()
        other.load_state_dict(state)
        assert all(torch.equal(a, b) for a, b in zip(layer.parameters(), other.parameters(), strict=True))
    assert list(released) == names  # the caller's dictionary stays


def test_shortcut_and_errors() -> None:
    block = RedNetBottleneck(64, 64, backend="torch")
    assert block.downsample is None
    assert block(torch.randn(1, 64, 5, 5)).shape == (1, 64, 5, 5)
    with pytest.raises(ValueError, match="channels_out: expected a multiple of 64, got 96"):
        RedNetBottleneck(64, 96)
    assert block.extra_repr() == "64, 64, backend='torch'"
