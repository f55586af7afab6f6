"""Kernel prediction (Bako et al., SIGGRAPH 2017; Mildenhall et al., CVPR 2018): a filter per pixel and frame."""

from torch import Tensor

from ddfnet.ops.ddf.api import Backend, ddf


def filter_frames(frames: Tensor, kernels: Tensor, *, backend: Backend = "auto") -> Tensor:
    """Filter each pixel of each frame with its own k x k kernel, zero outside: how kernel prediction networks denoise.

    The network's estimate of a burst is the mean over its frames, `filter_frames(frames, kernels).mean(1)`.

    Args:
        frames: (B, C, H, W), or a burst (B, N, C, H, W).
        kernels: (B, K, H, W) with K = k*k, k odd, or (B, N, K, H, W) for a burst: one kernel for all colours. One for each
            colour is (B, K, C, H, W) or (B, N, K, C, H, W).
        backend: as in `ddfnet.ddf`.

    Returns:
        A tensor of the shape of `frames`.

    Raises:
        TypeError, ValueError: dtypes or shapes that do not fit together.

    Example:
        >>> import torch
        >>> from ddfnet.nn import filter_frames
        >>> frames, kernels = torch.rand(2, 8, 3, 32, 32), torch.randn(2, 8, 9, 32, 32).softmax(2)
        >>> filter_frames(frames, kernels).mean(1).shape
        torch.Size([2, 3, 32, 32])
    """
    burst = frames.dim() == 5
    if frames.dim() not in (4, 5):
        raise ValueError(f"frames: expected (B, C, H, W) or (B, N, C, H, W), got {tuple(frames.shape)}")
    by_colour = kernels.dim() == frames.dim() + 1
    if kernels.dim() not in (frames.dim(), frames.dim() + 1) or (burst and kernels.shape[:2] != frames.shape[:2]):
        own = "(B, N, K, H, W) or (B, N, K, C, H, W)" if burst else "(B, K, H, W) or (B, K, C, H, W)"
        raise ValueError(f"kernels: expected {own} for frames {tuple(frames.shape)}, got {tuple(kernels.shape)}")
    images, filters = (frames.flatten(0, 1), kernels.flatten(0, 1)) if burst else (frames, kernels)
    y = ddf(images, None, filters.transpose(1, 2) if by_colour else filters, backend=backend)
    return y.unflatten(0, frames.shape[:2]) if burst else y
