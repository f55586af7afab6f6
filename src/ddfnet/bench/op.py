"""`ddfnet bench op`: `ddf` and `ddf_up` against what PyTorch users would call in their place, and against a copy.

"copy" moves the bytes that ours must move: forward x and the filters read, y written; backward x, the filters and the
gradient of y read, the gradients of x and of the filters written.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

from ddfnet.bench.cases import OpCase
from ddfnet.bench.measure import CANNOT_RUN, DTYPES, LAYOUTS, Entry, Group, Settings, compare, left_out
from ddfnet.bench.results import Result
from ddfnet.bench.rivals import ours, rival, rivals_of
from ddfnet.bench.subjects import copy_entry, entries


def run(
    cases: Sequence[OpCase],
    settings: Settings,
    *,
    backends: Sequence[str] = ("auto",),
    rivals: Sequence[str] | None = None,
    skip: Callable[[str], None],
) -> Iterator[list[Result]]:
    """Time every case in every dtype, layout and direction, and yield the results of each.

    Args:
        cases: calls of `ddf` and `ddf_up`.
        settings: of the run.
        backends: of ours.
        rivals: by name; None for all that fit the case but those `ON_REQUEST`. Ratios are to the first that is not "copy".
        skip: called with a sentence on what was left out, and why.
    """
    for case in cases:
        names = rivals_of(case, rivals)
        first = next((name for name in names if name != "copy"), "copy" if names else "")
        for dtype, layout in product(settings.dtypes, settings.layouts):
            tensors = case.inputs(
                dtype=DTYPES[dtype], device=settings.device, memory_format=LAYOUTS[layout], requires_grad=True
            )
            own = [ours(case, tensors, backend) for backend in backends]
            others = [rival(name, case, tensors) for name in names if name != "copy"]
            for direction in settings.directions:
                group = Group("op", str(case), direction, dtype, layout, first)
                ready = entries([*own, *others], group, settings, skip)
                moved = next((ready[s.name].columns["bytes_moved"] for s in own if s.name in ready), None)
                if "copy" in names and moved is not None:
                    ready |= _copy(moved, group, settings, skip)
                yield compare(group, ready, settings)


def _copy(moved: int, group: Group, settings: Settings, skip: Callable[[str], None]) -> dict[str, Entry]:
    """Return the copy of as many bytes by its name, or nothing if it cannot run."""
    try:
        return {"copy": copy_entry(moved, DTYPES[group.dtype], settings.device)}
    except CANNOT_RUN as error:
        skip(left_out(group, "copy", error))
        return {}
