"""The picture of one upsampled depth map: RGB, input, bicubic upsampling, result, and errors where the truth is known."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ddfnet.atomic import whole_or_absent

Map = NDArray[np.floating[Any]]

SIDE = 1200  # pixels of a panel: of a larger image every n-th pixel is drawn
UNKNOWN = "0.55"
RANGE = (1, 99)  # percents of the known depth that the scale of colours covers
COVERED = 98  # percent of the bicubic errors that the scale of errors covers


def draw_preview(
    rgb: NDArray[np.uint8],
    depth: Map,
    bicubic: Map,
    result: Map,
    path: Path,
    *,
    truth: Map | None = None,
    unit: str = "",
) -> None:
    """Write the picture, whole or not at all. Maps share one scale, errors another.

    The nearest and the farthest 1% of the known depth have the colours at the ends of the scale.

    Args:
        rgb: (H, W, 3).
        depth: (h, w), NaN where unknown, which is drawn grey.
        bicubic, result: (H, W).
        path: of the file; its suffix says the format.
        truth: (H, W), NaN where unknown: adds a second row, of the truth and the absolute errors of both.
        unit: of the depth.
    """
    step = math.ceil(max(result.shape) / SIDE)
    height, width = result.shape
    rows = 1 if truth is None else 2
    inches = 4.0
    figure = Figure(figsize=(4 * inches + 1.2, rows * (inches * height / width + 0.5)), layout="constrained")
    axes = figure.subplots(rows, 4, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], facecolor=UNKNOWN)
    axes[0, 0].imshow(rgb[::step, ::step])
    axes[0, 0].set_title(f"RGB, {height}x{width}")
    known = depth[np.isfinite(depth)]
    least, greatest = (float(end) for end in np.percentile(known, RANGE))
    beyond = ("neither", "min", "max", "both")[int(known.min() < least) + 2 * int(known.max() > greatest)]
    if least == greatest:  # a colour bar of no length would be widened, by matplotlib
        margin = 0.1 * abs(least) or 1.0
        least, greatest = least - margin, greatest + margin
    scale: dict[str, Any] = {"vmin": least, "vmax": greatest, "cmap": "turbo"}
    h, w = depth.shape
    _show(axes[0, 1], depth, f"input, {h}x{w}", **scale)
    _show(axes[0, 2], bicubic[::step, ::step], "bicubic", **scale)
    drawn = _show(axes[0, 3], result[::step, ::step], "ours", **scale)
    figure.colorbar(drawn, ax=axes[0], label=unit, pad=0.01, extend=beyond)
    if truth is not None:
        axes[1, 0].set_visible(False)
        _show(axes[1, 1], truth[::step, ::step], "truth", **scale)
        drawn = _draw_errors(axes[1, 2:], [np.abs(found - truth) for found in (bicubic, result)], step, unit)
        figure.colorbar(drawn, ax=axes[1], label=unit, pad=0.01, extend="max")
    with whole_or_absent(path) as partial:
        figure.savefig(partial, dpi=110)


def _draw_errors(axes: Any, errors: list[Map], step: int, unit: str) -> Any:
    """Draw the absolute errors of bicubic and ours on one scale; return the last picture, for its colour bar."""
    seen = errors[0][np.isfinite(errors[0])]
    most = float(np.percentile(seen, COVERED)) if seen.size else 0.0
    for axis, error, name in zip(axes, errors, ("bicubic", "ours"), strict=True):
        title = f"error of {name}, RMSE {rmse(error):.4g} {unit}".rstrip()
        drawn = _show(axis, error[::step, ::step], title, vmin=0, vmax=most or 1, cmap="magma")
    return drawn


def rmse(error: Map) -> float:
    """Return the root of the mean square of an error map, over its known pixels."""
    return float(np.sqrt(np.nanmean(np.square(error, dtype=np.float64))))


def _show(axis: Axes, values: Map, title: str, **scale: Any) -> Any:
    axis.set_title(title)
    return axis.imshow(np.ma.masked_invalid(values), interpolation="nearest", **scale)
