"""The pictures of `ddfnet show`, of a `ddfnet.tasks.classification.show.Look`."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ddfnet.atomic import whole_or_absent
from ddfnet.tasks.classification.show import Look, cluster

COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB", "#222222", "#EE8866", "#77AADD")
MARK = "#FF9F1C"
WINDOW = 8  # pixels of the magnified square's side, at most
FILTERS = 64  # channel filters drawn, at most
MAPS = 6  # channels of feature maps


def draw_all(seen: Look, folder: Path, *, clusters: int) -> list[Path]:
    """Draw what the layer has: spatial_filters.png, filter_clusters.png, channel_filters.png, feature_maps.png."""
    paths = []
    if seen.spatial is not None:
        paths += [folder / "spatial_filters.png", folder / "filter_clusters.png"]
        draw_field(seen, paths[0])
        draw_clusters(seen, paths[1], clusters)
    if seen.channel is not None:
        paths.append(folder / "channel_filters.png")
        draw_channel_filters(seen, paths[-1])
    paths.append(folder / "feature_maps.png")
    draw_feature_maps(seen, paths[-1])
    return paths


def draw_field(seen: Look, path: Path) -> None:
    """Draw the image, the filter of every pixel in its place, and the square where the filters differ most, magnified."""
    filters = _spatial(seen)
    rows, columns, k, _ = filters.shape
    limit = _limit(filters)
    side = min(WINDOW, max(4, min(rows, columns) // 3), rows, columns)
    top, left = _liveliest(filters, side)
    figure, axes = _row(seen)
    axes[0].imshow(seen.image, extent=(-0.5, columns - 0.5, rows - 0.5, -0.5), interpolation="antialiased")
    axes[1].imshow(
        _tiled(filters), cmap="RdBu_r", vmin=-limit, vmax=limit, extent=(-0.5, columns - 0.5, rows - 0.5, -0.5)
    )
    for axis in axes[:2]:
        axis.add_patch(Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor=MARK, linewidth=2))
    near = filters[top : top + side, left : left + side]
    drawn = axes[2].imshow(_tiled(near), cmap="RdBu_r", vmin=-limit, vmax=limit)
    for line in range(1, side):
        axes[2].axhline(line * k - 0.5, color="black", linewidth=0.8)
        axes[2].axvline(line * k - 0.5, color="black", linewidth=0.8)
    for spine in axes[2].spines.values():
        spine.set(edgecolor=MARK, linewidth=2)
    titles = ("the image", f"the {k}x{k} filter of each of {rows}x{columns} pixels", f"{side}x{side} of them")
    _titles(axes, titles)
    figure.colorbar(drawn, ax=axes[2], shrink=0.8, label="filter weight")
    _save(figure, path)


def draw_clusters(seen: Look, path: Path, count: int) -> None:
    """Draw the image, the cluster of every pixel's filter, and each cluster's mean filter with its share of the pixels."""
    labels, means, shares = cluster(_spatial(seen), count)
    rows, columns = labels.shape
    figure, axes = _row(seen)
    extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    axes[0].imshow(seen.image, extent=extent, interpolation="antialiased")
    colours = ListedColormap(COLOURS[: len(means)])
    axes[1].imshow(labels, cmap=colours, vmin=-0.5, vmax=len(means) - 0.5, interpolation="nearest")
    _titles(axes[:2], ("the image", f"pixels by their filter, {len(means)} clusters"))
    axes[2].set_axis_off()
    axes[2].set_title("the mean filter of each, and its share", fontsize=10)
    across = 2 if len(means) <= 6 else 3
    down = -(-len(means) // across)
    limit = _limit(means)
    for number, (mean, share) in enumerate(zip(means, shares, strict=True)):
        row, column = divmod(number, across)
        width, height = 1 / across, 1 / down
        corner = (column * width + 0.12 * width, 1 - (row + 1) * height + 0.14 * height)
        inset = axes[2].inset_axes((*corner, 0.76 * width, 0.72 * height))
        inset.imshow(mean, cmap="RdBu_r", vmin=-limit, vmax=limit)
        inset.set_xlabel(f"{share:.0%}", fontsize=9, labelpad=2)
        _bare(inset)
        for spine in inset.spines.values():
            spine.set(edgecolor=COLOURS[number], linewidth=4)
    _save(figure, path)


def draw_channel_filters(seen: Look, path: Path) -> None:
    """Draw the filters of the channels, those that are alike beside each other."""
    if seen.channel is None:
        raise ValueError("seen: expected a layer with channel filters")
    filters = seen.channel[_by_likeness(seen.channel)]
    chosen = filters[np.linspace(0, len(filters) - 1, min(FILTERS, len(filters))).round().astype(int)]
    across = min(len(chosen), 8 if len(chosen) <= 32 else 16)
    down = -(-len(chosen) // across)
    size = 0.62 * across + 0.7, 0.62 * down + 0.75
    figure = Figure(figsize=size)
    axes = figure.subplots(down, across, squeeze=False)
    figure.subplots_adjust(
        left=0.15 / size[0],
        right=1 - 0.75 / size[0],
        bottom=0.1 / size[1],
        top=1 - 0.6 / size[1],
        wspace=0.12,
        hspace=0.12,
    )
    limit = _limit(chosen)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, taps in zip(axes.flat, chosen, strict=False):
        drawn = axis.imshow(taps, cmap="RdBu_r", vmin=-limit, vmax=limit)
    shown = "all" if len(chosen) == len(filters) else f"{len(chosen)} of {len(filters)}"
    figure.suptitle(f"{seen.title}\n{shown} channel filters for this image, like beside like", fontsize=9)
    scale = figure.add_axes((1 - 0.62 / size[0], 0.1 / size[1], 0.12 / size[0], 1 - 0.7 / size[1]))
    figure.colorbar(drawn, cax=scale).ax.tick_params(labelsize=7)
    _save(figure, path)


def draw_feature_maps(seen: Look, path: Path) -> None:
    """Draw the maps that vary most after the layer, before and after it, and likewise those of a dense convolution."""
    chosen = _liveliest_channels(seen.after)
    kinds = (
        ("before", seen.before[chosen], chosen),
        ("after", seen.after[chosen], chosen),
        ("dense", seen.dense[_liveliest_channels(seen.dense)], _liveliest_channels(seen.dense)),
    )
    rows, columns = seen.after.shape[1:]
    wide = max(1.0, columns / rows)
    figure = Figure(figsize=(1.75 * wide * len(chosen) + 0.5, 6.6), layout="constrained")
    axes = figure.subplots(3, len(chosen), squeeze=False)
    for line, (name, maps, channels) in zip(axes, kinds, strict=True):
        for axis in line:
            axis.set_axis_off()
        for axis, values, channel in zip(line, maps, channels, strict=False):
            axis.set_axis_on()
            _draw_map(axis, values)
            axis.set_title(f"channel {channel}", fontsize=8)
        line[0].set_ylabel(name, fontsize=10)
    beside = f"before and after the layer; beside them: {seen.dense_title}"
    figure.suptitle(f"{seen.title}\n{beside}\neach map from its 1st to its 99th percentile", fontsize=9)
    _save(figure, path)


def _draw_map(axis: Axes, values: np.ndarray) -> None:
    lower, upper = np.percentile(values, (1, 99))
    axis.imshow(values, cmap="magma", vmin=lower, vmax=upper if upper > lower else lower + 1)
    _bare(axis)


def _spatial(seen: Look) -> np.ndarray:
    if seen.spatial is None:
        raise ValueError("seen: expected a layer with spatial filters")
    return seen.spatial


def _tiled(filters: np.ndarray) -> np.ndarray:
    """Tile (P, Q, k, k) -> (P*k, Q*k): each filter in the place of its pixel."""
    rows, columns, k, _ = filters.shape
    return filters.transpose(0, 2, 1, 3).reshape(rows * k, columns * k)


def _liveliest(filters: np.ndarray, side: int) -> tuple[int, int]:
    """Return top and left of the square of pixels in which the filters vary most."""
    windows = np.lib.stride_tricks.sliding_window_view(filters, (side, side), axis=(0, 1))
    variances: Any = windows.var(axis=(-2, -1)).sum(axis=(2, 3))
    top, left = np.unravel_index(int(variances.argmax()), variances.shape)
    return int(top), int(left)


def _liveliest_channels(maps: np.ndarray) -> np.ndarray:
    """Return the channels whose maps vary most, at most `MAPS`."""
    return np.argsort(-maps.std(axis=(1, 2)), kind="stable")[:MAPS]


def _by_likeness(filters: np.ndarray) -> np.ndarray:
    """Return an order of filters (C, k, k): by the first principal component's sign and size."""
    points = filters.reshape(len(filters), -1).astype(np.float64)
    points = points - points.mean(0)
    _, _, directions = np.linalg.svd(points, full_matrices=False)
    return np.argsort(points @ directions[0], kind="stable")


def _limit(filters: np.ndarray) -> float:
    """Return the limit of the colours on either side of 0: all but the outermost 0.5% of the weights lie within."""
    return float(np.percentile(np.abs(filters), 99.5)) or 1.0


def _row(seen: Look) -> tuple[Figure, Any]:
    """Return two panels of the image's shape and a square one."""
    height, width = seen.image.shape[:2]
    shape = min(3.0, max(0.5, width / height))
    figure = Figure(figsize=(4 * (2 * shape + 1) + 1, 4.6), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=(shape, shape, 1))
    figure.suptitle(seen.title, fontsize=9)
    return figure, axes


def _titles(axes: Any, titles: tuple[str, ...]) -> None:
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=10)
        _bare(axis)


def _bare(axis: Axes) -> None:
    axis.set(xticks=[], yticks=[])


def _save(figure: Figure, path: Path) -> None:
    with whole_or_absent(path) as partial:
        figure.savefig(partial, dpi=130)
