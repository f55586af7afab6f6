"""`correlate`: each pixel compared with those around it, which is what `ddf` gives its spatial filter as gradient."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ddfnet.ops.ddf.api import Backend, takes_reference
from ddfnet.ops.ddf.geometry import Padding
from ddfnet.ops.registry import CALLS


def correlate(
    x: Tensor,
    y: Tensor,
    kernel_size: int,
    *,
    scale_factor: int = 1,
    padding: Padding = "same",
    backend: Backend = "auto",
) -> Tensor:
    """Multiply each pixel of `y` with the k x k pixels of `x` around it, summed over channels.

    Entry u*k + v of the result is the sum over c of y[b, c, p, q] * x[b, c, p + u - k//2, q + v - k//2], and with
    padding="valid" of y[b, c, p, q] * x[b, c, p + u, q + v]. With a scale factor r, pixel (p, q) of `y` lies on pixel
    (p // r, q // r) of `x`. Differentiable in both to any order; patches are never stored.

    Args:
        x: (B, C, H, W), float32, float64, float16 or bfloat16; 0 outside.
        y: (B, C, r*H, r*W), or (B, C, H-k+1, W-k+1) with padding="valid", of the dtype of `x`.
        kernel_size: k, odd.
        scale_factor: r; 1 with padding="valid".
        padding, backend: as in `ddfnet.ddf`.

    Returns:
        (B, K, P, Q) with K = k*k and P, Q the height and width of `y`, in the dtype of `x`.

    Raises:
        ValueError: a shape or an option is not as described.

    Example:
        >>> import torch
        >>> from ddfnet.ops.correlate import correlate
        >>> x = torch.randn(1, 8, 5, 6)
        >>> torch.allclose(correlate(x, x, 3)[:, 4], x.square().sum(1))
        True
    """
    if x.dim() != 4:
        raise ValueError(f"x: expected (B, C, H, W), got {tuple(x.shape)}")
    lost = kernel_size - 1 if padding == "valid" else 0
    rows, columns = ((length - lost) * scale_factor for length in x.shape[2:])
    if y.shape != (*x.shape[:2], rows, columns):
        expected = (*x.shape[:2], rows, columns)
        raise ValueError(f"y: expected {expected}, got {tuple(y.shape)}")
    if takes_reference(backend):
        around = x if padding == "valid" else F.pad(x, (kernel_size // 2,) * 4)
        around = around.repeat_interleave(scale_factor, 2).repeat_interleave(scale_factor, 3)
        taps = [(u * scale_factor, v * scale_factor) for u in range(kernel_size) for v in range(kernel_size)]
        return torch.stack([(y * around[..., u : u + rows, v : v + columns]).sum(1) for u, v in taps], 1)
    # A filter of that shape, whose values no gradient depends on.
    filters = x.new_zeros(()).expand(x.shape[0], kernel_size * kernel_size, rows, columns)
    options = kernel_size, 1, 1, scale_factor, "mul", backend, padding
    similarities: Tensor = CALLS["ddf_backward"](y, x, None, filters, *options, False, False, True)[2]
    return similarities
