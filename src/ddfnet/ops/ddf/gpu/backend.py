"""Backend "triton": Eq. 2 and DDF-Up on GPUs (CUDA, ROCm, XPU), one launch forward; no build step.

This file is the host's side: it picks tiles and launches. The kernels are in `forward.py` and `backward.py`.
Triton is imported at the first call. All that follows from shapes, strides and alignments is planned once and kept, down to
the compiled kernel, because small maps are over before Triton's own dispatch has read its arguments.

Tiles are taken from a few shapes, by rule and not by trial: a new image size is served at once. Sums over tiles are taken in
one order and without atomics, so results repeat bit for bit. Beside the results, memory is the partial sums of the filters'
gradients in `ddf_backward`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ddfnet.ops.ddf.geometry import Geometry
from ddfnet.ops.ddf.gpu.records import (
    ChannelFilter,
    DifferentiatedChannelFilter,
    DifferentiatedMap,
    DifferentiatedSpatialFilter,
    KernelOptions,
    Map,
    SpatialFilter,
)
from ddfnet.ops.ddf.gpu.tiles import Tile, backward_tile, forward_tile
from ddfnet.ops.ddf.valid import gradients_by_same
from ddfnet.ops.gpu.devices import unsupported_device
from ddfnet.ops.gpu.launch import Launch

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]
Strides = tuple[int, ...] | None

_LANE_OFFSETS = 2**31  # a tile whose offsets stay below has them in 32 bits
_PROGRAMS = 4096  # that keep a large GPU busy; more tiles than that are walked through by the same program
_MOST_STEPS = 16
_SUM_BLOCK = 256


def unsupported(x: Tensor, g: Geometry) -> str | None:
    """Why this kernel can't serve the call, or None."""
    return unsupported_device(x)


def ddf_forward(x: Tensor, channel_filter: Tensor | None, spatial_filter: Tensor | None, g: Geometry) -> Tensor:
    y = torch.empty(g.out_shape, dtype=x.dtype, device=x.device, memory_format=g.memory_format)
    if y.numel():
        tensors = (x, channel_filter, spatial_filter, y)
        plan_forward(g, x.dtype, *(None if t is None else t.stride() for t in tensors)).run(tensors)
    return y


def ddf_backward(
    grad_output: Tensor,
    x: Tensor,
    channel_filter: Tensor | None,
    spatial_filter: Tensor | None,
    g: Geometry,
    needs: tuple[bool, bool, bool],
) -> Gradients:
    if not g.keeps_size:
        return gradients_by_same(ddf_backward, grad_output, x, channel_filter, spatial_filter, g, needs)
    inputs = (x, channel_filter, spatial_filter)
    grads = [torch.empty_like(t) if needed and t is not None else None for t, needed in zip(inputs, needs, strict=True)]
    grad_x, grad_channel, grad_spatial = grads
    if not x.numel() or all(grad is None for grad in grads):
        return grad_x, grad_channel, grad_spatial
    tensors = (*inputs, grad_output, *grads)
    plan = _plan_backward(g, x.dtype, *(None if t is None else t.stride() for t in tensors))
    sums = torch.promote_types(x.dtype, torch.float32)
    channel_out, spatial_out = grad_channel, grad_spatial
    if grad_channel is not None and plan.channel_parts > 1:
        channel_out = torch.empty((plan.channel_parts, grad_channel.numel()), dtype=sums, device=x.device)
    if grad_spatial is not None and plan.spatial_parts > 1:
        spatial_out = torch.empty((plan.spatial_parts, grad_spatial.numel()), dtype=sums, device=x.device)
    if spatial_out is not None and g.kernel_size > 1:
        spatial_out.zero_()  # taps that reach outside the image
    plan.launch.run((*inputs, grad_output, grad_x, channel_out, spatial_out))
    for parts, out, add in (
        (channel_out, grad_channel, plan.add_channel),
        (spatial_out, grad_spatial, plan.add_spatial),
    ):
        if add is not None and parts is not None and out is not None:
            add.run((parts, out))
    return grad_x, grad_channel, grad_spatial


@dataclass(frozen=True)
class _BackwardPlan:
    launch: Launch
    channel_parts: int  # partial sums of the channel filter's gradient
    spatial_parts: int
    add_channel: Launch | None
    add_spatial: Launch | None


@lru_cache(maxsize=1024)
def plan_forward(g: Geometry, dtype: torch.dtype, *strides: Strides) -> Launch:
    """Plan the launch for tensors x, channel_filter, spatial_filter, y with these strides, None for a missing tensor."""
    from ddfnet.ops.ddf.gpu.forward import ddf_forward_kernel

    tile = forward_tile(g, dtype.itemsize)
    rows = g.grid[0]
    options = _options(g, tile, dtype, strides)
    blocks, row_tiles = options.head_blocks, -(-rows // tile.rows)
    column_tiles = -(-options.columns * g.scale_factor // tile.columns)
    x, channel, spatial, y = (_filled(own, count) for own, count in zip(strides, (4, 5, 5, 4), strict=True))
    return Launch(
        ddf_forward_kernel,
        (g.batch * row_tiles * g.scale_factor * column_tiles * g.heads * blocks, 1, 1),
        lambda *tensors: (
            (tensors[0], *x),
            (tensors[1], *channel),
            (tensors[2], *spatial),
            (tensors[3], *y),
        ),
        (Map, ChannelFilter, SpatialFilter, Map),
        (g.height, g.width, options),
        tile.warps,
    )


@lru_cache(maxsize=1024)
def _plan_backward(g: Geometry, dtype: torch.dtype, *strides: Strides) -> _BackwardPlan:
    """Plan for tensors x, channel_filter, spatial_filter, grad_y and the gradients of the first three; None if missing."""
    from ddfnet.ops.ddf.gpu.backward import ddf_backward_kernel

    _, channel, _, _, _, grad_channel, grad_spatial = strides
    needs_channel, needs_spatial = grad_channel is not None, grad_spatial is not None
    own_phases = _own_phases(channel)
    phases = g.scale_factor**2 if own_phases else 1
    tile = backward_tile(g, dtype.itemsize)
    along_channels = g.memory_format != torch.channels_last and g.scale_factor == 1 and (needs_channel or needs_spatial)
    options = _options(g, tile, dtype, strides, along_channels)
    blocks, row_tiles = options.head_blocks, -(-g.height // tile.rows)
    column_tiles = -(-g.width // (tile.columns * g.stride))
    programs = g.batch * column_tiles * g.heads
    if along_channels:
        steps, strips = blocks, row_tiles
    else:
        programs *= blocks
        steps = 1
        if needs_channel and not (own_phases and phases > 1):
            steps = min(_MOST_STEPS, max(1, row_tiles * programs // _PROGRAMS))
        strips = -(-row_tiles // steps)
    channel_parts = strips * column_tiles if needs_channel else 0
    spatial_parts = blocks if needs_spatial and not along_channels else int(needs_spatial)
    channel_size = g.batch * phases * g.channels * g.taps
    spatial_size = g.batch * g.heads * g.taps * g.out_height * g.out_width
    launch = Launch(
        ddf_backward_kernel,
        (programs * strips, 1, 1),
        _backward_view(channel_size, spatial_size, *strides),
        (DifferentiatedMap, DifferentiatedChannelFilter, DifferentiatedSpatialFilter, Map),
        (g.height, g.width, steps, options),
        tile.warps,
    )
    return _BackwardPlan(
        launch,
        channel_parts,
        spatial_parts,
        _plan_sum(channel_parts, channel_size) if channel_parts > 1 else None,
        _plan_sum(spatial_parts, spatial_size) if spatial_parts > 1 else None,
    )


def _backward_view(channel_size: int, spatial_size: int, *strides: Strides) -> Callable[..., tuple[Any, ...]]:
    """Return what turns tensors, in the order of the strides, into the kernel's records; partial sums have these sizes."""
    counts = (4, 5, 5, 4, 4, 5, 5)
    x, channel, spatial, y, grad_x, grad_channel, grad_spatial = map(_filled, strides, counts)
    grad_channel, grad_spatial = (channel_size, *grad_channel), (spatial_size, *grad_spatial)
    return lambda *tensors: (
        (tensors[0], *x, tensors[4], *grad_x),
        (tensors[1], *channel, tensors[5], *grad_channel),
        (tensors[2], *spatial, tensors[6], *grad_spatial),
        (tensors[3], *y),
    )


def _options(
    g: Geometry, tile: Tile, dtype: torch.dtype, strides: tuple[Strides, ...], along_channels: bool = False
) -> KernelOptions:
    """Return the options of a kernel; `strides` are those of all tensors, the channel filter's second."""
    from triton.language import constexpr

    per_head = g.channels // g.heads
    constants = (
        *(g.kernel_size, g.stride, g.dilation, g.padding, g.scale_factor, g.combine == "add"),
        _own_phases(strides[1]),
        *(tile.rows, tile.columns, tile.channels, g.memory_format == torch.channels_last, along_channels),
        *(dtype == torch.float64, _is_wide(g, tile, *strides)),
    )
    return KernelOptions(per_head, -(-per_head // tile.channels), g.heads, g.grid[1], *map(constexpr, constants))


def _plan_sum(parts: int, count: int) -> Launch:
    """Adds up partial sums of a gradient, each laid out as the gradient is: dense, whatever its strides."""
    from ddfnet.ops.ddf.gpu.backward import ddf_sum_kernel

    return Launch(ddf_sum_kernel, (-(-count // _SUM_BLOCK), 1, 1), _bare, numbers=(parts, count, _SUM_BLOCK))


def _bare(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    return tensors


def _own_phases(channel: Strides) -> bool:
    return channel is not None and len(channel) == 5


def _filled(strides: Strides, count: int) -> tuple[int, ...]:
    """The strides with 0 for what the tensor lacks: (B, C, k, k) has no phases, (B, K, P, Q) no heads, None nothing."""
    if strides is None:
        return (0,) * count
    return strides if len(strides) == count else (strides[0], 0, *strides[1:])


def _is_wide(g: Geometry, tile: Tile, *strides: Strides) -> bool:
    """Whether offsets within a tile, along columns and channels, can pass 32 bits."""
    columns = max(g.width, g.out_width) + tile.columns * g.stride * g.scale_factor + 2 * g.padding
    largest = max(step for own in strides if own is not None for step in own[-1:])
    across = max(own[-3] for own in strides if own is not None)
    return columns * largest + (g.channels // g.heads + tile.channels) * across >= _LANE_OFFSETS
