"""Tools that take networks apart or write them down: torch.fx, torchvision's extractor, the classic ONNX exporter."""

from pathlib import Path

import onnxruntime
import pytest
import timm
import torch
from torchvision.models.feature_extraction import create_feature_extractor

from ddfnet.models import fasterrcnn_resnet50_fpn_ddf_up
from ddfnet.ops.ddf.cpu import backend


@pytest.fixture(autouse=True)
def plain_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which kernels serve is tested elsewhere; here none need be compiled."""
    monkeypatch.setattr(backend, "unsupported", lambda x, g: "left out in this test")


def test_feature_maps_by_torch_fx() -> None:
    x = torch.randn(1, 3, 32, 32)
    maps = []
    for options in ({}, {"feature_cls": "fx"}):
        torch.manual_seed(0)
        maps.append(timm.create_model("ddf_resnet_mini", features_only=True, **options).eval()(x))
    for plain, traced in zip(*maps, strict=True):
        torch.testing.assert_close(plain, traced)


def test_torchvisions_feature_extractor() -> None:
    network = timm.create_model("ddf_resnet_mini").eval()
    x = torch.randn(1, 3, 32, 32)
    features = create_feature_extractor(network, ["layer3"])(x)["layer3"]
    torch.testing.assert_close(features, network.forward_features(x))


@pytest.mark.filterwarnings("ignore")
def test_a_detector_by_the_classic_exporter(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"out_channels": 16, "head_channels": 32, "min_size": 64, "max_size": 64}
    detector = fasterrcnn_resnet50_fpn_ddf_up(backbone="ddf_resnet_mini", num_classes=5, **sizes).eval()
    image = torch.rand(3, 64, 64)
    torch.onnx.export(detector, ([image],), str(tmp_path / "a.onnx"), dynamo=False, opset_version=18)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    boxes = session.run(None, {session.get_inputs()[0].name: image.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(boxes), detector([image])[0]["boxes"].detach(), rtol=1e-4, atol=1e-3)
