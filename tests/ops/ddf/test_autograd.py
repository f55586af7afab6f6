"""Derivatives of every order and under every transform; only the gradients asked for."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from tests.cases import SMALL
from tests.ops.ddf.backends import BACKENDS, MEMORY_FORMATS, PLAIN, calls, compiles, skip_unless_supported
from tests.oracle import draw
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck

import ddfnet
from ddfnet.bench.cases import OpCase
from ddfnet.ops.ddf import plain as torch_kernels

TINY = (
    OpCase(1, 2, 3, 4, heads=2),
    OpCase(2, 2, 3, 3, stride=2, combine="add"),
    OpCase(1, 2, 4, 3, dilation=2, filters="channel"),
    OpCase(1, 2, 3, 3, filters="spatial", kernel_size=1),
    OpCase(1, 2, 3, 3, filters="channel", combine="add"),
    OpCase(1, 2, 3, 3, filters="spatial", combine="add"),
    OpCase(1, 2, 2, 3, scale_factor=2),
    OpCase(1, 2, 2, 2, scale_factor=2, combine="add", shared_channel_filter=True),
    OpCase(1, 2, 4, 5, stride=2, padding="valid"),
)
FILTERED = (OpCase(2, 4, 5, 4), OpCase(2, 4, 5, 4, combine="add"), OpCase(2, 4, 3, 2, scale_factor=2, heads=2))


def leaves_of(case: OpCase, **options: Any) -> tuple[Any, tuple[Tensor, ...]]:
    """A function of the inputs that are there alone, and these, in float64."""
    inputs = case.inputs(dtype=torch.float64, requires_grad=True, **options)
    places = [i for i, t in enumerate(inputs) if t is not None]

    def spread(given: tuple[Tensor, ...]) -> list[Tensor | None]:
        full: list[Tensor | None] = [None] * 3
        for place, tensor in zip(places, given, strict=True):
            full[place] = tensor
        return full

    return spread, tuple(t for t in inputs if t is not None)


@pytest.mark.parametrize(("case", "dtype", "backend"), calls(TINY, (torch.float64,)))
def test_gradcheck_in_full(case: OpCase, dtype: torch.dtype, backend: str) -> None:
    skip_unless_supported(backend, case, dtype)
    spread, leaves = leaves_of(case)
    call = lambda *given: case.call(*spread(given), backend=backend)  # noqa: E731
    assert gradcheck(call, leaves)
    if backend != "reference":  # there autograd's own
        assert gradgradcheck(call, leaves)


@pytest.mark.parametrize(("case", "dtype", "backend"), calls([case for case in SMALL if case.batch], (torch.float64,)))
def test_gradcheck_in_random_directions(case: OpCase, dtype: torch.dtype, backend: str) -> None:
    skip_unless_supported(backend, case, dtype)
    for memory_format in MEMORY_FORMATS:
        spread, leaves = leaves_of(case, memory_format=memory_format)
        call = lambda *given: case.call(*spread(given), backend=backend)  # noqa: B023, E731
        assert gradcheck(call, leaves, fast_mode=True)
        assert gradgradcheck(call, leaves, fast_mode=True)


@pytest.mark.parametrize("case", FILTERED, ids=str)
def test_only_the_gradients_asked_for(case: OpCase, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = torch_kernels.ddf_backward
    monkeypatch.setattr(torch_kernels, "ddf_backward", lambda *a: (asked.append(a[-1]), real(*a))[1])
    *inputs, grad_y = draw(case, torch.float32)
    everything = torch.autograd.grad(case.call(*(t.requires_grad_() for t in inputs), backend="torch"), inputs, grad_y)
    for needs in itertools.product((False, True), repeat=3):
        asked.clear()
        leaves = [t.detach().requires_grad_(need) for t, need in zip(inputs, needs, strict=True)]
        y = case.call(*leaves, backend="torch")
        assert y.requires_grad == any(needs)
        if any(needs):
            y.backward(grad_y)
            assert asked == [needs]
        for leaf, need, whole in zip(leaves, needs, everything, strict=True):
            assert (leaf.grad is not None) == need
            assert leaf.grad is None or torch.equal(leaf.grad, whole)


@pytest.mark.parametrize("backend", PLAIN)
@pytest.mark.parametrize("case", FILTERED, ids=str)
def test_vmap(case: OpCase, backend: str) -> None:
    x, channel, spatial = case.inputs(dtype=torch.float64)
    xs = torch.stack([x, 2 * x, x + 1], dim=1)
    spatials = torch.stack([spatial, -spatial, spatial - 1])
    call = lambda x, channel, spatial: case.call(x, channel, spatial, backend=backend)  # noqa: E731
    mapped = torch.vmap(call, in_dims=(1, None, 0))(xs, channel, spatials)
    one_by_one = torch.stack([call(xs[:, i], channel, spatials[i]) for i in range(3)])
    torch.testing.assert_close(mapped, one_by_one)

    def loss(x: Tensor, channel: Tensor, spatial: Tensor) -> Tensor:
        return call(x, channel, spatial).sin().sum()

    per_sample = torch.vmap(torch.func.grad(loss, argnums=(0, 1, 2)), in_dims=(1, None, 0))(xs, channel, spatials)
    for i in range(3):
        own = torch.func.grad(loss, argnums=(0, 1, 2))(xs[:, i], channel, spatials[i])
        for a, b in zip(per_sample, own, strict=True):
            torch.testing.assert_close(a[i], b)


@pytest.mark.parametrize("case", FILTERED, ids=str)
def test_vmap_over_an_op_with_some_gradients(case: OpCase) -> None:
    x, channel, spatial = case.inputs(dtype=torch.float64)
    xs = torch.stack([x, 2 * x])
    gradient = torch.func.grad(lambda x, c, s: case.call(x, c, s, backend="torch").square().sum(), argnums=1)
    mapped = torch.vmap(gradient, in_dims=(0, None, None))(xs, channel, spatial)
    torch.testing.assert_close(mapped, torch.stack([gradient(each, channel, spatial) for each in xs]))


@pytest.mark.parametrize("case", FILTERED, ids=str)
def test_func_agrees_with_autograd(case: OpCase) -> None:
    *inputs, _ = draw(case, torch.float64)
    loss = lambda *given: case.call(*given, backend="torch").sin().sum()  # noqa: E731
    by_func = torch.func.grad(loss, argnums=(0, 1, 2))(*inputs)
    leaves = [t.requires_grad_() for t in inputs]
    for a, b in zip(by_func, torch.autograd.grad(loss(*leaves), leaves), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("backend", PLAIN)
@pytest.mark.parametrize("combine", ["mul", "add"])
def test_jvp_is_the_sum_over_inputs(combine: str, backend: str) -> None:
    case = OpCase(2, 4, 5, 4, combine=combine, stride=2)
    x, c, s = case.inputs(dtype=torch.float64)
    v_x, v_c, v_s = case.inputs(dtype=torch.float64, seed=1)
    call = lambda *given: case.call(*given, backend=backend)  # noqa: E731
    y, directional = torch.func.jvp(call, (x, c, s), (v_x, v_c, v_s))
    torch.testing.assert_close(y, call(x, c, s))
    if combine == "mul":
        expected = call(v_x, c, s) + call(x, v_c, s) + call(x, c, v_s)
    else:
        expected = call(v_x, c, s) + call(x, v_c, v_s)
    torch.testing.assert_close(directional, expected)


@pytest.mark.parametrize("backend", PLAIN)
def test_forward_mode_under_no_grad(backend: str) -> None:
    """no_grad does not reach forward-mode derivatives: y is linear in x, so D = y."""
    x, c, s = OpCase(1, 4, 5, 4).inputs(dtype=torch.float64)
    call = lambda x: ddfnet.ddf(x, c, s, backend=backend)  # type: ignore[arg-type]  # noqa: E731
    with torch.no_grad(), forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(call(forward_ad.make_dual(x, x))).tangent
    torch.testing.assert_close(tangent, call(x))
    with torch.no_grad():
        torch.testing.assert_close(torch.func.jvp(call, (x,), (x,))[1], call(x))


TRANSFORMS: dict[str, Callable[..., Tensor]] = {
    "grad": lambda f, x: torch.func.grad(lambda x: f(x).sin().sum())(x),
    "vmap": lambda f, x: torch.vmap(f)(torch.stack([x, 2 * x])),
    "vmap of grad": lambda f, x: torch.vmap(torch.func.grad(lambda x: f(x).sin().sum()))(torch.stack([x, 2 * x])),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x,))[1],
}


@pytest.mark.release
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_inside_compiled_functions(name: str) -> None:
    x, c, s = OpCase(1, 4, 3, 5).inputs(dtype=torch.float64)
    transform = TRANSFORMS[name]

    def compiled(backend: Any) -> Tensor:
        call = lambda x: ddfnet.ddf(x, c, s, backend=backend)  # noqa: E731
        return torch.compile(lambda x: transform(call, x), backend="aot_eager", fullgraph=True)(x)

    torch._dynamo.reset()
    torch.testing.assert_close(compiled("auto"), transform(lambda x: ddfnet.ddf(x, c, s), x))
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"transforms of torch\.func inside torch\.compile need"):
        compiled("torch")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_trace_keeps_the_op_and_its_gradient() -> None:
    x, c, s = OpCase(1, 4, 3, 5).inputs(requires_grad=True)
    traced = torch.jit.trace(lambda *given: ddfnet.ddf(*given), (x, c, s))
    assert "ddfnet::ddf" in str(traced.graph)
    other = OpCase(2, 4, 6, 4).inputs(requires_grad=True)
    y = traced(*other)
    expected = ddfnet.ddf(*other)
    assert torch.equal(y, expected)
    for a, b in zip(*(torch.autograd.grad(z.sum(), other) for z in (y, expected)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("combine", ["mul", "add"])
@pytest.mark.parametrize("backend", PLAIN)
def test_hessian(combine: str, backend: str) -> None:
    """Of sum(y^2)/2 with respect to the spatial filter: J^T J, as y is linear in it (affine for "add")."""
    case = OpCase(1, 2, 2, 2, combine=combine)
    x, channel, spatial = case.inputs(dtype=torch.float64)
    call = lambda spatial: case.call(x, channel, spatial, backend=backend)  # noqa: E731
    hessian = torch.func.hessian(lambda spatial: call(spatial).square().sum() / 2)(spatial)
    jacobian = torch.func.jacrev(call)(spatial).reshape(8, -1)
    n = spatial.numel()
    torch.testing.assert_close(hessian.reshape(n, n), jacobian.T @ jacobian)
    torch.testing.assert_close(torch.func.jacfwd(call)(spatial).reshape(8, -1), jacobian)


@pytest.mark.parametrize("case", FILTERED, ids=str)
def test_compiles_to_one_graph(case: OpCase) -> None:
    *inputs, grad_y = draw(case, torch.float32)
    leaves = [t.requires_grad_() for t in inputs]
    call = partial(case.call, backend="torch")
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    eager = call(*leaves)
    y = compiled(*leaves)
    assert torch.equal(y, eager)
    for a, b in zip(torch.autograd.grad(y, leaves, grad_y), torch.autograd.grad(eager, leaves, grad_y), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "backend",
    [pytest.param(name, marks=pytest.mark.release if compiles(name) else ()) for name in ("auto", *BACKENDS)],
)
def test_autocast_casts(backend: str) -> None:
    x, channel, spatial = OpCase(2, 4, 5, 6).inputs(requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = ddfnet.ddf(x, channel.bfloat16(), spatial, backend=backend)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, ddfnet.ddf(x.bfloat16(), channel.bfloat16(), spatial.bfloat16(), backend=backend))
    grads = torch.autograd.grad(y.sum(), (x, channel, spatial))
    assert [grad.dtype for grad in grads] == [torch.float32] * 3
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert torch.equal(ddfnet.ddf(x, channel, spatial, backend=backend), y)
        wide = ddfnet.ddf(x.double(), channel.double(), spatial.double(), backend=backend)
    assert wide.dtype == torch.float64
    if backend != "reference":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.ops.ddfnet.ddf(x, channel, spatial, 3, 1, 1, 1, "mul", backend, "same").dtype == torch.bfloat16
