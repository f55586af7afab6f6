"""The registered op: opcheck, what it saves, what it allocates, its FLOPs, meta tensors."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.cases import SMALL
from tests.forked import needs_fork, printed
from tests.ops.ddf.backends import BACKENDS, MEMORY_FORMATS, assert_format_of, calls
from tests.oracle import draw
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import ddfnet
from ddfnet.bench.cases import OpCase
from ddfnet.ops.ddf.api import KERNELS, ddf
from ddfnet.ops.ddf.geometry import check

OPCHECKED = (
    OpCase(2, 6, 7, 9, heads=3),
    OpCase(1, 4, 8, 5, stride=2, dilation=2, combine="add", filters="channel"),
    OpCase(2, 4, 3, 5, scale_factor=2, heads=2),
    OpCase(1, 4, 3, 2, scale_factor=3, filters="spatial", kernel_size=5),
    OpCase(1, 4, 8, 7, stride=2, padding="valid"),
)


def options_of(case: OpCase, backend: str = "torch") -> tuple[Any, ...]:
    return (case.kernel_size, case.stride, case.dilation, case.scale_factor, case.combine, backend, case.padding)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "permuted"])
@pytest.mark.parametrize("case", OPCHECKED, ids=str)
def test_opcheck(case: OpCase, layout: str) -> None:
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    tensors = draw(case, torch.float32, memory_format=memory_format)
    if layout == "permuted":
        tensors = tuple(None if t is None else t.mT.contiguous().mT for t in tensors)
    *inputs, grad_y = (None if t is None else t.requires_grad_() for t in tensors)
    torch.library.opcheck(torch.ops.ddfnet.ddf.default, (*inputs, *options_of(case)))
    inputs = [None if t is None else t.detach() for t in inputs]
    for needs in ((True, case.filters != "spatial", case.filters != "channel"), (False, inputs[1] is not None, False)):
        if any(needs):
            args = (grad_y.detach(), *inputs, *options_of(case), *needs)
            torch.library.opcheck(torch.ops.ddfnet.ddf_backward.default, args)
    leaves = [None if t is None else t.requires_grad_() for t in (grad_y, *inputs)]
    needs = tuple(t is not None for t in inputs)
    torch.library.opcheck(torch.ops.ddfnet.ddf_backward.default, (*leaves, *options_of(case), *needs))


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_meta(case: OpCase) -> None:
    for memory_format in MEMORY_FORMATS:
        for backend in ("auto", "reference"):
            x, channel, spatial = case.inputs(device="meta", memory_format=memory_format, requires_grad=True)
            y = case.call(x, channel, spatial, backend=backend)
            assert (y.device.type, y.shape, y.dtype) == ("meta", case.out_shape, torch.float32)
            assert_format_of(y, x)
            y.sum().backward()
            for tensor in (x, channel, spatial):
                assert tensor is None or tensor.grad.shape == tensor.shape


def saved_by(call: Callable[[], Tensor]) -> list[Tensor]:
    saved: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        saved.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        call()
    return saved


@pytest.mark.parametrize(
    ("case", "dtype", "backend"),
    calls(OPCHECKED, (torch.float32, torch.bfloat16), [name for name in BACKENDS if name != "reference"]),
)
def test_saves_its_inputs_alone(case: OpCase, dtype: torch.dtype, backend: str) -> None:
    for memory_format in MEMORY_FORMATS:
        inputs = case.inputs(dtype=dtype, memory_format=memory_format, requires_grad=True)
        saved = saved_by(lambda: case.call(*inputs, backend=backend))  # noqa: B023
        assert [t.data_ptr() for t in saved] == [t.data_ptr() for t in inputs if t is not None]
        assert [t.shape for t in saved] == [t.shape for t in inputs if t is not None]


def test_saves_the_cast_inputs_under_autocast() -> None:
    inputs = OpCase(2, 4, 5, 6).inputs(requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        saved = saved_by(lambda: ddf(*inputs, backend="torch"))
    assert [t.dtype for t in saved] == [torch.bfloat16] * 3
    assert [t.shape for t in saved] == [t.shape for t in inputs]


class Allocations(TorchDispatchMode):
    """Bytes of the largest tensor allocated inside, and of all alive at the worst moment."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = self.peak = 0
        self.before: set[int] = set()
        self.alive: dict[StorageWeakRef, int] = {}

    def of(self, *tensors: Tensor | None) -> "Allocations":
        self.kept = [t.untyped_storage() for t in tensors if t is not None]
        self.before = {storage._cdata for storage in self.kept}
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for t in tree_leaves(result):
            if isinstance(t, Tensor) and t.untyped_storage()._cdata not in self.before:
                self.alive[StorageWeakRef(t.untyped_storage())] = t.untyped_storage().nbytes()
                self.largest = max(self.largest, t.untyped_storage().nbytes())
        self.alive = {ref: size for ref, size in self.alive.items() if not ref.expired()}
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


@pytest.mark.parametrize(
    "memory_format",
    [torch.contiguous_format, pytest.param(torch.channels_last, marks=pytest.mark.release)],
    ids=["nchw", "nhwc"],
)
@pytest.mark.parametrize("combine", ["mul", pytest.param("add", marks=pytest.mark.release)])
@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "reference"])
def test_never_stores_the_combined_filter(name: str, combine: str, memory_format: torch.memory_format) -> None:
    case = OpCase(8, 48, 6, 40, kernel_size=7, combine=combine)  # scratch is for two threads, whatever the batch
    x, channel, spatial, grad_y = draw(case, torch.float32, memory_format=memory_format)
    g = check(x, channel, spatial, 7, 1, 1, 1, combine)
    one_map = 4 * math.prod(case.out_shape)
    with Allocations().of(x, channel, spatial) as forward:
        KERNELS[name].ddf_forward(x, channel, spatial, g)
    assert 0 < forward.largest <= 2 * one_map
    assert forward.peak <= 4 * one_map  # the combined filter would be 49 maps
    gradients = 4 * (x.numel() + channel.numel() + spatial.numel())
    with Allocations().of(x, channel, spatial, grad_y) as backward:
        KERNELS[name].ddf_backward(grad_y, x, channel, spatial, g, (True, True, True))
    assert 0 < backward.largest <= 2 * one_map
    assert backward.peak <= gradients + 6 * one_map


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "reference"])
@pytest.mark.parametrize("padding", ["same", pytest.param("valid", marks=pytest.mark.release)])
def test_filters_as_views_are_not_copied(padding: Any, name: str) -> None:
    """Filters (B, H, W, k, k) or (B, H, W, G, K), as other layers hold them, seen as (B, G, K, H, W)."""
    x = torch.randn(1, 32, 12, 14)
    rows, columns = (12, 14) if padding == "same" else (10, 12)
    held = torch.randn(1, rows, columns, 3, 3), torch.randn(1, rows, columns, 4, 9)
    viewed = held[0].permute(0, 3, 4, 1, 2).flatten(1, 2), held[1].permute(0, 3, 4, 1, 2)
    for base, spatial in zip(held, viewed, strict=True):
        assert spatial.data_ptr() == base.data_ptr()
        with torch.no_grad(), Allocations().of(x, spatial) as seen:
            y = ddf(x, None, spatial, padding=padding, backend=name)  # type: ignore[arg-type]
        assert seen.largest <= y.nbytes + 64
        leaf = spatial.requires_grad_()
        found = ddf(x, None, leaf, padding=padding, backend=name)  # type: ignore[arg-type]
        expected = ddf(x, None, spatial.contiguous(), padding=padding, backend="reference")
        torch.testing.assert_close(found, expected)
        grad, wanted = (torch.autograd.grad(out.sum(), leaf)[0] for out in (found, expected))
        torch.testing.assert_close(grad, wanted)
        assert grad.stride() == leaf.stride()


class Operators(TorchDispatchMode):
    """The operators called inside, and the dtypes of what they return."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.names.add(str(func))
        self.dtypes |= {t.dtype for t in tree_leaves(result) if isinstance(t, Tensor)}
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("case", OPCHECKED, ids=str)
def test_the_plain_kernel_asks_little_of_a_device(case: OpCase, dtype: torch.dtype) -> None:
    """PyTorch's elementwise operations, sums and views in float32, no number read back: MPS and XPU have all of it."""
    x, channel, spatial, grad_y = draw(case, dtype)
    options = options_of(case)[:5]
    g = check(x, channel, spatial, *options, padding=case.padding)
    needs = (True, channel is not None, spatial is not None)
    with Operators() as seen:
        KERNELS["torch"].ddf_forward(x, channel, spatial, g)
        KERNELS["torch"].ddf_backward(grad_y, x, channel, spatial, g, needs)
    arithmetic = {"add", "add_", "addcmul_", "mul", "sum", "zero_", "zeros_like", "empty", "_to_copy", "promote_types"}
    views = {"view", "_unsafe_view", "slice", "select", "unsqueeze", "alias", "permute", "transpose", "as_strided"}
    expected = {f"aten.{name}" for name in arithmetic | views}
    assert {name.rsplit(".", 1)[0] for name in seen.names} <= expected
    assert torch.float64 not in seen.dtypes


def test_reference_forward_keeps_one_tap_at_a_time() -> None:
    case = OpCase(2, 48, 12, 10, kernel_size=7)
    inputs = case.inputs()
    one_map, padded = 4 * math.prod(case.out_shape), 4 * 2 * 48 * 18 * 16
    with torch.no_grad(), Allocations().of(*inputs) as forward:
        case.call(*inputs, backend="reference")
    assert 0 < forward.largest <= padded
    assert forward.peak <= padded + 5 * one_map


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_tap_outside_the_image_contributes_nothing(value: float, backend: str) -> None:
    for case in (OpCase(1, 2, 4, 5), OpCase(1, 2, 4, 5, stride=2, dilation=2), OpCase(1, 2, 3, 4, scale_factor=2)):
        x, channel, spatial = case.inputs(requires_grad=True)
        marked = spatial.detach().clone()
        marked[:, :, 0, 0] = value  # the tap at the top left, of the first row of pixels
        y = case.call(x, channel, marked.requires_grad_(), backend=backend)
        marked_zero = marked.detach().clone()
        marked_zero[:, :, 0, 0] = 0
        assert torch.equal(y, case.call(x, channel, marked_zero, backend=backend))
        assert all(grad.isfinite().all() for grad in torch.autograd.grad(y.sum(), (x, channel, marked)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_tap_outside_the_image_touches_its_pixel_alone(value: float, backend: str) -> None:
    """Kernels multiply zeros there, which makes NaN of a filter that is not finite."""
    x, channel, spatial = OpCase(1, 3, 4, 5).inputs()
    spatial = spatial[:, 0].clone()
    expected = ddf(x, channel, spatial, backend=backend)
    spatial[:, 0, 0, 0] = value
    y = ddf(x, channel, spatial, backend=backend)
    torch.testing.assert_close(y.where(y.isfinite(), expected), expected)
    assert y.isfinite()[:, :, 1:].all()
    assert y.isfinite()[:, :, :, 1:].all()


@pytest.mark.parametrize("backend", [backend for backend in BACKENDS if backend != "reference"])
def test_taps_farther_than_the_image(backend: str) -> None:
    """The middle tap alone is inside; a reach of any length takes no memory."""
    x, channel, spatial = OpCase(1, 3, 4, 5).inputs(requires_grad=True)
    spatial = spatial[:, 0]
    y = ddf(x, channel, spatial, dilation=2**31 - 1, backend=backend)
    torch.testing.assert_close(y, x * channel[:, :, 1, 1, None, None] * spatial[:, None, 4])
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad, channel[:, :, 1, 1, None, None] * spatial[:, None, 4])
    one = ddf(x, channel, spatial[..., :1, :1], stride=2**31 - 1, backend=backend)
    torch.testing.assert_close(one, ddf(x, channel, spatial, backend=backend)[..., :1, :1])


def test_allocations_are_seen() -> None:
    x = torch.ones(10)
    with Allocations().of(x) as seen:
        (x + 1) * torch.zeros(20, 1)
    assert (seen.largest, seen.peak) == (4 * 200, 4 * (10 + 20 + 200))


FLOPS = (  # forward FLOPs by hand: 3 for each tap of each output element, 2 where one filter is missing
    (OpCase(2, 8, 7, 9), 3 * 2 * 8 * 63 * 9),
    (OpCase(1, 5, 9, 7, stride=2), 3 * 5 * 5 * 4 * 9),
    (OpCase(2, 6, 7, 9, heads=3, kernel_size=5, combine="add"), 3 * 2 * 6 * 63 * 25),
    (OpCase(2, 6, 7, 5, filters="channel"), 2 * 2 * 6 * 35 * 9),
    (OpCase(2, 6, 7, 5, filters="spatial", stride=2), 2 * 2 * 6 * 4 * 3 * 9),
    (OpCase(2, 6, 5, 4, scale_factor=2), 3 * 2 * 6 * 10 * 8 * 9),
    (OpCase(1, 4, 3, 5, scale_factor=3, filters="spatial"), 2 * 4 * 9 * 15 * 9),
    (OpCase(2, 8, 7, 9, padding="valid"), 3 * 2 * 8 * 35 * 9),
    (OpCase(1, 4, 9, 8, filters="spatial", kernel_size=5, stride=2, padding="valid"), 2 * 4 * 3 * 2 * 25),
    (OpCase(0, 4, 5, 6), 0),
)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(("case", "flops"), FLOPS, ids=str)
def test_flops(case: OpCase, flops: int, device: str) -> None:
    inputs = case.inputs(device=device, requires_grad=True)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        case.call(*inputs, backend="torch")
    assert forward.get_total_flops() == flops
    given = [t for t in inputs if t is not None]
    with FlopCounterMode(display=False) as both:
        case.call(*inputs, backend="torch").sum().backward()
    assert both.get_total_flops() == flops * (1 + len(given))
    inputs = case.inputs(device=device)
    inputs[0].requires_grad_()
    with FlopCounterMode(display=False) as one_gradient:
        case.call(*inputs, backend="torch").sum().backward()
    assert one_gradient.get_total_flops() == flops * 2


def test_flops_by_options_left_open() -> None:
    x, channel, spatial = OpCase(2, 8, 7, 9).inputs()
    with FlopCounterMode(display=False) as counter:
        ddf(x, channel, spatial[:, 0], backend="torch")
        ddfnet.ddf_up(x, None, torch.ones(2, 25, 14, 18), backend="torch")
    assert counter.get_total_flops() == 3 * 2 * 8 * 63 * 9 + 2 * 2 * 8 * 14 * 18 * 25


ORDERS = [
    "from torch.utils.flop_counter import FlopCounterMode; import ddfnet; ddfnet.ddf",
    "import ddfnet; ddfnet.ddf; from torch.utils.flop_counter import FlopCounterMode",
    "import ddfnet; from torch.utils.flop_counter import FlopCounterMode; ddfnet.ddf",
    "import ddfnet; from torch.utils.flop_counter import FlopCounterMode; early = FlopCounterMode(display=False)",
    "from torch.utils.flop_counter import FlopCounterMode; import ddfnet; early = FlopCounterMode(display=False)",
]


@pytest.mark.release
@needs_fork
def test_flops_in_any_order_of_imports() -> None:
    """A FlopCounterMode copies the formulas when it is made; any that is made after `import ddfnet` has ours."""
    count = """
import torch
with globals().get("early") or FlopCounterMode(display=False) as counter:
    ddfnet.ddf(torch.ones(1, 2, 4, 4), torch.ones(1, 2, 3, 3), torch.ones(1, 9, 4, 4), backend="torch")
print(counter.get_total_flops())
"""
    assert printed([f"{order}\n{count}" for order in ORDERS]) == [str(3 * 2 * 16 * 9)] * len(ORDERS)
