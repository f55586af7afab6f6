"""Pixel-adaptive convolution against its definition, one term at a time in float64, within a derived bound."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddfnet.bench.memory import peak_bytes
from ddfnet.ops.pac import plain as pac
from ddfnet.ops.pac.api import pac_conv2d, pac_conv_transpose2d


@dataclass(frozen=True)
class Case:
    batch: int
    channels: int
    height: int
    width: int
    out_channels: int = 3
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    transposed: bool = False
    crop: int = 0  # of a transposed one's output, at the bottom and the right

    def __str__(self) -> str:
        kind = "transposed" if self.transposed else "conv"
        size = f"{self.batch}x{self.channels}x{self.height}x{self.width}"
        return f"{kind}-{size}-k{self.kernel_size}-s{self.stride}-d{self.dilation}" + (
            f"-c{self.crop}" * bool(self.crop)
        )

    @property
    def guide_size(self) -> tuple[int, int]:
        r = self.stride if self.transposed else 1
        return self.height * r - self.crop, self.width * r - self.crop

    def inputs(self, dtype: torch.dtype = torch.float64, requires_grad: bool = False) -> tuple[Tensor, ...]:
        """x, guide, weight, bias."""
        generator = torch.Generator().manual_seed(0)
        channels = (self.channels, self.out_channels) if self.transposed else (self.out_channels, self.channels)
        shapes = (
            (self.batch, self.channels, self.height, self.width),
            (self.batch, 2, *self.guide_size),
            (*channels, self.kernel_size, self.kernel_size),
            (self.out_channels,),
        )
        drawn = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
        return tuple(tensor.to(dtype).requires_grad_(requires_grad) for tensor in drawn)

    def call(self, *inputs: Tensor) -> Tensor:
        convolve = pac_conv_transpose2d if self.transposed else pac_conv2d
        return convolve(*inputs, stride=self.stride, dilation=self.dilation)


CASES = (
    Case(2, 3, 5, 6),
    Case(1, 2, 7, 5, kernel_size=5),
    Case(1, 2, 6, 7, stride=2),
    Case(1, 2, 7, 6, kernel_size=5, stride=3, dilation=2),
    Case(1, 2, 2, 3, kernel_size=5, dilation=2),  # larger than the map
    Case(2, 3, 1, 1),
    Case(1, 2, 3, 4, kernel_size=1, stride=2),
    Case(2, 3, 3, 4, kernel_size=5, stride=2, transposed=True),
    Case(1, 2, 3, 4, kernel_size=5, stride=2, transposed=True, crop=1),
    Case(1, 2, 3, 2, kernel_size=3, stride=3, dilation=2, transposed=True, crop=2),
    Case(1, 2, 3, 4, stride=1, dilation=2, transposed=True),
    Case(1, 2, 2, 3, kernel_size=1, stride=2, transposed=True),  # output pixels that no tap reaches
)


def oracle(case: Case, x: Any, guide: Any, weight: Any, bias: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y; for its bound, the sum of |terms| and that of |terms| times the exponents of their Gaussians."""
    k, s, d = case.kernel_size, case.stride, case.dilation
    rows, columns = case.guide_size if case.transposed else (-(-case.height // s), -(-case.width // s))
    y, magnitude, exponents = (np.zeros((case.batch, case.out_channels, rows, columns)) for _ in range(3))
    for b, o, p, q in np.ndindex(*y.shape):
        here = (p, q) if case.transposed else (p * s, q * s)  # in the guide
        y[b, o, p, q], magnitude[b, o, p, q] = bias[o], abs(bias[o])
        for u, v in np.ndindex(k, k):
            i, j = here[0] + (u - k // 2) * d, here[1] + (v - k // 2) * d
            there = (i, j)
            if case.transposed:
                if i % s or j % s:
                    continue
                i, j = i // s, j // s
            if not (0 <= i < case.height and 0 <= j < case.width):
                continue
            exponent = sum((guide[b, :, *there] - guide[b, :, *here]) ** 2) / 2
            for c in range(case.channels):
                w = weight[c, o, u, v] if case.transposed else weight[o, c, u, v]
                term = w * x[b, c, i, j] * np.exp(-exponent)
                y[b, o, p, q] += term
                magnitude[b, o, p, q] += abs(term)
                exponents[b, o, p, q] += abs(term) * exponent
    return y, magnitude, exponents


@pytest.mark.parametrize("workspace", [1, 2**19], ids=["banded", "whole"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_its_definition(case: Case, workspace: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """n terms of a product, its Gaussian exp(-e): exp and the product take 3 roundings, the sum and the bias n, and e, a sum
    of D squares of differences, is off by at most D + 2 roundings, which exp multiplies by e. Twice that for the oracle.
    """
    monkeypatch.setitem(pac.WORKSPACE, "cpu", workspace)
    for dtype in (torch.float32, torch.float64):
        inputs = case.inputs(dtype)
        y, magnitude, exponents = oracle(case, *(tensor.double().numpy() for tensor in inputs))
        terms, unit = case.channels * case.kernel_size**2, torch.finfo(dtype).eps / 2
        bound = 2 * unit * ((terms + 4) * magnitude + (inputs[1].shape[1] + 3) * exponents)
        last = inputs[0].contiguous(memory_format=torch.channels_last)
        for x in (inputs[0], last, torch.cat([inputs[0]] * 2, 3)[..., : case.width]):
            got = case.call(x, *inputs[1:])
            assert got.dtype == dtype
            assert np.all(np.abs(got.double().numpy() - y) <= bound)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_with_an_even_guide_it_is_a_convolution(case: Case) -> None:
    x, guide, weight, bias = case.inputs()
    y = case.call(x, torch.ones_like(guide), weight, bias)
    options: dict[str, Any] = {"stride": case.stride, "dilation": case.dilation}
    options["padding"] = case.kernel_size // 2 * case.dilation
    if case.transposed:
        expected = F.conv_transpose2d(x, weight.flip(2, 3), bias, output_padding=case.stride - 1, **options)
        expected = expected[..., : y.shape[2], : y.shape[3]]
    else:
        expected = F.conv2d(x, weight, bias, **options)
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("case", [CASES[i] for i in (0, 3, 4, 6, 8, 9, 11)], ids=str)
def test_gradients_of_both_orders(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pac.WORKSPACE, "cpu", 40)
    inputs = case.inputs(requires_grad=True)
    assert torch.autograd.gradcheck(case.call, inputs, fast_mode=case.height * case.width > 6)
    assert torch.autograd.gradgradcheck(case.call, inputs, fast_mode=True)


@pytest.mark.parametrize("asked", list(product([False, True], repeat=3))[1:], ids=str)
def test_gradients_not_asked_for_change_nothing(asked: tuple[bool, ...]) -> None:
    case = CASES[7]
    every = case.inputs(requires_grad=True)
    expected = torch.autograd.grad(case.call(*every).square().sum(), every[:3])
    some = [tensor.detach().requires_grad_(needed) for tensor, needed in zip(every, asked, strict=False)]
    case.call(*some, every[3].detach()).square().sum().backward()
    for tensor, needed, grad in zip(some, asked, expected, strict=True):
        assert tensor.grad is None if not needed else torch.equal(tensor.grad, grad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "case",
    [Case(2, 16, 192, 256, 16, 5), Case(2, 16, 96, 128, 16, 5, stride=2, transposed=True)],
    ids=str,
)
def test_memory(case: Case) -> None:
    """Saved: the inputs. At the peak: a few maps and the workspaces, in either direction, and not the unfolded patches."""
    inputs = case.inputs(torch.float32, requires_grad=True)
    saved: list[Tensor] = []

    def save(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        y = case.call(*inputs)
    assert sum(tensor.nbytes for tensor in saved) == sum(tensor.nbytes for tensor in inputs[:3])

    def both() -> Any:
        return torch.autograd.grad(case.call(*inputs).sum(), inputs)

    patches = case.kernel_size**2 * y.nbytes  # as many channels in as out
    workspace = 4 * pac.WORKSPACE["cpu"]
    # x and y, x padded, their gradients; the guide has an eighth of the channels. Columns, product, a tap's differences.
    assert peak_bytes(lambda: case.call(*inputs), "cpu") < 3 * y.nbytes + 2 * workspace < patches / 5
    assert peak_bytes(both, "cpu") < 6 * y.nbytes + 3 * workspace < patches / 2


def test_saved_memory_does_not_grow_with_the_taps() -> None:
    case = Case(1, 16, 96, 160, 16)
    peaks = []
    for k in (3, 7):
        x, guide, weight, _ = Case(1, 16, 96, 160, 16, k).inputs(torch.float32, requires_grad=True)

        def both(x: Tensor = x, guide: Tensor = guide, weight: Tensor = weight) -> Any:
            return torch.autograd.grad(pac_conv2d(x, guide, weight).sum(), (x, guide, weight))

        peaks.append(peak_bytes(both, "cpu"))
    a_map = 4 * case.channels * case.height * case.width
    assert peaks[1] - peaks[0] < 2 * a_map  # the wider margins; the 40 taps more would be 40 maps


def test_half_types_and_autocast() -> None:
    case = CASES[7]
    wide = case.inputs(torch.float32)
    half = [tensor.bfloat16() for tensor in wide]
    expected = case.call(*(tensor.float() for tensor in half))
    y = case.call(*half)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, expected.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(case.call(*wide), y)


@pytest.mark.parametrize("case", [CASES[0], CASES[7]], ids=str)
def test_a_backward_pass_within_autocast_is_the_one_outside(case: Case) -> None:
    """Bit for bit, as are gradients that are to be differentiated, and those of torch.func: nothing is rounded anew."""
    inputs = case.inputs(torch.float32, requires_grad=True)

    def loss(*inputs: Tensor) -> Tensor:
        return case.call(*inputs).float().square().sum()

    for create_graph in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            found, within = loss(*inputs), loss(*inputs)
            grads = torch.autograd.grad(within, inputs, create_graph=create_graph)
        expected = torch.autograd.grad(found, inputs, create_graph=create_graph)
        for grad, other in zip(grads, expected, strict=True):
            assert torch.equal(grad, other)
    half = [tensor.detach().bfloat16() for tensor in inputs]
    y = torch.func.vmap(lambda x: case.call(x, *half[1:]))(half[0][None])[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(torch.func.vmap(lambda x: case.call(x, *inputs[1:]))(inputs[0][None])[0], y)


def test_under_torch_func() -> None:
    case = CASES[8]
    inputs = case.inputs(requires_grad=True)

    def loss(*inputs: Tensor) -> Tensor:
        return case.call(*inputs).square().sum()

    expected = torch.autograd.grad(loss(*inputs), inputs)
    for got, grad in zip(torch.func.grad(loss, (0, 1, 2, 3))(*inputs), expected, strict=True):
        torch.testing.assert_close(got, grad)


def test_an_empty_batch() -> None:
    for case in (Case(0, 2, 3, 4), Case(0, 2, 3, 4, stride=2, transposed=True)):
        inputs = case.inputs(requires_grad=True)
        y = case.call(*inputs)
        assert y.shape == (0, 3, *case.guide_size)
        assert not torch.autograd.grad(y.sum(), inputs)[2].any()


@pytest.mark.parametrize(
    ("function", "shapes", "options", "message"),
    [
        (pac_conv2d, ((1, 2, 4, 5), (1, 1, 4, 5), (3, 2, 2, 2)), {}, r"weight: expected \(O, C, k, k\) with k odd"),
        (
            pac_conv_transpose2d,
            ((1, 2, 4, 5), (1, 1, 4, 5), (3, 3, 3)),
            {},
            r"weight: expected \(C, O, k, k\) with k odd",
        ),
        (pac_conv2d, ((1, 3, 4, 5), (1, 1, 4, 5), (3, 2, 3, 3)), {}, r"x: expected \(B, 2, H, W\), got \(1, 3, 4, 5\)"),
        (
            pac_conv2d,
            ((1, 2, 4, 5), (1, 1, 4, 6), (3, 2, 3, 3)),
            {},
            r"guide: expected \(1, D, 4, 5\), got \(1, 1, 4, 6\)",
        ),
        (
            pac_conv_transpose2d,
            ((1, 2, 4, 5), (1, 1, 6, 10), (2, 3, 3, 3)),
            {"stride": 2},
            r"guide: expected \(1, D, 7 to 8, 9 to 10\), got \(1, 1, 6, 10\)",
        ),
        (pac_conv2d, ((1, 2, 4, 5), (1, 1, 4, 5), (3, 2, 3, 3), (2,)), {}, r"bias: expected \(3,\), got \(2,\)"),
        (pac_conv2d, ((1, 2, 4, 5), (1, 1, 4, 5), (3, 2, 3, 3)), {"stride": 0}, "stride: expected an int >= 1, got 0"),
        (pac_conv2d, ((1, 2, 4, 5), (1, 1, 4, 5), (3, 2, 3, 3)), {"dilation": 1.5}, "dilation: expected an int >= 1"),
    ],
)
def test_errors(function: Callable[..., Tensor], shapes: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(*(torch.ones(shape) for shape in shapes), **options)


def test_dtypes_that_differ() -> None:
    x, guide, weight, _ = Case(1, 2, 4, 5).inputs(torch.float32)
    with pytest.raises(TypeError, match=r"guide: expected the dtype of x, torch\.float32, got torch\.float64"):
        pac_conv2d(x, guide.double(), weight)
