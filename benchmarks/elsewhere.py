"""Other people's layers on `ddf`, beside the usual plain PyTorch: patches unfolded, then an einsum, or a product and a sum.

    uv run python benchmarks/elsewhere.py benchmarks/results/cpu_elsewhere.csv

One process and thread, the forms of a layer in turns, forward and with the gradients of all inputs. Columns are those of
`ddfnet bench`; times are the process's own on the processor (clock "process"), which other work on the machine disturbs less
than it does a wall clock. `extra_bytes` is the peak beyond the inputs. The forms are compared before they are timed.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ddfnet.bench.measure import Group, Settings
from ddfnet.bench.results import Result, environment, write
from ddfnet.bench.subjects import Subject, entries
from ddfnet.bench.timers import Call, Sampler, interleave
from ddfnet.nn import adaptive_conv, filter_frames, propagate, ska
from ddfnet.ops.ddf.api import ddf
from ddfnet.ops.ddf_up.api import ddf_up

SECONDS = 0.5  # for each form and direction
RIVAL = "unfold and einsum"


def unfolded(x: Tensor, k: int, padding: int) -> Tensor:
    """(B, C, K, P, Q)."""
    rows, columns = (n + 2 * padding - k + 1 for n in x.shape[2:])
    return F.unfold(x, k, padding=padding).view(*x.shape[:2], k * k, rows, columns)


def contract(equation: str, filters: Tensor, patches: Tensor, *, multiply: bool) -> Tensor:
    """An einsum that sums over t alone, or the same by a product that is stored and summed."""
    if not multiply:
        return torch.einsum(equation, filters, patches)
    of_filters, of_patches = equation.split("->")[0].split(",")
    for place, name in enumerate(of_patches):
        if name not in of_filters:
            filters = filters.unsqueeze(place)
    return (filters * patches).sum(of_patches.index("t"))


def plain_adaptive_conv(x: Tensor, filters: Tensor, *, multiply: bool) -> Tensor:
    taps = filters.flatten(3).permute(0, 3, 1, 2)
    return contract("bthw,bcthw->bchw", taps, unfolded(x, filters.shape[4], 0), multiply=multiply)


def plain_involution(x: Tensor, filters: Tensor, *, multiply: bool) -> Tensor:
    patches = unfolded(x, 7, 3).unflatten(1, (filters.shape[1], -1))
    return contract("bgthw,bgcthw->bgchw", filters, patches, multiply=multiply).flatten(1, 2)


def plain_carafe(x: Tensor, filters: Tensor, *, multiply: bool) -> Tensor:
    phases = filters.unflatten(-1, (-1, 2)).unflatten(2, (-1, 2)).permute(0, 3, 5, 1, 2, 4)  # (B, r, r, K, H, W)
    patches = unfolded(x, 5, 2)
    rows = [[contract("bthw,bcthw->bchw", phases[:, i, j], patches, multiply=multiply) for j in (0, 1)] for i in (0, 1)]
    return torch.stack([torch.stack(row, -1).flatten(3) for row in rows], 3).flatten(2, 3)


def plain_propagate(depth: Tensor, affinity: Tensor, *, multiply: bool) -> Tensor:
    weights = affinity / affinity.abs().sum(1, keepdim=True)
    rest, neighbours, y = 1 - weights.sum(1, keepdim=True), [0, 1, 2, 3, 5, 6, 7, 8], depth
    for _ in range(24):
        patches = unfolded(y, 3, 1)[:, :, neighbours]
        y = contract("bthw,bcthw->bchw", weights, patches, multiply=multiply) + rest * depth
    return y


def plain_filter_frames(frames: Tensor, kernels: Tensor, *, multiply: bool) -> Tensor:
    patches = unfolded(frames.flatten(0, 1), 5, 2).unflatten(0, frames.shape[:2])
    return contract("bnthw,bncthw->bnchw", kernels, patches, multiply=multiply)


def plain_ska(x: Tensor, weights: Tensor, *, multiply: bool) -> Tensor:
    patches = unfolded(x, 3, 1).unflatten(1, (-1, weights.shape[1]))
    return contract("bnthw,bgnthw->bgnhw", weights, patches, multiply=multiply).flatten(1, 2)


LAYERS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], tuple[int, ...], tuple[int, ...]]] = {
    "FeatUp's adaptive_conv": (adaptive_conv, plain_adaptive_conv, (1, 384, 38, 38), (1, 32, 32, 7, 7)),
    "involution": (lambda x, f: ddf(x, None, f), plain_involution, (2, 64, 28, 28), (2, 4, 49, 28, 28)),
    "CARAFE": (lambda x, f: ddf_up(x, None, f), plain_carafe, (1, 128, 25, 40), (1, 25, 50, 80)),
    "CSPN, 24 steps": (lambda d, a: propagate(d, a, 24), plain_propagate, (1, 1, 120, 160), (1, 8, 120, 160)),
    "KPN, a burst of 8": (filter_frames, plain_filter_frames, (1, 8, 3, 64, 64), (1, 8, 25, 64, 64)),
    "LSNet's ska": (ska, plain_ska, (4, 64, 28, 28), (4, 8, 9, 28, 28)),
}


class ProcessClock:
    """`time.process_time` around calls; a `ddfnet.bench.timers.Clock`."""

    shortest_sample = 0.02

    def sampler(self, call: Call) -> Sampler:
        def sample(repeats: int) -> float:
            start = time.process_time()
            for _ in range(repeats):
                call()
            return (time.process_time() - start) / repeats

        return sample


def subjects(name: str) -> Iterator[Subject]:
    """The forms of a layer, on the same inputs; AssertionError where they differ."""
    ours, plain, *shapes = LAYERS[name]
    forms = {"ddf": ours, RIVAL: partial(plain, multiply=False), "unfold and multiply": partial(plain, multiply=True)}
    inputs = tuple(torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in shapes)
    for form in forms.values():
        torch.testing.assert_close(form(*inputs), ours(*inputs), rtol=1e-4, atol=1e-4)
    leaves = tuple(t.requires_grad_() for t in inputs)
    for subject, form in forms.items():
        yield Subject(name=subject, function=form, inputs=leaves, forward_flops=0)


def measured(name: str, direction: str, settings: Settings) -> list[Result]:
    group = Group("elsewhere", name, direction, "float32", "nchw", RIVAL)
    ready = entries(subjects(name), group, settings, print)
    timings = interleave({form: entry.call for form, entry in ready.items()}, ProcessClock(), seconds=SECONDS)
    results = []
    for form, timing in timings.items():
        lower, upper = timing.quartiles
        results.append(
            Result(
                **asdict(group),
                clock="process",
                subject=form,
                median_ms=timing.median * 1e3,
                lower_quartile_ms=lower * 1e3,
                upper_quartile_ms=upper * 1e3,
                samples=len(timing.samples),
                ratio_to_rival=timing.median / timings[RIVAL].median,
                input_bytes=ready[form].columns["input_bytes"],
                extra_bytes=ready[form].columns["extra_bytes"],
                environment=settings.environment,
            )
        )
        print(f"{group} {form}: {timing.median * 1e3:.1f} ms, {results[-1].extra_bytes} bytes", flush=True)
    return results


def main(path: Path) -> None:
    torch.set_num_threads(1)
    settings = Settings("cpu", SECONDS, ("cpu",), ("forward", "forward+backward"), (), (), environment("cpu"))
    results = []
    for name in LAYERS:
        for direction in settings.directions:
            results += measured(name, direction, settings)
            write(results, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
