"""`predict_filters` where its kernels can't run: the modules' results to the bit, and its errors."""

from typing import Any

import pytest
import torch
from tests.ops.filters import bounded

import ddfnet
from ddfnet.nn.filters import channel_parameters, spatial_parameters
from ddfnet.ops.filters import api
from ddfnet.ops.filters.api import predict_filters, unsupported


def layer_of(**options: Any) -> ddfnet.DDF:
    torch.manual_seed(0)
    return ddfnet.DDF(6, squeeze_ratio=0.8, backend="torch", **options)


@pytest.mark.parametrize("branches", ["both", "spatial", "channel"])
@pytest.mark.parametrize("options", [{}, {"kernel_size": 5, "stride": 2, "heads": 3}], ids=["default", "options"])
def test_is_what_the_modules_compute(options: dict[str, int], branches: Any) -> None:
    if branches == "channel":
        options = {name: value for name, value in options.items() if name != "heads"}
    layer = layer_of(branches=branches, **options)
    x = torch.randn(2, 6, 5, 7, requires_grad=True)
    inputs, results = [x, *layer.parameters()], []
    rest = {"kernel_size": layer.kernel_size, "stride": layer.stride, "heads": layer.heads}
    parameters = spatial_parameters(layer.spatial_branch), channel_parameters(layer.channel_branch)
    for filters in (api._reference(x, *parameters, *rest.values()), layer.filters(x)):
        assert [t is None for t in filters] == [branches == "spatial", branches == "channel"]
        there = [t for t in filters if t is not None]
        results.append((*there, *torch.autograd.grad([t.sin().sum() for t in there], inputs)))
    assert all(map(torch.equal, *results))


def test_bounds_are_of_the_same_function() -> None:
    """The definition that the kernels are held to, against the modules in float64: values and every gradient."""
    layer = layer_of(stride=2, heads=3).double()
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64, requires_grad=True)
    channel, spatial = layer.filters(x)
    grads = torch.randn_like(channel), torch.randn_like(spatial)
    found = torch.autograd.grad((channel, spatial), [x, *layer.parameters()], grads)
    first, of_spatial = bounded.spatial(x, *spatial_parameters(layer.spatial_branch), grads[1], 2, 3)
    second, of_channel = bounded.channel(x, *channel_parameters(layer.channel_branch), grads[0], 9)
    grad_x = of_channel[0].value[..., None, None].expand(x.shape).clone()
    grad_x[:, :, ::2, ::2] += of_spatial[0].value.permute(0, 3, 1, 2)
    expected = (grad_x, of_spatial[1].value, of_spatial[2].value, *(g.value for g in of_channel[1:]))
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want.reshape(got.shape))
    torch.testing.assert_close(spatial.permute(0, 3, 4, 1, 2), first.value)
    torch.testing.assert_close(channel.flatten(2), second.value)
    for each in (first, second, *of_spatial, *of_channel):
        assert each.error.max() < 1e-2 * each.value.abs().max()  # a bound that says something


def test_where_the_kernels_run() -> None:
    x = torch.empty(1, 4, 2, 2)
    assert unsupported(x, 3, 1) is unsupported(x, 3, 1, "auto") is unsupported(x, 3, 1, "numba") is None
    assert "backend='triton'" in str(unsupported(x, 3, 1, "triton"))
    assert "backend='torch'" in str(unsupported(x, 3, 1, "torch"))
    assert "floats" in str(unsupported(x.int(), 3, 1))
    elsewhere = torch.empty(1, 4, 2, 2, device="meta")
    assert "CUDA" in str(unsupported(elsewhere, 3, 1))
    assert "float64" in str(unsupported(elsewhere.double(), 3, 1))
    assert "too many" in str(unsupported(elsewhere, 3, 9))
    seen = []
    torch.func.vmap(lambda x: seen.append(unsupported(x, 3, 1)) or x)(x)
    assert "reference" in str(seen[0])


def branches() -> tuple[api.SpatialWeights, api.ChannelWeights]:
    layer = layer_of()
    return spatial_parameters(layer.spatial_branch), channel_parameters(layer.channel_branch)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.ones(6, 4, 4)}, ValueError, r"x: expected \(B, C, H, W\), got \(6, 4, 4\)"),
        ({"kernel_size": 1}, ValueError, "kernel_size: expected an odd number >= 3, got 1"),
        ({"stride": 0}, ValueError, "stride: expected an int >= 1, got 0"),
        ({"heads": 0}, ValueError, "heads: expected an int >= 1, got 0"),
        ({"heads": 2}, ValueError, r"spatial.weight: expected \(18, 6, 1, 1\), got \(9, 6, 1, 1\)"),
        ({"x": torch.ones(1, 5, 4, 4)}, ValueError, r"spatial.weight: expected \(9, 5, 1, 1\), got \(9, 6, 1, 1\)"),
        ({"x": torch.ones(1, 6, 4, 4).half()}, TypeError, "spatial.weight: expected the dtype of x, torch.float16"),
        ({"x": torch.ones(1, 6, 4, 4, device="meta")}, ValueError, "spatial.weight: expected the device of x, meta"),
        ({"scale": torch.ones(9)}, ValueError, r"channel.scale: expected \(54,\), got \(9,\)"),
        ({"spatial_scale": 0.0}, ValueError, "spatial.scale: expected a number other than 0, got 0"),
    ],
)
def test_errors(change: dict[str, Any], error: type[Exception], message: str) -> None:
    spatial, channel = branches()
    options: dict[str, Any] = {"x": torch.ones(1, 6, 4, 4), "kernel_size": 3, **change}
    if "scale" in options:
        channel = channel._replace(scale=options.pop("scale"))
    if "spatial_scale" in options:
        spatial = spatial._replace(scale=options.pop("spatial_scale"))
    with pytest.raises(error, match=message):
        predict_filters(options.pop("x"), spatial, channel, **options)
