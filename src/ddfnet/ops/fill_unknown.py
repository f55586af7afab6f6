"""Fill unknown pixels of a depth map from the known ones around them, smoothly: a membrane over each hole."""

import torch
import torch.nn.functional as F
from torch import Tensor

SWEEPS = 8  # of relaxation a level


def fill_unknown(depth: Tensor) -> Tensor:
    """Fill the pixels that are NaN or infinite from the known pixels around them.

    Holes come out close to the harmonic function, the one whose every pixel is the mean of its four neighbours: constants
    and planes go on through them, steps become ramps, and nothing leaves the range of the known values. It is found from
    coarse to fine. Each level of a pyramid averages the known among four pixels, until none is unknown; going back, a hole
    takes what the coarser level has there, and a few sweeps of averaging make it meet its rim. The work is linear in the
    number of pixels, however large the holes are.

    Args:
        depth: (..., H, W) of a floating dtype, in any unit; NaN, inf and -inf are unknown. Zeros are values like others.

    Returns:
        A new tensor of the same shape, dtype and device, all finite; known pixels have their values bit for bit. Half types
        are averaged in float32. Differentiable in the known pixels.

    Raises:
        TypeError: another dtype.
        ValueError: fewer than two dimensions; a map without any known pixel.

    Example:
        >>> import torch
        >>> from ddfnet.ops.fill_unknown import fill_unknown
        >>> fill_unknown(torch.tensor([[2.0, torch.nan, 2.0], [2.0, torch.inf, 2.0]]))
        tensor([[2., 2., 2.],
                [2., 2., 2.]])
    """
    if not depth.is_floating_point():
        raise TypeError(f"depth: expected a floating dtype, got {depth.dtype}")
    if depth.dim() < 2:
        raise ValueError(f"depth: expected (..., H, W), got {tuple(depth.shape)}")
    known = depth.isfinite()
    if known.all():
        return depth.clone()
    bare = ~known.flatten(-2).any(-1)
    if bare.any():
        which = f" in {int(bare.sum())} of {bare.numel()} maps" if bare.numel() > 1 else ""
        raise ValueError(f"depth: expected at least one known pixel, got only NaN and inf{which}")
    maps = depth.to(torch.promote_types(depth.dtype, torch.float32)).reshape(-1, 1, *depth.shape[-2:])
    known = known.reshape(maps.shape)
    maps = torch.where(known, maps, 0)
    # Means of equal values may round to their neighbours; within the range, a constant map stays one.
    low = maps.where(known, torch.inf).amin((-2, -1), keepdim=True)
    high = maps.where(known, -torch.inf).amax((-2, -1), keepdim=True)
    filled = torch.where(known, maps, _filled(maps, known).clamp(low, high))
    return filled.reshape(depth.shape).to(depth.dtype)


def _filled(maps: Tensor, known: Tensor) -> Tensor:
    """Map (N, 1, H, W), zero where not `known`, with their holes filled."""
    if known.all():
        return maps
    height, width = maps.shape[2:]
    share = F.avg_pool2d(known.to(maps.dtype), 2, ceil_mode=True)
    coarse = F.avg_pool2d(maps, 2, ceil_mode=True) / share.clamp_min(0.25)
    filled = F.interpolate(_filled(coarse, share > 0), scale_factor=2, mode="bilinear")[..., :height, :width]
    for _ in range(SWEEPS):
        filled = _neighbours(torch.where(known, maps, filled))
    return torch.where(known, maps, filled)


def _neighbours(maps: Tensor) -> Tensor:
    """Return the mean of the four neighbours, those outside the map being the pixel itself."""
    padded = F.pad(maps, (1, 1, 1, 1), mode="replicate")
    rows = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
    return (rows + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]) / 4
