"""`FeaturePyramidNetwork`: torchvision's outputs and parameter names, any upsampler, levels of any size."""

from functools import partial
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from ddfnet import DDFUp
from ddfnet.models import FeaturePyramidNetwork
from ddfnet.nn.upsamplers.plain import Name

CHANNELS = [3, 5, 7]
PLAIN_DDF = partial(DDFUp, backend="torch")


def levels(height: int, width: int, *, seed: int = 0) -> dict[str, Tensor]:
    """Maps of which each is half as large as the one before, rounded up, as a ResNet's."""
    generator = torch.Generator().manual_seed(seed)
    maps = {}
    for i, channels in enumerate(CHANNELS):
        maps[str(i)] = torch.randn(2, channels, height, width, generator=generator)
        height, width = (height + 1) // 2, (width + 1) // 2
    return maps


@pytest.mark.parametrize("options", [{}, {"extra_blocks": LastLevelMaxPool()}, {"norm_layer": nn.BatchNorm2d}], ids=str)
def test_nearest_is_torchvisions_bit_for_bit(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    theirs = torchvision.ops.FeaturePyramidNetwork(CHANNELS, 4, **options)
    torch.manual_seed(0)
    ours = FeaturePyramidNetwork(CHANNELS, 4, **options, upsample="nearest")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for size in ((16, 24), (13, 9), (4, 4), (1, 1)):
        maps = levels(*size)
        expected, got = theirs(maps), ours(maps)
        assert list(got) == list(expected)
        assert all(torch.equal(got[name], expected[name]) for name in expected)


@pytest.mark.parametrize("upsample", get_args(Name))
def test_only_upsamplers_are_new_and_every_level_size_works(upsample: Any) -> None:
    theirs = torchvision.ops.FeaturePyramidNetwork(CHANNELS, 4)
    ours = FeaturePyramidNetwork(CHANNELS, 4, upsample=PLAIN_DDF if upsample == "ddf" else upsample)
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert unexpected == []
    assert all(name.startswith("upsamplers.") for name in missing)
    assert len(missing) == sum(1 for _ in ours.upsamplers.state_dict())
    for size in ((12, 16), (13, 9), (4, 5), (1, 1)):
        maps = levels(*size)
        got = ours(maps)
        assert [level.shape for level in got.values()] == [(2, 4, *x.shape[2:]) for x in maps.values()]
    sum(level.square().sum() for level in got.values()).backward()
    assert all(p.grad is not None for p in ours.upsamplers.parameters())


def test_weights_of_before_version_2_load() -> None:
    theirs = torchvision.ops.FeaturePyramidNetwork(CHANNELS, 4)
    old = {
        name.replace(".0.weight", ".weight").replace(".0.bias", ".bias"): t for name, t in theirs.state_dict().items()
    }
    assert "inner_blocks.0.weight" in old
    ours = FeaturePyramidNetwork(CHANNELS, 4, upsample="nearest")
    ours.load_state_dict(old)
    maps = levels(8, 8)
    assert torch.equal(ours(maps)["0"], theirs(maps)["0"])


def test_of_takes_over_a_pyramids_own_layers() -> None:
    theirs = torchvision.ops.FeaturePyramidNetwork(CHANNELS, 4, LastLevelMaxPool()).double().eval()
    ours = FeaturePyramidNetwork.of(theirs, "carafe")
    assert ours.inner_blocks is theirs.inner_blocks
    assert not ours.training
    assert {p.dtype for p in ours.parameters()} == {torch.float64}
    maps = {name: x.double() for name, x in levels(8, 8).items()}
    assert list(ours(maps)) == ["0", "1", "2", "pool"]
    assert torch.equal(ours(maps)["2"], theirs(maps)["2"])
    with pytest.raises(TypeError, match="fpn: expected torchvision's FeaturePyramidNetwork, got Linear"):
        FeaturePyramidNetwork.of(nn.Linear(1, 1))  # type: ignore[arg-type]


def test_a_guided_layer_is_guided_by_the_lateral() -> None:
    def guided(channels: int, scale_factor: int) -> DDFUp:
        return DDFUp(channels, scale_factor, guide_channels=channels, guide_scale=scale_factor, backend="torch")

    torch.manual_seed(0)
    fpn = FeaturePyramidNetwork(CHANNELS[:2], 4, upsample=guided)
    maps = {name: x for name, x in levels(8, 10).items() if name != "2"}
    lateral, top = (fpn.inner_blocks[i](maps[str(i)]) for i in (0, 1))
    upsampled = fpn.upsamplers[0](top, lateral)
    torch.testing.assert_close(fpn(maps)["0"], fpn.layer_blocks[0](lateral + upsampled))


def test_other_scale_factors() -> None:
    fpn = FeaturePyramidNetwork(CHANNELS, 4, upsample="bilinear", scale_factors=[4, 2])
    assert [layer.scale_factor for layer in fpn.upsamplers] == [4, 2]
    fpn = FeaturePyramidNetwork(CHANNELS, 4, upsample=PLAIN_DDF, scale_factors=[4, 2])
    maps = levels(12, 12)
    maps["0"] = F.interpolate(maps["0"], size=(22, 24))
    assert fpn(maps)["0"].shape == (2, 4, 22, 24)
    with pytest.raises(ValueError, match=r"scale_factors: expected 2, one between each two levels, got \[2\]"):
        FeaturePyramidNetwork(CHANNELS, 4, scale_factors=[2])
    with pytest.raises(ValueError, match="size: expected a height of 21 to 24 for 6 upsampled 4 times, got 12"):
        fpn(levels(12, 12))
    with pytest.raises(ValueError, match=r"upsample: expected 'ddf', .* got 'cubic'"):
        FeaturePyramidNetwork(CHANNELS, 4, upsample="cubic")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn", "keypointrcnn_resnet50_fpn"])
def test_in_torchvisions_other_detectors(name: str) -> None:
    with torch.device("meta"):
        model = getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None)
        theirs = set(model.state_dict())
        model.backbone.fpn = FeaturePyramidNetwork.of(model.backbone.fpn, "ddf")
        sizes = [x.shape[2:] for x in model.backbone(torch.empty(1, 3, 64, 96)).values()]
    assert theirs < set(model.state_dict())
    assert all(key.startswith("backbone.fpn.upsamplers.") for key in set(model.state_dict()) - theirs)
    assert sizes[-3:] in ([(4, 6), (2, 3), (1, 2)], [(2, 3), (1, 2), (1, 1)])


@pytest.mark.parametrize("upsample", get_args(Name))
def test_equal_levels_are_not_upsampled(upsample: Any) -> None:
    """As those of MobileNetV3's and of dilated ResNets' pyramids."""
    theirs = torchvision.ops.FeaturePyramidNetwork(CHANNELS, 4)
    ours = FeaturePyramidNetwork.of(theirs, PLAIN_DDF if upsample == "ddf" else upsample)
    generator = torch.Generator().manual_seed(0)
    maps = {str(i): torch.randn(2, c, 7, 5, generator=generator) for i, c in enumerate(CHANNELS)}
    expected, got = theirs(maps), ours(maps)
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_a_scale_factor_of_one_has_no_upsampler() -> None:
    fpn = FeaturePyramidNetwork(CHANNELS, 4, upsample=PLAIN_DDF, scale_factors=[2, 1])
    assert not list(fpn.upsamplers[1].parameters())
    maps = levels(14, 10)
    maps["2"] = torch.randn(2, CHANNELS[2], 7, 5)
    got = fpn(maps)
    sum(level.square().sum() for level in got.values()).backward()
    assert all(p.grad is not None for p in fpn.parameters())
    with pytest.raises(ValueError, match=r"levels 1 and 2: expected one size for a scale factor of 1, got 7x5 and 4x3"):
        fpn(levels(14, 10))


def test_mobilenets_pyramid() -> None:
    with torch.device("meta"):
        body = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_fpn(
            weights=None, weights_backbone=None
        ).backbone
        body.fpn = FeaturePyramidNetwork.of(body.fpn, "ddf")
        sizes = [x.shape[2:] for x in body(torch.empty(1, 3, 224, 224)).values()]
    assert sizes == [(7, 7), (7, 7), (4, 4)]
