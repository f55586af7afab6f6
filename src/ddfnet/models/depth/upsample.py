"""`ddfnet.upsample_depth`: a depth map at the resolution of the RGB image over it, by the weights that ship."""

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddfnet.models.depth.grid import Axis, interpolate
from ddfnet.models.depth.joint_upsampling import JointUpsampler, pretrained
from ddfnet.models.depth.range import inlier_range
from ddfnet.models.depth.tiles import Progress, count_windows, upsample_tiled
from ddfnet.nn.upsamplers.contract import resize
from ddfnet.ops.fill_unknown import fill_unknown
from ddfnet.ops.unknown_depth import unknown_pixels

Depth = TypeVar("Depth", Tensor, NDArray[Any])

FACTORS = (4, 8, 16)  # with weights
TILE = 1536
STRIP = 256  # rows that are computed at once where no network is


def upsample_depth(
    depth: Depth,
    rgb: Tensor | NDArray[np.uint8],
    *,
    unknown: float | Sequence[float] = (),
    network: JointUpsampler | None = None,
    device: torch.device | str | None = None,
    tile: int = TILE,
    progress: Progress | None = None,
) -> Depth:
    """Upsamples a depth map to the size of the RGB image over it, in any unit.

    Unknown pixels are filled from the known ones around them (`fill_unknown`), the map is brought to 0..1 by its least and
    greatest known value, upsampled by a network that sees the image, brought back, and held to the range of what is known.

    Values that lie far off from all others (`inlier_range`: 65535 among millimetres, 1e4 among metres) do not widen that
    range. The others are upsampled as if those were unknown; where they lie, the network tells from a map of that alone, in
    as much time again, and their values are interpolated. None of it reaches beyond the depth pixels next to them. A mark of
    unknown pixels is better named: `unknown=65535`.

    Any ratio of the sizes from 1 up will do. The network is that of the next factor f with weights: 4, 8 or 16. Where the
    depth map has the size of the image divided by f and rounded up, depth pixel i is taken to lie on image pixel
    i*f + (f-1)//2, as in PAC-Net's protocol: half an image pixel from the middle of what it covers. For other ratios it lies
    in the middle, the image is brought to f times the size of the depth map, and the output back to the image's. Above 16 a
    map of a quarter of the image's size is made first, then upsampled 4 times. At 1 only unknown pixels are filled.

    Args:
        depth: (h, w), NumPy array or tensor, of a floating or integer dtype; NaN, inf, -inf, 0 and masked pixels are
            unknown, and so is its only negative value where it has one, and positive ones beside it (`unknown_pixels`): -1
            or -9999 among depths. A map with several negative values is taken as it is.
        rgb: (H, W, 3) uint8, NumPy array or tensor; H/h and W/w are equal up to the rounding of h and w.
        unknown: further values that mark unknown pixels.
        network: a `DDFUpNet` or `PacJointUpsample`, for ratios up to its factor, in place of those whose weights ship.
        device: of the computation; by default that of `network`, or of `depth`.
        tile: the longest side, in pixels, of what is computed at once: memory grows with its square. The result does not
            depend on it, beyond rounding; images that fit are quickest.
        progress: called with the number of windows that are done, and of all.

    Returns:
        (H, W), all known, in the depth's unit; array or tensor as `depth`, of its device and floating dtype; float32 for an
        integer one. No gradient flows through it.

    Raises:
        TypeError: `depth`, `rgb`, `unknown` or `network` of another dtype or kind.
        ValueError: shapes that are not as described; no known pixel; a range beyond float64's; a ratio above the network's
            factor; a tile that is too small.
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
    marks: NDArray[Any] = np.ravel(unknown)
    if marks.dtype.kind not in "fiu":
        raise TypeError(f"unknown: expected a number or a sequence of numbers, got {unknown!r}")
    low = known_depth.detach().cpu()
    if not low.is_floating_point():
        low = low.double()
    low = low.double().where(~unknown_pixels(low, marks.tolist()), torch.nan)
    known = low[~low.isnan()]
    if network is not None:
        _check_network(network)
    if not known.numel():
        named = ", ".join(["NaN", "inf", *(f"{mark:.10g}" for mark in marks)])
        raise ValueError(f"depth: expected at least one known pixel, got only unknown ones: {named} or 0")
    if not math.isfinite(float(known.max()) - float(known.min())):
        raise ValueError(f"depth: expected a range that float64 holds, got {known.min():.6g} to {known.max():.6g}")
    dtype = known_depth.dtype if known_depth.is_floating_point() else torch.float32
    size = image.shape[:2]
    if low.shape == size:
        result = fill_unknown(low)
    elif known.min() == known.max():
        result = torch.full(size, float(known[0]), dtype=low.dtype)
    else:
        place = torch.device(device or (known_depth.device if network is None else next(network.parameters()).device))
        steps = _steps(low.shape, image, network, place)
        result = _upsample(low, steps, torch.promote_types(dtype, torch.float32), tile, progress)
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


class _Step(NamedTuple):
    """A network on its device, and the image at the size of its output."""

    network: JointUpsampler
    image: Tensor


def _steps(low: Sequence[int], image: Tensor, network: JointUpsampler | None, device: torch.device) -> list[_Step]:
    """What takes a depth map of size `low` to the image's."""
    before: list[_Step] = []
    size = image.shape[:2]
    if network is None:
        factor = _factor(low, size)
        if factor is None:  # in two steps
            factor = FACTORS[0]
            # Sides that it does not divide are rounded down: rounded up, the second step would take the image for padded.
            small = resize(image.permute(2, 0, 1)[None].float(), [length // factor for length in size])
            before = _steps(low, small[0].permute(1, 2, 0).round().to(torch.uint8), None, device)
        network = pretrained(factor)
    elif not _fits(low, size, network.scale_factor):
        ratio = max(length / short for length, short in zip(size, low, strict=True))
        raise ValueError(
            f"network: expected a factor of at least the ratio of the sizes, {ratio:.4g}, got {network.scale_factor}"
        )
    if next(network.parameters()).device != device:
        network = copy.deepcopy(network).to(device)
    return [*before, _Step(network, image)]


def _upsample(low: Tensor, steps: Sequence[_Step], dtype: torch.dtype, tile: int, progress: Progress | None) -> Tensor:
    """(h, w) float64, NaN where unknown, not all one value -> (H, W) of a dtype, in the same unit.

    What lies far off is a layer of its own, laid over the others' by where the networks find it.
    """
    least, greatest = inlier_range(low[~low.isnan()])
    far_off = (low < least) | (low > greatest)
    windows, size = 0, low.shape
    subsampled = len(steps) == 1
    for network, image in steps:
        windows += count_windows(network, size, image.shape[:2], tile=tile, subsampled=subsampled)
        size = image.shape[:2]
    runs = (least < greatest) + bool(far_off.any())
    done = itertools.count(1)

    def tell(*_: int) -> None:
        if progress is not None:
            progress(next(done), runs * windows)

    def by_networks(known: Tensor, least: float, span: float) -> Tensor:
        """In 0 to 1, from a map whose known values are `least` to `least + span`."""
        upsampled = fill_unknown((known - least) / span).float()
        for network, image in steps:
            upsampled = upsample_tiled(network, upsampled, image, tile=tile, subsampled=subsampled, progress=tell)
        return upsampled.clamp_(0, 1).to(dtype)

    if least == greatest:
        result = torch.full(size, least, dtype=dtype, device=next(steps[-1].network.parameters()).device)
    else:
        span = greatest - least
        result = by_networks(low.where(~far_off, torch.nan), least, span)
        result = result.mul_(span).add_(least).clamp_(least, greatest)
    if far_off.any():
        where = by_networks(far_off.to(low.dtype).where(~low.isnan(), torch.nan), 0.0, 1.0)
        factor = steps[0].network.scale_factor if len(steps) == 1 else FACTORS[-1]
        _lay_over(result, low.where(far_off, torch.nan), where, factor)
    return result


def _lay_over(result: Tensor, far_off: Tensor, where: Tensor, factor: int) -> None:
    """Lays far-off values over a map (H, W) of the others, in place.

    What the networks are unsure of to a quarter of the step is none: they leave soft traces of such a step far from it. A
    single value, which is likely a mark, is not mixed with the others: a pixel has it or has not. Whatever the networks
    say, a pixel is far off only where one of the four depth pixels around it is, and none is so where all are.

    Args:
        far_off: (h, w) the values, NaN where there is none.
        where: (H, W) on result's device, from 0, where a pixel is none of them, to 1.
        factor: of the networks.
    """
    values = far_off[~far_off.isnan()]
    one = bool(values.min() == values.max())
    filled, there = fill_unknown(far_off).to(result), (~far_off.isnan()).to(result)
    axes = (Axis(low, length, factor) for low, length in zip(far_off.shape, result.shape, strict=True))
    rows, columns = (axis.depth_positions(0, axis.length) for axis in axes)
    for top in range(0, len(result), STRIP):
        strip = slice(top, top + STRIP)
        some, others = (interpolate(share, rows[strip], columns) > 0 for share in (there, 1 - there))
        share = (2 * where[strip] - 0.5).clamp_(0, 1)
        share = (share.round() if one else share).where(some, 0).where(others, 1)
        result[strip].lerp_(interpolate(filled, rows[strip], columns), share)


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
        if name == "depth":
            floats = values if values.dtype.kind == "f" else values.astype(np.float32)
            values = np.where(np.ma.getmaskarray(values), floats.dtype.type(np.nan), np.ma.getdata(floats))
        values = np.ma.getdata(values)
    if values.dtype.kind not in "fiu" or values.dtype.itemsize > 8:
        raise TypeError(f"{name}: expected a floating or integer dtype, got {values.dtype}")
    # PyTorch takes neither another machine's byte order nor negative strides, and warns of what is read-only.
    return torch.from_numpy(np.require(values, values.dtype.newbyteorder("="), ["C", "W"]))


def _check_network(network: Any) -> None:
    if not isinstance(network, JointUpsampler):
        raise TypeError(f"network: expected a DDFUpNet or PacJointUpsample, got {type(network).__name__}")
    dtype = next(network.parameters()).dtype
    if dtype != torch.float32:
        raise TypeError(f"network: expected weights in float32, got {dtype}")


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
