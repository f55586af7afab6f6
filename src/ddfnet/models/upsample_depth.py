"""`ddfnet.upsample_depth`: a depth map at the resolution of the RGB image over it, by the weights that ship."""

import copy
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddfnet.models.depth_grid import Axis, interpolate
from ddfnet.models.depth_tiles import Progress, upsample_tiled
from ddfnet.models.joint_upsampling import JointUpsampler, pretrained
from ddfnet.nn.upsampler import resize
from ddfnet.ops.fill_unknown import fill_unknown

Depth = TypeVar("Depth", Tensor, NDArray[Any])

FACTORS = (4, 8, 16)  # with weights
TILE = 1536


def upsample_depth(
    depth: Depth,
    rgb: Tensor | NDArray[np.uint8],
    *,
    network: JointUpsampler | None = None,
    device: torch.device | str | None = None,
    tile: int = TILE,
    progress: Progress | None = None,
) -> Depth:
    """Upsamples a depth map to the size of the RGB image over it, in any unit.

    Unknown pixels are filled from the known ones around them (`fill_unknown`), the map is brought to 0..1 by its least and
    greatest known value, upsampled by a network that sees the image, brought back, and held to the range of what is known.

    Any ratio of the sizes from 1 up will do. The network is that of the next factor f with weights: 4, 8 or 16. Where the
    depth map has the size of the image divided by f and rounded up, depth pixel i is taken to lie on image pixel
    i*f + (f-1)//2, as in PAC-Net's protocol: half an image pixel from the middle of what it covers. For other ratios it lies
    in the middle, the image is brought to f times the size of the depth map, and the output back to the image's. Above 16 a
    map of a quarter of the image's size is made first, then upsampled 4 times. At 1 only unknown pixels are filled.

    Args:
        depth: (h, w), NumPy array or tensor, of a floating or integer dtype; NaN, inf, -inf, 0 and masked pixels are
            unknown. Other marks (65535, -9999) would be taken for depth, and widen the range that everything is measured by.
        rgb: (H, W, 3) uint8, NumPy array or tensor; H/h and W/w are equal up to the rounding of h and w.
        network: a `DDFUpNet` or `PacJointUpsample`, for ratios up to its factor, in place of those whose weights ship.
        device: of the computation; by default that of `network`, or of `depth`.
        tile: the longest side, in pixels, of what is computed at once: memory grows with its square. The result does not
            depend on it, beyond rounding; images that fit are quickest.
        progress: called with the number of windows that are done, and of all.

    Returns:
        (H, W), all known, in the depth's unit; array or tensor as `depth`, of its device and floating dtype; float32 for an
        integer one.

    Raises:
        TypeError: `depth` or `rgb` of another dtype or kind.
        ValueError: shapes that are not as described; no known pixel; a ratio above the network's factor; a tile that is too
            small.
        FileNotFoundError: no weights ship for the factor.

    Example:
        >>> import numpy as np, ddfnet
        >>> depth = np.array([[400, 410, 0], [400, 900, 905]], dtype=np.uint16)  # millimetres, 0 unknown
        >>> rgb = np.zeros((16, 24, 3), dtype=np.uint8)
        >>> ddfnet.upsample_depth(depth, rgb, network=ddfnet.models.DDFUpNet(8)).shape
        (16, 24)
    """
    known_depth, image = _as_tensor("depth", depth), _as_tensor("rgb", rgb)
    _check(known_depth, image)
    dtype = known_depth.dtype if known_depth.is_floating_point() else torch.float32
    low = known_depth.detach().cpu().double()
    low = low.where(low.isfinite() & (low != 0), torch.nan)
    known = low[~low.isnan()]
    if not known.numel():
        raise ValueError("depth: expected at least one known pixel, got only unknown ones: NaN, inf or 0")
    least, span = known.min(), known.max() - known.min()
    if low.shape == image.shape[:2] or not span:
        result = fill_unknown(low) if span else torch.full(image.shape[:2], float(least), dtype=low.dtype)
    else:
        place = torch.device(device or (known_depth.device if network is None else next(network.parameters()).device))
        filled = fill_unknown((low - least) / span).float()
        result = _upsample(filled, image, network, place, tile, progress).clamp_(0, 1)
        if dtype == torch.float64:
            result = result.double()
        result = result.mul_(float(span)).add_(float(least)).clamp_(float(least), float(known.max()))
    result = result.to(known_depth.device, dtype)
    return result.numpy() if isinstance(depth, np.ndarray) else result


def bicubic_depth(depth: Tensor, size: Sequence[int]) -> Tensor:
    """What an image-blind upsampling gives at the same pixel positions as `upsample_depth`: the bicubic one of Keys (1981).

    Args:
        depth: (h, w) floating; NaN, inf, -inf and 0 are unknown, and filled.
        size: H and W.

    Returns:
        (H, W).
    """
    filled = fill_unknown(depth.where(depth != 0, torch.nan))
    factor = _factor(depth.shape, size) or FACTORS[-1]
    rows, columns = (Axis(low, length, factor) for low, length in zip(depth.shape, size, strict=True))
    return interpolate(filled, rows.depth_positions(0, size[0]), columns.depth_positions(0, size[1]), cubic=True)


def _upsample(
    low: Tensor,
    image: Tensor,
    network: JointUpsampler | None,
    device: torch.device,
    tile: int,
    progress: Progress | None,
) -> Tensor:
    """(h, w) in 0 to 1, without unknowns -> (H, W) on `device`."""
    size = image.shape[:2]
    if network is None:
        factor = _factor(low.shape, size)
        if factor is None:  # in two steps
            factor = FACTORS[0]
            # Sides that it does not divide are rounded down: rounded up, the second step would take the image for padded.
            small = resize(image.permute(2, 0, 1)[None].float(), [length // factor for length in size])
            small = small[0].permute(1, 2, 0).round().to(torch.uint8)
            low = _upsample(low, small, None, device, tile, progress)
        network = pretrained(factor)
    elif not _fits(low.shape, size, network.scale_factor):
        ratio = max(length / short for length, short in zip(size, low.shape, strict=True))
        raise ValueError(
            f"network: expected a factor of at least the ratio of the sizes, {ratio:.4g}, got {network.scale_factor}"
        )
    if next(network.parameters()).device != device:
        network = copy.deepcopy(network).to(device)
    return upsample_tiled(network, low, image, tile=tile, progress=progress)


def _factor(low: Sequence[int], size: Sequence[int]) -> int | None:
    """The least factor with weights that takes a depth map of size `low` to `size`, None above the largest."""
    return next((factor for factor in FACTORS if _fits(low, size, factor)), None)


def _fits(low: Sequence[int], size: Sequence[int], factor: int) -> bool:
    """Whether sides times the factor reach the image's, where they may have been rounded down."""
    return all((short + 1) * factor > length for short, length in zip(low, size, strict=True))


def _as_tensor(name: str, values: Tensor | NDArray[Any]) -> Tensor:
    if isinstance(values, Tensor):
        return values
    if not isinstance(values, np.ndarray):
        raise TypeError(f"{name}: expected a NumPy array or a tensor, got {type(values).__name__}")
    if np.ma.isMaskedArray(values):
        floats = values if values.dtype.kind == "f" else values.astype(np.float32)
        values = np.where(np.ma.getmaskarray(values), floats.dtype.type(np.nan), np.ma.getdata(floats))
    if values.dtype.kind not in "fiu" or values.dtype.itemsize > 8:
        raise TypeError(f"{name}: expected a floating or integer dtype, got {values.dtype}")
    # PyTorch takes neither another machine's byte order nor negative strides, and warns of what is read-only.
    return torch.from_numpy(np.require(values, values.dtype.newbyteorder("="), ["C", "W"]))


def _check(depth: Tensor, rgb: Tensor) -> None:
    if depth.dtype == torch.bool or depth.is_complex():
        raise TypeError(f"depth: expected a floating or integer dtype, got {depth.dtype}")
    if depth.dim() != 2 or not depth.numel():
        raise ValueError(f"depth: expected (h, w), got {tuple(depth.shape)}")
    if rgb.dim() != 3 or rgb.shape[2] != 3 or not rgb.numel():
        raise ValueError(f"rgb: expected (H, W, 3), got {tuple(rgb.shape)}")
    if rgb.dtype != torch.uint8:
        raise TypeError(f"rgb: expected uint8, got {rgb.dtype}")
    check_sizes(depth.shape, rgb.shape[:2])


def check_sizes(low: Sequence[int], size: Sequence[int]) -> None:
    """ValueError unless one ratio from 1 up, rounded, takes a depth map's height and width to an image's."""
    (h, w), (height, width) = low, size
    ratios = f"{h}x{w} and {height}x{width}, ratios of {height / h:.4g} and {width / w:.4g}"
    if height < h or width < w:
        raise ValueError(f"rgb: expected an image at least as large as the depth map, got {ratios}")
    # Of a side L at ratio r, L / r was rounded up or down: l - 1 < L / r < l + 1.
    least = max(height / (h + 1), width / (w + 1))
    most = min(length / (short - 1) if short > 1 else math.inf for short, length in ((h, height), (w, width)))
    if least >= most:
        raise ValueError(f"rgb: expected the aspect of the depth map, got {ratios}")
