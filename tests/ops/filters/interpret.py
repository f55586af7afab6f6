"""`python -m tests.ops.filters.interpret few|quick|slow`: the filter prediction's kernels, run by Triton's interpreter.

A process of its own, since TRITON_INTERPRET must be set before Triton is imported. Prints a JSON object: what went wrong, or
null, by check.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from unittest.mock import patch

if __name__ == "__main__":  # not where pytest looks for doctests
    os.environ["TRITON_INTERPRET"] = "1"

import torch
from tests.ops.filters import bounded
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import ddfnet
from ddfnet.nn.filters import channel_parameters, spatial_parameters
from ddfnet.ops.filters import api
from ddfnet.ops.filters.gpu import backend

BACKEND = "triton" if os.environ.get("TRITON_INTERPRET") == "1" else "auto"  # the checks serve other tests too
PLANE, CHANNELS_LAST = torch.contiguous_format, torch.channels_last


def layer_of(channels: int, branches: str = "both", **options: int) -> ddfnet.DDF:
    torch.manual_seed(1)
    layer = ddfnet.DDF(channels, squeeze_ratio=0.8, branches=branches, backend=BACKEND, **options)
    for bias in (each for name, each in layer.named_parameters() if name.endswith("bias")):
        torch.nn.init.normal_(bias)
    return layer


def input_of(*shape: int, memory_format: torch.memory_format = PLANE) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2)) + 0.5
    return x.contiguous(memory_format=memory_format).requires_grad_()


def by_modules(layer: ddfnet.DDF) -> ddfnet.DDF:
    """The same layer, its branches run module by module because somebody listens."""
    twin = ddfnet.DDF(
        layer.channels,
        layer.kernel_size,
        stride=layer.stride,
        heads=layer.heads,
        squeeze_ratio=layer.squeeze_ratio,
        branches=layer.branches,
        backend=BACKEND,
    )
    twin.load_state_dict(layer.state_dict())
    twin.to(next(layer.parameters()).device)
    for branch in (twin.spatial_branch, twin.channel_branch):
        if branch is not None:
            branch[0].register_forward_hook(lambda *_: None)
    return twin


def check(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def within_bounds(
    shape: tuple[int, ...],
    memory_format: torch.memory_format = PLANE,
    branches: str = "both",
    gap: bool = False,
    device: str = "cpu",
    **options: int,
) -> None:
    """Filters and all gradients are off by no more than rounding can explain."""
    layer = layer_of(shape[1], branches, **options).to(device)
    x = input_of(*shape, memory_format=memory_format).detach().to(device).requires_grad_()
    if gap:
        x = torch.cat([x.detach()] * 2, 3)[..., : shape[3]].requires_grad_()
        check(x.stride(2) != shape[3] * x.stride(3), "rows of x follow each other")
    channel, spatial = layer.filters(x)
    torch.manual_seed(3)
    filters = [t for t in (channel, spatial) if t is not None]
    grads = [torch.randn_like(t) for t in filters]
    found = dict(
        zip(
            ("x", *(name for name, _ in layer.named_parameters())),
            torch.autograd.grad(filters, [x, *layer.parameters()], grads),
            strict=True,
        )
    )
    excess, grad_x = {}, bounded.Bounded.exact(torch.zeros(x.shape))
    if spatial is not None:
        check(spatial.stride() == by_modules(layer).filters(x)[1].stride(), f"strides {spatial.stride()}")
        own = spatial_parameters(layer.spatial_branch)
        expected, of = bounded.spatial(x, *own, grads[-1], layer.stride, layer.heads)
        excess["spatial filter"] = expected.excess(spatial.permute(0, 3, 4, 1, 2))
        excess["weight"] = of[1].excess(found["spatial_branch.0.weight"])
        excess["bias"] = of[2].excess(found["spatial_branch.0.bias"])
        at = grad_x.value[:, :, :: layer.stride, :: layer.stride]
        at += of[0].value.permute(0, 3, 1, 2)
        grad_x.error[:, :, :: layer.stride, :: layer.stride] += of[0].error.permute(0, 3, 1, 2)
    if channel is not None:
        own = channel_parameters(layer.channel_branch)
        expected, of = bounded.channel(x, *own, grads[0], layer.kernel_size**2)
        check(bool((of[1].value != 0).any()), "no gradient passes the ReLU")
        excess["channel filter"] = expected.excess(channel)
        for name, gradient in zip(("1.weight", "1.bias", "3.weight", "3.bias", "4.std"), of[1:], strict=True):
            excess[name] = gradient.excess(found[f"channel_branch.{name}"])
        pooled = bounded.Bounded(of[0].value[..., None, None], of[0].error[..., None, None])
        grad_x = grad_x + pooled
    excess["x"] = grad_x.excess(found["x"])
    check(max(excess.values()) <= 1, f"errors over bounds: {excess}")


def half_under_autocast() -> None:
    """Parameters stay in float32; x, the filters and what lies between them are float16."""
    layer, x = layer_of(5), input_of(2, 5, 4, 3)
    with torch.autocast("cpu", torch.float16):
        channel, spatial = layer.filters(x)
    check(channel.dtype == spatial.dtype == torch.float16, f"{channel.dtype}, {spatial.dtype}")
    low = [p.half() for p in (x, *layer.parameters())]
    names = [name for name, _ in layer.named_parameters()]
    p = dict(zip(("x", *names), low, strict=True))
    own = [p[f"channel_branch.{name}"] for name in ("1.weight", "1.bias", "3.weight", "3.bias")]
    # The kernels round to float16 what is multiplied: weights. Biases and scales keep their float32.
    own[1], own[3] = layer.channel_branch[1].bias, layer.channel_branch[3].bias
    own[0] = layer.channel_branch[1].weight
    expected, _ = bounded.channel(p["x"], *own, layer.channel_branch[4].std, channel, 9, torch.float16)
    excess = expected.rounded(torch.float16).excess(channel)
    check(excess <= 1, f"channel filter: {excess} bounds")
    branch = spatial_parameters(layer.spatial_branch)
    expected, _ = bounded.spatial(p["x"], p["spatial_branch.0.weight"], *branch[1:], spatial, 1, 1)
    excess = expected.rounded(torch.float16).excess(spatial.permute(0, 3, 4, 1, 2))
    check(excess <= 1, f"spatial filter: {excess} bounds")
    (channel.sum() + spatial.sum()).backward()
    check(all(p.grad.dtype == torch.float32 for p in layer.parameters()), "gradients are not float32")
    check(all(bool(p.grad.isfinite().all()) for p in (x, *layer.parameters())), "gradients are not finite")


def layer_is_prediction_and_ddf() -> None:
    """The layer's output and gradients are, to the bit, those of its two steps one after the other."""
    layer, x = layer_of(4), input_of(1, 4, 3, 4)
    results = []
    for twice in (False, True):
        if twice:
            filters = [t.detach().requires_grad_() for t in layer.filters(x)]
            leaf = x.detach().requires_grad_()
            y = ddfnet.ddf(leaf, *filters, backend=BACKEND)
            grad_x, *cotangents = torch.autograd.grad(y.sum(), [leaf, *filters])
            grads = torch.autograd.grad(layer.filters(x), [x, *layer.parameters()], cotangents)
            results.append((y, grad_x + grads[0], *grads[1:]))
        else:
            y = layer(x)
            results.append((y, *torch.autograd.grad(y.sum(), [x, *layer.parameters()])))
    check(all(map(torch.equal, *results)), "the layer differs from its steps")


def hooks_are_served() -> None:
    for part in (lambda layer: layer.spatial_branch[0], lambda layer: layer.channel_branch):
        layer, seen = layer_of(4), []
        part(layer).register_forward_hook(lambda *_, seen=seen: seen.append("hook"))
        layer.filters(input_of(1, 4, 3, 4))
        check(seen == ["hook"], "a hook was not called")


def second_derivatives() -> None:
    """Those of the reference, to the bit."""
    layer, x = layer_of(4, stride=2, heads=2), input_of(2, 4, 4, 3)
    branches = spatial_parameters(layer.spatial_branch), channel_parameters(layer.channel_branch)
    inputs, results = [x, *layer.parameters()], []
    for filters in (layer.filters(x), api._reference(x, *branches, 3, 2, 2)):
        torch.manual_seed(3)
        grads = [torch.randn_like(t, requires_grad=True) for t in filters]
        first = torch.autograd.grad(filters, inputs, grads, create_graph=True)
        results.append((*first, *torch.autograd.grad([t.square().sum() for t in first], [*inputs, *grads])))
    check(all(map(torch.equal, *results)), "they differ from the reference's")


def empty_batch() -> None:
    layer, x = layer_of(4), input_of(0, 4, 3, 2)
    channel, spatial = layer.filters(x)
    check(channel.shape == (0, 4, 3, 3) and spatial.shape == (0, 1, 9, 3, 2), f"{channel.shape}, {spatial.shape}")
    (channel.sum() + spatial.sum()).backward()
    check(x.grad.shape == x.shape, f"{x.grad.shape}")
    check(not any(p.grad.any() for p in layer.parameters()), "a gradient without a sample")


def transforms_take_the_reference() -> None:
    layer, x = layer_of(4), input_of(1, 4, 3, 3).detach()
    branches = spatial_parameters(layer.spatial_branch), channel_parameters(layer.channel_branch)

    def total(x: Tensor) -> Tensor:
        channel, spatial = layer.filters(x)
        return channel.square().sum() + spatial.sum()

    leaf = x.clone().requires_grad_()
    channel, spatial = api._reference(leaf, *branches, 3, 1, 1)
    (channel.square().sum() + spatial.sum()).backward()
    torch.testing.assert_close(torch.func.grad(total)(x), leaf.grad)
    mapped = torch.func.vmap(lambda x: layer.filters(x[None])[1][0])(x.expand(2, *x.shape[1:]))
    torch.testing.assert_close(mapped[1], api._reference(x, *branches, 3, 1, 1)[1][0])


def compiles_to_one_graph() -> None:
    """For all sizes, with the outputs and gradients of eager."""
    layer = layer_of(4)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=True)
    with patch.object(backend, "unsupported", lambda *_: None):  # as on a GPU
        for number, size in enumerate(((2, 4, 3, 5), (3, 4, 4, 3))):
            x, results = input_of(*size), []
            for run in (layer, compiled):
                with torch._dynamo.config.patch(error_on_recompile=number > 0):
                    y = run(x)
                results.append((y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])))
            for a, b in zip(*results, strict=True):
                torch.testing.assert_close(a, b)


def flops_are_those_of_the_modules() -> None:
    layer, x = layer_of(4, stride=2), input_of(2, 4, 5, 4)
    counts = []
    for each in (layer, by_modules(layer)):
        with FlopCounterMode(display=False) as forward:
            y = each(x)
        with FlopCounterMode(display=False) as backward:
            y.sum().backward()
        counts.append((forward.get_total_flops(), backward.get_total_flops()))
    check(counts[0] == counts[1], f"{counts[0]} and {counts[1]}")


def operator_is_well_formed() -> None:
    layer, x = layer_of(4), input_of(1, 4, 3, 4, memory_format=CHANNELS_LAST)
    weight, bias, scale = spatial_parameters(layer.spatial_branch)
    args = (x, weight, bias, *channel_parameters(layer.channel_branch), scale, 3, 1, 1)
    torch.library.opcheck(
        torch.ops.ddfnet.ddf_filters.default,
        args,
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )
    grad = torch.randn(2, 4, 9)
    args = (grad, torch.randn(2, 4, 9), torch.rand(2, 4), torch.randn(36), 1.0)
    torch.library.opcheck(
        torch.ops.ddfnet.filter_norm_backward.default, args, test_utils=("test_schema", "test_faketensor")
    )


def checks(which: str) -> Iterator[tuple[str, Callable[[], None]]]:
    if which == "few":
        yield "both branches", partial(within_bounds, (2, 5, 5, 4), CHANNELS_LAST)
        yield "stride, heads", partial(within_bounds, (1, 6, 5, 4), PLANE, stride=2, heads=3)
        yield "spatial branch", partial(within_bounds, (1, 3, 3, 6), branches="spatial", gap=True)
        yield "channel branch", partial(within_bounds, (3, 4, 2, 9), branches="channel", gap=True)
        yield "empty_batch", empty_batch
        yield "operator_is_well_formed", operator_is_well_formed
        return
    for memory_format in (PLANE, CHANNELS_LAST):
        name = str(memory_format).removeprefix("torch.")
        yield f"both branches, {name}", partial(within_bounds, (2, 5, 5, 4), memory_format)
        yield f"stride, heads, {name}", partial(within_bounds, (1, 6, 5, 4), memory_format, stride=2, heads=3)
    yield "spatial branch", partial(within_bounds, (1, 3, 3, 6), branches="spatial", gap=True)
    yield "channel branch", partial(within_bounds, (3, 4, 2, 9), branches="channel", gap=True)
    yield "5x5", partial(within_bounds, (2, 4, 3, 2), kernel_size=5)
    yield "many channels", partial(within_bounds, (1, 67, 2, 2))
    for function in (
        empty_batch,
        half_under_autocast,
        layer_is_prediction_and_ddf,
        hooks_are_served,
        second_derivatives,
        transforms_take_the_reference,
        compiles_to_one_graph,
        flops_are_those_of_the_modules,
        operator_is_well_formed,
    ):
        yield function.__name__, function
    if which == "slow":
        for memory_format in (PLANE, CHANNELS_LAST):
            yield f"tiles, {memory_format}", partial(within_bounds, (17, 35, 9, 11), memory_format, stride=2, heads=5)
            yield f"7x7, {memory_format}", partial(within_bounds, (2, 6, 13, 17), memory_format, kernel_size=7, heads=2)


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # fills uninitialised memory with NaN
    found = {}
    for name, run in checks(sys.argv[1]):
        try:
            run()
            found[name] = None
        except Exception:
            found[name] = traceback.format_exc()
        print(name, found[name], file=sys.stderr, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
