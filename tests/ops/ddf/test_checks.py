"""Every error of checks.py and of the choice of a backend: its type, and the argument, the expected and what came."""

import re
from typing import Any

import pytest
import torch

import ddfnet
from ddfnet.ops.ddf import plain as torch_kernels
from ddfnet.ops.ddf.geometry import check

X = torch.ones(2, 6, 5, 4)
CHANNEL = torch.ones(2, 6, 3, 3)
SPATIAL = torch.ones(2, 9, 5, 4)
WRONG = (
    ((None,), {}, TypeError, "x: expected a torch.Tensor, got NoneType"),
    (([1.0], CHANNEL), {}, TypeError, "x: expected a torch.Tensor, got list"),
    ((X, 3), {}, TypeError, "channel_filter: expected a torch.Tensor or None, got int"),
    ((X, None, "a"), {}, TypeError, "spatial_filter: expected a torch.Tensor or None, got str"),
    ((X, CHANNEL), {"stride": 2.0}, TypeError, "stride: expected an int, got 2.0"),
    ((X, CHANNEL), {"stride": True}, TypeError, "stride: expected an int, got True"),
    ((X, CHANNEL), {"stride": None}, TypeError, "stride: expected an int, got None"),
    ((X, CHANNEL), {"dilation": "2"}, TypeError, "dilation: expected an int, got '2'"),
    ((X, CHANNEL), {"kernel_size": 3.0}, TypeError, "kernel_size: expected an int, got 3.0"),
    ((X, CHANNEL), {"kernel_size": False}, TypeError, "kernel_size: expected an int, got False"),
    ((X,), {}, ValueError, "channel_filter, spatial_filter: expected at least one of the two, got None for both"),
    ((X, CHANNEL), {"combine": "max"}, ValueError, "combine: expected 'mul' or 'add', got 'max'"),
    ((X, CHANNEL), {"padding": 1}, TypeError, "padding: expected a string, got 1"),
    ((X, CHANNEL), {"padding": "full"}, ValueError, "padding: expected 'same' or 'valid', got 'full'"),
    (
        (X, CHANNEL),
        {"padding": "valid", "dilation": 2},
        ValueError,
        "x: expected a height and width > 4 = (k - 1) * dilation, got (2, 6, 5, 4)",
    ),
    (
        (X, CHANNEL, SPATIAL),
        {"padding": "valid"},
        ValueError,
        "spatial_filter: expected (2, 9, 3, 2), got (2, 9, 5, 4)",
    ),
    ((X, CHANNEL), {"stride": 0}, ValueError, "stride: expected an int >= 1, got 0"),
    ((X, CHANNEL), {"dilation": -1}, ValueError, "dilation: expected an int >= 1, got -1"),
    ((X, CHANNEL), {"stride": 2**31}, ValueError, "stride: expected an int <= 2147483647, got 2147483648"),
    (
        (X, CHANNEL),
        {"dilation": 2**64},
        ValueError,
        "dilation: expected an int <= 2147483647, got 18446744073709551616",
    ),
    ((X, CHANNEL), {"kernel_size": 0}, ValueError, "kernel_size: expected an int >= 1, got 0"),
    ((X, CHANNEL), {"kernel_size": 4}, ValueError, "kernel_size: expected an odd number, got 4"),
    (
        (X, CHANNEL),
        {"kernel_size": 5},
        ValueError,
        "kernel_size: expected 3, the kernel size of channel_filter (2, 6, 3, 3), got 5",
    ),
    (
        (X, None, SPATIAL),
        {"kernel_size": 5},
        ValueError,
        "kernel_size: expected 3, the kernel size of spatial_filter (2, 9, 5, 4), got 5",
    ),
    ((X, torch.ones(2, 6, 4, 4)), {}, ValueError, "kernel_size: expected an odd number, got 4 from channel_filter"),
    ((X, None, torch.ones(2, 16, 5, 4)), {}, ValueError, "kernel_size: expected an odd number, got 4 from spatial"),
    (
        (X, None, torch.ones(2, 8, 5, 4)),
        {},
        ValueError,
        "spatial_filter: expected k*k taps with k odd, got 8 taps in spatial_filter (2, 8, 5, 4)",
    ),
    ((X[0], CHANNEL), {}, ValueError, "x: expected (B, C, H, W) with C, H, W >= 1, got (6, 5, 4)"),
    ((X[:, :, :0], CHANNEL), {}, ValueError, "x: expected (B, C, H, W) with C, H, W >= 1, got (2, 6, 0, 4)"),
    ((X[:, :0], CHANNEL), {}, ValueError, "x: expected (B, C, H, W) with C, H, W >= 1, got (2, 0, 5, 4)"),
    ((X.long(), CHANNEL), {}, TypeError, "x: expected float32, float64, float16 or bfloat16, got int64"),
    (
        (X.to(torch.complex64), CHANNEL),
        {},
        TypeError,
        "x: expected float32, float64, float16 or bfloat16, got complex64",
    ),
    ((X.to_sparse(), CHANNEL), {}, TypeError, "x: expected a dense tensor, got one of layout torch.sparse_coo"),
    (
        (X, CHANNEL.to_sparse()),
        {},
        TypeError,
        "channel_filter: expected a dense tensor, got one of layout torch.sparse",
    ),
    (
        (X, None, SPATIAL.to_mkldnn()),
        {},
        TypeError,
        "spatial_filter: expected a dense tensor, got one of layout torch._mk",
    ),
    ((X, torch.ones(6, 3, 3)), {}, ValueError, "channel_filter: expected (B, C, k, k), got (6, 3, 3)"),
    ((X, torch.ones(2, 5, 3, 3)), {}, ValueError, "channel_filter: expected (2, 6, 3, 3), got (2, 5, 3, 3)"),
    ((X, torch.ones(1, 6, 3, 3)), {}, ValueError, "channel_filter: expected (2, 6, 3, 3), got (1, 6, 3, 3)"),
    ((X, torch.ones(2, 6, 5, 3)), {}, ValueError, "channel_filter: expected (2, 6, 3, 3), got (2, 6, 5, 3)"),
    ((X, torch.ones(2, 1, 6, 3, 3)), {}, ValueError, "channel_filter: expected (2, 6, 3, 3), got (2, 1, 6, 3, 3)"),
    ((X, None, SPATIAL[0]), {}, ValueError, "spatial_filter: expected (B, K, P, Q) or (B, G, K, P, Q), got (9, 5, 4)"),
    ((X, CHANNEL, SPATIAL[:, :, 1:]), {}, ValueError, "spatial_filter: expected (2, 9, 5, 4), got (2, 9, 4, 4)"),
    ((X, CHANNEL, SPATIAL), {"stride": 2}, ValueError, "spatial_filter: expected (2, 9, 3, 2), got (2, 9, 5, 4)"),
    ((X, CHANNEL, SPATIAL[:1]), {}, ValueError, "spatial_filter: expected (2, 9, 5, 4), got (1, 9, 5, 4)"),
    ((X, CHANNEL, torch.ones(2, 25, 5, 4)), {}, ValueError, "spatial_filter: expected (2, 9, 5, 4), got (2, 25, 5, 4)"),
    (
        (X, CHANNEL, torch.ones(2, 3, 25, 5, 4)),
        {},
        ValueError,
        "spatial_filter: expected (2, 3, 9, 5, 4), got (2, 3, 25, 5, 4)",
    ),
    (
        (X, None, torch.ones(2, 4, 9, 5, 4)),
        {},
        ValueError,
        "spatial_filter: expected heads that divide 6 channels, got 4 heads",
    ),
    (
        (X, None, torch.ones(2, 0, 9, 5, 4)),
        {},
        ValueError,
        "spatial_filter: expected heads that divide 6 channels, got 0 heads",
    ),
    ((X, CHANNEL.double()), {}, TypeError, "channel_filter: expected the dtype of x, float32, got float64"),
    ((X.half(), None, SPATIAL), {}, TypeError, "spatial_filter: expected the dtype of x, float16, got float32"),
    ((X, CHANNEL.to("meta")), {}, ValueError, "channel_filter: expected the device of x, cpu, got meta"),
    ((X.to("meta"), None, SPATIAL), {}, ValueError, "spatial_filter: expected the device of x, meta, got cpu"),
)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("backend", ["auto", "reference", "torch"])
@pytest.mark.parametrize(("args", "options", "error", "message"), WRONG, ids=lambda value: str(value)[:50])
def test_ddf_says_what_is_wrong(
    args: Any, options: dict[str, Any], error: type[Exception], message: str, backend: Any, grad: bool
) -> None:
    with torch.set_grad_enabled(grad), pytest.raises(error, match=re.escape(message)):
        ddfnet.ddf(*args, **options, backend=backend)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor() -> None:
    with pytest.raises(TypeError, match="x: expected a dense tensor, got a nested one"):
        ddfnet.ddf(torch.nested.nested_tensor([X[0], X[1]]), CHANNEL)


UP = torch.ones(2, 9, 10, 8)
WRONG_UP = (
    ((X, None, UP), {"scale_factor": 2.0}, TypeError, "scale_factor: expected an int, got 2.0"),
    ((X, None, UP), {"scale_factor": 0}, ValueError, "scale_factor: expected an int >= 1, got 0"),
    ((X, None, SPATIAL), {}, ValueError, "spatial_filter: expected (2, 9, 10, 8), got (2, 9, 5, 4)"),
    ((X, None, UP), {"scale_factor": 3}, ValueError, "spatial_filter: expected (2, 9, 15, 12), got (2, 9, 10, 8)"),
    (
        (X, torch.ones(2, 3, 6, 3, 3)),
        {},
        ValueError,
        "channel_filter: expected (2, 4, 6, 3, 3), got (2, 3, 6, 3, 3)",
    ),
    ((X, torch.ones(2, 4, 3, 3)), {}, ValueError, "channel_filter: expected (2, 6, 3, 3), got (2, 4, 3, 3)"),
)


@pytest.mark.parametrize("backend", ["auto", "reference", "torch"])
@pytest.mark.parametrize(("args", "options", "error", "message"), WRONG_UP, ids=lambda value: str(value)[:50])
def test_ddf_up_says_what_is_wrong(
    args: Any, options: dict[str, Any], error: type[Exception], message: str, backend: Any
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        ddfnet.ddf_up(*args, **options, backend=backend)


def test_stride_and_scale_factor_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="stride, scale_factor: expected one of them to be 1, got 2 and 3"):
        check(X, CHANNEL, None, stride=2, scale_factor=3)


@pytest.mark.parametrize("call", [ddfnet.ddf, ddfnet.ddf_up])
def test_unknown_backend(call: Any) -> None:
    expected = r"backend: expected one of 'auto', 'reference', .*'torch'.*, got 'cuda'"
    with pytest.raises(ValueError, match=expected):
        call(X, CHANNEL, backend="cuda")


def test_named_backend_never_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_kernels, "unsupported", lambda x, g: "the moon is full")
    with pytest.raises(RuntimeError, match="backend 'torch' can't serve this call: the moon is full"):
        ddfnet.ddf(X, CHANNEL, backend="torch")


def test_options_by_keyword_alone() -> None:
    with pytest.raises(TypeError, match="positional"):
        ddfnet.ddf(X, CHANNEL, SPATIAL, 3)  # type: ignore[misc]


def test_geometry() -> None:
    g = check(X, CHANNEL, torch.ones(2, 3, 9, 3, 2), stride=2, dilation=2)
    assert (g.taps, g.padding, g.grid, g.out_shape, g.heads) == (9, 2, (3, 2), (2, 6, 3, 2), 3)
    g = check(X, None, UP, scale_factor=2)
    assert (g.taps, g.padding, g.grid, g.out_shape, g.heads) == (9, 1, (5, 4), (2, 6, 10, 8), 1)
    with pytest.raises(AttributeError):
        g.heads = 2  # type: ignore[misc]
