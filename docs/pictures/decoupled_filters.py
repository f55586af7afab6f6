"""Draws `decoupled_filters.png`, the README's picture of what DDF does, from the filters of a trained network.

uv run ddfnet train && uv run python docs/pictures/decoupled_filters.py runs/ddf_resnet_mini-seed0
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import timm
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import ddfnet.models  # noqa: F401 - registers the networks
from ddfnet import DDF
from ddfnet.data.classification.fashion_mnist import fashion_mnist

IMAGE = 1_200  # of the test images
PIXELS = {"background": (2, 2), "edge": (5, 3), "inside": (7, 7)}  # rows and columns of the 14x14 map
COLOURS = {"background": "#7a7a7a", "edge": "#d1721b", "inside": "#1b7fd1"}
CHANNELS = (1, 6, 12)


def main(run: Path) -> None:
    image, layer, x = first_layer(run)
    with torch.no_grad():
        channel_filter, spatial_filter = layer.filters(x)
    if channel_filter is None or spatial_filter is None:
        raise ValueError(f"{run}: expected a network whose DDF layers have both branches")
    channel, spatial = channel_filter[0].numpy(), spatial_filter[0, 0].numpy()  # (C, k, k), (K, P, Q)

    figure = plt.figure(figsize=(11.5, 4.3), layout="constrained")
    left, times, middle, equals, right = figure.subfigures(1, 5, width_ratios=(3.4, 0.35, 1.55, 0.35, 5))
    draw_spatial(left, image, spatial)
    symbol(times, "\N{MULTIPLICATION SIGN}")
    draw_channel(middle, channel)
    symbol(equals, "=")
    draw_combined(right, channel, spatial)
    path = Path(__file__).with_suffix(".png")
    figure.savefig(path, dpi=130)
    print(path)


def first_layer(run: Path) -> tuple[np.ndarray, DDF, torch.Tensor]:
    """The image (28, 28), the network's first DDF layer and what reaches it (1, C, 14, 14)."""
    network = timm.create_model("ddf_resnet_mini", in_chans=1).eval()
    state = torch.load(run / "best.ckpt", weights_only=True)["state_dict"]
    network.load_state_dict({key.removeprefix("network."): value for key, value in state.items()})
    images, _ = fashion_mnist().test.__getitems__([IMAGE])
    layer = next(module for module in network.modules() if isinstance(module, DDF))
    seen: list[torch.Tensor] = []
    layer.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        network(images)
    return images[0, 0].numpy(), layer, seen[0]


def draw_spatial(figure: Figure, image: np.ndarray, spatial: np.ndarray) -> None:
    figure.suptitle("one spatial filter per pixel\n(B, K, H, W), shared by the channels", fontsize=10)
    axes = figure.subplots(4, 4, gridspec_kw={"width_ratios": (1, 1, 1, 0.9)})
    whole = axes[0, 0].get_gridspec()
    for axis in axes[:, :3].flat:
        axis.remove()
    picture = figure.add_subplot(whole[:, :3])
    picture.imshow(image, cmap="gray")
    for axis in axes[:, 3]:
        axis.axis("off")
    for (name, (row, column)), axis in zip(PIXELS.items(), axes[:3, 3], strict=True):
        picture.add_patch(Rectangle((2 * column - 0.5, 2 * row - 0.5), 2, 2, fill=False, edgecolor=COLOURS[name], lw=2))
        draw_filter(axis, spatial[:, row, column].reshape(3, 3), COLOURS[name])
        axis.set_title(name, fontsize=8, color=COLOURS[name], pad=3)
    bare(picture)


def draw_channel(figure: Figure, channel: np.ndarray) -> None:
    figure.suptitle("one per channel\n(B, C, k, k)", fontsize=10)
    for axis, c in zip(figure.subplots(3, 1), CHANNELS, strict=True):
        draw_filter(axis, channel[c], "black")
        axis.set_ylabel(f"channel {c}", fontsize=8)


def draw_combined(figure: Figure, channel: np.ndarray, spatial: np.ndarray) -> None:
    figure.suptitle("a filter of its own for every pixel of every channel:\napplied, never stored", fontsize=10)
    axes = figure.subplots(3, 3)
    for row, c in zip(axes, CHANNELS, strict=True):
        for axis, (name, (p, q)) in zip(row, PIXELS.items(), strict=True):
            draw_filter(axis, channel[c] * spatial[:, p, q].reshape(3, 3), COLOURS[name])
    for axis, name in zip(axes[0], PIXELS, strict=True):
        axis.set_title(name, fontsize=8, color=COLOURS[name], pad=3)
    for axis, c in zip(axes[:, 0], CHANNELS, strict=True):
        axis.set_ylabel(f"channel {c}", fontsize=8)


def draw_filter(axis: Axes, taps: np.ndarray, colour: str) -> None:
    limit = float(np.abs(taps).max()) or 1.0
    axis.axis("on")
    axis.imshow(taps, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for spine in axis.spines.values():
        spine.set(edgecolor=colour, linewidth=2)
    bare(axis)


def bare(axis: Axes) -> None:
    axis.set(xticks=[], yticks=[])


def symbol(figure: Figure, text: str) -> None:
    figure.text(0.5, 0.45, text, fontsize=26, ha="center", va="center")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
