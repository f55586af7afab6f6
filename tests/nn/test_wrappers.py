"""Layers whose convolutions somebody wrapped: what the wrapper computes counts, at every step."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import ddfnet
from ddfnet.nn.filters import ChannelBranch, SpatialBranch


class LowRank(nn.Module):
    """A frozen convolution plus a trained low-rank one, as LoRA adds it."""

    def __init__(self, base: nn.Conv2d) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Conv2d(base.in_channels, 2, 1, bias=False)
        self.up = nn.Conv2d(2, base.out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x).mean((2, 3), keepdim=True))


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def wrap(parent: nn.Module, name: str, how: str) -> None:
    conv: Any = getattr(parent, name) if not name.isdigit() else parent[int(name)]  # type: ignore[index]
    if how == "spectral_norm":
        nn.utils.spectral_norm(conv)
    elif how == "parametrized":
        nn.utils.parametrize.register_parametrization(conv, "weight", Doubled())
    elif how == "pruned":
        prune.l1_unstructured(conv, "weight", amount=0.5)
    elif how == "lora":
        setattr(parent, name, LowRank(conv))
    elif how == "forward":
        conv.forward = lambda x, forward=conv.forward: 2 * forward(x)
    elif how == "hook":
        conv.register_forward_hook(lambda module, args, y: 2 * y)
    elif how == "pre-hook":
        conv.register_forward_pre_hook(lambda module, args: (2 * args[0],))


WRAPPERS = ("spectral_norm", "parametrized", "pruned", "lora", "forward", "hook", "pre-hook")
PLACES: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "DDF spatial": (lambda: ddfnet.DDF(8, backend="torch"), "spatial_branch", "0"),
    "DDF squeeze": (lambda: ddfnet.DDF(8, backend="torch"), "channel_branch", "1"),
    "DDF channel": (lambda: ddfnet.DDF(8, backend="torch"), "channel_branch", "3"),
    "DDFUp guidance": (lambda: ddfnet.DDFUp(8, backend="torch"), "spatial_branch.0", "guidance"),
    "DDFUp spatial": (lambda: ddfnet.DDFUp(8, backend="torch"), "spatial_branch.0", "predict"),
    "DDFUp guided": (lambda: ddfnet.DDFUp(8, guide_channels=8, backend="torch"), "spatial_branch", "0"),
    "DDFUp channel": (lambda: ddfnet.DDFUp(8, backend="torch"), "channel_branch", "3"),
}


@pytest.mark.parametrize("how", WRAPPERS)
@pytest.mark.parametrize("place", PLACES)
def test_what_a_wrapper_computes_counts(place: str, how: str) -> None:
    """Three training steps, and the wrapped module runs once in each: none is bypassed, no graph is used twice."""
    make, path, name = PLACES[place]
    torch.manual_seed(0)
    layer = make()
    parent: Any = layer.get_submodule(path)
    x = torch.randn(2, 8, 5, 6)
    given = (x, x) if place == "DDFUp guided" else (x,)
    before = layer(*given)
    wrap(parent, name, how)
    module: Any = parent.get_submodule(name)
    calls = []
    real = module.forward
    module.forward = lambda *args: (calls.append(1), real(*args))[1]
    optimiser = torch.optim.SGD(layer.parameters(), 0.01)
    for step in range(3):
        y = layer(*given)
        assert len(calls) == step + 1
        optimiser.zero_grad()
        y.square().mean().backward()
        optimiser.step()
    trained = [p for p in module.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)
    if how in ("parametrized", "forward", "hook") and "DDFUp guidance" in place:
        assert not torch.equal(before, layer(*given))


def plain_branches(layer: ddfnet.DDF) -> list[bool]:
    spatial, channel = layer.spatial_branch, layer.channel_branch
    return [
        type(spatial) is SpatialBranch and spatial.is_plain(layer.kernel_size, layer.stride),
        type(channel) is ChannelBranch and channel.is_plain(layer.kernel_size),
    ]


@pytest.mark.parametrize("how", WRAPPERS)
def test_which_branches_are_plain(how: str) -> None:
    layer = ddfnet.DDF(8)
    assert plain_branches(layer) == [True, True]
    wrap(layer.spatial_branch, "0", how)  # type: ignore[arg-type]
    assert plain_branches(layer) == [False, True]
    layer = ddfnet.DDF(8)
    wrap(layer.channel_branch, "3", how)  # type: ignore[arg-type]
    assert plain_branches(layer) == [True, False]


def test_a_layer_with_a_global_hook_runs_its_modules() -> None:
    layer, x = ddfnet.DDFUp(8, backend="torch"), torch.randn(1, 8, 5, 6)
    seen: list[str] = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    try:
        hooked = layer(x)
    finally:
        handle.remove()
    assert seen.count("Conv2d") == 2
    torch.testing.assert_close(hooked, layer(x))


@pytest.mark.parametrize("phases", [2, 3])
def test_separable_convolutions_one_by_one_or_grouped(phases: int) -> None:
    torch.manual_seed(0)
    layer: Any = ddfnet.DDFUp(6, phases, backend="torch").double()
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    separable = layer.spatial_branch[0]
    assert separable._is_plain()
    expected = separable(x)
    separable.guidance.register_forward_hook(lambda *_: None)
    assert not separable._is_plain()
    torch.testing.assert_close(separable(x), expected)
