"""Where Triton kernels can run."""

import importlib.util
from functools import cache

from torch import Tensor


def unsupported_device(x: Tensor) -> str | None:
    """Why no Triton kernel can run where `x` is, or None."""
    if x.device.type not in ("cuda", "xpu") and not (x.device.type == "cpu" and interpreted()):
        return f"it runs on CUDA, ROCm and XPU devices, x is on {x.device.type}"
    return missing()


@cache
def missing() -> str | None:
    return None if importlib.util.find_spec("triton") else "triton is not installed"


@cache
def interpreted() -> bool:
    """Whether kernels run on the CPU, by Triton's interpreter: TRITON_INTERPRET=1 from the program's start."""
    if missing() is not None:
        return False
    import triton

    return bool(triton.knobs.runtime.interpret)
