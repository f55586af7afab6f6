"""replace_conv2d: any network's k x k convolutions, in place, with a table of what was done."""

import functools

import pytest
import timm
import torch
import torchvision
from torch import nn

from ddfnet import DDF, replace_conv2d
from ddfnet.nn import CARAFE, DDFUp, DynamicFilter, replace_upsample


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding=1, stride=2, bias=False),
        nn.Conv2d(8, 8, 5, padding=4, dilation=2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.Conv2d(16, 16, 1),
    )


def test_defaults_keep_stride_dilation_bias_and_size() -> None:
    model = small().eval()
    size = model(torch.randn(2, 3, 17, 20)).shape
    done = replace_conv2d(model)
    assert [r.name for r in done] == ["1", "2"]
    assert [r.name for r in done.refused] == ["3", "4"]
    assert isinstance(model[1], DDF)
    assert (model[1].stride, model[1].bias) == (2, None)
    assert isinstance(model[2], DDF)
    assert (model[2].kernel_size, model[2].dilation) == (5, 2)
    assert model[2].bias is not None
    assert not model[1].training
    assert model(torch.randn(2, 3, 17, 20)).shape == size


def test_options_take_the_rest() -> None:
    model = small()
    done = replace_conv2d(model, grouped=True, change_channels=True, skip_first=False)
    assert [r.name for r in done] == ["0", "1", "2", "3", "4"]
    assert isinstance(model[3], nn.Sequential)
    assert model[3][0].bias is None
    assert model[3][1].bias is not None
    assert model(torch.randn(1, 3, 9, 9)).shape == (1, 16, 5, 5)


def test_a_depthwise_convolution_is_where_a_ddf_layer_starts() -> None:
    model = nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 8, 5, stride=2, padding=4, dilation=2, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, padding_mode="reflect"),
        nn.Conv2d(8, 8, 3, padding=1, groups=4),
    ).double()
    x = torch.randn(2, 8, 17, 20, dtype=torch.float64)
    expected = model[:3](x)
    layer = functools.partial(DDF, norm="none", init="depthwise", backend="torch")
    done = replace_conv2d(model, layer=layer, grouped=True, skip_first=False)
    assert [r.name for r in done] == ["0", "1", "2", "3"]
    torch.testing.assert_close(model[:3](x), expected)


def test_match_by_pattern_and_by_function() -> None:
    assert [r.name for r in replace_conv2d(small(), match="2")] == ["2"]
    assert [r.name for r in replace_conv2d(small(), match=lambda name, conv: conv.stride == (2, 2))] == ["1"]
    resnet = timm.create_model("resnet18")
    assert [r.name for r in replace_conv2d(resnet, match="layer4.*.conv2", dry_run=True)] == [
        "layer4.0.conv2",
        "layer4.1.conv2",
    ]


def test_dry_run_changes_nothing() -> None:
    model = small()
    before = [type(module) for module in model]
    assert len(replace_conv2d(model, dry_run=True)) == 2
    assert [type(module) for module in model] == before


def test_layer_options_pass_through_partial() -> None:
    model = small()
    replace_conv2d(model, layer=functools.partial(DDF, heads=2, combine="add"))
    assert isinstance(model[1], DDF)
    assert (model[1].heads, model[1].combine) == (2, "add")


def test_dtype_and_device_are_kept() -> None:
    done = replace_conv2d(small().to("meta", torch.float64))
    assert all(p.dtype == torch.float64 and p.device.type == "meta" for r in done for p in r.new.parameters())


@pytest.mark.parametrize(
    ("conv", "reason"),
    [
        (nn.Conv2d(4, 4, (3, 5), padding=(1, 2)), "differs by direction"),
        (nn.Conv2d(4, 4, 3, stride=(1, 2), padding=1), "differs by direction"),
        (nn.Conv2d(4, 4, 4, padding=2), "the kernel size 4 is even"),
        (nn.Conv2d(4, 4, 5, padding=1), r"padding \(1, 1\), neither 0 nor 2, which keeps the size"),
        (nn.Conv2d(4, 4, 3, padding=1, groups=2), r"2 groups \(grouped=True"),
        (nn.Conv2d(4, 6, 3, padding=1), r"4 channels in, 6 out \(change_channels=True"),
        (nn.LazyConv2d(4, 3, padding=1), "computes something of its own"),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3, padding=1)), "ParametrizedConv2d computes something"),
        (timm.layers.StdConv2d(4, 4, 3, padding=1), "StdConv2d computes something of its own"),
        (timm.layers.Conv2dSame(4, 4, 3), "Conv2dSame computes something of its own"),
        (nn.ConvTranspose2d(4, 4, 3, padding=1), "ConvTranspose2d is no Conv2d"),
        (nn.Conv3d(4, 4, 3, padding=1), "Conv3d is no Conv2d"),
        (nn.Conv1d(4, 4, 3, padding=1), "Conv1d is no Conv2d"),
    ],
)
def test_refusals_say_why(conv: nn.Conv2d, reason: str) -> None:
    with pytest.raises(ValueError, match=f"found no convolution to replace .*{reason}"):
        replace_conv2d(nn.Sequential(nn.Conv2d(3, 4, 1), conv))


def test_what_is_no_network() -> None:
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module, got int"):
        replace_conv2d(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got a convolution, which has no place"):
        replace_conv2d(nn.Conv2d(4, 4, 3, padding=1))
    with pytest.raises(TypeError, match=r"match: expected a pattern, a function .* got 3"):
        replace_conv2d(small(), match=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="layer: expected a function that makes a layer, such as DDF, got 'ddf'"):
        replace_conv2d(small(), layer="ddf")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"input_shape: expected \(B, C, H, W\), got \(3, 8\)"):
        replace_conv2d(small(), input_shape=(3, 8))
    with pytest.raises(ValueError, match="no other k x k convolution matches"):
        replace_conv2d(small(), match="layer9.*")


def test_a_shared_convolution_stays_shared() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), conv, nn.ReLU(), conv)
    assert len(replace_conv2d(model)) == 1
    assert isinstance(model[1], DDF)
    assert model[1] is model[3]


def test_shared_weights_and_hooks_are_refused() -> None:
    model = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1) for _ in range(5)))
    model[2].weight = model[1].weight
    model[3].register_forward_hook(lambda *args: None)
    done = replace_conv2d(model)
    assert [r.name for r in done] == ["4"]
    assert [(r.name, r.reason) for r in done.refused] == [
        ("1", "its weight is that of 2 convolutions"),
        ("2", "its weight is that of 2 convolutions"),
        ("3", "it has hooks, weight_norm's perhaps, which a new layer would not run"),
    ]


def test_convolutions_inside_wrappers_are_replaced() -> None:
    """timm's ConvNormAct and torchvision's Conv2dNormActivation hold ordinary convolutions and call them."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), timm.layers.ConvNormAct(4, 4, 3), torchvision.ops.Conv2dNormActivation(4, 4, 5, stride=2)
    )
    size = model(torch.randn(2, 3, 9, 10)).shape
    assert [r.name for r in replace_conv2d(model)] == ["1.conv", "2.0"]
    assert model(torch.randn(2, 3, 9, 10)).shape == size


def test_same_padding_by_name() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding="same", dilation=2))
    size = model(torch.randn(2, 3, 9, 10)).shape
    assert [r.new.dilation for r in replace_conv2d(model)] == [2]
    assert model(torch.randn(2, 3, 9, 10)).shape == size


def test_convolutions_without_padding() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 5, stride=2, padding="valid"))
    size = model(torch.randn(2, 3, 15, 12)).shape
    assert [r.new.padding for r in replace_conv2d(model)] == ["valid", "valid"]
    assert model(torch.randn(2, 3, 15, 12)).shape == size


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes_are_kept(mode: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=2, dilation=2, padding_mode=mode))
    size = model(torch.randn(2, 3, 9, 10)).shape
    assert [r.new.padding_mode for r in replace_conv2d(model)] == [mode]
    assert model(torch.randn(2, 3, 9, 10)).shape == size


def test_a_layer_without_the_option_is_refused() -> None:
    convs = {"padding 'valid'": {}, "padding_mode 'reflect'": {"padding": 1, "padding_mode": "reflect"}}
    for option, options in convs.items():
        model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, **options))
        with pytest.raises(ValueError, match=f"1: {option}, for which DynamicFilter has no option"):
            replace_conv2d(model, layer=DynamicFilter)


def test_the_table() -> None:
    done = replace_conv2d(small(), input_shape=(1, 3, 16, 16))
    text = str(done)
    assert text.splitlines()[0].split() == ["layer", "old", "new", "parameters", "FLOPs"]
    assert "Conv2d 8->8 3x3 stride 2" in text
    assert "kept 3: 8 channels in, 16 out (change_channels=True replaces it)" in text
    before, after = done[0].flops or (0, 0)
    assert before == 2 * 8 * 8 * 8 * 8 * 9
    # n = 64 pixels, c = 8, squeezed to 1: generation, then 3nck^2.
    assert after == 2 * 64 * 8 * 9 + 2 * (8 + 72) + 3 * 64 * 8 * 9
    assert done[0].parameters == (576, sum(p.numel() for p in DDF(8).parameters()))


def test_resnet50_becomes_the_papers_network() -> None:
    with torch.device("meta"):
        model = timm.create_model("resnet50")
        assert len(replace_conv2d(model)) == 16
    assert sum(p.numel() for p in model.parameters()) == 16_843_748


NETWORKS = {
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=5), {}, 13),
    "convnext_tiny": (lambda: timm.create_model("convnext_tiny", num_classes=5), {"grouped": True}, 18),
    "resnet50": (lambda: timm.create_model("resnet50", num_classes=5), {}, 16),
    "resnext50_32x4d": (lambda: timm.create_model("resnext50_32x4d", num_classes=5), {"grouped": True}, 16),
    "fcn_resnet50": (
        lambda: torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=5),
        {},
        16,
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=pytest.mark.release) for name in ("resnet18", "convnext_tiny")),
        *(pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS if "50" in name),
    ],
)
def test_networks_train_a_few_steps(name: str) -> None:
    torch.manual_seed(0)
    make, options, count = NETWORKS[name]
    model = make()
    assert len(replace_conv2d(model, **options)) == count
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x = torch.randn(4, 3, 40, 40)
    losses = []
    for _ in range(4):
        y = model(x)
        y = y["out"] if isinstance(y, dict) else y
        loss = nn.functional.cross_entropy(y, torch.zeros((4, *y.shape[2:]), dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


class UNet(nn.Module):
    """Two levels: a transposed convolution that halves the channels, and an interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.up2 = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.up1 = nn.Upsample(scale_factor=2, mode="bilinear")
        self.head = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = self.down1(x)
        y = torch.cat([fine, self.up2(self.down2(fine))], dim=1)
        return self.head(self.up1(y))


def test_upsampling_layers_of_a_unet() -> None:
    model = UNet().eval()
    x = torch.randn(2, 3, 16, 20)
    size = model(x).shape
    done = replace_upsample(model, input_shape=x.shape)
    assert [r.name for r in done] == ["up2", "up1"]
    assert isinstance(model.up2, nn.Sequential)
    assert (model.up2[0].out_channels, model.up2[0].bias is not None, model.up2[1].channels) == (8, True, 8)
    assert isinstance(model.up1, DDFUp)
    assert (model.up1.channels, model.up1.scale_factor, model.up1.training) == (16, 2, False)
    y = model(x)
    assert y.shape == size
    y.sum().backward()
    assert "ConvTranspose2d 16->8 2x2 stride 2  Conv2d 16->8 1x1 + DDFUp 8x2" in str(done)
    assert "Upsample x2" in str(done)
    assert done[0].flops is not None
    assert done[0].flops[0] == 2 * 2 * 8 * 16 * 4 * 4 * 5


def test_upsampling_by_other_layers_dry_and_matched() -> None:
    model = UNet()
    done = replace_upsample(model, layer=CARAFE, match="up2", dry_run=True)
    assert [type(r.new[1]) for r in done] == [CARAFE]
    assert isinstance(model.up2, nn.ConvTranspose2d)
    done = replace_upsample(model.to("meta", torch.float64), match=lambda name, module: name == "up2")
    assert {(p.dtype, p.device.type) for p in done[0].new.parameters()} == {(torch.float64, "meta")}


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Upsample((8, 8)), r"it upsamples to the size \(8, 8\)"),
        (nn.Upsample(scale_factor=1.5), r"the factor 1.5 is no whole number > 1"),
        (nn.Upsample(scale_factor=(2, 3)), "differs by direction"),
        (nn.UpsamplingBilinear2d(scale_factor=2), "UpsamplingBilinear2d computes something of its own"),
        (nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 1)), None),
        (nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1), r"its map is not 2 times as large: -1 rows or columns"),
        (nn.ConvTranspose2d(4, 4, 3, padding=1), r"stride \(1, 1\) is 1"),
        (nn.ConvTranspose2d(4, 4, 2, stride=2, groups=2), "2 groups"),
        (nn.ConvTranspose3d(4, 4, 2, stride=2), "ConvTranspose3d is no ConvTranspose2d"),
        (nn.Conv2d(4, 4, 3), "no nn.Upsample or transposed convolution matches"),
    ],
)
def test_upsampling_refusals_say_why(layer: nn.Module, reason: str | None) -> None:
    reason = reason or "how many channels it meets is not known: pass an input_shape that reaches it"
    with pytest.raises(ValueError, match=f"found no upsampling layer to replace .*{reason}"):
        replace_upsample(nn.Sequential(nn.Conv2d(3, 4, 1), layer))


def test_upsampling_places_that_can_not_be_told() -> None:
    up = nn.Upsample(scale_factor=2)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), up, nn.Conv2d(4, 8, 1), up)
    with pytest.raises(ValueError, match="1: it meets maps of 4, 8 channels"):
        replace_upsample(model, input_shape=(1, 3, 4, 4))
    with pytest.raises(ValueError, match="got an upsampling layer, which has no place"):
        replace_upsample(up)


@pytest.mark.parametrize(
    "options", [{"kernel_size": 4, "padding": 1}, {"kernel_size": 3, "padding": 1, "output_padding": 1}]
)
def test_other_transposed_convolutions(options: dict[str, int]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 4, stride=2, **options))
    size = model(torch.randn(1, 3, 5, 6)).shape
    replace_upsample(model)
    assert isinstance(model[1], DDFUp)
    assert model(torch.randn(1, 3, 5, 6)).shape == size
