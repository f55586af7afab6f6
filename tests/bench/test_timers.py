"""Interleaving, rounds and medians, on a clock that tells made-up times."""

from collections.abc import Callable
from itertools import islice

import pytest
import torch

from ddfnet.bench.memory import peak_bytes
from ddfnet.bench.timers import CpuClock, Timing, interleave, make_clock, orders


class MadeUpClock:
    """Every sample of a call takes the seconds that the call returns; notes what was sampled."""

    shortest_sample = 1e-3

    def __init__(self) -> None:
        self.taken: list[tuple[float, int]] = []

    def sampler(self, call: Callable[[], object]) -> Callable[[int], float]:
        def sample(repeats: int) -> float:
            seconds = float(str(call()))
            self.taken.append((seconds, repeats))
            return seconds

        return sample


def test_orders_rotate_and_turn_round() -> None:
    names = ["a", "b", "c"]
    rounds = list(islice(orders(names), 6))
    assert rounds[:3] == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]
    assert rounds[3:] == [order[::-1] for order in rounds[:3]]
    for place in range(3):
        assert sorted(order[place] for order in rounds) == sorted(names * 2)
    assert list(islice(orders(["a", "b"]), 4)) == [["a", "b"], ["b", "a"], ["b", "a"], ["a", "b"]]
    assert list(orders([])) == []


def test_every_call_is_sampled_once_a_round() -> None:
    clock = MadeUpClock()
    timings = interleave({"short": lambda: 1e-4, "long": lambda: 1.0}, clock, seconds=1e-9)
    assert [len(timing.samples) for timing in timings.values()] == [3, 3]
    assert timings["short"].median == 1e-4
    rounds = clock.taken[-6:]
    assert [seconds for seconds, _ in rounds] == [1e-4, 1.0, 1.0, 1e-4, 1.0, 1e-4]
    assert {repeats for seconds, repeats in rounds if seconds == 1e-4} == {10}  # to fill the shortest sample
    assert {repeats for seconds, repeats in rounds if seconds == 1.0} == {1}


def test_rounds_go_on_while_the_budget_lasts() -> None:
    timings = interleave({"a": lambda: None}, CpuClock(), seconds=0.5)
    assert len(timings["a"].samples) > 3


def test_medians_and_quartiles() -> None:
    timing = Timing((4.0, 1.0, 2.0, 3.0, 100.0))
    assert timing.median == 3.0
    assert timing.quartiles == (2.0, 4.0)
    assert Timing((7.0,)).quartiles == (7.0, 7.0)


def test_peak_memory_counts_what_a_call_holds_at_once() -> None:
    x = torch.randn(1000)  # 4,000 bytes, held before
    assert peak_bytes(lambda: x.relu(), "cpu") == 4000
    assert peak_bytes(lambda: x.relu().neg(), "cpu") == 8000
    assert peak_bytes(lambda: x.relu_(), "cpu") == 0


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["queued", "eager", "graph"])
def test_cuda_clocks(name: str) -> None:
    x = torch.randn(1 << 24, device="cuda")
    y = torch.empty_like(x)
    timing = interleave({"copy": lambda: y.copy_(x)}, make_clock(name), seconds=0.1)["copy"]  # type: ignore[arg-type]
    assert 1e-6 < timing.median < 1e-2
    assert torch.equal(x, y)
