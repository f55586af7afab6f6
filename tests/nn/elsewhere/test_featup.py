"""FeatUp's layers against their definition over unfolded patches, and a stand-in for its checkpoints."""

import pytest
import torch
import torch.nn.functional as F
from tests.nn.elsewhere.plain import assert_same, draw, filled, unfolded
from tests.ops.ddf.backends import PLAIN
from tests.ops.ddf.test_op import Allocations
from torch import Tensor

from ddfnet.nn import JBULearnedRange, JBUStack, adaptive_conv


@pytest.mark.parametrize("backend", PLAIN)
@pytest.mark.parametrize("k", [3, 7])
def test_adaptive_conv(k: int, backend: str) -> None:
    x, filters = draw(2, 5, 6 + k - 1, 7 + k - 1), draw(2, 6, 7, k, k, seed=1)
    patches = unfolded(x, k, padding=0).unflatten(2, (k, k))
    expected = torch.einsum("bhwuv,bcuvhw->bchw", filters, patches)
    assert_same(adaptive_conv(x, filters, backend=backend), expected, (x, filters))  # type: ignore[arg-type]


def test_adaptive_conv_copies_nothing() -> None:
    x, filters = torch.randn(1, 32, 30, 30), torch.randn(1, 24, 24, 7, 7)
    with torch.no_grad(), Allocations().of(x, filters) as seen:
        y = adaptive_conv(x, filters, backend="torch")
    assert seen.peak <= 3 * y.nbytes  # the patches are 49 times as large as y, the filters one and a half times


def test_adaptive_conv_errors() -> None:
    x = torch.randn(1, 4, 12, 12)
    with pytest.raises(ValueError, match=r"filters: expected \(B, H, W, k, k\), got \(1, 49, 6, 6\)"):
        adaptive_conv(x, torch.randn(1, 49, 6, 6))
    with pytest.raises(ValueError, match=r"spatial_filter: expected \(1, 49, 6, 6\), got \(1, 49, 5, 6\)"):
        adaptive_conv(x, torch.randn(1, 5, 6, 7, 7))


def plain_range(state: dict[str, Tensor], prefix: str, x: Tensor, guide: Tensor, radius: int) -> Tensor:
    """`JBULearnedRange` in eval mode, from a checkpoint's entries."""

    def project(name: str, of: Tensor) -> Tensor:
        weights = [state[f"{prefix}{name}.{i}.{kind}"] for i in (0, 3) for kind in ("weight", "bias")]
        return F.conv2d(F.gelu(F.conv2d(of, *weights[:2])), *weights[2:])

    k = 2 * radius + 1
    keys = project("range_proj", guide)
    patches = unfolded(F.pad(keys, (radius,) * 4, mode="reflect"), k, padding=0)
    likeness = torch.einsum("bctpq,bcpq->btpq", patches, keys)
    weights = (state[prefix + "range_temp"].exp() * likeness).softmax(1)
    distances = torch.tensor([(u / radius) ** 2 + (v / radius) ** 2 for u in range(-radius, radius + 1)
                              for v in range(-radius, radius + 1)], dtype=torch.float64)  # fmt: skip
    weights = weights * torch.exp(-distances / (2 * state[prefix + "sigma_spatial"] ** 2))[:, None, None]
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-7)
    weights = weights + 0.1 * project("fixup_proj", torch.cat([weights, guide], 1))
    y = F.interpolate(x, size=guide.shape[2:], mode="bicubic")
    patches = unfolded(F.pad(y, (radius,) * 4, mode="reflect"), k, padding=0)
    return torch.einsum("btpq,bctpq->bcpq", weights, patches)


@pytest.mark.parametrize("backend", PLAIN)
@pytest.mark.parametrize("radius", [1, 2])
def test_learned_range(radius: int, backend: str) -> None:
    layer = JBULearnedRange(3, 4, radius=radius, backend=backend).double().eval()  # type: ignore[arg-type]
    layer.load_state_dict(filled(layer))
    x, guide = draw(2, 5, 3, 4), draw(2, 3, 7, 8, seed=1)
    expected = plain_range(dict(layer.named_parameters()), "", x, guide, radius)
    assert_same(layer(x, guide), expected, (x, guide, *layer.parameters()))


RANGE = {  # of a checkpoint of FeatUp: names and shapes
    "range_temp": (),
    "range_proj.0.weight": (32, 3, 1, 1),
    "range_proj.0.bias": (32,),
    "range_proj.3.weight": (32, 32, 1, 1),
    "range_proj.3.bias": (32,),
    "fixup_proj.0.weight": (49, 52, 1, 1),
    "fixup_proj.0.bias": (49,),
    "fixup_proj.3.weight": (49, 49, 1, 1),
    "fixup_proj.3.bias": (49,),
    "sigma_spatial": (),
}


def test_a_checkpoint_of_featup_fits() -> None:
    published = {f"up{n}.{name}": shape for n in (1, 2, 3, 4) for name, shape in RANGE.items()}
    published |= {"fixup_proj.1.weight": (8, 8, 1, 1), "fixup_proj.1.bias": (8,)}
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.rand(shape, generator=generator, dtype=torch.float64) / 4 + 0.1 for name, shape in published.items()
    }
    stack = JBUStack(8, backend="torch").double().eval()
    stack.load_state_dict(state)
    x, guide = draw(1, 8, 2, 2), draw(1, 3, 32, 32, seed=1)
    y: Tensor = x
    for n, size in ((1, 4), (2, 8), (3, 16), (4, 32)):
        y = plain_range(state, f"up{n}.", y, F.adaptive_avg_pool2d(guide, size), 3)
    y = y + 0.1 * F.conv2d(y, state["fixup_proj.1.weight"], state["fixup_proj.1.bias"])
    assert_same(stack(x, guide), y, (x, guide))


def test_training_memory_never_holds_the_patches() -> None:
    """Neither of the keys, of which there are 49 a pixel, nor of the features."""
    layer = JBULearnedRange(3, 16, backend="torch")
    x, guide = torch.randn(1, 48, 10, 10), torch.rand(1, 3, 40, 40)
    one_map = 4 * 40 * 40
    with Allocations().of(x, guide, *layer.parameters()) as seen:
        layer(x, guide).sum().backward()
    assert seen.largest <= 2 * 49 * one_map
    assert seen.peak < 49 * 48 * one_map / 2


def test_stack_as_an_upsampler() -> None:
    stack = JBUStack(4, key_channels=5, radius=1, backend="torch")
    x, guide = torch.randn(2, 4, 3, 2), torch.rand(2, 3, 50, 33)
    assert stack(x, guide).shape == (2, 4, 48, 32)
    assert stack.eval()(x, guide, (47, 31)).shape == (2, 4, 47, 31)
    stack.reset_parameters()
    assert stack.up3.sigma_spatial == 1
    with pytest.raises(ValueError, match=r"guide: expected \(B, 3, height, width\), got None"):
        stack(x)
    with pytest.raises(ValueError, match=r"guide: expected a height and width > radius = 3, got \(1, 3, 3, 9\)"):
        JBULearnedRange()(torch.randn(1, 4, 2, 2), torch.rand(1, 3, 3, 9))
    assert stack.extra_repr() == "4, key_channels=5, radius=1, backend='torch'"


def test_half_types() -> None:
    layer = JBULearnedRange(3, 4, radius=1, backend="torch")
    x, guide = torch.randn(1, 4, 3, 3), torch.rand(1, 3, 6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x, guide)
    assert (y.float() - layer.eval()(x, guide)).norm() < 0.2 * y.float().norm()
    assert layer.bfloat16()(x.bfloat16(), guide.bfloat16()).dtype == torch.bfloat16
