"""Results as bars, from a result file alone: time as a multiple of the rival's, or images per second of networks."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddfnet.atomic import whole_or_absent
from ddfnet.bench.results import Result
from ddfnet.bench.tables import describe, number, panels, rivals

ENDINGS = (".png", ".svg", ".pdf")

# Okabe and Ito's colours, which colour-blind readers can tell apart; ours are the blues.
OURS = ("#0072B2", "#56B4E9", "#003A5C")
OTHERS = ("#E69F00", "#009E73", "#CC79A7", "#D55E00", "#F0E442", "#666666", "#000000")
COPY = "#BBBBBB"

TITLES = {
    "op": "DDF operator: time against {rivals}",
    "layer": "DDF layer: time against {rivals}",
    "model": "Networks: images per second",
}


def plot(results: Sequence[Result], path: Path) -> None:
    """Draw a panel for each direction, dtype, layout and clock; the ending of `path` says which kind of picture to write.

    Raises:
        ValueError: the results are none or of several benchmarks, or the ending is not one of `ENDINGS`.
        OSError: the folder is not there or not writable.
    """
    from matplotlib.figure import Figure

    if path.suffix not in ENDINGS:
        raise ValueError(f"{path}: expected a name that ends in {', '.join(ENDINGS)}")
    benchmarks = sorted({row.benchmark for row in results})
    if benchmarks and benchmarks != ["model"] and not rivals(results):
        raise ValueError("results: expected some with a rival, since the plot shows ratios, got none")
    if len(benchmarks) != 1:
        raise ValueError(f"results: expected those of one benchmark, got {', '.join(benchmarks) or 'none'}")

    parts = panels(results)
    lines, columns = -(-len(parts) // 2), min(2, len(parts))
    width = max(6.5, 1.5 + 1.1 * len({row.case for row in results})) * columns
    figure = Figure(figsize=(width, 3.4 * lines + 1.4), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flat
    colours = _colours(results)
    for axis, (part, rows) in zip(axes, parts.items(), strict=False):
        _bars(axis, rows, colours)
        axis.set_title(", ".join(part), fontsize=10, loc="left")
    for axis in axes[len(parts) :]:
        axis.set_visible(False)

    bars = {bar.get_label(): bar for axis in axes[: len(parts)] for bar in axis.containers}
    figure.legend(
        bars.values(),
        bars.keys(),
        loc="outside lower center",
        ncols=min(7, len(bars)),
        frameon=False,
        title=textwrap.fill(describe(results[0].environment), int(14 * width)),
        title_fontsize=8,
    )
    title = TITLES[benchmarks[0]].format(rivals=rivals(results))
    figure.suptitle(title, fontsize=13, fontweight="bold")
    with whole_or_absent(path) as partial:
        figure.savefig(partial, dpi=120)


def _bars(axis: Any, rows: Sequence[Result], colours: dict[str, str]) -> None:
    """Draw times from the rival's: bars upwards are slower, downwards faster. Images per second start at 0."""
    from matplotlib.ticker import LogLocator, NullFormatter

    networks = rows[0].benchmark == "model"
    cases = list(dict.fromkeys(row.case for row in rows))
    drawn = [row for row in rows if networks or (row.subject != row.rival and row.ratio_to_rival is not None)]
    subjects = list(dict.fromkeys(row.subject for row in drawn))
    width = 0.84 / max(1, len(subjects))
    base = 0.0 if networks else 1.0
    for position, subject in enumerate(subjects):
        values = {
            row.case: row.images_per_second if networks else row.ratio_to_rival
            for row in drawn
            if row.subject == subject
        }
        places = [cases.index(case) + (position - (len(subjects) - 1) / 2) * width for case in values]
        heights = [(value or base) - base for value in values.values()]
        bars = axis.bar(places, heights, width * 0.94, bottom=base, color=colours[subject], label=subject)
        if networks or subject.startswith("ddf"):
            labels = [number(value) if networks else f"{value:.2g}" for value in values.values()]
            axis.bar_label(bars, labels, padding=2, fontsize=7)
    axis.set_xticks(
        range(len(cases)), cases, fontsize=8, rotation=0 if networks else 20, ha="center" if networks else "right"
    )
    axis.margins(y=0.12)
    axis.spines[["top", "right"]].set_visible(False)
    if networks:
        axis.set_ylabel("images per second")
        return
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.axhline(1.0, color="black", linewidth=1)
    axis.grid(axis="y", linewidth=0.4, alpha=0.6)
    axis.set_axisbelow(True)
    axis.set_ylabel(f"time / time of {rivals(rows)}\n(log scale; below 1 is faster)", fontsize=8)


def _colours(results: Sequence[Result]) -> dict[str, str]:
    """Return a colour for each subject, the same in every panel."""
    subjects = list(dict.fromkeys(row.subject for row in results if row.subject != "copy"))
    ours = [subject for subject in subjects if subject.startswith("ddf")]
    others = [subject for subject in subjects if subject not in ours]
    colours = {
        subject: palette[i % len(palette)]
        for group, palette in ((ours, OURS), (others, OTHERS))
        for i, subject in enumerate(group)
    }
    return {**colours, "copy": COPY}
