"""Forward and backward of Eq. 2 and of DDF-Up in plain PyTorch, without autograd, where no kernel can run.

Only aten operations, so it runs on every device (MPS, XPU, a CPU without numba). The output is seen as
(B, G, C/G, P', r, Q', r) with (P', Q') the grid of input pixels on which filters are centred, x as
(B, G, C/G, H, 1, W, 1): then DDF (r = 1) and DDF-Up (s = 1) are one loop over the taps. A tap touches only the pixels
it finds inside the image, so nothing is padded; beside the output, memory is a few maps of the size of one tap.
"""

from collections.abc import Iterator
from types import EllipsisType

import torch
from torch import Tensor

from ddfnet.ops.ddf.geometry import Geometry
from ddfnet.ops.ddf.reference import combined

Index = tuple[slice | EllipsisType, ...]


def unsupported(x: Tensor, g: Geometry) -> str | None:
    """Return why this kernel can't serve the call: it always can."""
    return None


def ddf_forward(x: Tensor, channel_filter: Tensor | None, spatial_filter: Tensor | None, g: Geometry) -> Tensor:
    dtype = torch.promote_types(x.dtype, torch.float32)
    y = torch.empty(g.out_shape, dtype=dtype, device=x.device, memory_format=g.memory_format).zero_()
    x_taps, y_taps = _input_view(x.to(dtype), g), _output_view(y, g)
    for t, inside_x, inside_y in _taps(g):
        shifted = x_taps[inside_x]
        channel_tap, spatial_tap = _channel_tap(channel_filter, t, g, dtype), _spatial_tap(spatial_filter, t, g, dtype)
        if spatial_tap is not None:
            spatial_tap = spatial_tap[inside_y]
        if channel_tap is not None and spatial_tap is not None and g.combine == "mul":
            y_taps[inside_y].addcmul_(shifted * channel_tap, spatial_tap)
        else:
            y_taps[inside_y].addcmul_(shifted, combined(channel_tap, spatial_tap, g.combine))
    return y.to(x.dtype)


def ddf_backward(
    grad_output: Tensor,
    x: Tensor,
    channel_filter: Tensor | None,
    spatial_filter: Tensor | None,
    g: Geometry,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    dtype = torch.promote_types(x.dtype, torch.float32)
    grad_x = torch.zeros_like(x, dtype=dtype) if needs[0] else None
    grad_channel = torch.zeros_like(channel_filter, dtype=dtype) if needs[1] and channel_filter is not None else None
    grad_spatial = torch.zeros_like(spatial_filter, dtype=dtype) if needs[2] and spatial_filter is not None else None

    x_taps, grad_taps = _input_view(x.to(dtype), g), _output_view(grad_output.to(dtype), g)
    grad_x_taps = None if grad_x is None else _input_view(grad_x, g)
    both = g.combine == "mul" and channel_filter is not None and spatial_filter is not None
    for t, inside_x, inside_y in _taps(g):
        grad = grad_taps[inside_y]
        channel_tap, spatial_tap = _channel_tap(channel_filter, t, g, dtype), _spatial_tap(spatial_filter, t, g, dtype)
        if spatial_tap is not None:
            spatial_tap = spatial_tap[inside_y]
        if grad_x_taps is not None:
            tap = combined(channel_tap, spatial_tap, g.combine)
            grad_x_taps[inside_x].add_((grad * tap).sum((4, 6), keepdim=True))
        if grad_channel is None and grad_spatial is None:
            continue
        product = grad * x_taps[inside_x]  # of every filter that touches this tap, the gradient before reduction
        if grad_channel is not None:
            total = _channel_tap(grad_channel, t, g, dtype)
            per_pixel = product * spatial_tap if both and spatial_tap is not None else product
            if total is not None:
                over = (3, 4, 5, 6) if total.shape[4] == 1 else (3, 5)
                total.add_(per_pixel.sum(over, keepdim=True))
        if grad_spatial is not None:
            total = _spatial_tap(grad_spatial, t, g, dtype)
            per_channel = product * channel_tap if both and channel_tap is not None else product
            if total is not None:
                total[inside_y].add_(per_channel.sum(2, keepdim=True))
    return _cast(grad_x, x), _cast(grad_channel, x), _cast(grad_spatial, x)


def _taps(g: Geometry) -> Iterator[tuple[int, Index, Index]]:
    """Return each tap with the index of the pixels of x it reads and of the pixels of the grid for which they exist."""

    def inside(offset: int, size: int, grid: int) -> tuple[slice, slice]:
        first = max(0, -(offset // g.stride))  # ceil(-offset / s): the first centre whose tap is not left of the image
        last = min(grid - 1, (size - 1 - offset) // g.stride)
        count = max(0, last - first + 1)
        start = first * g.stride + offset
        return slice(start, start + (count - 1) * g.stride + 1, g.stride), slice(first, first + count)

    every = slice(None)
    for t in range(g.taps):
        u, v = divmod(t, g.kernel_size)
        x_rows, y_rows = inside(u * g.dilation - g.padding, g.height, g.grid[0])
        x_columns, y_columns = inside(v * g.dilation - g.padding, g.width, g.grid[1])
        if y_rows.start < y_rows.stop and y_columns.start < y_columns.stop:
            yield t, (..., x_rows, every, x_columns, every), (..., y_rows, every, y_columns, every)


def _input_view(x: Tensor, g: Geometry) -> Tensor:
    y: Tensor = x.unflatten(1, (g.heads, g.channels // g.heads))
    return y[..., :, None, :, None]  # (B, G, C/G, H, 1, W, 1)


def _output_view(y: Tensor, g: Geometry) -> Tensor:
    rows, columns = g.grid
    # The width first: splitting it leaves the height where it is.
    y = y.unflatten(-1, (columns, g.scale_factor)).unflatten(-3, (rows, g.scale_factor))
    return y.unflatten(1, (g.heads, g.channels // g.heads))  # (B, G, C/G, P', r, Q', r)


def _channel_tap(channel_filter: Tensor | None, t: int, g: Geometry, dtype: torch.dtype) -> Tensor | None:
    """Return (B, G, C/G, 1, r or 1, 1, r or 1): a view of the filter if its dtype is the one asked for."""
    if channel_filter is None:
        return None
    u, v = divmod(t, g.kernel_size)
    tap = channel_filter[..., u, v].to(dtype).unflatten(-1, (g.heads, g.channels // g.heads))
    if channel_filter.dim() == 4:
        return tap[..., None, None, None, None]
    r = g.scale_factor
    tap = tap.movedim(1, -1).unflatten(-1, (r, r))  # (B, G, C/G, r, r)
    return tap.unsqueeze(-2).unsqueeze(-4)


def _spatial_tap(spatial_filter: Tensor | None, t: int, g: Geometry, dtype: torch.dtype) -> Tensor | None:
    """Return (B, G, 1, P', r, Q', r): a view of the filter if its dtype is the one asked for."""
    if spatial_filter is None:
        return None
    rows, columns = g.grid
    tap = spatial_filter[:, None, t] if spatial_filter.dim() == 4 else spatial_filter[:, :, t]  # (B, G, P, Q)
    tap = tap.to(dtype).unflatten(-1, (columns, g.scale_factor)).unflatten(-3, (rows, g.scale_factor))
    return tap.unsqueeze(2)


def _cast(grad: Tensor | None, x: Tensor) -> Tensor | None:
    return None if grad is None else grad.to(x.dtype)
