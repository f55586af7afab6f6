"""`fasterrcnn_resnet50_fpn_ddf_up`: torchvision's detector, bit for bit where nothing is new, on any body."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from tests.test_floors import graph, modules
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

import ddfnet.models
from ddfnet import DDFUp
from ddfnet.models import fasterrcnn_resnet50_fpn_ddf_up
from ddfnet.models.detection.backbone import TimmBackbone
from ddfnet.models.detection.faster_rcnn import _exchange_norms

SMALL = {"min_size": 64, "max_size": 96, "num_classes": 5}
PLAIN_DDF = partial(DDFUp, backend="torch")


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    torch.manual_seed(0)
    model = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, **SMALL)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics that leave the maps of a drawn network finite and varied
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, *size, generator=generator) for size in ((60, 90), (70, 64))]


TARGETS = [
    {"boxes": torch.tensor([[5.0, 5, 40, 50]]), "labels": torch.tensor([1])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
]


def test_nearest_is_torchvisions_bit_for_bit(theirs: nn.Module) -> None:
    ours = fasterrcnn_resnet50_fpn_ddf_up(upsample="nearest", **SMALL).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        for expected, got in zip(theirs(images()), ours(images()), strict=True):
            assert len(expected["boxes"]) > 0
            assert all(torch.equal(got[name], expected[name]) for name in expected)


@pytest.mark.release
def test_only_upsamplers_are_new(theirs: nn.Module) -> None:
    ours = fasterrcnn_resnet50_fpn_ddf_up(upsample=PLAIN_DDF, **SMALL)
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert unexpected == []
    assert missing
    assert all(name.startswith("backbone.fpn.upsamplers.") for name in missing)
    losses = ours.train()([*images(), torch.rand(3, 20, 20)], [*TARGETS, TARGETS[0]])
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in ours.backbone.fpn.upsamplers.parameters())


def test_a_level_of_one_pixel() -> None:
    model = fasterrcnn_resnet50_fpn_ddf_up(upsample=PLAIN_DDF, num_classes=3, min_size=32, max_size=32).eval()
    sizes = {}
    model.backbone.register_forward_hook(lambda *args: sizes.update({n: x.shape[2:] for n, x in args[2].items()}))
    with torch.no_grad():
        (found,) = model([torch.rand(3, 32, 32)])
    assert sizes["3"] == sizes["pool"] == (1, 1)
    assert torch.isfinite(found["boxes"]).all()


class _Weights:
    """torchvision's released weights without the download: its loader gives them as a drawn network's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        enum = torchvision.models.detection.FasterRCNN_ResNet50_FPN_Weights
        options = {"weights": None, "weights_backbone": None, "num_classes": 91}
        model = torchvision.models.detection.fasterrcnn_resnet50_fpn(**options)
        _exchange_norms(model.backbone.body, FrozenBatchNorm2d)  # the released model's
        self.state = model.state_dict()
        monkeypatch.setattr(enum, "get_state_dict", lambda *args, **kwargs: self.state)


def test_released_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    released = _Weights(monkeypatch).state
    model = fasterrcnn_resnet50_fpn_ddf_up(weights="DEFAULT", upsample=PLAIN_DDF, num_classes=7)
    state = model.state_dict()
    new = set(state) - set(released)
    assert all(name.startswith("backbone.fpn.upsamplers.") for name in new)
    kept = [name for name in released if "box_predictor" not in name]
    assert len(released) - len(kept) == 4
    assert all(torch.equal(state[name], released[name]) for name in kept)
    assert state["roi_heads.box_predictor.cls_score.weight"].shape[0] == 7
    trained = {name.split(".")[2] for name, p in model.named_parameters() if p.requires_grad and ".body." in name}
    assert trained == {"layer2", "layer3", "layer4"}
    assert all(p.requires_grad for p in model.backbone.fpn.parameters())


def test_norms_frozen_and_not() -> None:
    model = fasterrcnn_resnet50_fpn_ddf_up(upsample="nearest", freeze_norms=True, **SMALL)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.backbone.modules())
    assert sum(isinstance(module, FrozenBatchNorm2d) for module in model.backbone.modules()) == 53
    body = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(3, eps=0.1))).double().eval()
    for norm in body[0], body[1][0]:
        for tensor in norm.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 2)
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    expected = body(x)
    for kind in (FrozenBatchNorm2d, nn.BatchNorm2d):
        _exchange_norms(body, kind)
        body.double()
        assert isinstance(body[1][0], kind)
        torch.testing.assert_close(body(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "strides", "expected"),
    [
        ("resnet18", None, [4, 8, 16, 32]),
        ("ddf_resnet_mini", (2, 4, 8), [2, 4, 8]),
        ("mobilenetv3_small_050", (8, 16), [8, 16]),
    ],
)
def test_any_timm_network(name: str, strides: Any, expected: list[int]) -> None:
    model = fasterrcnn_resnet50_fpn_ddf_up(backbone=name, upsample="bilinear", strides=strides, **SMALL).eval()
    body = model.backbone.body
    assert body.strides == expected
    maps = body(torch.rand(1, 3, 64, 96))
    assert [tuple(x.shape) for x in maps.values()] == [
        (1, channels, 64 // stride, 96 // stride) for channels, stride in zip(body.channels, expected, strict=True)
    ]
    assert model.rpn.anchor_generator.sizes == tuple((8 * stride,) for stride in [*expected, 2 * expected[-1]])
    with torch.no_grad():
        found = model(images())
    assert all(torch.isfinite(f["boxes"]).all() for f in found)
    if name == "ddf_resnet_mini":
        sum(model.train()(images(), TARGETS).values()).backward()


@pytest.mark.parametrize(
    ("name", "stages"),  # and the modules of each, where timm takes the network apart
    [
        ("resnet18", [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"]]),
        ("mobilenetv3_small_050", [["conv_stem", "bn1"], ["blocks.0"], ["blocks.1"], ["blocks.2", "blocks.3"],
                                   ["blocks.4", "blocks.5"]]),
        ("convnext_atto", [["stem_0", "stem_1", "stages_0"], ["stages_1"], ["stages_2"], ["stages_3"]]),
    ],
)  # fmt: skip
def test_stages_are_frozen_from_the_image_upward(name: str, stages: list[list[str]]) -> None:
    def trained(layers: int | None) -> list[str]:
        body = TimmBackbone(name, trainable_layers=layers).body
        names = [name.split(".") for name, p in body.named_parameters() if p.requires_grad]
        return list(dict.fromkeys(".".join(parts[: 2 if parts[0] == "blocks" else 1]) for parts in names))

    for layers in range(len(stages) + 1):
        assert trained(layers) == [name for stage in stages[len(stages) - layers :] for name in stage]
    assert trained(None) == trained(len(stages))
    with pytest.raises(ValueError, match=f"trainable_backbone_layers: expected 0 to {len(stages)}, .* got 9"):
        trained(9)


def test_a_file_of_weights_for_the_body(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model("ddf_resnet_mini")
    torch.save(network.state_dict(), tmp_path / "mini.pt")
    body = TimmBackbone("ddf_resnet_mini", weights=tmp_path / "mini.pt")
    state = network.state_dict()
    assert torch.equal(body.body["layer1"][0].conv1.weight, state["layer1.0.conv1.weight"])
    assert not any(isinstance(module, nn.BatchNorm2d) for module in body.modules())
    assert not any(p.requires_grad for p in body.body["layer1"].parameters())
    assert any(p.requires_grad for p in body.body["layer2"].parameters())
    with pytest.raises(FileNotFoundError, match="weights_backbone: expected None, 'DEFAULT' or a file of weights, got"):
        TimmBackbone("ddf_resnet_mini", weights=tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "num_classes: expected 2 or more, with the background, got 1"),
        ({"backbone": "resnet5"}, "backbone: expected 'resnet50' or the name of a timm network, got 'resnet5'"),
        ({"backbone": "resnet18", "weights": "DEFAULT"}, "weights: expected None with backbone='resnet18'"),
        ({"backbone": "resnet18", "strides": (4, 7)}, r"strides: expected some of \[2, 4, 8, 16, 32\], .* got 7"),
        ({"backbone": "vit_tiny_patch16_224"}, "backbone: expected a network with maps of two strides or more"),
        ({"strides": (4, 8)}, r"strides: expected None with backbone='resnet50', got \(4, 8\)"),
        ({"upsample": "cubic"}, "upsample: expected 'ddf', .* got 'cubic'"),
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fasterrcnn_resnet50_fpn_ddf_up(**options)


def test_names_are_loaded_at_first_use() -> None:
    at_once = graph(modules())["models"]
    assert not {"models.detection.fpn", "models.detection.faster_rcnn"} & at_once
    assert set(ddfnet.models.__all__) <= set(dir(ddfnet.models))
    with pytest.raises(AttributeError, match=r"module 'ddfnet\.models' has no attribute 'nothing'"):
        ddfnet.models.nothing  # noqa: B018


def test_narrow_detectors_on_timm_bodies() -> None:
    model = fasterrcnn_resnet50_fpn_ddf_up(backbone="test_byobnet", out_channels=16, head_channels=24, **SMALL)
    assert model.backbone.out_channels == 16
    assert (model.roi_heads.box_head.fc6.in_features, model.roi_heads.box_head.fc7.out_features) == (16 * 49, 24)
    assert model.roi_heads.box_predictor.cls_score.out_features == 5
    target = {"boxes": torch.tensor([[4.0, 4.0, 30.0, 40.0]]), "labels": torch.tensor([1])}
    losses = model([torch.rand(3, 64, 64)], [target])
    sum(losses.values()).backward()
    with pytest.raises(ValueError, match="out_channels: expected 256 with backbone='resnet50', got 16"):
        fasterrcnn_resnet50_fpn_ddf_up(out_channels=16)


def test_arguments_that_torchvision_would_pass_over_are_refused() -> None:
    with pytest.raises(TypeError, match="min_sise: expected an argument of torchvision's FasterRCNN"):
        fasterrcnn_resnet50_fpn_ddf_up(backbone="test_byobnet", min_sise=64)
