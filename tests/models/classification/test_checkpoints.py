"""The authors' checkpoints: their layouts, what is refused, and the outputs of an independent definition."""

import argparse
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from tests.models.released import ReleasedResNet, released_resnet

from ddfnet.cli import main
from ddfnet.models import load_released
from ddfnet.models.classification.checkpoints import convert_released, read_released


@pytest.fixture(scope="module")
def released() -> ReleasedResNet:
    return released_resnet()


def save(path: Path, **content: Any) -> Path:
    torch.save(content, path)
    return path


def test_outputs_are_the_authors(released: ReleasedResNet, tmp_path: Path) -> None:
    """The layout of their training script: weights beside a Namespace, `module.` before every name."""
    weights = {f"module.{name}": tensor for name, tensor in released.state_dict().items()}
    path = save(
        tmp_path / "a.pth.tar", epoch=119, arch="ddf", state_dict=weights, args=argparse.Namespace(lr=0.4, amp=True)
    )
    x = torch.randn(2, 3, 65, 70)
    with torch.no_grad():
        expected = released(x)
        for model in (
            load_released(path),
            timm.create_model("ddf_mul_resnet50", checkpoint_path=str(path), num_classes=10).eval(),
        ):
            torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_filters_that_were_added(tmp_path: Path) -> None:
    released = released_resnet("add")
    path = save(tmp_path / "a.pth", model=released.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = released(x)
        torch.testing.assert_close(load_released(path, combine="add")(x), expected, rtol=1e-5, atol=1e-4)
        assert not torch.allclose(load_released(path)(x), expected, rtol=1e-2)


@pytest.mark.parametrize("key", [None, "model", "state_dict", "model_ema", "state_dict_ema"])
def test_where_the_weights_may_be(key: str | None, tmp_path: Path) -> None:
    weights, others = {"module.a": torch.ones(2)}, {"state_dict": {"a": torch.zeros(2)}}
    path = tmp_path / "a.pth"
    torch.save(weights if key is None else {**others, key: weights}, path)
    assert torch.equal(read_released(path)["a"], torch.ones(2)) == (key != "model")
    if key is not None and key.endswith("ema"):
        assert torch.equal(read_released(path, ema=False)["a"], torch.zeros(2))


def test_depth_width_and_options_are_read_off(tmp_path: Path) -> None:
    for name, options in [
        ("ddf_mul_resnet18", {}),
        ("ddf_mul_resnet50_sigma03", {}),
        ("ddf_mul_resnet50_channel", {"num_classes": 7}),
        ("ddf_mul_wide_resnet50d", {}),
    ]:
        model = timm.create_model(name, **options)
        path = save(tmp_path / "a.pth", state_dict=model.state_dict())
        found = load_released(path)
        assert {k: v.shape for k, v in found.state_dict().items()} == {
            k: v.shape for k, v in model.state_dict().items()
        }


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_what_would_run_code_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", state_dict={}, args=argparse.Namespace(x=Malicious(tmp_path / "made")))
    with pytest.raises(ValueError, match="more than tensors and plain data"):
        load_released(path)
    assert not (tmp_path / "made").exists()


def test_bad_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        load_released(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(ValueError, match=r"text\.pth"):
        load_released(tmp_path / "text.pth")
    with pytest.raises(ValueError, match="expected a state_dict, got a dict of epoch"):
        load_released(save(tmp_path / "empty.pth", epoch=3))
    plain = timm.create_model("resnet18").state_dict()
    with pytest.raises(ValueError, match="a ResNet without DDF layers"):
        load_released(save(tmp_path / "plain.pth", state_dict=plain))
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps({"state_dict": 1}))
    with pytest.raises(ValueError, match=r"pickle\.pth"):
        load_released(tmp_path / "pickle.pth")


def test_conversion(released: ReleasedResNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "a.pth", state_dict=released.state_dict(), args=argparse.Namespace())
    out = tmp_path / "a.safetensors"
    assert main(["convert-checkpoint", str(path), "-o", str(out)]) == 0
    assert "tensors" in capsys.readouterr().out
    converted = load_released(out).state_dict()
    assert all(torch.equal(converted[name], tensor) for name, tensor in released.state_dict().items())
    assert timm.create_model("ddf_mul_resnet50", checkpoint_path=str(out), num_classes=10) is not None
    with pytest.raises(ValueError, match=r"expected a name that ends in \.safetensors"):
        convert_released(path, tmp_path / "a.pth2")
