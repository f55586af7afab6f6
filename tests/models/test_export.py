"""ONNX export: standard operators, any batch and image size, the outputs of PyTorch."""

from pathlib import Path

import onnx
import pytest
import timm
import torch
from torch import Tensor, nn

import ddfnet
import ddfnet.models  # registers the networks
from ddfnet.cli import main
from ddfnet.models.export import export_onnx
from ddfnet.nn.upsample import upsample_layer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class UpsampledBySpatialFilters(nn.Module):
    """CARAFE's reassembly with predicted filters."""

    def __init__(self) -> None:
        super().__init__()
        self.predict = nn.Conv2d(6, 36, 1)

    def forward(self, x: Tensor) -> Tensor:
        return ddfnet.ddf_up(x, None, torch.pixel_shuffle(self.predict(x), 2).softmax(1))


class Guided(nn.Module):
    """DDF-Up guided by the network's input, at the output's resolution, for even sizes the same: x is twice the stem's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(6, 6, 4, stride=2, padding=1)
        self.up = ddfnet.DDFUp(6, guide_channels=6, guide_scale=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.stem(x), x)


@pytest.mark.parametrize(
    "model",
    [
        ddfnet.DDF(6, 5, stride=2, dilation=2, heads=3, combine="add", affine="paper", bias=True),
        UpsampledBySpatialFilters(),
        upsample_layer("dysample", 6),
        pytest.param(ddfnet.DDFUp(6, heads=2), marks=pytest.mark.slow),
        pytest.param(Guided(), marks=pytest.mark.slow),
        pytest.param(upsample_layer("carafe", 6), marks=pytest.mark.slow),
    ],
    ids=["DDF", "ddf_up", "DySample", "DDFUp", "guided", "CARAFE"],
)
def test_layers(model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    assert export_onnx(model, path, (2, 6, 8, 12)) < 1e-4
    assert {node.domain for node in onnx.load(path).graph.node} == {""}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_a_network_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mini.onnx"
    assert main(["export", "ddf_resnet_mini", "--onnx", str(path), "--input-shape", "1", "3", "32", "32"]) == 0
    assert "onnxruntime's output differs from PyTorch's by" in capsys.readouterr().out
    onnx.checker.check_model(str(path))


def test_a_file_that_differs_does_not_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddfnet.models.export.TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="expected PyTorch's outputs"):
        export_onnx(ddfnet.DDF(4), tmp_path / "model.onnx", (1, 4, 8, 8))
    assert not list(tmp_path.iterdir())


def test_torch_export_keeps_the_operator_and_the_dynamic_sizes() -> None:
    model = timm.create_model("ddf_resnet_mini").eval()
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        model, (torch.randn(2, 3, 32, 36),), dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},)
    )
    assert any("ddfnet.ddf" in str(node.target) for node in program.graph.nodes)
    x = torch.randn(3, 3, 41, 28)
    torch.testing.assert_close(program.module()(x), model(x))


def test_torch_export_of_an_upsampler_takes_other_sizes() -> None:
    """Also where the guide's size was, in the example, the one it is brought to."""
    model = Guided()
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        model, (torch.randn(2, 6, 8, 12),), dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},)
    )
    for size in ((10, 6), (9, 13)):
        x = torch.randn(3, 6, *size)
        torch.testing.assert_close(program.module()(x), model(x))
