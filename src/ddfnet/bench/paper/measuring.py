"""Tables 2 and A measured in one run, by the machinery of `ddfnet bench`."""

from collections.abc import Callable, Collection, Iterator

from ddfnet.bench import layer, op
from ddfnet.bench.cases import TABLE_2, TABLE_A
from ddfnet.bench.measure import Settings
from ddfnet.bench.results import Result, environment


def settings(device: str, seconds: float) -> Settings:
    """Forward calls in float32 on contiguous tensors, as the paper's; on CUDA the host's time to launch counts."""
    return Settings(
        device=device,
        seconds=seconds,
        clocks=("cpu",) if device == "cpu" else ("eager",),
        directions=("forward",),
        dtypes=("float32",),
        layouts=("nchw",),
        environment=environment(device),
    )


def measure(numbers: Collection[str], to: Settings, skip: Callable[[str], None]) -> Iterator[list[Result]]:
    """Times what Tables "2" and "A" among `numbers` need, and yields the results of each case.

    Args:
        numbers: of tables; those that are not measured are passed by.
        to: of `settings`.
        skip: told what was left out, and why.
    """
    if "2" in numbers:
        yield from layer.run(TABLE_2, to, rivals=("dense", "depthwise", "pac"), skip=skip)
    if "A" in numbers:
        yield from layer.run(TABLE_A, to, rivals=("dense", "depthwise"), skip=skip)
        yield from op.run(TABLE_A, to, rivals=(), skip=skip)
