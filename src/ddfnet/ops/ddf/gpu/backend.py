"""Backend "triton": Eq. 2 and DDF-Up on GPUs (CUDA, ROCm, XPU), one launch forward; no build step.

This file is the host's side: it picks tiles and launches. The kernels are in `forward.py` and `backward.py`.
Triton is imported at the first call. All that follows from shapes, strides and alignments is planned once and kept, down to
the compiled kernel, because small maps are over before Triton's own dispatch has read its arguments.

Tiles are taken from a few shapes, by rule and not by trial: a new image size is served at once. Sums over tiles are taken in
one order and without atomics, so results repeat bit for bit. Beside the results, memory is the partial sums of the filters'
gradients in `ddf_backward`.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ddfnet.ops.ddf.geometry import Geometry
from ddfnet.ops.ddf.gpu.records import ChannelFilter, ForwardOptions, Map, SpatialFilter
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
    from triton.language import constexpr

    from ddfnet.ops.ddf.gpu.forward import ddf_forward_kernel

    tile = forward_tile(g, dtype.itemsize)
    rows, columns = g.grid
    per_head = g.channels // g.heads
    blocks, row_tiles = -(-per_head // tile.channels), -(-rows // tile.rows)
    column_tiles = -(-columns * g.scale_factor // tile.columns)
    options = ForwardOptions(
        *(per_head, blocks, g.heads, columns),
        *map(
            constexpr,
            (
                g.kernel_size,
                g.stride,
                g.dilation,
                g.padding,
                g.scale_factor,
                g.combine == "add",
                _own_phases(strides[1]),
            ),
        ),
        *map(constexpr, (tile.rows, tile.columns, tile.channels, g.memory_format == torch.channels_last)),
        *map(constexpr, (dtype == torch.float64, _is_wide(g, tile, *strides))),
    )
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
    from ddfnet.ops.ddf.gpu.backward import ddf_backward_kernel

    x, channel, spatial, grad_y, grad_x, grad_channel, grad_spatial = strides
    needs_channel, needs_spatial = grad_channel is not None, grad_spatial is not None
    own_phases = channel is not None and len(channel) == 5
    phases = g.scale_factor**2 if own_phases else 1
    tile = backward_tile(g, dtype.itemsize)
    rows, columns = g.grid
    per_head = g.channels // g.heads
    blocks, row_tiles = -(-per_head // tile.channels), -(-g.height // tile.rows)
    column_tiles = -(-g.width // (tile.columns * g.stride))
    along_channels = g.memory_format != torch.channels_last and g.scale_factor == 1 and (needs_channel or needs_spatial)
    if along_channels:
        steps, strips = blocks, row_tiles
    else:
        programs = g.batch * column_tiles * g.heads * blocks
        steps = 1
        if needs_channel and not (own_phases and phases > 1):
            steps = min(_MOST_STEPS, max(1, row_tiles * programs // _PROGRAMS))
        strips = -(-row_tiles // steps)
    channel_parts = strips * column_tiles if needs_channel else 0
    spatial_parts = blocks if needs_spatial and not along_channels else int(needs_spatial)

    channel_size = g.batch * phases * g.channels * g.taps
    spatial_size = g.batch * g.heads * g.taps * g.out_height * g.out_width
    add_channel = _plan_sum(channel_parts, channel_size) if channel_parts > 1 else None
    add_spatial = _plan_sum(spatial_parts, spatial_size) if spatial_parts > 1 else None
    numbers = (
        *(per_head, g.height, g.width, rows, columns, strips, steps, column_tiles, g.heads, blocks),
        *(*_filled(x, 4), *_filled(channel, 5), *_filled(spatial, 5), *_filled(grad_y, 4), *_filled(grad_x, 4)),
        *(channel_size, *_filled(grad_channel, 5), spatial_size, *_filled(grad_spatial, 5)),
    )
    constants = (
        *(g.kernel_size, g.stride, g.dilation, g.scale_factor, g.combine == "add"),
        *(channel is not None, spatial is not None, own_phases),
        *(grad_x is not None, needs_channel, needs_spatial),
        *(tile.rows, tile.columns, tile.channels, along_channels, g.memory_format == torch.channels_last),
        _is_wide(g, tile, x, grad_y, channel, spatial, grad_x, grad_channel, grad_spatial),
    )
    programs = g.batch * strips * column_tiles * g.heads * (1 if along_channels else blocks)
    launch = Launch(ddf_backward_kernel, (programs, 1, 1), _bare, numbers=(*numbers, *constants), warps=tile.warps)
    return _BackwardPlan(launch, channel_parts, spatial_parts, add_channel, add_spatial)


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
