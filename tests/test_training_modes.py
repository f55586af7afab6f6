"""What training relies on: autocast with a gradient scaler, bit-equal repeats, two processes, files of weights."""

import copy
from pathlib import Path

import pytest
import timm
import torch
import torch.distributed as distributed
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import ddfnet
import ddfnet.models  # registers the networks


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_runs_the_op_in_half_and_the_normalisation_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = ddfnet.DDF(16)
    x = torch.randn(2, 16, 12, 13)
    with torch.autocast("cpu", dtype):
        y = layer(x)
        channel_filter, spatial_filter = layer.filters(x)
    assert y.dtype == dtype
    assert channel_filter is not None
    assert spatial_filter is not None
    # Statistics taken in half would be off by far more than one rounding of the result; raw filters are not rounded either.
    taps = layer.spatial_branch[0](x.to(dtype).float())  # type: ignore[index]
    expected = (taps - taps.mean(1, keepdim=True)) / (taps.std(1, keepdim=True) + 1e-10) * 2**0.5 / 3
    torch.testing.assert_close(spatial_filter[:, 0].float(), expected, rtol=torch.finfo(dtype).eps, atol=1e-6)
    torch.testing.assert_close(y.float(), layer(x), rtol=0.1, atol=0.1)


def test_a_step_with_a_gradient_scaler() -> None:
    torch.manual_seed(0)
    layer = ddfnet.DDF(8)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    before = copy.deepcopy(layer.state_dict())
    with torch.autocast("cpu", torch.float16):
        loss = layer(torch.randn(2, 8, 9, 9)).float().square().mean()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**8  # no overflow was found
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in layer.parameters())
    assert any(not torch.equal(value, before[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize(
    "memory_format",
    [torch.contiguous_format, pytest.param(torch.channels_last, marks=pytest.mark.release)],
    ids=["nchw", "nhwc"],
)
def test_two_runs_are_bit_equal(memory_format: torch.memory_format) -> None:
    model = timm.create_model("ddf_resnet_mini", in_chans=1).to(memory_format=memory_format)
    x = torch.randn(16, 1, 28, 28).contiguous(memory_format=memory_format)

    def run() -> list[Tensor]:
        twin = copy.deepcopy(model)
        y = twin(x)
        y.square().sum().backward()
        return [y, *(p.grad for p in twin.parameters() if p.grad is not None)]

    threads = torch.get_num_threads()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)
    try:
        for a, b in zip(run(), run(), strict=True):
            assert torch.equal(a, b)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)


def _network() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("ddf_resnet_mini", in_chans=1).eval()  # batch norm by its running statistics


def _data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 1, 28, 28, generator=generator), torch.arange(8)


def _gradients(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    F.cross_entropy(model(images), labels).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    images, labels = (part.chunk(2)[rank] for part in _data())
    replicated = nn.parallel.DistributedDataParallel(_network())
    gradients = _gradients(replicated, images, labels)
    torch.save({name.removeprefix("module."): grad for name, grad in gradients.items()}, f"{folder}/ddp-{rank}.pt")

    sharded, mesh = _network(), init_device_mesh("cpu", (2,))
    for module in list(sharded.modules()):
        if isinstance(module, ddfnet.DDF):
            fully_shard(module, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    gradients = _gradients(sharded, images, labels)
    assert all(isinstance(p, DTensor) for p in sharded.parameters())
    assert sum(p.to_local().numel() for p in sharded.parameters()) < 0.6 * sum(p.numel() for p in sharded.parameters())
    torch.save({name: grad.full_tensor() for name, grad in gradients.items()}, f"{folder}/fsdp-{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_have_the_gradients_of_the_joined_batch(tmp_path: Path) -> None:
    """With DDP, and with FSDP2 around every DDF layer and the network."""
    torch.multiprocessing.spawn(_rank, args=(str(tmp_path),), nprocs=2)
    expected = _gradients(_network(), *_data())
    for way in ("ddp", "fsdp"):
        first, second = (torch.load(tmp_path / f"{way}-{rank}.pt", weights_only=True) for rank in (0, 1))
        assert set(first) == set(second) == set(expected)
        for name, gradient in expected.items():
            assert torch.equal(first[name], second[name])
            torch.testing.assert_close(first[name], gradient, rtol=1e-4, atol=1e-6)


def test_sync_batch_norm_takes_the_place_of_every_batch_norm() -> None:
    model = timm.create_model("ddf_resnet_mini", block_args={"layer_args": {"norm": "batch"}})
    count = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in converted.modules()) == count
    assert not any(isinstance(module, nn.BatchNorm2d) for module in converted.modules())
    assert sum(isinstance(module, ddfnet.DDF) for module in converted.modules()) == 6


def test_safetensors_round_trip(tmp_path: Path) -> None:
    a, b = ddfnet.DDF(6, heads=2, bias=True, affine="paper"), ddfnet.DDF(6, heads=2, bias=True, affine="paper")
    save_file(a.state_dict(), tmp_path / "layer.safetensors")
    b.load_state_dict(load_file(tmp_path / "layer.safetensors"))
    x = torch.randn(1, 6, 7, 8)
    assert torch.equal(a(x), b(x))
