"""CUDA graphs: a captured forward and backward pass, replayed on new data, equals an eager one."""

import pytest
import torch
from torch import Tensor, nn

import ddfnet

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm device"),
]
OPTIONS = [{}, {"stride": 2, "heads": 2, "kernel_size": 5, "combine": "add", "bias": True}]


def step(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, the gradient of x and those of the parameters."""
    y = layer(x)
    leaves = [x, *layer.parameters()]
    return [y.detach(), *torch.autograd.grad(y.square().sum(), leaves)]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("options", OPTIONS, ids=["default", "options"])
def test_capture_and_replay(options: dict, memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    layer = ddfnet.DDF(8, device="cuda", **options)
    x = torch.randn(2, 8, 11, 14, device="cuda").to(memory_format=memory_format).requires_grad_()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # kernels compile and libraries allocate before the capture
            step(layer, x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(layer, x)
    for seed in (1, 2):
        torch.manual_seed(seed)
        with torch.no_grad():
            x.copy_(torch.randn_like(x))
        graph.replay()
        for a, b in zip(captured, step(layer, x), strict=True):
            torch.testing.assert_close(a, b)


def test_graphed_callable_trains() -> None:
    torch.manual_seed(0)
    layer = ddfnet.DDF(8, device="cuda")
    sample = torch.randn(2, 8, 9, 10, device="cuda", requires_grad=True)
    before = step(layer, sample)
    graphed = torch.cuda.make_graphed_callables(layer, (sample.detach().requires_grad_(),))
    for a, b in zip(step(graphed, sample), before, strict=True):
        torch.testing.assert_close(a, b)
