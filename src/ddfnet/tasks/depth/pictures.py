"""Pictures of upsampled depth: the photograph, the low resolution, what methods make of it, and their errors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ddfnet.atomic import whole_or_absent
from ddfnet.data.depth.protocols import border
from ddfnet.ops.fill_unknown import fill_unknown
from ddfnet.tasks.depth.metrics import depth_errors
from ddfnet.tasks.depth.rivals import interpolate

DEPTH, ERROR, UNKNOWN = "viridis", "magma", "0.6"
WORST = 0.97  # quantile of the first method's errors at which the scale of errors ends


def draw_depth(
    rows: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]], path: Path, *, factor: int, protocol: str, unit: str
) -> None:
    """Draw a line an image: RGB, low resolution, truth, bicubic and the network's, and the errors of both.

    Args:
        rows: rgb (3, H, W) in 0..1, low (h, w), truth (H, W) and the network's (H, W); NaN where unknown.
        unit: of the depth.
    """
    figure = Figure(figsize=(15.4, 2.6 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 7, squeeze=False)
    for line, (rgb, low, truth, found) in zip(axes, rows, strict=True):
        size = (truth.shape[0], truth.shape[1])
        filled = fill_unknown(low)[None, None]
        bicubic = interpolate(filled, size, factor=factor, protocol=protocol, mode="bicubic")[0, 0]
        draw_line(line, rgb, low, truth, {"bicubic": bicubic, "network": found}, border=border(protocol), unit=unit)
    figure.suptitle(f"{factor}x, protocol {protocol}, RMSE in {unit}")
    with whole_or_absent(path) as partial:
        figure.savefig(partial, dpi=110)


def draw_line(
    axes: Sequence[Axes],
    rgb: Tensor,
    low: Tensor,
    truth: Tensor,
    methods: Mapping[str, Tensor],
    *,
    border: int,
    unit: str,
) -> None:
    """Draw on 3 + 2n of the axes: RGB, low resolution, truth, what n methods found, and their errors on one scale.

    Args:
        methods: (H, W) by name; the first is what the scale of the errors is set by.
    """
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        axis.set_facecolor(UNKNOWN)
    known = truth[truth.isfinite()]
    limits: dict[str, Any] = {"vmin": float(known.min()), "vmax": float(known.max()), "cmap": DEPTH}
    axes[0].imshow(rgb.permute(1, 2, 0).numpy())
    axes[0].set_title("RGB", fontsize=8)
    for axis, depth, title in ((axes[1], low, f"depth, {low.shape[0]} x {low.shape[1]}"), (axes[2], truth, "truth")):
        axis.imshow(_masked(depth), interpolation="nearest", **limits)
        axis.set_title(title, fontsize=8)
    errors = {name: (depth - truth).abs() for name, depth in methods.items()}
    first = next(iter(errors.values()))
    most = float(torch.quantile(first[first.isfinite()].float()[:: max(1, first.numel() // 10**6)], WORST)) or 1.0
    for axis, (name, depth) in zip(axes[3:], methods.items(), strict=False):
        axis.imshow(_masked(depth), **limits)
        axis.set_title(name, fontsize=8)
    for axis in axes[3 + 2 * len(methods) :]:
        axis.set_visible(False)
    for axis, (name, error) in zip(axes[3 + len(methods) :], errors.items(), strict=False):
        axis.imshow(_masked(error), vmin=0, vmax=most, cmap=ERROR)
        rmse = depth_errors(methods[name], truth, border=border).rmse
        axis.set_title(f"error of {name}: {rmse:.3g} {unit}", fontsize=8)


def _masked(values: Tensor) -> "np.ma.MaskedArray[tuple[int, ...], np.dtype[np.floating]]":
    return np.ma.masked_invalid(values.float().numpy())
