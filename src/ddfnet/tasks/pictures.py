"""The pictures of a run: its curves, what its DDF layers learned, and what its detector found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from ddfnet.atomic import whole_or_absent
from ddfnet.nn.ddf import DDF


def draw_curves(rows: list[dict[str, float]], path: Path, title: str, best_epoch: int) -> None:
    """Draw losses on the left and the other validation metrics on the right, by epoch."""
    names = [name for name in rows[0] if name.startswith(("train_", "val_"))]
    losses = [name for name in names if name.endswith("loss")]
    metrics = [name for name in names if name.startswith("val_") and not name.endswith("loss")]
    epochs = [row["epoch"] + 1 for row in rows]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, group, label in ((axes[0], losses, "loss"), (axes[1], metrics, "metric")):
        for name in group:
            axis.plot(epochs, [row.get(name, np.nan) for row in rows], marker="o", markersize=3, label=name)
        axis.axvline(best_epoch + 1, color="0.6", linestyle=":", label="best epoch")
        axis.set(xlabel="epoch", ylabel=label)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(frameon=False)
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    _save(figure, path)


def draw_spatial_filters(network: nn.Module, images: Tensor, path: Path) -> bool:
    """Draw each image, its field of spatial filters and each tap's map, from the first DDF layer with such filters.

    The field shows at each pixel the k x k filter that the layer predicted there; head 0. Returns False, and draws
    nothing, where the network has no such layer.

    Args:
        images: (N, C, H, W), as the network takes them.
    """
    layer = next((m for m in network.modules() if isinstance(m, DDF) and m.spatial_branch is not None), None)
    if layer is None:
        return False
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    training = network.training
    device = next(network.parameters()).device
    with torch.no_grad():
        network.eval()(images.to(device))
        hook.remove()
        spatial = layer.filters(seen[0])[1]
    network.train(training)
    if spatial is None:
        return False
    filters = spatial[:, 0].float().cpu().numpy()  # (N, K, P, Q)

    k = layer.kernel_size
    figure = Figure(figsize=(9, 3 * len(images)), layout="constrained")
    axes = figure.subplots(len(images), 3, squeeze=False, width_ratios=(1, 1, 1))
    limit = float(np.abs(filters).max())
    for row, (image, taps) in enumerate(zip(images, filters, strict=True)):
        rows, columns = taps.shape[1:]
        field = taps.reshape(k, k, rows, columns).transpose(2, 0, 3, 1).reshape(rows * k, columns * k)
        maps = taps.reshape(k, k, rows, columns).transpose(0, 2, 1, 3).reshape(k * rows, k * columns)
        pixels = image.float().cpu().numpy().transpose(1, 2, 0)
        pixels = (pixels - pixels.min()) / max(float(np.ptp(pixels)), 1e-12)
        axes[row, 0].imshow(pixels[..., 0] if pixels.shape[2] == 1 else pixels, cmap="gray")
        drawn = axes[row, 1].imshow(field, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes[row, 2].imshow(maps, cmap="RdBu_r", vmin=-limit, vmax=limit)
        for line in range(1, k):
            axes[row, 2].axhline(line * rows - 0.5, color="black", linewidth=0.8)
            axes[row, 2].axvline(line * columns - 0.5, color="black", linewidth=0.8)
    axes[0, 0].set_title("input")
    axes[0, 1].set_title(f"the {k}x{k} filter of every pixel")
    axes[0, 2].set_title(f"the map of each of the {k * k} taps")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.colorbar(drawn, ax=axes[:, 2], shrink=0.6, label="normalised filter weight")
    _save(figure, path)
    return True


def draw_detections(
    images: Sequence[Tensor],
    targets: Sequence[dict[str, Tensor]],
    found: Sequence[dict[str, Tensor]],
    classes: Sequence[str],
    path: Path,
    *,
    least: float,
) -> None:
    """Draw for each image the boxes to be found, on the left, and those found with a score of at least `least`.

    Args:
        images: each (3, H, W) in 0..1.
        targets, found: of each image its boxes (N, 4) in pixels and labels (N,) from 1; and scores (N,) of those found.
    """
    columns = 2 if len(images) > 1 else 1  # of pairs
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(4.5 * columns, 2.4 * rows), layout="constrained")
    axes = figure.subplots(rows, 2 * columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for place, (image, target, detections) in enumerate(zip(images, targets, found, strict=True)):
        row, column = divmod(place, columns)
        pixels = image.permute(1, 2, 0).numpy()
        for axis, title in zip(axes[row, 2 * column : 2 * column + 2], ("ground truth", "found"), strict=True):
            axis.imshow(pixels)
            axis.set_title(title, fontsize=8)
        names = [classes[label - 1] for label in target["labels"].tolist()]
        _draw_boxes(axes[row, 2 * column], target["boxes"], names, "#56B4E9")
        sure = detections["scores"] >= least
        names = [
            f"{classes[label - 1]} {score:.2f}"
            for label, score in zip(
                detections["labels"][sure].tolist(), detections["scores"][sure].tolist(), strict=True
            )
        ]
        _draw_boxes(axes[row, 2 * column + 1], detections["boxes"][sure], names, "#E69F00")
    _save(figure, path)


def draw_found(image: Tensor, found: dict[str, Tensor], classes: Sequence[str], path: Path) -> None:
    """Draw the boxes found on an image, at the image's size.

    Args:
        image: (3, H, W) in 0..1.
        found: boxes (N, 4) in pixels, labels (N,) from 1 and scores (N,).
    """
    height, width = image.shape[1:]
    scale = max(1.0, 400 / max(height, width))  # names need pixels to be read
    figure = Figure(figsize=(scale * width / 120, scale * height / 120))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    axis.imshow(image.permute(1, 2, 0).cpu().numpy(), aspect="auto")
    labels, scores = found["labels"].tolist(), found["scores"].tolist()
    names = [f"{classes[label - 1]} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
    _draw_boxes(axis, found["boxes"], names, "#E69F00")
    _save(figure, path)


def _draw_boxes(axis: Axes, boxes: Tensor, names: Sequence[str], colour: str) -> None:
    for (left, top, right, bottom), name in zip(boxes.tolist(), names, strict=True):
        axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.2))
        background = {"facecolor": colour, "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
        axis.text(left, top, name, fontsize=5, va="bottom", clip_on=True, bbox=background)


def draw_study(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw every test score of a study: a dot a run, the mean as a bar across, the spread as a line.

    Args:
        rows: of `ddfnet.tasks.run.study.collect`.

    Raises:
        ValueError: no row has a test score.
    """
    scores = list(dict.fromkeys(name for row in rows for name in row if name.startswith("test_")))
    if not scores:
        raise ValueError("rows: expected some with a test score, got none")
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    columns = min(3, len(scores))
    lines = -(-len(scores) // columns)
    width = max(4.2, 0.5 * len(recipes))
    figure = Figure(figsize=(width * columns, 3 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True)
    for axis in axes.flat[len(scores) :]:
        axis.set_visible(False)
    for axis, score in zip(axes.flat, scores, strict=False):
        for place, recipe in enumerate(recipes):
            found = {row["seed"]: row[score] for row in rows if row["recipe"] == recipe and score in row}
            if not found:  # a recipe of another task
                continue
            mean, spread = found.pop("mean"), found.pop("std", 0.0)
            axis.errorbar(place, mean, yerr=spread, color="black", marker="_", markersize=18, capsize=4, zorder=1)
            axis.scatter([place] * len(found), list(found.values()), s=16, color="#0072B2", zorder=2)
        labels = [recipe.rpartition("/")[2] for recipe in recipes]
        axis.set_xticks(range(len(recipes)), labels, rotation=25, ha="right", fontsize=8)
        axis.set_title(score.replace("_", " "), fontsize=9)
        axis.margins(x=0.1)
        axis.grid(axis="y", alpha=0.3)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with whole_or_absent(path) as partial:
        figure.savefig(partial, dpi=120)
