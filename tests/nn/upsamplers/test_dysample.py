"""`DySample` against its definition, point by point."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddfnet.nn.upsamplers.dysample import DySample


def sampled(layer: DySample, x: Tensor) -> Tensor:
    """Bilinear samples of each group's channels, one point at a time, positions in pixels of x, centres at k + 0.5."""
    r, g, (batch, channels, height, width) = layer.scale_factor, layer.groups, x.shape
    state = layer.state_dict()
    lp = layer.style == "lp"
    source = x if lp else F.pixel_shuffle(x, r)
    offset = F.conv2d(source, state["offset.weight"], state["offset.bias"])
    scope: Tensor | float = 0.25
    if layer.dynamic_scope:
        scope = 0.5 / (1 + (-F.conv2d(source, state["scope.weight"])).exp())
    offset = offset * scope
    y = x.new_zeros(batch, channels, r * height, r * width)
    per_group = channels // g
    for b in range(batch):
        for group in range(g):
            for row in range(r * height):
                for column in range(r * width):
                    if lp:  # channel ((axis * g + group) * r + i) * r + j of the low-resolution map
                        phase, at = (row % r) * r + column % r, (row // r, column // r)
                        right, down = (offset[b, (a * g + group) * r * r + phase, *at].item() for a in (0, 1))
                    else:
                        right, down = (offset[b, a * g + group, row, column].item() for a in (0, 1))
                    # The border's pixels reach outward: no point leaves their centres.
                    v = min(max((row + 0.5) / r + down, 0.5), height - 0.5) - 0.5
                    h = min(max((column + 0.5) / r + right, 0.5), width - 0.5) - 0.5
                    top, left = math.floor(v), math.floor(h)
                    bottom, beside = min(top + 1, height - 1), min(left + 1, width - 1)
                    v, h = v - top, h - left
                    values = x[b, group * per_group : (group + 1) * per_group]
                    upper = (1 - h) * values[:, top, left] + h * values[:, top, beside]
                    lower = (1 - h) * values[:, bottom, left] + h * values[:, bottom, beside]
                    y[b, group * per_group : (group + 1) * per_group, row, column] = (1 - v) * upper + v * lower
    return y


@pytest.mark.parametrize("dynamic_scope", [False, True])
@pytest.mark.parametrize(("style", "channels", "r", "groups"), [("lp", 6, 2, 3), ("lp", 4, 3, None), ("pl", 8, 2, 2)])
def test_equals_its_definition(style: str, channels: int, r: int, groups: int | None, dynamic_scope: bool) -> None:
    torch.manual_seed(0)
    layer = DySample(channels, r, style=style, groups=groups, dynamic_scope=dynamic_scope).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_()  # offsets of a pixel and more, past the borders too
    x = torch.randn(2, channels, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), sampled(layer, x))


@pytest.mark.parametrize("dynamic_scope", [False, True])
@pytest.mark.parametrize("style", ["lp", "pl"])
def test_starts_near_bilinear_interpolation(style: str, dynamic_scope: bool) -> None:
    torch.manual_seed(0)
    layer = DySample(8, 2, style=style, dynamic_scope=dynamic_scope)  # type: ignore[arg-type]
    x = torch.randn(2, 8, 5, 6)
    bilinear = F.interpolate(x, scale_factor=2, mode="bilinear")
    assert (layer(x) - bilinear).norm() < 0.01 * bilinear.norm()
    torch.nn.init.zeros_(layer.offset.weight)
    torch.testing.assert_close(layer(x), bilinear)
    assert layer.offsets(x).shape == (2, 2, 4, 10, 12)


def test_weights_of_the_authors_layer_fit() -> None:
    def shapes(**options: object) -> dict[str, tuple[int, ...]]:
        return {name: tuple(p.shape) for name, p in DySample(256, **options).named_parameters()}  # type: ignore[arg-type]

    lp = {"offset.weight": (32, 256, 1, 1), "offset.bias": (32,)}
    assert shapes() == lp
    assert shapes(dynamic_scope=True) == {**lp, "scope.weight": (32, 256, 1, 1)}
    assert shapes(style="pl") == {"offset.weight": (8, 64, 1, 1), "offset.bias": (8,)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": "xy"}, "style: expected 'lp' or 'pl', got 'xy'"),
        ({"groups": 4}, "groups: expected a divisor of channels = 6, got 4"),
        ({"groups": 0}, "groups: expected an int >= 1, got 0"),
        ({"style": "pl"}, "channels: expected a multiple of 4 with style='pl', got 6"),
    ],
)
def test_errors(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DySample(6, **options)


def test_repr() -> None:
    assert DySample(6).extra_repr() == "6, scale_factor=2, groups=1"
    assert DySample(8, 3, dynamic_scope=True).extra_repr() == "8, scale_factor=3, groups=4, dynamic_scope=True"
