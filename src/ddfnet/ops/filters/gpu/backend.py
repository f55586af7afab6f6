"""The filter prediction on GPUs (CUDA, ROCm, XPU): the host's side of `kernels.py`.

As in `ops/ddf/gpu`: Triton is imported at the first call, tiles follow from sizes by
rule, launches are planned once, and sums over tiles are taken in one order, so that results repeat bit for bit.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from ddfnet.ops.ddf.gpu.records import Map, SpatialFilter
from ddfnet.ops.filters.gpu.records import (
    ChannelOptions,
    Linear,
    NormalisedFilter,
    NormOptions,
    SpatialOptions,
    SqueezeOptions,
)
from ddfnet.ops.filters.outputs import Options, Outputs, outputs
from ddfnet.ops.gpu.devices import missing, unsupported_device
from ddfnet.ops.gpu.launch import Launch

DTYPES = (torch.float32, torch.float16, torch.bfloat16)  # float64 has no matrix instructions everywhere

_MISSING = missing()  # asked here: the compiler can't look into it
_MOST_LANES = 128  # of a pixel's spatial filters
_PROGRAMS = 512  # that give each multiprocessor of a large GPU a few
_NORM_BLOCK = 128
_LEAST_WIDE = 2**31  # offsets within a sample that pass 32 bits


def unsupported(x: Tensor, kernel_size: int, heads: int) -> str | None:
    """Why these kernels can't predict filters from `x`, or None."""
    if x.dtype not in DTYPES:
        return f"it takes float32, float16 and bfloat16, x is {str(x.dtype).removeprefix('torch.')}"
    if math.prod(_lanes(kernel_size, heads)) > _MOST_LANES:
        return f"{heads} heads of {kernel_size}x{kernel_size} taps are too many for its tiles"
    if x.device.type in ("cuda", "xpu"):
        return _MISSING
    if torch.compiler.is_compiling():  # which can't see whether there is an interpreter
        return f"compiled, it runs on CUDA, ROCm and XPU devices, x is on {x.device.type}"
    return unsupported_device(x)


def predict(
    x: Tensor,
    spatial: tuple[Tensor, Tensor] | None,
    channel: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] | None,
    options: Options,
) -> Outputs:
    """Both kinds of filters of `x`.

    Args:
        spatial: weight (G*K, C, 1, 1) and bias (G*K,), or None.
        channel: weight (S, C, 1, 1) and bias (S,), weight (C*K, S, 1, 1) and bias (C*K,), scale (C*K,), or None.
    """
    squeezed, filters = (channel[0].shape[0], channel[2].shape[0] // options.taps) if channel else (None, 0)
    out = outputs(x, spatial is not None, squeezed, filters, options)
    if not x.numel():
        return out
    weights = (*(spatial or (None,) * 2), *(channel or (None,) * 5))
    plan = _plan(
        *(tuple(x.shape), x.stride(), options, out.spatial_filter.stride() if spatial else None),
        *(None if w is None else (w.shape[0], *w.stride()[:2]) for w in weights),
        _precision(x, torch.backends.cudnn.conv.fp32_precision),  # type: ignore[attr-defined]
        _precision(x, torch.backends.cuda.matmul.fp32_precision),
    )
    sums = x.new_empty(x.shape[0], plan.parts, x.shape[1], dtype=torch.float32) if channel else None
    weight, bias, *rest = weights
    plan.spatial.run((x, weight, bias, out.spatial_filter, out.spatial_std, sums))
    if plan.squeeze is not None and plan.channel is not None:
        squeeze_weight, squeeze_bias, *rest = rest
        plan.squeeze.run((sums, squeeze_weight, squeeze_bias, out.pooled, out.hidden))
        plan.channel.run((out.hidden, *rest, out.channel_filter, out.channel_unit, out.channel_std))
    return out


def _precision(x: Tensor, setting: str) -> Literal["tf32", "ieee"]:
    """Of products: "ieee", without tensor cores, for float32 where PyTorch's settings or ROCm ask for it.

    Of other dtypes "tf32", which means nothing for them.
    """
    exact = x.dtype == torch.float32 and (torch.version.hip is not None or setting != "tf32")
    return "ieee" if exact else "tf32"


def norm_backward(
    grad: Tensor, unit: Tensor, std: Tensor, scale: Tensor | None, fixed_scale: float
) -> tuple[Tensor, Tensor]:
    """The gradients of the raw filters and, one for each sample, of `scale`, from that of the normalised filters.

    Args:
        grad: (B, N, K) or (B, N, K, P, Q).
        unit: like `grad`, normalised with scale 1 where there is a `scale` (N*K,), with `fixed_scale` else.
        std: of the raw filters, (B, N) or (B, N, P, Q), contiguous.
    """
    grad_raw = torch.empty_like(unit, dtype=grad.dtype)
    grad_scale = unit.new_empty(0) if scale is None else torch.empty_like(unit)
    if unit.numel():
        _plan_norm(tuple(unit.shape), grad.stride(), unit.stride(), grad_raw.stride(), scale is None, fixed_scale).run(
            (grad, unit, std, scale, grad_raw, grad_scale)
        )
    return grad_raw, grad_scale


@dataclass(frozen=True)
class _Plan:
    spatial: Launch
    squeeze: Launch | None
    channel: Launch | None
    parts: int  # tiles of a sample, each with sums of its own


@lru_cache(maxsize=1024)
def _plan(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    o: Options,
    spatial: tuple[int, ...] | None,
    *weights: Any,
) -> _Plan:
    from triton.language import constexpr

    from ddfnet.ops.filters.gpu.kernels import channel_filters_kernel, squeeze_kernel

    # Of each weight its rows and strides; None without its branch.
    weight, _, squeeze_weight, _, channel_weight, _, _, conv_precision, precision = weights
    parts, options = _spatial_options(
        shape, strides, o, spatial is not None, squeeze_weight is not None, conv_precision
    )
    spatial_launch = _spatial_launch(shape, strides, spatial or (0,) * 5, (weight or (0, 0, 0))[1:], parts, options)
    if squeeze_weight is None:
        return _Plan(spatial_launch, None, None, parts)
    batch, channels, height, width = shape
    squeezed, filters = squeeze_weight[0], channel_weight[0] // o.taps
    blocks = -(-squeezed // 16)
    step = squeeze_weight[1:]
    squeeze = Launch(
        squeeze_kernel,
        (batch * blocks, 1, 1),
        lambda sums, weight, bias, pooled, hidden: (sums, (weight, bias, *step), pooled, hidden),
        (None, Linear, None, None),
        (parts, height * width, SqueezeOptions(channels, squeezed, blocks, *map(constexpr, (16, 64, 16)))),
    )
    tap_lanes = _lanes(o.kernel_size, 1)[1]
    per_program = max(1, 64 // tap_lanes)
    blocks = -(-filters // per_program)
    constants = (o.taps, 16, per_program, tap_lanes, 32, precision)
    steps = channel_weight[1:]
    channel = Launch(
        channel_filters_kernel,
        (-(-batch // 16) * blocks, 1, 1),
        lambda hidden, weight, bias, *rest: (hidden, (weight, bias, *steps), *rest),
        (None, Linear, None, None, None, None),
        (batch, ChannelOptions(filters, squeezed, blocks, *map(constexpr, constants))),
    )
    return _Plan(spatial_launch, squeeze, channel, parts)


def _spatial_options(
    shape: tuple[int, ...], strides: tuple[int, ...], o: Options, predicting: bool, pooling: bool, precision: str
) -> tuple[int, SpatialOptions]:
    """Return how many programs share a sample, and the options of `spatial_filters_kernel`."""
    from triton.language import constexpr

    batch, channels, height, width = shape
    head_lanes, tap_lanes = _lanes(o.kernel_size, o.heads) if predicting else (1, 16)
    exact = precision == "ieee"  # without tensor cores, factors and sums take more registers
    pixels = min(128, max(16, (2048 if exact else 4096) // (head_lanes * tap_lanes)))
    while pixels > 16 and batch * -(-height * width // pixels) < _PROGRAMS:
        pixels //= 2
    block = 16 if exact else 32 if pixels > 64 else 64
    farthest = sum(step * (size - 1) for size, step in zip(shape[1:], strides[1:], strict=True))
    constants = (
        *(o.spatial_scale, o.taps, o.heads, o.stride, pooling, pixels, block, head_lanes, tap_lanes),
        *(strides[2] == width * strides[3], farthest + (pixels + block) * max(strides[1:]) >= _LEAST_WIDE),
        precision,
    )
    return -(-height * width // pixels), SpatialOptions(channels, width, *map(constexpr, constants))


def _spatial_launch(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    spatial: tuple[int, ...],
    weight: tuple[int, ...],
    parts: int,
    options: SpatialOptions,
) -> Launch:
    from ddfnet.ops.filters.gpu.kernels import spatial_filters_kernel

    return Launch(
        spatial_filters_kernel,
        (shape[0] * parts, 1, 1),
        lambda x, matrix, bias, filters, std, sums: (
            (x, *strides),
            (matrix, bias, *weight),
            (filters, std, *spatial),
            sums,
        ),
        (Map, Linear, NormalisedFilter, None),
        (shape[2], parts, options),
    )


@lru_cache(maxsize=1024)
def _plan_norm(
    shape: tuple[int, ...],
    grad: tuple[int, ...],
    unit: tuple[int, ...],
    raw: tuple[int, ...],
    fixed: bool,
    scale: float,
) -> Launch:
    from triton.language import constexpr

    from ddfnet.ops.filters.gpu.kernels import norm_backward_kernel

    batch, filters, taps, height, width = (*shape, 1, 1)[:5]
    count = batch * filters * height * width
    grad, unit, raw = ((*own, 0, 0)[:5] for own in (grad, unit, raw))
    constants = map(constexpr, (scale, scale if fixed else 1.0, taps, _NORM_BLOCK))
    return Launch(
        norm_backward_kernel,
        (-(-count // _NORM_BLOCK), 1, 1),
        lambda grad_y, units, std, scales, grad_raw, grad_scale: (
            (grad_y, *grad),
            (units, std, *unit),
            scales,
            (grad_raw, *raw),
            grad_scale,
        ),
        (SpatialFilter, NormalisedFilter, None, SpatialFilter, None),
        (count, height, NormOptions(filters, width, *constants)),
    )


def _lanes(kernel_size: int, heads: int) -> tuple[int, int]:
    """Powers of two that hold the heads and the taps of each, the latter at least the 16 of a matrix instruction."""
    return 1 << (heads - 1).bit_length(), max(16, 1 << (kernel_size**2 - 1).bit_length())
