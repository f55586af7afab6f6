"""`torch.fx`, its quantisation, the classic ONNX exporter and `torch.jit.script` on layers, without `ddfnet.models`."""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import ddfnet


class Filtered(nn.Module):
    """The operators themselves, given predicted filters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 9, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = ddfnet.ddf(x, None, self.conv(x), backend="torch")
        return ddfnet.ddf_up(y, None, self.conv(y).repeat_interleave(2, 2).repeat_interleave(2, 3), backend="torch")


def replaced() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1))
    ddfnet.replace_conv2d(network)
    return network


NETWORKS = {
    "ddf": lambda: ddfnet.DDF(4, bias=True, heads=2),
    "affine": lambda: ddfnet.DDF(4, affine="paper"),
    "norm": lambda: ddfnet.DDF(4, norm="batch"),
    "up": lambda: ddfnet.DDFUp(4),
    "carafe": lambda: ddfnet.nn.CARAFE(4),
    "operators": Filtered,
    "replaced": replaced,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_fx(name: str) -> None:
    network = NETWORKS[name]().eval()
    for module in network.modules():
        if hasattr(module, "backend"):
            module.backend = "torch"
    traced = fx.symbolic_trace(network)
    for x in (torch.randn(2, 4, 6, 8), torch.randn(1, 4, 5, 7)):
        torch.testing.assert_close(traced(x), network(x))
    targets = {getattr(node.target, "__name__", "") for node in traced.graph.nodes if node.op == "call_function"}
    assert targets & {"ddf", "ddf_up"}


def test_fx_with_a_guide() -> None:
    layer = ddfnet.DDFUp(4, guide_channels=3, guide_scale=2, backend="torch")
    traced = fx.symbolic_trace(layer)
    x, guide = torch.randn(2, 4, 6, 8), torch.randn(2, 3, 12, 16)
    torch.testing.assert_close(traced(x, guide), layer(x, guide))


@pytest.mark.parametrize("name", ["ddf", "up", "replaced", "operators"])
def test_the_classic_onnx_exporter(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    network: Any = NETWORKS[name]().eval()
    if name == "operators":
        network.forward = lambda x: ddfnet.ddf(x, None, network.conv(x))
    x = torch.randn(2, 4, 6, 8)
    path = tmp_path / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (x,), str(path), dynamo=False)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad(), ddfnet.prefer_backend("torch"):
        torch.testing.assert_close(torch.from_numpy(found), network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # PyTorch's, that torchao will follow
def test_quantisation_by_fx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions around and inside the layer have int8 weights; the filters are applied in float32."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    engine = next(name for name in ("x86", "fbgemm", "qnnpack") if name in torch.backends.quantized.supported_engines)
    monkeypatch.setattr(torch.backends.quantized, "engine", engine)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 8, 1), ddfnet.DDF(8, backend="torch"), nn.Conv2d(8, 4, 1)).eval()
    x = torch.randn(2, 4, 6, 8)
    with torch.no_grad():
        expected = network(x)
        prepared = prepare_fx(network, get_default_qconfig_mapping(engine), (x,))
        prepared(x)
        converted: Any = convert_fx(prepared)
        found = converted(x)
    modules = dict(converted.named_modules())
    for name in ("0", "1.spatial_branch.0", "2"):
        assert modules[name].weight().dtype == torch.qint8
    assert any(getattr(node.target, "__name__", "") == "ddf" for node in converted.graph.nodes)
    # int8 has 255 steps; some ten roundings follow one another, each divided by the filters' deviation.
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", ["ddf", "up", "replaced"])
def test_scripts_are_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(RuntimeError, match=r"torch\.jit\.script can't compile DDF(Up)?: use torch\.export\.export"):
        torch.jit.script(NETWORKS[name]())


def test_nothing_of_the_networks_is_loaded() -> None:
    script = (
        "import sys, torch, ddfnet; torch.fx.symbolic_trace(ddfnet.DDF(4)); torch.fx.symbolic_trace(ddfnet.DDFUp(4)); "
        "print([name for name in sys.modules if name.startswith('ddfnet.models') or name == 'timm'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
