"""The filter prediction on a CUDA or ROCm device, within the error bounds of `bounded.py`."""

import pytest
import torch
from tests.ops.ddf.backends import MEMORY_FORMATS
from tests.ops.filters.bounded import float32_products
from tests.ops.filters.interpret import within_bounds

import ddfnet

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS, ids=["nchw", "nhwc"])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 5, 5, 4), {}),
        ((17, 35, 9, 11), {"stride": 2, "heads": 5}),
        ((2, 6, 13, 17), {"kernel_size": 7, "heads": 2}),
        ((4, 64, 56, 56), {}),
        ((32, 512, 7, 7), {"kernel_size": 5}),
    ],
    ids=str,
)
def test_within_bounds(shape: tuple[int, ...], options: dict[str, int], memory_format: torch.memory_format) -> None:
    with float32_products("ieee"):
        within_bounds(shape, memory_format, device="cuda", **options)


def test_captured_in_a_graph() -> None:
    """Nothing of a layer's forward pass waits for the device, and a replay gives the same bits."""
    layer = ddfnet.DDF(16).cuda()
    x = torch.randn(2, 16, 14, 14, device="cuda")
    with torch.no_grad():
        expected = layer(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = layer(x)
        graph.replay()
    assert torch.equal(y, expected)
