"""Draws `ddf_layer.svg`: how a DDF layer makes its filters from its input, and applies them.

uv run python docs/pictures/ddf_layer.py
"""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

INK, PAPER = "#222222", "#ffffff"
SPATIAL, CHANNEL, COMBINED = "#d1721b", "#1b7fd1", "#3a7d44"
HEIGHT = 0.9


def main() -> None:
    mpl.rcParams |= {"font.size": 10, "svg.hashsalt": "ddf_layer"}  # the same file each time
    figure, axes = plt.subplots(figsize=(11, 3), layout="constrained")
    box(axes, 0.0, 1.5, 1.5, "x\n(B, C, H, W)", INK)

    box(axes, 3.0, 3.0, 1.9, "1x1 convolution\nC to G·K", SPATIAL)
    box(axes, 5.5, 3.0, 1.9, "filter\nnormalisation", SPATIAL)
    box(axes, 8.0, 3.0, 2.4, "spatial filters\n(B, G, K, P, Q)", SPATIAL, filled=True)

    box(axes, 2.0, 0.0, 1.3, "average\nover H, W", CHANNEL)
    box(
        axes,
        3.6,
        0.0,
        2.3,
        "1x1, C to \N{GREEK SMALL LETTER SIGMA}C; ReLU;\n1x1, \N{GREEK SMALL LETTER SIGMA}C to C·K",
        CHANNEL,
    )
    box(axes, 6.3, 0.0, 1.4, "filter nor-\nmalisation", CHANNEL)
    box(axes, 8.1, 0.0, 2.2, "channel filters\n(B, C, k, k)", CHANNEL, filled=True)

    box(axes, 11.0, 1.5, 2.6, "their product at each\ntap, times x, summed", COMBINED)
    box(axes, 14.1, 1.5, 1.5, "y\n(B, C, P, Q)", INK)

    arrow(axes, (0.75, 2.4), (3.0, 3.45), SPATIAL, bend="angle,angleA=90,angleB=180,rad=6")
    arrow(axes, (4.9, 3.45), (5.5, 3.45), SPATIAL)
    arrow(axes, (7.4, 3.45), (8.0, 3.45), SPATIAL)
    arrow(axes, (10.4, 3.45), (12.3, 2.4), SPATIAL, bend="angle,angleA=0,angleB=90,rad=6")

    arrow(axes, (0.75, 1.5), (2.0, 0.45), CHANNEL, bend="angle,angleA=90,angleB=180,rad=6")
    arrow(axes, (3.3, 0.45), (3.6, 0.45), CHANNEL)
    arrow(axes, (5.9, 0.45), (6.3, 0.45), CHANNEL)
    arrow(axes, (7.7, 0.45), (8.1, 0.45), CHANNEL)
    arrow(axes, (10.3, 0.45), (12.3, 1.5), CHANNEL, bend="angle,angleA=0,angleB=90,rad=6")

    arrow(axes, (1.5, 1.95), (11.0, 1.95), INK)
    arrow(axes, (13.6, 1.95), (14.1, 1.95), INK)
    axes.text(
        6.3,
        2.05,
        "x itself: one of the three tensors that are kept for the gradients",
        ha="center",
        va="bottom",
        color=INK,
        fontsize=9,
    )
    axes.text(9.2, 2.9, "one filter for each pixel (and head)", ha="center", va="top", color=SPATIAL, fontsize=9)
    axes.text(9.2, 1.0, "one filter for each image and channel", ha="center", va="bottom", color=CHANNEL, fontsize=9)

    axes.set(xlim=(-0.1, 15.7), ylim=(-0.1, 4.0), aspect="equal")
    axes.set_axis_off()
    path = Path(__file__).with_suffix(".svg")
    figure.savefig(path, facecolor=PAPER, metadata={"Date": None})
    print(path)


def box(axes: Axes, x: float, y: float, width: float, text: str, colour: str, *, filled: bool = False) -> None:
    patch = FancyBboxPatch(
        (x, y),
        width,
        HEIGHT,
        boxstyle="round,pad=0,rounding_size=0.12",
        edgecolor=colour,
        facecolor=colour if filled else PAPER,
        linewidth=1.6,
    )
    axes.add_patch(patch)
    axes.text(x + width / 2, y + HEIGHT / 2, text, ha="center", va="center", color=PAPER if filled else INK)


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, *, bend: str | None = None
) -> None:
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    if bend is not None:
        style["connectionstyle"] = bend
    axes.annotate("", xy=end, xytext=start, arrowprops=style)


if __name__ == "__main__":
    main()
