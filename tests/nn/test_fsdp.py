"""FSDP2 by convolution: a sharded weight is whole only while its module runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

import ddfnet


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from torch.distributed.device_mesh import init_device_mesh

    store: Path = tmp_path_factory.mktemp("store") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.parametrize("whole", [False, True], ids=["convolutions", "and the layer"])
@pytest.mark.parametrize("kind", ["DDF", "DDFUp", "guided"])
def test_each_convolution_sharded(kind: str, whole: bool, mesh: Any) -> None:
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    def make() -> nn.Module:
        torch.manual_seed(0)
        if kind == "DDF":
            return ddfnet.DDF(8, backend="torch")
        return ddfnet.DDFUp(8, guide_channels=8 if kind == "guided" else None, backend="torch")

    layer, twin = make(), make()
    for module in layer.modules():
        if isinstance(module, nn.Conv2d):
            fully_shard(module, mesh=mesh)
    if whole:
        fully_shard(layer, mesh=mesh)
    x = torch.randn(2, 8, 5, 6)
    given = (x, x) if kind == "guided" else (x,)
    for _ in range(2):
        y, expected = layer(*given), twin(*given)
        torch.testing.assert_close(y, expected)
        y.square().sum().backward()
        expected.square().sum().backward()
    for (name, parameter), other in zip(layer.named_parameters(), twin.parameters(), strict=True):
        grad = parameter.grad
        assert isinstance(grad, DTensor) or not name.endswith("weight")
        grad = grad.full_tensor() if isinstance(grad, DTensor) else grad
        torch.testing.assert_close(grad, other.grad, msg=lambda text, name=name: f"{name}: {text}")
