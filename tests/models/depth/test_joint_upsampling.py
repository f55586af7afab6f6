"""The networks that upsample depth: structure, sizes, and weights that come back as they were saved."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ddfnet.data.depth.protocols import low_resolution
from ddfnet.models import DDFUpNet, PacJointUpsample, complexity
from ddfnet.models.depth.joint_upsampling import JointUpsampler, load, save

FACTORS = (4, 8, 16)
# Plain PyTorch: the kernels are the layer's affair, and numba's take their time to compile.
NETWORKS = [partial(DDFUpNet, backend="torch"), PacJointUpsample]
both = pytest.mark.parametrize("network", NETWORKS, ids=["DDFUpNet", "PacJointUpsample"])


def inputs(factor: int, height: int, width: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    return torch.rand(batch, 1, -(-height // factor), -(-width // factor)), torch.rand(batch, 3, height, width)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters() -> None:
    assert [parameters(PacJointUpsample(f)) for f in FACTORS] == [183_489, 221_937, 260_385]  # as published
    assert [parameters(DDFUpNet(f)) for f in FACTORS] == [151_359, 173_742, 196_125]


@both
@pytest.mark.parametrize(("factor", "size"), [(2, (5, 4)), (4, (16, 24)), (8, (23, 41)), (16, (1, 17))])
def test_any_size(network: Callable[..., JointUpsampler], factor: int, size: tuple[int, int]) -> None:
    """Also one that is no multiple of the factor: as the image extended by its last row and column, cropped."""
    module = network(factor)
    depth, rgb = inputs(factor, *size, batch=2)
    y = module(depth, rgb)
    assert y.shape == (2, 1, *size)
    rows, columns = (
        torch.arange(factor * low).clamp(max=high - 1) for low, high in zip(depth.shape[2:], size, strict=True)
    )
    whole = module(depth, rgb[:, :, rows][..., columns])
    assert whole.shape[2:] == tuple(factor * length for length in depth.shape[2:])
    torch.testing.assert_close(y, whole[..., : size[0], : size[1]])


@both
def test_what_each_output_pixel_comes_from(network: Callable[..., JointUpsampler]) -> None:
    """Every stage is guided by its own channels of the guidance encoder, and all parameters are used."""
    torch.manual_seed(0)
    module = network(8)
    seen: list[tuple[Tensor, Tensor]] = []
    for stage in module.stages:
        stage.register_forward_hook(lambda _, given, output: seen.append(given))
    depth, rgb = inputs(8, 32, 48)
    module(depth, rgb).sum().backward()
    features = module.guidance_encoder(rgb)
    for i, (x, guide) in enumerate(seen):
        assert x.shape == (1, 32, 4 * 2**i, 6 * 2**i)
        assert guide.shape == (1, 16, 8 * 2**i, 12 * 2**i)
        own = features[:, 16 * i : 16 * (i + 1)]
        if i == 2:
            assert torch.equal(guide, own)  # at the full resolution
        if i == 1:
            torch.testing.assert_close(guide, F.avg_pool2d(own, 2), rtol=0, atol=0.5)  # the same content
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())


def test_pac_net_with_an_even_guide_is_a_plain_network() -> None:
    """Each transposed pixel-adaptive convolution is then a transposed convolution."""
    network = PacJointUpsample(4).double()
    last = network.guidance_encoder[-1]
    nn.init.zeros_(last.weight)
    depth, rgb = (tensor.double() for tensor in inputs(4, 20, 28, batch=2))
    x = network.depth_encoder(depth)
    for stage in network.stages:
        x = F.conv_transpose2d(x, stage.weight.flip(2, 3), stage.bias, stride=2, padding=2, output_padding=1).relu()
    torch.testing.assert_close(network(depth, rgb), network.decoder(x))


@both
def test_a_residual_network_adds_bilinear_upsampling(network: Callable[..., JointUpsampler]) -> None:
    plain, residual = network(4), network(4, residual=True, samples="middle")
    residual.load_state_dict(plain.state_dict())
    depth, rgb = inputs(4, 20, 28)
    bilinear = F.interpolate(depth, size=(20, 28), mode="bilinear")
    torch.testing.assert_close(residual(depth, rgb), plain(depth, rgb) + bilinear)


@both
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_residual_network_knows_where_the_samples_lie(network: Callable[..., JointUpsampler], factor: int) -> None:
    """Of a plane that a protocol has sampled it gives back the plane, between the outermost samples."""
    height, width = 9 * factor, 10 * factor
    plane = torch.arange(height)[:, None] * 0.01 + torch.arange(width) * 0.02
    for samples, protocol in (("pac", "pac"), ("middle", "bicubic")):
        upsampler = network(factor, residual=True, samples=samples)
        for parameter in upsampler.decoder[-1].parameters():
            nn.init.zeros_(parameter)
        low = low_resolution(plane, factor, protocol)[None, None]
        y = upsampler(low, torch.rand(1, 3, height, width))[0, 0]
        inner = (slice(4 * factor, -4 * factor),) * 2
        torch.testing.assert_close(y[inner], plane[inner], rtol=0, atol=1e-5)


def test_samples_are_pac_or_middle() -> None:
    with pytest.raises(ValueError, match="samples: expected 'pac' or 'middle', got 'bicubic'"):
        DDFUpNet(4, samples="bicubic")  # type: ignore[arg-type]


def test_multiply_adds() -> None:
    """By hand, of every convolution, linear layer and DDF tap, at 480x640 and 8x."""
    pixels, low = 480 * 640, 60 * 80
    encoders = low * 25 * (1 * 32 + 32 * 32 * 2) + pixels * 25 * (3 * 32 + 32 * 32 + 32 * 48)
    decoder = pixels * 25 * (32 * 32 + 32)
    spatial = (16 * 9 + 32 * 9) * (pixels + pixels // 4 + pixels // 16)  # the filters, and their application
    channel = 3 * (32 * 6 + 6 * 4 * 32 * 9)
    counted = complexity(DDFUpNet(8), (1, 1, 60, 80), (1, 3, 480, 640))
    assert counted.multiply_adds == encoders + decoder + spatial + channel
    # A transposed convolution: 25 taps a pixel of its input.
    transposed = 25 * 32 * 32 * (low + 4 * low + 16 * low)
    assert (
        complexity(PacJointUpsample(8), (1, 1, 60, 80), (1, 3, 480, 640)).multiply_adds
        == encoders + decoder + transposed
    )


@pytest.mark.parametrize("options", [{}, {"residual": True, "heads": 2, "combine": "add"}])
def test_saved_weights_come_back(options: dict[str, Any], tmp_path: Path) -> None:
    network, path = DDFUpNet(4, **options, backend="torch"), tmp_path / "weights.safetensors"
    save(network, path, command="ddfnet train", scores={"rmse": 1.5})
    assert list(tmp_path.iterdir()) == [path]
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["options"]) == {"scale_factor": 4, **network.options} == network.options
    assert (metadata["command"], json.loads(metadata["scores"])) == ("ddfnet train", {"rmse": 1.5})
    loaded = load(path)
    assert not loaded.training
    for stage in loaded.stages:
        stage.backend = "torch"
    depth, rgb = inputs(4, 13, 14)
    torch.testing.assert_close(loaded(depth, rgb), network(depth, rgb))
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_files_that_are_not_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError, match="no such file"):
        load(path)
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"damaged, or not a \.safetensors file"):
        load(path)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="expected metadata with the network's options"):
        load(path)
    for text in ("{", '{"depth": 3}', "[4]", '{"scale_factor": 3}'):
        save_file({"a": torch.ones(1)}, path, {"options": text})
        with pytest.raises(ValueError, match="expected the options of a DDFUpNet"):
            load(path)
    save_file({"a": torch.ones(1)}, path, {"options": '{"scale_factor": 4}'})
    with pytest.raises(ValueError, match="expected the weights of a DDFUpNet"):
        load(path)
    with pytest.raises(ValueError, match=r"path: expected a name that ends in \.safetensors"):
        save(DDFUpNet(4), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="card: expected names other than 'options'"):
        save(DDFUpNet(4), path, options="mine")


@pytest.mark.parametrize(
    ("depth", "rgb", "message"),
    [
        ((1, 3, 2, 2), (1, 3, 16, 16), r"depth: expected \(B, 1, h, w\), got \(1, 3, 2, 2\)"),
        ((1, 1, 2, 2), (2, 3, 16, 16), r"rgb: expected \(1, 3, H, W\), got \(2, 3, 16, 16\)"),
        (
            (1, 1, 2, 2),
            (1, 3, 17, 16),
            r"depth: expected \(1, 1, 3, 2\), an rgb of 17x16 divided by 8 and rounded up, got",
        ),
        ((1, 1, 0, 2), (1, 3, 0, 16), r"rgb: expected at least one pixel"),
    ],
)
def test_shape_errors(depth: tuple[int, ...], rgb: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DDFUpNet(8)(torch.ones(depth), torch.ones(rgb))


@pytest.mark.parametrize("factor", [0, 1, 3, 6, 2.0])
def test_factor_errors(factor: Any) -> None:
    with pytest.raises(ValueError, match="scale_factor: expected a power of two of at least 2, got"):
        PacJointUpsample(factor)


def test_dtype_errors() -> None:
    depth, rgb = inputs(4, 8, 8)
    with pytest.raises(
        TypeError, match=r"rgb: expected torch\.float32, the layer's dtype, or autocast, got torch\.float64"
    ):
        DDFUpNet(4)(depth, rgb.double())
