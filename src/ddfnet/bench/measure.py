"""Time calls that belong together, interleaved, by every clock asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ddfnet.bench.results import Environment, Result
from ddfnet.bench.timers import Call, ClockName, interleave, make_clock

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}
LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}

# What PyTorch raises where memory ends, a kernel is missing for a dtype, or a compiler is not there.
CANNOT_RUN = (RuntimeError, MemoryError)


@dataclass(frozen=True)
class Settings:
    """The settings of a whole run."""

    device: str
    seconds: float  # per call and measurement
    clocks: tuple[ClockName, ...]
    directions: tuple[str, ...]
    dtypes: tuple[str, ...]
    layouts: tuple[str, ...]
    environment: Environment


@dataclass(frozen=True)
class Group:
    """The columns that calls timed against each other have in common."""

    benchmark: str
    case: str
    direction: str
    dtype: str
    layout: str
    rival: str

    def __str__(self) -> str:
        return f"{self.case} {self.direction} {self.dtype} {self.layout}"


@dataclass(frozen=True)
class Entry:
    """A call to time, and what else is known about it: columns of `Result`."""

    call: Call
    columns: dict[str, Any] = field(default_factory=dict)
    images: int = 0  # that one call serves, where that is of interest


def left_out(group: Group, name: str, error: BaseException) -> str:
    """Return a sentence on what was left out of a group: the first line of why."""
    return f"{group}: {name} left out: {(str(error).strip() or type(error).__name__).splitlines()[0]}"


def compare(group: Group, entries: Mapping[str, Entry], settings: Settings) -> list[Result]:
    """Time `entries`, by subject, in turn. Ratios are of medians, to the group's rival and to "copy"."""
    calls = {name: entry.call for name, entry in entries.items()}
    results = []
    for clock in settings.clocks if calls else ():
        timings = interleave(calls, make_clock(clock), seconds=settings.seconds)
        rival, copy = timings.get(group.rival), timings.get("copy")
        for name, timing in timings.items():
            entry, median = entries[name], timing.median
            lower, upper = timing.quartiles
            moved = entry.columns.get("bytes_moved")
            results.append(
                Result(
                    benchmark=group.benchmark,
                    case=group.case,
                    direction=group.direction,
                    dtype=group.dtype,
                    layout=group.layout,
                    clock=clock,
                    subject=name,
                    median_ms=median * 1e3,
                    lower_quartile_ms=lower * 1e3,
                    upper_quartile_ms=upper * 1e3,
                    samples=len(timing.samples),
                    rival=group.rival,
                    ratio_to_rival=median / rival.median if rival else None,
                    ratio_to_copy=median / copy.median if copy else None,
                    gigabytes_per_second=moved / median / 1e9 if moved else None,
                    images_per_second=entry.images / median if entry.images else None,
                    environment=settings.environment,
                    **entry.columns,
                )
            )
    return results
