"""`ddfnet.ddf`: the public function, the one backend choice, and the registered op behind it.

    ddf --> "reference": Eq. 2 under ordinary autograd
        --> torch.ops.ddfnet.ddf: shapes checked into a Geometry, the first kernel that can; saves its three inputs alone

`torch.ops.ddfnet.ddf` is what `ddf` and `ddf_up` share: `ddf` calls it with `scale_factor == 1`, `ddf_up` with
`stride == 1`. Its derivatives are in `autograd.py`, its FLOP formula in `flops.py`, what every op has in `ops/registry.py`.
"""

import os
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from ddfnet.ops.ddf import autograd, plain
from ddfnet.ops.ddf.cpu import backend as cpu
from ddfnet.ops.ddf.flops import ddf_backward_flops, ddf_flops
from ddfnet.ops.ddf.geometry import BackwardOptions, Combine, Geometry, Options, Padding, check, check_types
from ddfnet.ops.ddf.gpu import backend as gpu
from ddfnet.ops.ddf.reference import ddf_reference
from ddfnet.ops.registry import autocast_inputs, define, needs_reference

Backend = Literal["auto", "reference", "numba", "triton", "torch"]


class Kernels(Protocol):
    """What a kernel file offers."""

    def unsupported(self, x: Tensor, g: Geometry) -> str | None: ...

    def ddf_forward(
        self, x: Tensor, channel_filter: Tensor | None, spatial_filter: Tensor | None, g: Geometry
    ) -> Tensor: ...

    def ddf_backward(
        self,
        grad_output: Tensor,
        x: Tensor,
        channel_filter: Tensor | None,
        spatial_filter: Tensor | None,
        g: Geometry,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]: ...


# In the order in which "auto" asks them; the last can serve every call.
KERNELS: dict[str, Kernels] = {"numba": cpu, "triton": gpu, "torch": plain}


class prefer_backend:  # noqa: N801 - used as a function, and as a context manager
    """Choose what `backend="auto"` takes first, in the whole process, where it can serve the call.

    The choice holds from the call on or, in a `with` statement, until its end. The environment variable DDFNET_BACKEND makes
    it for a process from the start.

    Args:
        backend: "numba", "triton", "torch" or "reference"; "auto" takes the fastest.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> import torch, ddfnet
        >>> with ddfnet.prefer_backend("torch"):
        ...     y = ddfnet.ddf(torch.randn(1, 4, 5, 6), torch.randn(1, 4, 3, 3))
    """

    def __init__(self, backend: Backend) -> None:
        global _preferred
        check_backend("backend", backend)
        self._before, _preferred = _preferred, backend

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        global _preferred
        _preferred = self._before


def preferred_backend() -> str:
    """Return the name that `prefer_backend` or DDFNET_BACKEND set, or "auto"."""
    return _preferred


def check_backend(argument: str, name: object) -> None:
    """Raise ValueError unless `name` is a backend's."""
    names = (*get_args(Backend), *(name for name in KERNELS if name not in get_args(Backend)))
    if name not in names:
        raise ValueError(f"{argument}: expected one of {', '.join(map(repr, names))}, got {name!r}")


_preferred: str = os.environ.get("DDFNET_BACKEND") or "auto"
check_backend("DDFNET_BACKEND", _preferred)


def ddf(
    x: Tensor,
    channel_filter: Tensor | None = None,
    spatial_filter: Tensor | None = None,
    *,
    kernel_size: int | None = None,
    stride: int = 1,
    dilation: int = 1,
    combine: Combine = "mul",
    padding: Padding = "same",
    backend: Backend = "auto",
) -> Tensor:
    """Filter each pixel of each channel of `x` with a k x k filter: the decoupled dynamic filter of Eq. 2.

    The filter of channel c at output pixel (p, q) is `channel_filter[b, c] * spatial_filter[b, g, :, p, q]` (or their sum);
    it is never stored. One filter left out counts as all ones (`combine="mul"`) or all zeros (`"add"`). By default zero
    padding keeps the size: taps outside the image contribute nothing. Filters are finite there too: where one is infinite
    or NaN, its pixel can be NaN, since most kernels multiply zeros.

    Args:
        x: (B, C, H, W), float32, float64, float16 or bfloat16; contiguous, channels_last or any other strides.
        channel_filter: (B, C, k, k), one filter per sample and channel, k odd.
        spatial_filter: (B, K, P, Q) with K = k*k: one filter per output pixel. Or (B, G, K, P, Q): G heads, head g
            serving the channels c with c // (C/G) = g. A 4-D filter always means one head.
        kernel_size: k; checked against the filters' shapes when given.
        stride: s >= 1.
        dilation: d >= 1, the distance of neighbouring taps in pixels of `x`.
        combine: "mul" (the paper) or "add" (the authors' code has both).
        padding: "same" (the paper), or "valid": filters only where all their taps lie inside `x`, padded as you like.
        backend: "auto" takes the fastest that can serve the call; a name takes that one or raises. "reference" runs
            Eq. 2 under ordinary autograd. See `ddfnet info`.

    Returns:
        (B, C, P, Q) with P = ceil(H / s), Q = ceil(W / s), in the dtype, device and memory format of `x`. With
        padding="valid", P = ceil((H - (k-1)*d) / s), Q likewise. Sums of half types are taken in float32.

    Raises:
        TypeError: not tensors, or dtypes that differ or are not floats. Layers and autocast cast; the op does not.
        ValueError: shapes, devices or options that do not fit together, with what was expected and what came.
        RuntimeError: the backend asked for cannot serve the call, with the reason.

    Example:
        >>> import torch, ddfnet
        >>> x = torch.randn(2, 64, 28, 28, requires_grad=True)
        >>> channel_filter = torch.randn(2, 64, 3, 3)
        >>> spatial_filter = torch.randn(2, 9, 28, 28)
        >>> ddfnet.ddf(x, channel_filter, spatial_filter).shape
        torch.Size([2, 64, 28, 28])
    """
    if has_torch_function((x, channel_filter, spatial_filter)):  # such as a proxy of torch.fx
        options: dict[str, Any] = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation}
        filters = (channel_filter, spatial_filter)
        options |= {"combine": combine, "padding": padding, "backend": backend}
        return handle_torch_function(ddf, (x, *filters), x, *filters, **options)
    check_types(x, channel_filter, spatial_filter, (combine, backend, padding), kernel_size, stride, dilation, 1)
    if takes_reference(backend):
        x, channel_filter, spatial_filter = autocast_inputs(x, channel_filter, spatial_filter)
        g = check(x, channel_filter, spatial_filter, kernel_size, stride, dilation, 1, combine, padding=padding)
        return ddf_reference(x, channel_filter, spatial_filter, g)
    y: Tensor = ddf_op(x, channel_filter, spatial_filter, kernel_size, stride, dilation, 1, combine, backend, padding)
    return y


def takes_reference(backend: str) -> bool:
    """True if a call runs the reference under ordinary autograd and not the registered op."""
    return backend == "reference" or (backend == "auto" and (_preferred == "reference" or needs_reference()))


def select(backend: str, x: Tensor, g: Geometry) -> Kernels:
    """The kernels that serve a call: the first that can for "auto", the named one or RuntimeError for a name."""
    if backend == "auto":
        first = KERNELS.get(_preferred)
        if first is not None and first.unsupported(x, g) is None:
            return first
        return next(kernels for kernels in KERNELS.values() if kernels.unsupported(x, g) is None)
    if backend not in KERNELS:
        check_backend("backend", backend)
        raise ValueError(f"backend: expected one with kernels, got {backend!r}")
    reason = KERNELS[backend].unsupported(x, g)
    if reason is not None:
        raise RuntimeError(f"backend {backend!r} can't serve this call: {reason}")
    return KERNELS[backend]


# The registered ops


def _geometry(x: Tensor, channel_filter: Tensor | None, spatial_filter: Tensor | None, o: Any) -> Geometry:
    filters = channel_filter, spatial_filter
    return check(x, *filters, o.kernel_size, o.stride, o.dilation, o.scale_factor, o.combine, padding=o.padding)


def _forward(x: Tensor, channel_filter: Tensor | None, spatial_filter: Tensor | None, options: Options) -> Tensor:
    g = _geometry(x, channel_filter, spatial_filter, options)
    return select(options.backend, x, g).ddf_forward(x, channel_filter, spatial_filter, g)


def _forward_fake(x: Tensor, channel_filter: Tensor | None, spatial_filter: Tensor | None, options: Options) -> Tensor:
    g = _geometry(x, channel_filter, spatial_filter, options)
    return torch.empty(g.out_shape, dtype=x.dtype, device=x.device, memory_format=g.memory_format)


def _backward(
    grad_output: Tensor,
    x: Tensor,
    channel_filter: Tensor | None,
    spatial_filter: Tensor | None,
    options: BackwardOptions,
) -> tuple[Tensor, ...]:
    g = _geometry(x, channel_filter, spatial_filter, options)
    kernels = select(options.backend, x, g)
    grads = kernels.ddf_backward(grad_output, x, channel_filter, spatial_filter, g, options.needs)
    return tuple(x.new_empty(0) if grad is None else grad for grad in grads)


def _backward_fake(
    grad_output: Tensor,
    x: Tensor,
    channel_filter: Tensor | None,
    spatial_filter: Tensor | None,
    options: BackwardOptions,
) -> tuple[Tensor, ...]:
    inputs = zip((x, channel_filter, spatial_filter), options.needs, strict=True)
    return tuple(torch.empty_like(t) if needed and t is not None else x.new_empty(0) for t, needed in inputs)


_INPUTS = ("x", "channel_filter?", "spatial_filter?")
ddf_op = define(
    "ddf",
    _INPUTS,
    Options,
    kernel=_forward,
    fake=_forward_fake,
    backward=autograd.gradient,
    jvp=autograd.jvp,
    vmap=autograd.vmap,
    autocast=True,
    flops=ddf_flops,
)
define(
    "ddf_backward",
    ("grad_output", *_INPUTS),
    BackwardOptions,
    outputs=3,
    kernel=_backward,
    fake=_backward_fake,
    backward=autograd.second_gradient,
    jvp=autograd.backward_jvp,
    vmap=autograd.backward_vmap,
    flops=ddf_backward_flops,
)
