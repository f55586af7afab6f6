"""DyNet's networks: a block against its definition, sizes beside those of Table 4 and of the publication."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ddfnet.models  # noqa: F401 - registers the networks
from ddfnet.models import Complexity, complexity
from ddfnet.models.classification.dynet import DyNetBasicBlock, DyNetBottleneck

MEBI = 2**20


def cost(name: str) -> Complexity:
    with torch.device("meta"):
        return complexity(timm.create_model(name), (1, 3, 224, 224))


def test_resnet18() -> None:
    """Multiply-adds, the mixing of kernels included: 67.2% below 1730 x 2^20, the publication's ResNet18."""
    found = cost("dynet_resnet18")
    assert round(found.multiply_adds / 1e9, 1) == 0.6  # Table 4
    assert round(100 * (1 - found.multiply_adds / MEBI / 1730), 1) == 67.2
    assert round(found.parameters / 1e6, 1) == 17.3  # Table 4: 16.6


def test_resnet50() -> None:
    """71.3% below the publication's 3890; Table 4's 1.1B are of 2^30."""
    found = cost("dynet_resnet50")
    assert round(found.multiply_adds / 2**30, 1) == 1.1
    assert round(100 * (1 - found.multiply_adds / MEBI / 3890), 1) == 71.3
    assert round(found.parameters / 1e6, 1) == 43.6


def test_halves_every_stage_but_not_the_stem() -> None:
    with torch.device("meta"):
        model = timm.create_model("dynet_resnet18", features_only=True)
    assert model.feature_info.channels() == [64, 32, 64, 128, 256]


@pytest.mark.parametrize("block", [DyNetBasicBlock, DyNetBottleneck])
def test_a_block_equals_its_definition(block: type[nn.Module]) -> None:
    """Eq. 1, one sample and one output channel after another; strided, with a shortcut."""
    torch.manual_seed(0)
    expansion = block.expansion
    shortcut = nn.Sequential(nn.Conv2d(8, 4 * expansion, 1, stride=2, bias=False), nn.BatchNorm2d(4 * expansion))
    layer = block(8, 4, stride=2, downsample=shortcut, group_size=3).eval().double()
    convolutions = ["conv1", "conv2", "conv3"][: 2 if block is DyNetBasicBlock else 3]
    x = torch.randn(2, 8, 5, 6, dtype=torch.float64)

    def mixed(name: str, y: Tensor, coefficients: Tensor) -> Tensor:
        conv = getattr(layer, name)
        k = conv.kernel_size
        kernels = torch.stack(
            [
                sum(coefficients[g, o] * conv.weight[g, o] for g in range(3)).view(-1, k, k)
                for o in range(conv.out_channels)
            ]
        )
        return F.conv2d(y, kernels, stride=conv.stride, padding=k // 2)

    expected = []
    for sample in x:
        first, second = layer.predictor.layers[0], layer.predictor.layers[2]
        hidden = (first.weight @ sample.mean((1, 2)) + first.bias).clamp(min=0)
        raw = 1 / (1 + (-(second.weight @ hidden) - second.bias).exp())
        y, at = sample[None], 0
        for number, name in enumerate(convolutions, 1):
            size = 3 * getattr(layer, name).out_channels
            y = getattr(layer, f"bn{number}")(mixed(name, y, raw[at : at + size].view(3, -1)))
            y = y if name == convolutions[-1] else y.clamp(min=0)
            at += size
        assert at == len(raw)
        expected.append((y + shortcut(sample[None])).clamp(min=0))
    torch.testing.assert_close(layer(x), torch.cat(expected))


@pytest.mark.parametrize("name", ["dynet_resnet18", "dynet_resnet50"])
def test_forward_and_backward(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, drop_path_rate=0.1, block_args={"group_size": 2})
    y = model(torch.randn(2, 3, 64, 64))
    assert y.shape == (2, 7)
    y.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert (timm.model_entrypoint(name).__doc__ or "").startswith("DyNet's ResNet")
