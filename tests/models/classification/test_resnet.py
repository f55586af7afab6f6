"""The networks: registered with timm, differing in the 3x3 layer alone."""

from pathlib import Path

import pytest
import timm
import torch
from timm.models import save_for_hf
from torch import nn

import ddfnet.models
from ddfnet import DDF
from ddfnet.models import complexity
from ddfnet.models.classification.resnet import spatial_layer

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


def test_widths_and_the_stride_of_the_stem() -> None:
    model = timm.create_model("ddf_resnet_mini", channels=[8, 16, 32], stem_stride=1, features_only=True)
    assert [module.channels for module in model.modules() if isinstance(module, DDF)] == [8, 8, 16, 16, 32, 32]
    assert model.feature_info.reduction() == [1, 1, 2, 4]
    assert model.feature_info.channels()[1:] == [32, 64, 128]
    features = model(torch.randn(1, 3, 33, 40))
    assert [tuple(f.shape[2:]) for f in features] == [(33, 40), (33, 40), (17, 20), (9, 10)]
    with pytest.raises(ValueError, match="stem_stride: expected 1 or 2, got 3"):
        timm.create_model("resnet_mini", stem_stride=3)


def test_spatial_layer_refuses_what_it_cannot_replace() -> None:
    with pytest.raises(ValueError, match="expected as many channels out as in"):
        spatial_layer(nn.Conv2d(4, 8, 3), "ddf")
    with pytest.raises(ValueError, match="layer: expected 'conv', 'depthwise', 'ddf' or what makes a layer, got 'x'"):
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


IMAGENET = {  # parameters and multiply-adds at 224 px; the paper's counting, in billions
    "ddf_mul_resnet50": (16_843_748, 2.267, 2.299),
    "ddf_mul_resnet101": (28_146_912, 4.031, 4.08),
    "ddf_mul_resnet152": (37_462_900, None, None),
    "ddf_add_resnet50": (16_843_748, 2.267, 2.299),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if "50" in name else pytest.mark.release) for name in IMAGENET]
)
def test_sizes_of_the_papers_networks(name: str) -> None:
    parameters, multiply_adds, published = IMAGENET[name]
    with torch.device("meta"):
        cost = complexity(timm.create_model(name), (1, 3, 224, 224))
    assert cost.parameters == parameters
    if multiply_adds is not None:
        assert cost.multiply_adds == pytest.approx(multiply_adds * 1e9, rel=1e-3)
        assert cost.published == pytest.approx(published * 1e9, rel=2e-3)


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [
        ("ddf_mul_resnet18", 7.69, 0.36),  # the reconstruction
        ("ddf_mul_wide_resnet50", 33.84, 4.06),  # Table C
        ("ddf_mul_resnet50_sigma03", 18.1, None),  # Table 3c
        ("ddf_mul_resnet50_sigma04", 19.4, None),
    ],
)
def test_sizes_of_the_variants(name: str, parameters: float, multiply_adds: float | None) -> None:
    with torch.device("meta"):
        cost = complexity(timm.create_model(name), (1, 3, 224, 224))
    assert cost.parameters / 1e6 == pytest.approx(parameters, abs=0.05)
    if multiply_adds is not None:
        assert cost.multiply_adds / 1e9 == pytest.approx(multiply_adds, abs=0.006)


def test_every_variant_is_made_and_described() -> None:
    names = timm.list_models("ddf_*resnet*")
    assert len(names) == 19
    for name in names:
        with torch.device("meta"):
            model = timm.create_model(name)
        assert any(isinstance(module, DDF) for module in model.modules())
        assert (timm.model_entrypoint(name).__doc__ or "").strip()


def test_ablations_differ_in_their_layers() -> None:
    def first(name: str) -> DDF:
        with torch.device("meta"):
            model = timm.create_model(name)
        return next(module for module in model.modules() if isinstance(module, DDF))

    assert first("ddf_mul_resnet50_spatial").branches == "spatial"
    assert first("ddf_mul_resnet50_channel").branches == "channel"
    assert first("ddf_mul_resnet50_batchnorm").norm == "batch"
    assert first("ddf_mul_resnet50_sigmoid").norm == "sigmoid"
    assert first("ddf_add_resnet34").combine == "add"


@pytest.mark.parametrize("name", ["ddf_mul_resnet18", "ddf_mul_resnet50"])
def test_timms_options(name: str) -> None:
    model = timm.create_model(name, num_classes=5, drop_path_rate=0.1, drop_rate=0.1)
    model.reset_classifier(3)
    model.set_grad_checkpointing()
    x = torch.randn(2, 3, 64, 64)
    model.train()(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    features = timm.create_model(name, features_only=True, output_stride=8).eval()
    with torch.no_grad():
        maps = features(x)
    assert [f.shape[-1] for f in maps] == [32, 16, 8, 8, 8]
    dilations = {m.dilation for m in features.modules() if isinstance(m, DDF)}
    assert dilations == {1, 2, 4}


def test_hub() -> None:
    root = Path(__file__).parents[3]
    model = torch.hub.load(str(root), "ddf_mul_resnet18", source="local", num_classes=4)
    assert model.fc.out_features == 4


def test_what_is_pushed_to_a_hub_comes_back(tmp_path: Path) -> None:
    """timm pushes the files that `save_for_hf` writes; `local-dir:` reads them as `hf-hub:` does."""
    torch.manual_seed(0)
    model = timm.create_model("ddf_mul_resnet18", num_classes=3)
    save_for_hf(model, str(tmp_path))
    back = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert back.num_classes == 3
    expected = model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in back.state_dict().items())
    assert sum(isinstance(module, DDF) for module in back.modules()) == 16
