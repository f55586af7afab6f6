"""Compiles what the "triton" backend would launch, for devices that need not be there, and reads off what it takes."""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from ddfnet.bench.cases import OpCase
from ddfnet.ops.ddf.geometry import check
from ddfnet.ops.ddf.gpu import backend
from ddfnet.ops.gpu.launch import Launch

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}


@dataclass(frozen=True)
class Usage:
    """What one program takes."""

    registers: int  # of a thread
    spilled: int  # bytes of a thread that did not fit the registers
    shared: int  # bytes
    assembly: str  # PTX or AMDGCN


@contextmanager
def launches() -> Iterator[list[tuple[Any, tuple[Tensor | None, ...]]]]:
    """Collects the launches (plan, tensors) that calls of the backend would make, and makes none."""
    seen: list[tuple[Any, tuple[Tensor | None, ...]]] = []
    before = Launch.run
    Launch.run = lambda self, tensors: seen.append((self, tensors))  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        Launch.run = before  # type: ignore[method-assign]


def launches_of(
    case: OpCase, dtype: torch.dtype, memory_format: torch.memory_format, *, backward: bool
) -> list[tuple[Any, tuple[Tensor | None, ...]]]:
    """The launches of a case, forward or backward with every gradient; tensors without storage, of any size."""
    with torch.device("meta"):
        inputs = case.inputs(dtype=dtype, device="meta", memory_format=memory_format)
    options = (case.kernel_size, case.stride, case.dilation, case.scale_factor, case.combine)
    g = check(*inputs, *options, padding=case.padding)
    with launches() as seen:
        if backward:
            grad_y = torch.empty(case.out_shape, dtype=dtype, device="meta").contiguous(memory_format=memory_format)
            backend.ddf_backward(grad_y, *inputs, g, (True, True, True))
        else:
            backend.ddf_forward(*inputs, g)
    return seen


def compile_for(target: str, launch: Any, tensors: tuple[Tensor | None, ...], **more: Any) -> Usage:
    """Compiles a launch as Triton's own dispatch would, addresses being multiples of 16, with `more` compiler options."""
    compiler = make_backend(TARGETS[target])
    function = launch.kernel
    options = {"num_warps": launch.warps, "enable_fp_fusion": True, "debug": False, **more}
    bound, specialization, _ = create_function_from_signature(function.signature, function.params, compiler)(
        *launch.named(tensors), **options
    )
    _, signature, constants, attributes = function._pack_args(compiler, options, bound, specialization, None)
    source = ASTSource(function, signature, constants, attributes)
    kernel = triton.compile(source, target=TARGETS[target], options=options)
    return _cuda_usage(kernel) if "cubin" in kernel.asm else _hip_usage(kernel)


def forced(target: str, launch: Any, tensors: tuple[Tensor | None, ...]) -> Usage:
    """What a launch takes where NVIDIA's assembler may use every register.

    Left alone it sometimes puts a few values into memory that would fit, to seat more programs on a multiprocessor.
    """
    usage = compile_for(target, launch, tensors)
    if usage.spilled and usage.registers < 255 and target.startswith("sm"):
        return compile_for(target, launch, tensors, maxnreg=255)
    return usage


def _cuda_usage(kernel: Any) -> Usage:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(kernel.asm["cubin"])
        done = subprocess.run([tool, "--dump-resource-usage", path], capture_output=True, text=True, check=True)
    found = dict(re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", done.stdout))
    spilled = int(found["STACK"]) + int(found["LOCAL"])
    return Usage(int(found["REG"]), spilled, kernel.metadata.shared, kernel.asm["ptx"])


def _hip_usage(kernel: Any) -> Usage:
    text = kernel.asm["amdgcn"]

    def field(name: str) -> int:
        return int(re.search(rf"\.{name}:\s+(\d+)", text).group(1))  # type: ignore[union-attr]

    return Usage(field("vgpr_count"), field("vgpr_spill_count"), field("group_segment_fixed_size"), text)
