"""Measure Tables 2 and A in one run, as `ddfnet bench` does."""

from collections.abc import Callable, Collection, Iterator

from ddfnet.bench import layer, op
from ddfnet.bench.cases import TABLE_2, TABLE_A
from ddfnet.bench.measure import Settings
from ddfnet.bench.results import Result, environment
from ddfnet.bench.timers import ClockName


def measure(
    numbers: Collection[str], device: str, seconds: float, *, skip: Callable[[str], None]
) -> Iterator[list[Result]]:
    """Time what Tables "2" and "A" among `numbers` need and yield the results of each case; `skip` gets what is left out.

    The paper times forward calls in float32 on contiguous tensors; on CUDA the host's time to launch counts.
    """
    clocks: tuple[ClockName, ...] = ("cpu",) if device == "cpu" else ("eager",)
    settings = Settings(device, seconds, clocks, ("forward",), ("float32",), ("nchw",), environment(device))
    if "2" in numbers:
        yield from layer.run(TABLE_2, settings, rivals=("dense", "depthwise", "pac"), skip=skip)
    if "A" in numbers:
        yield from layer.run(TABLE_A, settings, rivals=("dense", "depthwise"), skip=skip)
        yield from op.run(TABLE_A, settings, rivals=(), skip=skip)
