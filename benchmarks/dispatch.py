"""What a call costs on the host before its kernel: our op beside the other ways to register one.

    uv run python benchmarks/dispatch.py

Every way launches the same trivial kernel (it returns its input's twin, allocated once), so the difference is the way's own.
The best of 100 rounds of 400 calls, the ways taking turns, for what else the machine does only adds; microseconds a call.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import ddfnet
from ddfnet.ops.ddf import api
from ddfnet.ops.ddf.geometry import check

X, CHANNEL, SPATIAL = torch.randn(1, 8, 4, 4), torch.randn(1, 8, 3, 3), torch.randn(1, 9, 4, 4)
OUTPUT = torch.empty_like(X)
OPTIONS = (None, 1, 1, 1, "mul", "trivial")


class TrivialKernels:
    """Serves every call with a tensor that is there."""

    def unsupported(self, x: Tensor, g: Any) -> None:
        return None

    def ddf_forward(self, *args: Any) -> Tensor:
        return OUTPUT.detach()

    def ddf_backward(self, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
        return X, CHANNEL, SPATIAL


@torch.library.custom_op("dispatch::custom", mutates_args=())
def custom(x: Tensor, channel_filter: Tensor, spatial_filter: Tensor, stride: int) -> Tensor:
    check(x, channel_filter, spatial_filter)
    return torch.empty_like(x)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return grad, None, None, None


custom.register_autograd(_gradient, setup_context=_save)


def ways(x: Tensor) -> dict[str, Callable[[], Tensor]]:
    """The ways to make one forward call on x."""
    op = torch.ops.ddfnet.ddf.default
    return {
        "kernel alone": lambda: OUTPUT.detach(),
        "checks alone": lambda: check(x, CHANNEL, SPATIAL),  # type: ignore[dict-item, return-value]
        "ddfnet.ddf": lambda: ddfnet.ddf(x, CHANNEL, SPATIAL, backend="trivial"),  # type: ignore[arg-type]
        "rules registered on the op": lambda: op(x, CHANNEL, SPATIAL, *OPTIONS),
        "custom_op + register_autograd": lambda: custom(x, CHANNEL, SPATIAL, 1),
    }


def main() -> None:
    api.KERNELS["trivial"] = TrivialKernels()
    for requires_grad in (False, True):
        calls = ways(X.detach().requires_grad_(requires_grad))
        samples: dict[str, list[float]] = {name: [] for name in calls}
        for call in calls.values():
            for _ in range(500):
                call()
        for _ in range(100):
            for name, call in calls.items():
                start = time.perf_counter()
                for _ in range(400):
                    call()
                samples[name].append((time.perf_counter() - start) / 400 * 1e6)
        print(f"\ngradients {'asked for' if requires_grad else 'not asked for'}")
        for name, values in samples.items():
            print(f"  {name:<42}{min(values):6.2f} us")


if __name__ == "__main__":
    main()
