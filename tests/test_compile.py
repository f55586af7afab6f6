"""torch.compile: one graph, no recompilation as image sizes change, the outputs and gradients of eager."""

from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

import ddfnet
import ddfnet.models  # registers the networks

SIZES = ((2, 9, 12), (3, 15, 10), (2, 20, 31))


def predicted_ddf(x: Tensor, weight: Tensor) -> Tensor:
    channel_filter = x.mean((2, 3))[:, :, None, None] * weight
    spatial_filter = x[:, :1] * weight.flatten()[:, None, None]
    return ddfnet.ddf(x, channel_filter, spatial_filter)


def predicted_ddf_up(x: Tensor, weight: Tensor) -> Tensor:
    spatial_filter = torch.pixel_shuffle((x[:, :1] * weight.flatten()[:, None, None]).repeat(1, 4, 1, 1), 2)
    return ddfnet.ddf_up(x, None, spatial_filter)


def check(function: Callable[..., Tensor], make: Callable[..., tuple[Tensor, ...]], backend: str = "aot_eager") -> None:
    """One graph for all sizes; compares outputs and the gradients of every input that asks for one with eager."""
    torch._dynamo.reset()
    compiled = torch.compile(function, backend=backend, fullgraph=True, dynamic=True)
    for size in SIZES:
        results = []
        for run in (function, compiled):
            torch.manual_seed(0)
            inputs = make(*size)
            with torch._dynamo.config.patch(error_on_recompile=True):
                y = run(*inputs)
            y.square().sum().backward()
            results.append((y, [t.grad for t in inputs if t.requires_grad]))
        (expected, expected_grads), (got, got_grads) = results
        torch.testing.assert_close(got, expected)
        assert got.stride() == expected.stride()
        for a, b in zip(got_grads, expected_grads, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("function", "memory_format"),
    [
        (predicted_ddf, torch.channels_last),
        pytest.param(predicted_ddf, torch.contiguous_format, marks=pytest.mark.release),
        pytest.param(predicted_ddf_up, torch.contiguous_format, marks=pytest.mark.release),
        pytest.param(predicted_ddf_up, torch.channels_last, marks=pytest.mark.release),
    ],
)
def test_operators(function: Callable[..., Tensor], memory_format: torch.memory_format) -> None:
    def make(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(batch, 4, height, width).contiguous(memory_format=memory_format)
        return x.requires_grad_(), torch.randn(3, 3, requires_grad=True)

    check(function, make)


@pytest.mark.parametrize(
    ("operator", "backend"),
    [
        (ddfnet.ddf_up, "auto"),
        pytest.param(ddfnet.ddf, "auto", marks=pytest.mark.release),
        pytest.param(ddfnet.ddf, "reference", marks=pytest.mark.release),
        pytest.param(ddfnet.ddf_up, "reference", marks=pytest.mark.release),
    ],
)
def test_operators_given_their_filters(operator: Callable[..., Tensor], backend: str) -> None:
    """Every size of every input is the graph's; the first sizes all differ, for equal ones torch.compile takes as one."""
    r = 2 if operator is ddfnet.ddf_up else 1

    def make(batch: int, height: int, width: int) -> tuple[Tensor, ...]:
        batch, height, width = batch + 3, height + 2, width + 2
        channel = torch.randn(batch, *((r * r,) if r > 1 else ()), 6, 3, 3, requires_grad=True)
        spatial = torch.randn(batch, 2, 9, r * height, r * width, requires_grad=True)
        return torch.randn(batch, 6, height, width, requires_grad=True), channel, spatial

    check(lambda *given: operator(*given, backend=backend), make)


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(ddfnet.DDF(4), marks=pytest.mark.release),
        ddfnet.DDF(4, 5, stride=2, heads=2, combine="add", affine="paper", bias=True),
    ],
    ids=["default", "options"],
)
def test_layers(layer: nn.Module) -> None:
    check(layer, lambda batch, height, width: (torch.randn(batch, 4, height, width, requires_grad=True),))


@pytest.mark.release
def test_a_network() -> None:
    model = timm.create_model("ddf_resnet_mini").eval()
    check(model, lambda batch, height, width: (torch.randn(batch, 3, height + 20, width + 20, requires_grad=True),))


@pytest.mark.slow
def test_inductor() -> None:
    """With the compiler's default backend; needs a C++ compiler on the CPU, as all of inductor does."""
    layer = ddfnet.DDF(4, stride=2)
    check(layer, lambda batch, height, width: (torch.randn(batch, 4, height, width, requires_grad=True),), "inductor")


def test_under_autocast() -> None:
    torch._dynamo.reset()
    layer = ddfnet.DDF(8)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    x = torch.randn(2, 8, 10, 11)
    with torch.autocast("cpu", torch.bfloat16):
        got, expected = compiled(x), layer(x)
    assert got.dtype == expected.dtype == torch.bfloat16
    assert (got - expected).norm() < 0.02 * expected.norm()  # eager's kernels round between their steps less often


def test_a_recompilation_would_be_noticed() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: ddfnet.ddf(x, x.new_ones(2, 4, 3, 3)), backend="aot_eager", dynamic=False)
    compiled(torch.randn(2, 4, 5, 5))
    with (
        torch._dynamo.config.patch(error_on_recompile=True),
        pytest.raises(torch._dynamo.exc.RecompileError, match="size mismatch"),
    ):
        compiled(torch.randn(2, 4, 6, 5))
