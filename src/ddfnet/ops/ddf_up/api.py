"""`ddfnet.ddf_up`: DDF-Up (Fig. 5) in one call. Beyond the reference it is `torch.ops.ddfnet.ddf` with a scale factor."""

from typing import Any

from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from ddfnet.ops.ddf.api import Backend, ddf_op, takes_reference
from ddfnet.ops.ddf.geometry import Combine, check, check_types
from ddfnet.ops.ddf_up.reference import ddf_up_reference
from ddfnet.ops.registry import autocast_inputs


def ddf_up(
    x: Tensor,
    channel_filter: Tensor | None = None,
    spatial_filter: Tensor | None = None,
    *,
    scale_factor: int = 2,
    kernel_size: int | None = None,
    dilation: int = 1,
    combine: Combine = "mul",
    backend: Backend = "auto",
) -> Tensor:
    """Upsample `x` r times with one k x k filter per output pixel and channel: r*r DDF operations, pixel-shuffled.

    Output pixel (r*p + i, r*q + j) is Eq. 2 at input pixel (p, q), with the spatial filter of that output pixel and the
    channel filter of its phase i*r + j. Spatial filters alone give CARAFE's reassembly.

    Args:
        x: (B, C, H, W), float32, float64, float16 or bfloat16, of any strides.
        channel_filter: (B, r*r, C, k, k), entry i*r + j for the output pixels (r*p + i, r*q + j); or (B, C, k, k), shared.
        spatial_filter: (B, K, r*H, r*W) with K = k*k, or (B, G, K, r*H, r*W) for G heads: one filter per output pixel.
        scale_factor: r >= 1.
        kernel_size, dilation, combine, backend: as in `ddfnet.ddf`.

    Returns:
        (B, C, r*H, r*W) in the dtype, device and memory format of `x`.

    Raises:
        TypeError, ValueError, RuntimeError: as `ddfnet.ddf`.

    Example:
        >>> import torch, ddfnet
        >>> x = torch.randn(1, 32, 10, 12)
        >>> spatial_filter = torch.randn(1, 9, 20, 24).softmax(1)
        >>> ddfnet.ddf_up(x, None, spatial_filter).shape
        torch.Size([1, 32, 20, 24])
    """
    if has_torch_function((x, channel_filter, spatial_filter)):  # such as a proxy of torch.fx
        options: dict[str, Any] = {"scale_factor": scale_factor, "kernel_size": kernel_size, "dilation": dilation}
        filters = (channel_filter, spatial_filter)
        return handle_torch_function(ddf_up, (x, *filters), x, *filters, **options, combine=combine, backend=backend)
    if scale_factor == 1 and isinstance(channel_filter, Tensor) and channel_filter.dim() == 5:
        channel_filter = channel_filter.squeeze(1)
    check_types(x, channel_filter, spatial_filter, (combine, backend, "same"), kernel_size, 1, dilation, scale_factor)
    if takes_reference(backend):
        x, channel_filter, spatial_filter = autocast_inputs(x, channel_filter, spatial_filter)
        g = check(x, channel_filter, spatial_filter, kernel_size, 1, dilation, scale_factor, combine)
        return ddf_up_reference(x, channel_filter, spatial_filter, g)
    numbers = kernel_size, 1, dilation, scale_factor
    y: Tensor = ddf_op(x, channel_filter, spatial_filter, *numbers, combine, backend, "same")
    return y
