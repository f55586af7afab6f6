"""The arguments of the filter prediction's kernels beside tensors, and the tensors that they fill."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ddfnet.ops.ddf.geometry import memory_format_of


class Options(NamedTuple):
    """The arguments that the tensors do not contain."""

    spatial_scale: float
    kernel_size: int  # k
    stride: int  # s, of the spatial branch
    heads: int  # G

    @property
    def taps(self) -> int:
        return self.kernel_size**2


class Outputs(NamedTuple):
    """The predicted filters, then what the backward pass needs; empty where a branch is missing."""

    channel_filter: Tensor  # (B, C, k, k)
    spatial_filter: Tensor  # (B, G, K, P, Q)
    pooled: Tensor  # (B, C)
    hidden: Tensor  # (B, S), between the two matrices
    channel_unit: Tensor  # (B, C, K), normalised without the learned scale, of float32 at least
    channel_std: Tensor  # (B, C), of the raw filters, likewise
    spatial_std: Tensor  # (B, G, P, Q), likewise


def outputs(x: Tensor, spatial: bool, squeezed: int | None, filters: int, options: Options) -> Outputs:
    """Return the tensors that a call fills, with or without the branches.

    Args:
        squeezed: S, or None without the channel branch, whose filters are `filters`, C.
    """
    batch, channels, height, width = x.shape
    k, s, heads = options.kernel_size, options.stride, options.heads
    rows, columns = (height + s - 1) // s, (width + s - 1) // s
    exact: dict[str, Any] = {"dtype": torch.promote_types(x.dtype, torch.float32), "device": x.device}
    # One for each that is not asked for: outputs of an op may not be the same tensor.
    spatial_filter, spatial_std, pooled, hidden, channel_filter, channel_unit, channel_std = (
        x.new_empty(0) for _ in range(7)
    )
    if spatial:
        own: dict[str, Any] = {"dtype": x.dtype, "device": x.device, "memory_format": memory_format_of(x)}
        spatial_filter = torch.empty((batch, heads * k * k, rows, columns), **own).unflatten(1, (heads, k * k))
        spatial_std = torch.empty(batch, heads, rows, columns, **exact)
    if squeezed is not None:
        pooled, hidden = x.new_empty(batch, channels), x.new_empty(batch, squeezed)
        channel_filter = x.new_empty(batch, filters, k, k)
        channel_unit = torch.empty(batch, filters, k * k, **exact)
        channel_std = torch.empty(batch, filters, **exact)
    return Outputs(channel_filter, spatial_filter, pooled, hidden, channel_unit, channel_std, spatial_std)
