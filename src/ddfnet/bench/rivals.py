"""The subjects of an operator case: ours by backend, and what PyTorch users would call instead.

Rivals are called as their users would: `F.conv2d` and its kin as PyTorch dispatches them, weights in the memory format of
the input, as `module.to(memory_format=...)` leaves them.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ddfnet.bench.cases import OpCase
from ddfnet.bench.subjects import Subject
from ddfnet.ops.ddf import api
from ddfnet.ops.ddf.flops import ddf_flops
from ddfnet.ops.ddf.geometry import Options, check, memory_format_of
from ddfnet.ops.pac.api import pac_conv2d

# Timed only on request: "compile", the reference under torch.compile, and "pac", pixel-adaptive convolution (Table 2).
RIVALS = ("depthwise", "dense", "reference", "copy", "compile", "pac")
UP_RIVALS = ("depthwise_transposed", "nearest", "bilinear", "pixel_shuffle", "reference", "copy", "compile")
ON_REQUEST = ("compile", "pac")
PAC_GUIDE_CHANNELS = 16  # PAC-Net's; Table 2 does not say

Inputs = tuple[Tensor, Tensor | None, Tensor | None]


def rivals_of(case: OpCase, asked: Sequence[str] | None) -> list[str]:
    """Return the rivals that can replace the case's operator, among those asked for or all but `ON_REQUEST`."""
    fitting = UP_RIVALS if case.scale_factor > 1 else RIVALS
    return [name for name in fitting if name not in ON_REQUEST] if asked is None else [n for n in asked if n in fitting]


def ours(case: OpCase, tensors: Inputs, backend: str) -> Subject:
    """Return `ddf` or `ddf_up` on a backend by its name or "auto"."""
    given = [tensor is not None for tensor in tensors]

    def call(*inputs: Tensor) -> Tensor:
        rest = list(inputs)
        a, b, c = (rest.pop(0) if is_given else None for is_given in given)
        return case.call(a, b, c, backend)  # type: ignore[arg-type]

    channel, spatial = (None if tensor is None else tensor.shape for tensor in tensors[1:])
    options = Options(None, case.stride, case.dilation, case.scale_factor, padding=case.padding)
    return Subject(
        name="ddf" if backend == "auto" else f"ddf:{backend}",
        function=call,
        inputs=tuple(tensor for tensor in tensors if tensor is not None),
        backend=_chosen(case, tensors) if backend == "auto" else backend,
        forward_flops=ddf_flops(tensors[0].shape, channel, spatial, options),
    )


def rival(name: str, case: OpCase, tensors: Inputs) -> Subject:
    """Return one of `RIVALS` or, if the case upsamples, of `UP_RIVALS`; "copy" does not run on the case's tensors."""
    if name in ("reference", "compile"):
        subject = ours(case, tensors, "reference")
        function = subject.function
        if name == "compile":
            torch.compiler.reset()  # else calls beyond a few shapes run uncompiled
            function = torch.compile(function, dynamic=False)
        return Subject(name, function, subject.inputs, "reference", subject.forward_flops)
    x = tensors[0]
    if name in ("nearest", "bilinear"):
        return Subject(name, partial(F.interpolate, scale_factor=float(case.scale_factor), mode=name), (x,))
    c, k, r = case.channels, case.kernel_size, case.scale_factor
    shapes: dict[str, tuple[int, int]] = {
        "depthwise": (c, 1),
        "dense": (c, c),
        "pac": (c, c),
        "depthwise_transposed": (c, 1),
        "pixel_shuffle": (c * r * r, c),
    }
    weight = torch.randn(*shapes[name], k, k, device=x.device).mul(0.01).to(x.dtype)
    weight = weight.contiguous(memory_format=memory_format_of(x)).requires_grad_()
    if name == "pac":
        return Subject(name, partial(_pac, case), (x, pac_guide(x), weight))
    return Subject(name, _convolution(name, case), (x, weight))


def pac_guide(x: Tensor) -> Tensor:
    """Return a guide for a pixel-adaptive convolution of x: a leaf of its dtype and memory format that needs a gradient."""
    guide = torch.randn(x.shape[0], PAC_GUIDE_CHANNELS, *x.shape[2:], device=x.device).to(x.dtype)
    return guide.contiguous(memory_format=memory_format_of(x)).requires_grad_()


def _pac(case: OpCase, x: Tensor, guide: Tensor, weight: Tensor) -> Tensor:
    return pac_conv2d(x, guide, weight, stride=case.stride, dilation=case.dilation)


def _convolution(name: str, case: OpCase) -> Callable[[Tensor, Tensor], Tensor]:
    r, dilation = case.scale_factor, case.dilation
    padding = case.kernel_size // 2 * dilation
    groups = case.channels if name.startswith("depthwise") else 1
    if name == "depthwise_transposed":
        return partial(
            F.conv_transpose2d,
            stride=r,
            padding=padding,
            output_padding=r - 1,
            dilation=dilation,
            groups=groups,
        )
    convolve = partial(F.conv2d, stride=case.stride, padding=padding, dilation=dilation, groups=groups)
    if name == "pixel_shuffle":
        return lambda x, weight: F.pixel_shuffle(convolve(x, weight), r)
    return convolve


def _chosen(case: OpCase, tensors: Inputs) -> str:
    """Return the backend that "auto" takes."""
    x, channel_filter, spatial_filter = tensors
    options = (case.kernel_size, case.stride, case.dilation, case.scale_factor, case.combine)
    kernels = api.select("auto", x, check(x, channel_filter, spatial_filter, *options, padding=case.padding))
    return next(name for name, known in api.KERNELS.items() if known is kernels)
