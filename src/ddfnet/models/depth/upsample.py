"""`ddfnet.upsample_depth`: a depth map at the resolution of the RGB image over it, by the weights that ship."""

import functools
import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ddfnet.models.depth.convex_up_net import pretrained
from ddfnet.models.depth.grid import Axis, Samples, interpolate
from ddfnet.models.depth.tiles import DepthNetwork, Grid, Progress, upsample_tiled
from ddfnet.nn.upsamplers.contract import resize
from ddfnet.ops.fill_unknown import fill_unknown
from ddfnet.ops.unknown_depth import SATURATED, unknown_pixels

Depth = TypeVar("Depth", Tensor, NDArray[Any])

FACTORS = (1, 2, 4, 8, 16, 32)  # that the network was trained for
LAST_STEP = 4  # factor of the last step, where the ratio is above the largest
TILE = 1280
STRAY = 1e12  # times the scale of a map: a value farther off is none
SAMPLED = 10**6  # values that the scale of a map is taken from, at most
IMAGE_MARGIN = 0.01  # what floating images may overshoot 0 to 1, as resizing makes them


def upsample_depth(
    depth: Depth,
    rgb: Tensor | NDArray[Any],
    *,
    samples: Samples = "average",
    zero_is_known: bool = False,
    unknown: float | Sequence[float] = (),
    confidence: bool = False,
    network: DepthNetwork | None = None,
    device: torch.device | str | None = None,
    tile: int = TILE,
    progress: Progress | None = None,
) -> Depth:
    """Upsample a depth or disparity map to the size of the RGB image over it, in any unit, and fill its unknown pixels.

    Every pixel becomes a mean of the known depths around it, with weights that a network makes from the image. So nothing
    leaves the range of the known depths, unless `samples="average"`: then the network adds what the averages of its output
    miss of the given ones. Parts of a hole that are farther from any known depth than the network looks are
    filled smoothly (`fill_unknown`).

    Any ratio of the sizes from 1 up will do. At 1, known pixels stay as they are and unknown ones are filled. Between powers
    of two the image is brought to the next power times the size of the depth map, and the output back to the image's. Above
    32 a map of a quarter of the image's size is made first.

    Args:
        depth: (h, w), (1, h, w), (B, h, w) or (B, 1, h, w): a NumPy array, tensor or PIL image of a floating or integer
            dtype. NaN, inf, 0 and masked pixels are unknown, and so are marks by custom: the only negative value beside
            positive ones, and 65535 that stands apart in 16 bits, with a warning (`unknown_pixels`).
        rgb: (H, W, 3) or (3, H, W), for a batch (B, 3, H, W) or (B, H, W, 3): uint8, or floating in 0 to 1; or a PIL image,
            which is turned upright as its EXIF orientation says. H/h and W/w are equal up to the rounding of h and w.
        samples: what a depth pixel is. "average": the mean over the image pixels it covers, as sensors and image resizing
            make it. "point": the depth at one image pixel, as subsampling `depth[(f-1)//2::f, (f-1)//2::f]` makes it; a
            known one comes back unchanged if the ratio is a power of two.
        zero_is_known: True if 0 is a depth.
        unknown: further values that mark unknown pixels.
        confidence: also return how far the depths agree that each pixel mixes.
        network: a `ConvexUpNet`, or another module with the contract `DepthNetwork`, in place of the one that ships.
        device: of the computation; by default that of `depth`. With `network`, its device is taken.
        tile: the longest side, in pixels, of what is computed at once: memory grows with its square. The result does not
            depend on it, beyond rounding; images that fit are quickest.
        progress: called with the number of windows that are done, and of all.

    Returns:
        (..., H, W), all known, in the depth's unit: an array or tensor as `depth`, an array for a PIL image, of its device
        and floating dtype, float32 for an integer one. With `confidence`, (2, ..., H, W): the depths, and the confidences
        from 0 to 1. A confidence is 1 where the depths that a pixel mixes are equal, and less by twice their standard
        deviation, as a part of the map's range (from the 5% to the 95% quantile). No gradient flows through the result;
        for that, call the network itself.

    Raises:
        TypeError: `depth`, `rgb`, `unknown` or `network` of another dtype or kind.
        ValueError: shapes that are not as described; no known pixel; a range beyond float64's; images beyond 0 to 1; another
            name of samples; a tile that is too small.
        FileNotFoundError: the package was installed without weights.

    Example:
        >>> import numpy as np, ddfnet
        >>> depth = np.array([[400, 410, 0], [400, 900, 905]], dtype=np.uint16)  # millimetres, 0 unknown
        >>> rgb = np.zeros((16, 24, 3), dtype=np.uint8)
        >>> ddfnet.upsample_depth(depth, rgb).shape
        (16, 24)
    """
    given, image = _as_tensor("depth", depth), _as_tensor("rgb", _upright(rgb))
    maps, images = _maps(given), _images(image)
    _check(maps, images, samples)
    marks = _marks(unknown)
    lows = [_prepared(values, marks, zero_is_known) for values in maps]
    run = _Run(*_network(network, device or given.device), tile, confidence)
    most = min(run.network.stride, FACTORS[-1])
    plans = [_steps(low.shape, image, samples, most) for low, image in zip(lows, images, strict=True)]
    tell = _counter(progress, sum(len(step.grid.windows(run.network, tile)) for steps in plans for step in steps))
    dtype = maps.dtype if maps.is_floating_point() else torch.float32
    results = [_upsample(low, steps, run, dtype, tell) for low, steps in zip(lows, plans, strict=True)]
    result = torch.stack(results, 1).to(given.device)  # (1 or 2, B, H, W)
    result = result.reshape(-1, *given.shape[:-2], *result.shape[2:])
    result = result if confidence else result[0]
    return result if isinstance(depth, Tensor) else result.numpy()


def bicubic_depth(depth: Tensor, size: Sequence[int], *, samples: Samples = "average") -> Tensor:
    """Upsample a map without an image, at the pixel positions of `upsample_depth`: the bicubic kernel of Keys (1981).

    Args:
        depth: (h, w) floating; NaN and inf are unknown, and filled first.
        size: H and W.
        samples: as in `upsample_depth`.

    Returns:
        (H, W).
    """
    factor = _factor(depth.shape, size, FACTORS[-1])
    rows, columns = (
        Axis(low, length, factor or FACTORS[-1], samples, factor is not None)
        for low, length in zip(depth.shape, size, strict=True)
    )
    filled = fill_unknown(depth)
    return interpolate(filled, rows.depth_positions(0, size[0]), columns.depth_positions(0, size[1]), cubic=True)


def check_sizes(low: Sequence[int], size: Sequence[int]) -> None:
    """Raise ValueError unless one ratio from 1 up, rounded, takes a depth map's height and width to an image's."""
    (h, w), (height, width) = low, size
    ratios = f"{h}x{w} and {height}x{width}, ratios of {height / h:.4g} and {width / w:.4g}"
    if height < h or width < w:
        raise ValueError(f"rgb: expected an image at least as large as the depth map, got {ratios}")
    # Of a side L at ratio r, L / r was rounded up or down: l - 1 < L / r < l + 1.
    least = max(height / (h + 1), width / (w + 1))
    most = min(length / (short - 1) if short > 1 else math.inf for short, length in ((h, height), (w, width)))
    if least >= most:
        raise ValueError(f"rgb: expected the aspect of the depth map, got {ratios}")


class _Run(NamedTuple):
    """The options of a run of the network."""

    network: DepthNetwork
    device: torch.device
    tile: int
    confidence: bool


class _Step(NamedTuple):
    """One pass of the network: the image (3, H, W), and where the pixels of depth and image lie."""

    image: Tensor
    grid: Grid


@functools.cache
def _shipped(device: torch.device) -> nn.Module:
    """Return the network that ships, on a device; read once."""
    return pretrained().to(device).to(memory_format=torch.channels_last)


def _network(network: Any, device: torch.device | str) -> tuple[DepthNetwork, torch.device]:
    """Return a network that fulfils the contract, and its device."""
    if network is None:
        chosen: Any = _shipped(torch.empty(0, device=device).device)
        return chosen, torch.empty(0, device=device).device
    missing = [name for name in ("reach", "stride", "statistics") if not hasattr(network, name)]
    if missing:
        raise TypeError(f"network: expected a ConvexUpNet, got {type(network).__name__} without {', '.join(missing)}")
    weight = next(network.parameters())
    if weight.dtype != torch.float32:
        raise TypeError(f"network: expected weights in float32, got {weight.dtype}")
    return network, weight.device


def _steps(low: Sequence[int], image: Tensor, samples: Samples, most: int, *, regular: bool = True) -> list[_Step]:
    """Return what takes a depth map of size `low` to that of an image (3, H, W), by factors up to `most`."""
    size = image.shape[1:]
    factor = _factor(low, size, most)
    if factor is not None:
        return [_Step(image, Grid.of(low, size, factor, samples, regular=regular))]
    # Sides that the factor does not divide are rounded down: rounded up, the last step would take the image for padded.
    smaller = [length // LAST_STEP for length in size]
    small = resize(image[None].float() / (255 if image.dtype == torch.uint8 else 1), smaller)[0]
    last = _Step(image, Grid.of(smaller, size, LAST_STEP, "average", regular=False))
    return [*_steps(low, small, samples, most, regular=False), last]


def _upsample(
    low: Tensor, steps: Sequence[_Step], run: _Run, dtype: torch.dtype, tell: Callable[[], None] | None
) -> Tensor:
    """Upsample (h, w) float64, NaN where unknown, to (1, H, W) of the dtype in the same unit; with confidence (2, H, W)."""
    low = _without_strays(low, *_centre_and_scale(low[~low.isnan()]))
    known = low[~low.isnan()]
    centre, scale = _centre_and_scale(known)
    grid = steps[0].grid
    values = ((low - centre) / scale).float()
    values = _with_deep_holes_filled(values, run.network.stride // grid.rows.factor)
    for image, step in steps:
        found = upsample_tiled(
            run.network, values, image, step, device=run.device, tile=run.tile, spread=run.confidence, progress=tell
        )
        values = found[0]
    wide = torch.promote_types(dtype, torch.float32)
    result = found.to(low.device, wide)
    result[0].mul_(scale).add_(centre)
    if grid.rows.samples == "point":  # averages lie within the range of what they are of
        result[0].clamp_(float(known.min()), float(known.max()))
    if grid.exact and (grid.rows.samples == "point" or grid.rows.factor == 1):
        _put_back(low, result[0], grid)
    if run.confidence:
        result[1].mul_(-2).add_(1).clamp_(0, 1)
    return result.to(dtype)


def _centre_and_scale(known: Tensor) -> tuple[float, float]:
    """Return what brings known depths to numbers around 0 and 1 that float32 holds well; the scale is a power of two."""
    some = known[:: -(-len(known) // SAMPLED)]
    centre = float(some.median())
    width = float((some - centre).abs().median()) or float(known.max()) - float(known.min()) or 1.0
    return centre, 2.0 ** math.floor(math.log2(width))


def _without_strays(low: Tensor, centre: float, scale: float) -> Tensor:
    """Remove, with a warning, values so far off that float32 does not hold both them and the others."""
    stray = (low - centre).abs() > scale * STRAY
    if not stray.any():
        return low
    values = low[stray]
    warnings.warn(
        f"depth: {values.min():.6g} to {values.max():.6g}, more than {STRAY:.0e} times as far off as the others, are"
        f" taken for unknown, in {len(values)} of {low.numel()} pixels; unknown=... names them without this warning",
        stacklevel=4,
    )
    return low.where(~stray, torch.nan)


def _with_deep_holes_filled(values: Tensor, cell: int) -> Tensor:
    """Fill (h, w) where no pixel is known in the 5x5 cells around: there the network sees nothing to begin with."""
    known = ~values.isnan()
    if known.all():
        return values
    near = F.max_pool2d(known[None].float(), cell, ceil_mode=True)
    near = F.max_pool2d(near, 5, 1, 2)[0] > 0
    near = near.repeat_interleave(cell, 0).repeat_interleave(cell, 1)[: values.shape[0], : values.shape[1]]
    return values if near.all() else values.where(near, fill_unknown(values))


def _put_back(low: Tensor, result: Tensor, grid: Grid) -> None:
    """Write known samples where they lie; the way to the network's numbers and back has rounded them."""
    f, first = grid.rows.factor, int(grid.rows.first)
    there = result[first::f, first::f]
    low = low[: there.shape[0], : there.shape[1]]
    there.copy_(torch.where(low.isnan(), there, low.to(there.dtype)))


def _prepared(values: Tensor, marks: Sequence[float], zero_is_known: bool) -> Tensor:
    """Return a map as float64 on the CPU, NaN where it is unknown."""
    sixteen_bits = values.dtype == torch.uint16
    low = values.detach().cpu()
    low = low if low.is_floating_point() else low.double()
    unknown = unknown_pixels(low, marks, zero_is_known=zero_is_known, sixteen_bits=sixteen_bits)
    if sixteen_bits and SATURATED not in marks and (count := int((unknown & (low == SATURATED)).sum())):
        warnings.warn(
            f"depth: {SATURATED}, far from all other values, is taken for unknown, in {count} of {low.numel()} pixels;"
            f" unknown={SATURATED} says so without this warning, a floating dtype keeps it as a depth",
            stacklevel=3,
        )
    low = low.double().where(~unknown, torch.nan)
    known = low[~unknown]
    if not known.numel():
        named = ", ".join(["NaN", "inf", *(f"{mark:.10g}" for mark in marks), *([] if zero_is_known else ["0"])])
        raise ValueError(f"depth: expected at least one known pixel, got only unknown ones: {named}")
    if not math.isfinite(float(known.max()) - float(known.min())):
        raise ValueError(f"depth: expected a range that float64 holds, got {known.min():.6g} to {known.max():.6g}")
    return low


def _counter(progress: Progress | None, total: int) -> Callable[[], None] | None:
    """Return a function that reports one more window to `progress`."""
    if progress is None:
        return None
    done = itertools.count(1)
    return lambda: progress(next(done), total)


def _factor(low: Sequence[int], size: Sequence[int], most: int) -> int | None:
    """Return the least factor that takes a depth map of size `low` to `size`, None above the largest."""
    return next((factor for factor in FACTORS if factor <= most and _fits(low, size, factor)), None)


def _fits(low: Sequence[int], size: Sequence[int], factor: int) -> bool:
    """True if the sides times the factor reach the image's, where they may have been rounded down."""
    if factor == 1:
        return tuple(low) == tuple(size)
    return all((short + 1) * factor > length for short, length in zip(low, size, strict=True))


def _upright(values: Any) -> Any:
    """Return a PIL image as RGB, turned as its EXIF orientation says; anything else as it is."""
    if not hasattr(values, "getexif"):
        return values
    from PIL import ImageOps

    return np.asarray(ImageOps.exif_transpose(values).convert("RGB"))


def _as_tensor(name: str, values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values
    if hasattr(values, "getexif"):  # a PIL image
        values = np.asarray(values)
    if not isinstance(values, np.ndarray):
        raise TypeError(f"{name}: expected a NumPy array, a tensor or a PIL image, got {type(values).__name__}")
    if np.ma.isMaskedArray(values):
        if name == "depth":
            floats = values if values.dtype.kind == "f" else values.astype(np.float32)
            values = np.where(np.ma.getmaskarray(values), floats.dtype.type(np.nan), np.ma.getdata(floats))
        values = np.ma.getdata(values)
    if values.dtype.kind not in "fiu" or values.dtype.itemsize > 8:
        raise TypeError(f"{name}: expected a floating or integer dtype, got {values.dtype}")
    # PyTorch takes neither another machine's byte order nor negative strides, and warns of what is read-only.
    return torch.from_numpy(np.require(values, values.dtype.newbyteorder("="), ["C", "W"]))


def _maps(depth: Tensor) -> Tensor:
    """Return (B, h, w), from any of the shapes that a depth map may have."""
    if depth.dtype == torch.bool or depth.is_complex():
        raise TypeError(f"depth: expected a floating or integer dtype, got {depth.dtype}")
    if depth.dim() not in (2, 3, 4) or (depth.dim() == 4 and depth.shape[1] != 1) or not depth.numel():
        raise ValueError(f"depth: expected (h, w), (1, h, w), (B, h, w) or (B, 1, h, w), got {tuple(depth.shape)}")
    return depth.reshape(-1, *depth.shape[-2:])


def _images(rgb: Tensor) -> Tensor:
    """Return (B, 3, H, W), from any of the shapes that an image may have; a view."""
    batch = rgb[None] if rgb.dim() == 3 else rgb
    if batch.dim() == 4 and batch.shape[3] == 3 and batch.numel():
        batch = batch.permute(0, 3, 1, 2)
    elif batch.dim() != 4 or batch.shape[1] != 3 or not batch.numel():
        expected = "(H, W, 3), (3, H, W), (B, 3, H, W) or (B, H, W, 3)"
        raise ValueError(f"rgb: expected {expected}, got {tuple(rgb.shape)}")
    if rgb.dtype != torch.uint8 and not rgb.is_floating_point():
        raise TypeError(f"rgb: expected uint8, or floats in 0 to 1, got {rgb.dtype}")
    if rgb.is_floating_point():
        least, most = float(rgb.min()), float(rgb.max())
        if not -IMAGE_MARGIN <= least <= most <= 1 + IMAGE_MARGIN:
            raise ValueError(f"rgb: expected floats in 0 to 1, got {least:.4g} to {most:.4g}")
    return batch


def _check(maps: Tensor, images: Tensor, samples: str) -> None:
    if samples not in get_args(Samples):
        raise ValueError(f"samples: expected 'point' or 'average', got {samples!r}")
    if len(maps) != len(images):
        raise ValueError(f"rgb: expected as many images as depth maps, {len(maps)}, got {len(images)}")
    check_sizes(maps.shape[1:], images.shape[2:])


def _marks(unknown: float | Sequence[float]) -> list[float]:
    marks: NDArray[Any] = np.ravel(unknown)
    if marks.dtype.kind not in "fiu":
        raise TypeError(f"unknown: expected a number or a sequence of numbers, got {unknown!r}")
    return [float(mark) for mark in marks]
