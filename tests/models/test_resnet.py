"""The networks: registered with timm, differing in the 3x3 layer alone."""

import pytest
import timm
import torch
from torch import nn

import ddfnet.models
from ddfnet import DDF
from ddfnet.models import complexity
from ddfnet.models.resnet import spatial_layer

MINIS = ("ddf_resnet_mini", "resnet_mini", "dwresnet_mini")


@pytest.mark.parametrize("name", MINIS)
def test_forward_and_backward(name: str) -> None:
    model = timm.create_model(name, in_chans=1, num_classes=7)
    y = model(torch.randn(2, 1, 28, 28))
    assert y.shape == (2, 7)
    y.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_twins_differ_in_the_3x3_layer_alone() -> None:
    shapes = []
    for name in MINIS:
        state = timm.create_model(name).state_dict()
        shapes.append({key: tuple(value.shape) for key, value in state.items() if ".conv2." not in key})
    assert shapes[0] == shapes[1] == shapes[2]


def test_every_bottleneck_has_a_ddf_layer() -> None:
    model = timm.create_model("ddf_resnet_mini")
    layers = [module for module in model.modules() if isinstance(module, DDF)]
    assert [layer.channels for layer in layers] == [16, 16, 32, 32, 64, 64]
    assert [layer.stride for layer in layers] == [1, 1, 2, 1, 2, 1]


def test_options_of_the_layer() -> None:
    model = timm.create_model("ddf_resnet_mini", block_args={"layer_args": {"branches": "spatial", "heads": 2}})
    assert all(m.channel_branch is None and m.heads == 2 for m in model.modules() if isinstance(m, DDF))


def test_features_only() -> None:
    model = timm.create_model("ddf_resnet_mini", features_only=True)
    assert model.feature_info.reduction() == [2, 2, 4, 8]
    features = model(torch.randn(1, 3, 33, 40))
    assert [tuple(f.shape[2:]) for f in features] == [(17, 20), (17, 20), (9, 10), (5, 5)]


def test_spatial_layer_refuses_what_it_cannot_replace() -> None:
    with pytest.raises(ValueError, match="expected as many channels out as in"):
        spatial_layer(nn.Conv2d(4, 8, 3), "ddf")
    with pytest.raises(ValueError, match="layer: expected 'conv', 'depthwise' or 'ddf', got 'x'"):
        spatial_layer(nn.Conv2d(4, 4, 3), "x")  # type: ignore[arg-type]


def test_complexity_of_a_ddf_layer_by_hand() -> None:
    """n = 8*8 pixels, c = 20, K = 9, squeezed to 4: generation, then 3nck^2 FLOPs or nck^2 multiply-adds."""
    layer = DDF(20)
    cost = complexity(layer, (2, 20, 8, 8))
    generation = 2 * 64 * 20 * 9 + 2 * (20 * 4 + 4 * 180)
    assert cost.multiply_adds == generation + 2 * 64 * 20 * 9
    assert cost.flops == 2 * generation + 3 * 2 * 64 * 20 * 9
    assert cost.parameters == (20 * 9 + 9) + (20 * 4 + 4) + (4 * 180 + 180) + 180
    assert next(layer.parameters()).device.type == "cpu"


def test_importing_models_registers_them() -> None:
    assert set(MINIS) <= set(timm.list_models(module="resnet"))
    assert ddfnet.models.complexity is complexity
