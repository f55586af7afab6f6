"""ONNX export: standard operators, any batch and image size, the outputs of PyTorch."""

import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
import timm
import torch
from torch import Tensor, nn

import ddfnet
import ddfnet.models  # registers the networks
from ddfnet.cli import main
from ddfnet.models import DDFUpNet
from ddfnet.models.export import export_joint_onnx, export_onnx
from ddfnet.nn.upsamplers.plain import upsample_layer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class UpsampledBySpatialFilters(nn.Module):
    """CARAFE's reassembly with predicted filters."""

    def __init__(self) -> None:
        super().__init__()
        self.predict = nn.Conv2d(6, 36, 1)

    def forward(self, x: Tensor) -> Tensor:
        return ddfnet.ddf_up(x, None, torch.pixel_shuffle(self.predict(x), 2).softmax(1))


class UpsampledByBoth(nn.Module):
    """DDF-Up with a channel filter of each phase."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial, self.channel = nn.Conv2d(6, 36, 1), nn.Linear(6, 4 * 6 * 9)

    def forward(self, x: Tensor) -> Tensor:
        channel_filter = self.channel(x.mean((2, 3))).unflatten(1, (4, 6, 3, 3))
        return ddfnet.ddf_up(x, channel_filter, torch.pixel_shuffle(self.spatial(x), 2))


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
        pytest.param(UpsampledBySpatialFilters(), marks=pytest.mark.release),
        pytest.param(UpsampledByBoth(), marks=pytest.mark.release),
        pytest.param(upsample_layer("dysample", 6), marks=pytest.mark.release),
        pytest.param(ddfnet.DDFUp(6, heads=2), marks=pytest.mark.slow),
        pytest.param(upsample_layer("carafe", 6), marks=pytest.mark.slow),
    ],
    ids=["DDF", "ddf_up-spatial", "ddf_up", "DySample", "DDFUp", "CARAFE"],
)
def test_layers(model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    assert export_onnx(model, path, (2, 6, 8, 12)) < 1e-4
    assert {node.domain for node in onnx.load(path).graph.node} == {""}
    assert list(tmp_path.iterdir()) == [path]
    session = onnxruntime.InferenceSession(path)
    for shape in ((1, 6, 1, 1), (1, 6, 2, 5), (5, 6, 33, 31)):  # smaller than the kernel, odd, larger
        x = torch.randn(shape)
        (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(got), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_guided_layer(tmp_path: Path) -> None:
    assert export_onnx(Guided(), tmp_path / "model.onnx", (2, 6, 8, 12)) < 1e-4


@pytest.mark.release
def test_a_network_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mini.onnx"
    assert main(["export", "ddf_resnet_mini", "--onnx", str(path), "--input-shape", "1", "3", "32", "32"]) == 0
    assert "onnxruntime's output differs from PyTorch's by" in capsys.readouterr().out
    onnx.checker.check_model(str(path))


@pytest.mark.slow
def test_a_network_of_depth_and_image(tmp_path: Path) -> None:
    network, path = DDFUpNet(2, residual=True), tmp_path / "model.onnx"
    assert export_joint_onnx(network, path) < 1e-4
    session = onnxruntime.InferenceSession(path)
    for batch, rows, columns in ((1, 2, 3), (3, 17, 9)):
        depth, rgb = torch.rand(batch, 1, rows, columns), torch.rand(batch, 3, 2 * rows, 2 * columns)
        (got,) = session.run(None, {"depth": depth.numpy(), "rgb": rgb.numpy()})
        torch.testing.assert_close(torch.from_numpy(got), network(depth, rgb), rtol=1e-4, atol=1e-4)


def test_a_file_that_differs_does_not_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddfnet.models.export.TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="expected PyTorch's outputs"):
        export_onnx(ddfnet.DDF(4), tmp_path / "model.onnx", (1, 4, 8, 8))
    assert not list(tmp_path.iterdir())


def exported_mini() -> tuple[nn.Module, torch.export.ExportedProgram]:
    model = timm.create_model("ddf_resnet_mini").eval()
    dynamic = torch.export.Dim.DYNAMIC
    shapes = ({0: dynamic, 2: dynamic, 3: dynamic},)
    return model, torch.export.export(model, (torch.randn(2, 3, 32, 36),), dynamic_shapes=shapes)


def in_a_new_process(loader: str, model: nn.Module, folder: Path) -> None:
    """Runs what `loader`, an expression of `path`, loads there on two sizes; compares it with `model`."""
    inputs = [torch.randn(3, 3, 41, 28), torch.randn(1, 3, 33, 50)]
    torch.save(inputs, folder / "inputs.pt")
    script = f"""
import sys, torch, ddfnet.ops.ddf.api
folder, path = sys.argv[1], sys.argv[1] + "/model.pt2"
run = {loader}
torch.save([run(x).detach() for x in torch.load(folder + "/inputs.pt")], folder + "/outputs.pt")
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, str(folder)], check=True)
    for x, y in zip(inputs, torch.load(folder / "outputs.pt"), strict=True):
        torch.testing.assert_close(y, model(x), rtol=1e-4, atol=1e-5)


def test_torch_export_keeps_the_operator_and_the_dynamic_sizes(tmp_path: Path) -> None:
    model, program = exported_mini()
    assert sum("ddfnet.ddf" in str(node.target) for node in program.graph.nodes) == 6
    torch.export.save(program, tmp_path / "model.pt2")
    in_a_new_process("torch.export.load(path).module()", model, tmp_path)


@pytest.mark.slow
def test_an_aot_inductor_package_runs(tmp_path: Path) -> None:
    """Compiled once by inductor, which needs a C++ compiler; what loads it needs none."""
    model, program = exported_mini()
    torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "model.pt2"))
    in_a_new_process("torch._inductor.aoti_load_package(path)", model, tmp_path)


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
