"""The filter prediction's CPU kernels: within bounds of rounding, beside the modules in float64, and as an operator."""

import itertools
from typing import Any
from unittest.mock import patch

import pytest
import torch
from tests.ops.filters import interpret
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import ddfnet
from ddfnet.ops.filters.cpu import backend

pytest.importorskip("numba")

PLANE, CHANNELS_LAST = torch.contiguous_format, torch.channels_last
FORMATS = pytest.mark.parametrize("memory_format", [PLANE, CHANNELS_LAST], ids=["nchw", "nhwc"])


def filters_and_gradients(layer: ddfnet.DDF, x: Tensor) -> list[Tensor]:
    filters = [t for t in layer.filters(x) if t is not None]
    torch.manual_seed(3)
    grads = [torch.randn_like(t) for t in filters]
    return [*filters, *torch.autograd.grad(filters, [x, *layer.parameters()], grads)]


@FORMATS
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 5, 5, 4), {}),
        ((17, 35, 9, 11), {"stride": 2, "heads": 5}),
        pytest.param((2, 6, 13, 17), {"kernel_size": 7, "heads": 2}, marks=pytest.mark.release),
        pytest.param((2, 64, 9, 20), {"kernel_size": 5, "stride": 3}, marks=pytest.mark.release),
        ((3, 34, 1, 1), {}),
        ((1, 3, 4, 5), {}),
    ],
    ids=str,
)
def test_within_bounds(shape: Any, options: dict[str, int], memory_format: torch.memory_format) -> None:
    interpret.within_bounds(shape, memory_format, **options)


@pytest.mark.parametrize("branches", ["spatial", "channel"])
def test_one_branch_and_rows_apart(branches: str) -> None:
    interpret.within_bounds((3, 4, 3, 9), branches=branches, gap=True)


@pytest.mark.release
@FORMATS
@pytest.mark.parametrize("options", [{}, {"kernel_size": 5, "stride": 2, "heads": 2}], ids=str)
def test_float64(options: dict[str, int], memory_format: torch.memory_format) -> None:
    """To the last digits, values and gradients, whatever the batch: samples are made sixteen at a time."""
    for batch in (1, 19):
        layer = interpret.layer_of(6, **options).double()
        x = interpret.input_of(batch, 6, 7, 5, memory_format=memory_format).detach().double().requires_grad_()
        twin = interpret.by_modules(layer).double()
        twin.load_state_dict(layer.state_dict())
        assert layer._runs_as_one(x)
        assert not twin._runs_as_one(x)
        for got, want in zip(filters_and_gradients(layer, x), filters_and_gradients(twin, x), strict=True):
            assert got.dtype == torch.float64
            assert got.stride() == want.stride()
            torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.release)])
@FORMATS
def test_half_types_are_those_of_float32_rounded(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    layer = interpret.layer_of(10).to(dtype)
    x = interpret.input_of(2, 10, 5, 7, memory_format=memory_format).detach().to(dtype)
    exact = ddfnet.DDF(10, squeeze_ratio=0.8).to(torch.float64)
    exact.load_state_dict(layer.state_dict())
    with torch.no_grad():
        for got, want in zip(layer.filters(x), exact.filters(x.double()), strict=True):
            assert got.dtype == dtype
            torch.testing.assert_close(got, want.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-5)


def test_autocast_keeps_the_parameters_gradients_in_float32() -> None:
    layer, x = interpret.layer_of(8), interpret.input_of(2, 8, 6, 5)
    with torch.autocast("cpu", torch.bfloat16):
        channel, spatial = layer.filters(x)
    assert channel.dtype == spatial.dtype == torch.bfloat16
    (channel.sum() + spatial.square().sum()).backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in (x, *layer.parameters()))


@FORMATS
def test_results_do_not_depend_on_threads(memory_format: torch.memory_format) -> None:
    layer, x = interpret.layer_of(40), interpret.input_of(20, 40, 30, 28, memory_format=memory_format)
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            results.append(backend.predict(x.detach(), *weights_of(layer)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def weights_of(layer: ddfnet.DDF) -> tuple[Any, ...]:
    spatial, channel = (
        interpret.spatial_parameters(layer.spatial_branch),
        interpret.channel_parameters(layer.channel_branch),
    )
    assert spatial is not None
    assert channel is not None
    options = backend.Options(spatial.scale, layer.kernel_size, layer.stride, layer.heads)
    return (spatial.weight, spatial.bias), tuple(channel), options


@pytest.mark.parametrize(
    "check",
    [
        interpret.empty_batch,
        interpret.layer_is_prediction_and_ddf,
        interpret.hooks_are_served,
        interpret.second_derivatives,
        interpret.transforms_take_the_reference,
        interpret.flops_are_those_of_the_modules,
        interpret.operator_is_well_formed,
    ],
    ids=lambda check: check.__name__,
)
def test_as_an_operator(check: Any) -> None:
    check()


def test_nan_infinity_and_equal_taps() -> None:
    """NaN and infinity stay within their pixel and sample; taps that are all equal give zeros, as `filter_norm`."""
    layer = interpret.layer_of(4)
    for poison, at in itertools.product((float("nan"), float("inf")), (0, 3)):
        for memory_format in (PLANE, CHANNELS_LAST):
            x = interpret.input_of(3, 4, 4, 5, memory_format=memory_format).detach()
            x[1, at, 2, 3] = poison
            with torch.no_grad():
                found, expected = layer.filters(x), interpret.by_modules(layer).filters(x)
            for got, want in zip(found, expected, strict=True):
                assert torch.equal(got.isnan(), want.isnan())
                torch.testing.assert_close(got, want, equal_nan=True)
    spatial = layer.spatial_branch
    assert spatial is not None
    torch.nn.init.zeros_(spatial[0].weight)  # type: ignore[arg-type]
    torch.nn.init.zeros_(spatial[0].bias)  # type: ignore[arg-type]
    assert not layer.filters(interpret.input_of(3, 4, 4, 5))[1].any()


@pytest.mark.release
@FORMATS
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"branches": "channel"},
        {"branches": "spatial", "kernel_size": 5, "stride": 2, "heads": 3},
        {"init": "static", "kernel_size": 5, "stride": 2, "heads": 3},
    ],
)
def test_alpha_and_beta_of_the_paper(options: dict[str, Any], memory_format: torch.memory_format) -> None:
    """affine="paper" (Eq. 3): the kernels' filters and gradients, first and second, are those of the modules."""
    torch.manual_seed(0)
    layer = ddfnet.DDF(6, affine="paper", **options).double()
    for parameter in layer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    twin = ddfnet.DDF(6, affine="paper", backend="torch", **options).double()
    twin.load_state_dict(layer.state_dict())
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    assert layer._runs_as_one(x)
    results = []
    for each in (layer, twin):
        there = [filters for filters in each.filters(x) if filters is not None]
        inputs = [x, *each.parameters()]
        first = torch.autograd.grad(sum(t.sin().sum() for t in there), inputs, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
        results.append((*there, *first, *second))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)


def test_alpha_and_beta_of_the_paper_in_a_half_type() -> None:
    """Two roundings where the modules have one: of the normalised filter, then of its sum with beta."""
    torch.manual_seed(0)
    layer = ddfnet.DDF(6, affine="paper", init="static").bfloat16()
    x, half_an_ulp = torch.randn(2, 6, 5, 7).bfloat16(), 2.0**-9
    for found, branch in zip(layer.filters(x), (layer.channel_branch, layer.spatial_branch), strict=True):
        assert branch is not None
        exact = branch.double()(x.double()).view(found.shape)
        apart = (exact - branch[-1].beta.view(-1, *(1,) * (found.dim() - 2))).abs()
        allowed = 4 * half_an_ulp * (apart + exact.abs() + apart.amax())  # and those of the raw filters, before
        assert ((found.double() - exact).abs() <= allowed).all()


@pytest.mark.parametrize("name", ["auto", "numba", "torch", "triton"])
def test_which_backend_uses_them(name: Any) -> None:
    layer = ddfnet.DDF(4, backend=name)
    with patch.object(backend, "predict", side_effect=backend.predict) as used:
        layer.filters(torch.randn(1, 4, 5, 5))
    assert used.called == (name in ("auto", "numba"))


def test_without_numba_the_modules_serve() -> None:
    layer, x = ddfnet.DDF(4), torch.randn(1, 4, 5, 5)
    with patch.object(backend, "missing", lambda: "numba is not installed"):
        assert not layer._runs_as_one(x)
        layer.filters(x)


def test_within_activation_checkpointing() -> None:
    layer, x = interpret.layer_of(6), interpret.input_of(2, 6, 5, 7)
    expected = torch.autograd.grad(layer(x).sum(), [x, *layer.parameters()])
    y = checkpoint(layer, x, use_reentrant=False)
    assert all(map(torch.equal, torch.autograd.grad(y.sum(), [x, *layer.parameters()]), expected))


@FORMATS
@pytest.mark.parametrize("stride", [1, 2])
def test_averages_over_large_maps_lose_little(stride: int, memory_format: torch.memory_format) -> None:
    layer = ddfnet.DDF(4, stride=stride)
    x = torch.full((32, 4, 128, 160), 0.1).contiguous(memory_format=memory_format)
    pooled = backend.predict(x, *weights_of(layer)).pooled
    torch.testing.assert_close(pooled, torch.full_like(pooled, 0.1), rtol=1e-5, atol=0)


def altered(change: str) -> ddfnet.DDF:
    layer = ddfnet.DDF(4)
    spatial: Any = layer.spatial_branch
    if change == "kernel":
        spatial[0] = torch.nn.Conv2d(4, 9, 3, padding=1)
    elif change == "bias":
        spatial[0] = torch.nn.Conv2d(4, 9, 1, bias=False)
    elif change == "stride":
        spatial[0].stride = (2, 2)
    elif change == "forward":
        spatial[0].forward = lambda x: torch.ones(x.shape[0], 9, *x.shape[2:])
    elif change == "more":
        layer.spatial_branch = torch.nn.Sequential(spatial[0], torch.nn.ReLU(), spatial[1])
    return layer


def test_normalisations_of_other_filters_are_run_as_they_are() -> None:
    """The same number of taps as other filters, another pool, or another dtype: what the modules make of them counts."""
    x = torch.randn(2, 25, 4, 4)
    layers = [ddfnet.DDF(25), ddfnet.DDF(25, heads=25), ddfnet.DDF(25)]
    channel: Any = layers[0].channel_branch
    channel[4] = ddfnet.FilterNorm(9, 5, kind="channel")
    spatial: Any = layers[1].spatial_branch
    spatial[1] = ddfnet.FilterNorm(9, 5)
    pooled: Any = layers[2].channel_branch
    pooled[0] = torch.nn.AdaptiveAvgPool2d((1, 1))
    assert torch.equal(layers[0].filters(x)[0].flatten(1), channel(x).flatten(1))
    assert torch.equal(layers[1].filters(x)[1].flatten(1, 2), spatial(x))
    assert [layer._runs_as_one(x) for layer in layers] == [False, False, True]
    half = ddfnet.DDF(8).bfloat16()
    half.channel_branch[4].float()
    assert half(torch.randn(2, 8, 5, 5).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("change", ["kernel", "bias", "stride", "forward", "more"])
def test_branches_that_were_altered_are_run_as_they_are(change: str) -> None:
    layer, x = altered(change), torch.randn(2, 4, 6, 6)
    spatial = layer.spatial_branch
    assert spatial is not None
    assert torch.equal(layer.filters(x)[1].flatten(1, 2), spatial(x))


def test_a_hook_on_all_modules_is_served() -> None:
    seen: list[str] = []
    with torch.nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(type(module).__name__)):
        ddfnet.DDF(4).filters(torch.randn(1, 4, 5, 5))
    assert "FilterNorm" in seen


def test_no_pixel_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"x: expected a pixel or more, got \(2, 4, 0, 3\)"):
        ddfnet.DDF(4).filters(torch.randn(2, 4, 0, 3))


def test_whatever_the_default_device() -> None:
    layer, x = ddfnet.DDF(5), torch.randn(2, 5, 11, 13)
    expected = layer(x)
    with torch.device("meta"):
        assert torch.equal(layer(x), expected)
        assert torch.equal(
            ddfnet.DDF(7, device="cpu").filters(torch.ones(1, 7, 3, 5, device="cpu"))[0].isnan(),
            torch.zeros(1, 7, 3, 3, device="cpu") > 0,
        )
