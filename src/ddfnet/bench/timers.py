"""Time several calls against each other in one process, interleaved, so that drift of the machine hits all alike.

Each call is warmed up until it no longer gets faster. Then come rounds: in each, every call is sampled once. The order
rotates, and runs backwards in every other turn, so no call always follows the same neighbour. Rounds go on until the
time budget is spent. Reported are medians and quartiles of the seconds per call.

Clocks, by name:
    cpu     `time.perf_counter`; calls under 0.2 ms are repeated within a sample.
    queued  CUDA events; the L2 cache is overwritten before each sample, for long enough that the host has queued the
            call before the device reaches it. Device time, as in a network whose host runs ahead.
    eager   CUDA events on an idle device after the L2 cache was overwritten: the host's time to launch counts.
    graph   CUDA events around the replay of a CUDA graph of the call, otherwise as queued: launches cost next to nothing.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

ClockName = Literal["cpu", "queued", "eager", "graph"]
Call = Callable[[], object]
Sampler = Callable[[int], float]  # repeats within the sample -> seconds per call

CLOCKS: dict[str, tuple[ClockName, ...]] = {"cpu": ("cpu",), "cuda": ("queued", "eager", "graph")}

STEADY_CALLS = 3  # without a faster one among them end the warm-up
ROUNDS = (3, 1000)  # fewest, most


@dataclass(frozen=True)
class Timing:
    """The seconds per call, one entry a round."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        if len(self.samples) == 1:
            return self.samples[0], self.samples[0]
        lower, _, upper = statistics.quantiles(self.samples, n=4, method="inclusive")
        return lower, upper


class Clock(Protocol):
    """A clock, which takes samples."""

    shortest_sample: float  # seconds; a call that takes less is repeated within a sample

    def sampler(self, call: Call) -> Sampler:
        """Prepare `call`, which has run before, and return a function that takes one sample."""
        ...


class CpuClock:
    """`time.perf_counter` around calls that return when they are done."""

    shortest_sample = 2e-4

    def sampler(self, call: Call) -> Sampler:
        def sample(repeats: int) -> float:
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            return (time.perf_counter() - start) / repeats

        return sample


class CudaClock:
    """CUDA events around calls on the current stream; see the file's docstring for the modes."""

    shortest_sample = 0.0  # repeats would find their inputs in the L2 cache

    def __init__(self, mode: ClockName) -> None:
        self.mode = mode
        cache = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
        self.flush = torch.empty(max(2 * cache, 64 << 20), dtype=torch.int8, device="cuda")
        self.flush_seconds = statistics.median(self._elapsed(self.flush.zero_, 1) for _ in range(5))

    def sampler(self, call: Call) -> Sampler:
        if self.mode == "graph":
            call = _captured(call)
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        launch_seconds = time.perf_counter() - start
        flushes = 1 if self.mode == "eager" else math.ceil(1.5 * launch_seconds / self.flush_seconds)

        def sample(repeats: int) -> float:
            for _ in range(flushes):
                self.flush.zero_()
            if self.mode == "eager":
                torch.cuda.synchronize()
            return self._elapsed(call, repeats)

        return sample

    def _elapsed(self, call: Call, repeats: int) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / repeats


def _captured(call: Call) -> Call:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def make_clock(name: ClockName) -> Clock:
    """Return the clock of that name; all but "cpu" need a CUDA device."""
    return CpuClock() if name == "cpu" else CudaClock(name)


def interleave(calls: Mapping[str, Call], clock: Clock, *, seconds: float) -> dict[str, Timing]:
    """Time every call, in turn, for about `seconds` each.

    Args:
        calls: by name. Each is run once before anything is timed.
        clock: one of `make_clock`.
        seconds: the budget per call, shared: `len(calls) * seconds` pass, and as long again at most to warm up. At least
            three rounds are run whatever they take.

    Returns:
        A timing for each name, all with as many samples.
    """
    samplers: dict[str, Sampler] = {}
    repeats: dict[str, int] = {}
    for name, call in calls.items():
        call()  # compiles, loads, allocates
        samplers[name] = clock.sampler(call)
        fastest = _warm_up(samplers[name], seconds)
        repeats[name] = max(1, math.ceil(clock.shortest_sample / fastest)) if fastest > 0 else 1

    samples: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds * len(calls)
    for number, order in enumerate(orders(list(calls))):
        if number >= ROUNDS[0] and (time.perf_counter() >= end or number >= ROUNDS[1]):
            break
        for name in order:
            samples[name].append(samplers[name](repeats[name]))
    return {name: Timing(tuple(values)) for name, values in samples.items()}


def orders(names: Sequence[str]) -> Iterator[list[str]]:
    """Yield the order of each round, without end: rotated by one each round, backwards in every other full turn."""
    for number in itertools.count() if names else ():
        turn, first = divmod(number, len(names))
        order = [*names[first:], *names[:first]]
        yield order[::-1] if turn % 2 else order


def _warm_up(sampler: Sampler, seconds: float) -> float:
    """Sample until none of the last few was faster by 5%, or the budget is spent; return the fastest, in seconds."""
    best, stale = math.inf, 0
    end = time.perf_counter() + seconds
    while stale < STEADY_CALLS:
        sample = sampler(1)
        stale = 0 if sample < 0.95 * best else stale + 1
        best = min(best, sample)
        if time.perf_counter() >= end:
            break
    return best
