"""Networks and checkpoints from elsewhere, scored on a folder at any size and crop; images that can't be read are told."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import ddfnet.models  # noqa: F401 - registers the networks
from ddfnet.cli import main
from ddfnet.data.classification.image_folder import Transforms, image_folder
from ddfnet.data.images import central_transform, training_transform


@pytest.fixture
def images(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0)
    for label in range(12):
        folder = tmp_path / "images" / "val" / f"class{label:02}"
        folder.mkdir(parents=True)
        for number in range(2):
            Image.fromarray(noise.integers(0, 255, (70, 90, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "images"


def saved(path: Path, name: str, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    model: torch.nn.Module = timm.create_model(name, num_classes=12, **options)
    torch.nn.init.normal_(model.get_parameter("fc.weight"))
    torch.save({"state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, path)
    return model.eval()


def by_hand(model: torch.nn.Module, root: Path, size: int, crop_pct: float) -> tuple[float, float]:
    """Top-1 and top-5 from the scores alone."""
    transforms = Transforms(
        training_transform(size), central_transform(size, crop_pct=crop_pct, interpolation="bicubic"), size, size
    )
    test = image_folder(root, transforms, test_only=True).test
    images, labels, _ = test.__getitems__(list(range(len(test))))
    with torch.no_grad():
        order = model(images).argsort(1, descending=True)
    hits = order == labels[:, None]
    return hits[:, 0].float().mean().item(), hits[:, :5].any(1).float().mean().item()


def test_a_released_checkpoint(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = saved(tmp_path / "a.pth", "ddf_mul_resnet18")
    for size, crop_pct in ((40, 0.875), (32, 1.0)):
        options = ["--data.root", str(images), f"--data.image_size={size}", "--trainer.accelerator=cpu"]
        options += [f"--data.crop_pct={crop_pct}"] if crop_pct == 1.0 else []
        assert main(["evaluate", str(tmp_path / "a.pth"), *options]) == 0
        printed = capsys.readouterr().out
        top1, top5 = by_hand(model, images, size, crop_pct)
        assert f"test accuracy  {round(top1, 6)!r}\ntest top5  {round(top5, 6)!r}\n" in printed
        assert "a.pth: 24 test images" in printed
    assert main(["evaluate", *options, str(tmp_path / "a.pth")]) == 0  # in any order
    assert capsys.readouterr().out == printed


def test_images_that_cannot_be_read_are_told(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "a.pth", "ddf_mul_resnet18")
    bad = images / "val" / "class03" / "1.png"
    bad.write_bytes(bad.read_bytes()[:400])
    argv = [
        "evaluate",
        str(tmp_path / "a.pth"),
        f"--data.root={images}",
        "--data.image_size=32",
        "--trainer.accelerator=cpu",
    ]
    assert main([*argv, "--data.batch_size=1"]) == 0
    printed, error = capsys.readouterr()
    assert "a.pth: 23 test images" in printed
    assert f"1 more could not be read and are not in the score: {bad}" in printed
    assert f"cannot be read, left out: 1 image: {bad}" in error


def test_names_of_networks(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from timm.models import save_for_hf

    model = timm.create_model("ddf_resnet_mini", num_classes=12)
    save_for_hf(model, str(tmp_path / "hub"))
    options = [f"--data.root={images}", "--data.image_size=32", "--trainer.accelerator=cpu"]
    assert main(["evaluate", f"local-dir:{tmp_path / 'hub'}", *options]) == 0
    assert "24 test images" in capsys.readouterr().out
    assert main(["evaluate", "ddf_mul_resnet18", *options]) == 1
    assert "ddf_mul_resnet18: expected --weights FILE, since no pretrained weights load" in capsys.readouterr().err
    assert main(["evaluate", "ddf_mul_resnet18", "--weights=nope.pth", *options]) == 1
    assert "nope.pth: no such checkpoint" in capsys.readouterr().err
    torch.save(timm.create_model("ddf_mul_resnet18").state_dict(), tmp_path / "b.pth")
    assert main(["evaluate", "ddf_mul_resnet18", f"--weights={tmp_path / 'b.pth'}", *options]) == 1
    assert "data: expected 1000 classes, those of the network, got 12; data.class_map" in capsys.readouterr().err
    names = [f"class{label:02}" if label < 12 else f"other{label}" for label in range(1000)]
    (tmp_path / "classes.txt").write_text("\n".join(names))
    options.append(f"--data.class_map={tmp_path / 'classes.txt'}")
    assert main(["evaluate", "ddf_mul_resnet18", f"--weights={tmp_path / 'b.pth'}", *options]) == 0
    assert "test top5" in capsys.readouterr().out
