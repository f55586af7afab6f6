"""Print what `benchmarks/gpu.sh` measured beside its goals, in one table.

    python benchmarks/gpu_goals.py [FOLDER]        # default: benchmarks/results

Goals, at the six sizes of Table A, in both directions and layouts:

- bandwidth: the operator in float32 reaches 85% of a copy's, from 28x28 pixels up;
- depthwise: the operator takes no longer than cuDNN's depthwise convolution, in float32 and bfloat16;
- dense: the layer takes no longer than the dense convolution under CUDA graphs; eager calls stand beside.

Times are ratios, below 1 is faster; "!" marks a goal that is missed, "-" what was not measured.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from ddfnet.bench.cases import TABLE_A
from ddfnet.bench.results import Result, read

LEAST_BANDWIDTH = 0.85
LEAST_PIXELS = 28
SIZES = {str(case): case.height for case in TABLE_A}
COLUMNS = ("bandwidth", "depthwise", "dense", "dense, eager")
Cell = tuple[float | None, bool | None]  # the value, and whether it meets its goal; None without one


def cells(operator: Sequence[Result], layer: Sequence[Result], size: int) -> tuple[Cell, ...]:
    """Return the columns of one case, dtype, layout and direction."""
    op = next((row for row in operator if row.subject == "ddf"), None)
    bandwidth = 1 / op.ratio_to_copy if op is not None and op.ratio_to_copy else None
    float32 = op is not None and op.dtype == "float32"
    held = bandwidth >= LEAST_BANDWIDTH if bandwidth is not None and float32 and size >= LEAST_PIXELS else None
    depthwise = op.ratio_to_rival if op is not None else None
    clocks = {row.clock: row.ratio_to_rival for row in layer if row.subject == "ddf"}
    graph = clocks.get("graph")
    return (
        (bandwidth, held),
        (depthwise, None if depthwise is None else depthwise <= 1),
        (graph, None if graph is None else graph <= 1),
        (clocks.get("eager"), None),
    )


def table(operator: Sequence[Result], layer: Sequence[Result]) -> list[str]:
    """Return the table's lines, and one line a goal below."""

    def key(row: Result) -> tuple[int, str, str, str]:
        return SIZES[row.case], row.dtype, row.layout, row.direction

    operator = [row for row in operator if row.case in SIZES]
    layer = [row for row in layer if row.case in SIZES]
    rows = {
        each: cells([r for r in operator if key(r) == each], [r for r in layer if key(r) == each], each[0])
        for each in sorted({key(row) for row in (*operator, *layer)})
    }
    lines = [f"{'size':>9} {'dtype':9} {'layout':14} {'direction':17}" + "".join(f"{c:>14}" for c in COLUMNS)]
    for (size, *names), found in rows.items():
        values = ["-" if v is None else f"{v:.2f}{'!' if held is False else ' '}" for v, held in found]
        lines.append(
            f"{size:>4}x{size:<4} {names[0]:9} {names[1]:14} {names[2]:17}" + "".join(f"{v:>14}" for v in values)
        )
    for number, name in enumerate(COLUMNS[:3]):
        judged = [found[number] for found in rows.values() if found[number][1] is not None]
        if not judged:
            lines.append(f"{name}: not measured")
            continue
        values = [value for value, _ in judged if value is not None]
        worst = min(values) if name == "bandwidth" else max(values)
        lines.append(f"{name}: {sum(held is True for _, held in judged)} of {len(judged)} hold, worst {worst:.2f}")
    return lines


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "benchmarks/results")
    found = [read(path) if (path := folder / f"gpu_{name}.csv").exists() else [] for name in ("op", "layer")]
    print("\n".join(table(*found)))


if __name__ == "__main__":
    main()
