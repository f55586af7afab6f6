"""`ddfnet.load`: from a run of any task, a checkpoint, an exported folder or weights to the same network, offline."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from tests.trained_runs import classifier, depth_upsampler, detector
from torch import nn

import ddfnet
from ddfnet.data.images import central_transform
from ddfnet.models.depth.joint_upsampling import save
from ddfnet.ops.ddf.cpu import backend
from ddfnet.tasks.classification import Classification
from ddfnet.tasks.detection import Detection
from ddfnet.tasks.hub import export_hub
from ddfnet.tasks.run.start import start_from


@pytest.fixture(autouse=True)
def plain_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which kernels serve is tested elsewhere; here none need be compiled."""
    monkeypatch.setattr(backend, "unsupported", lambda x, g: "left out in this test")


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def photograph(path: Path, orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("what", [".", "best.ckpt"])
def test_a_classifier(tmp_path: Path, old: bool, what: str) -> None:
    run, network = classifier(tmp_path / "run", old=old)
    trained = ddfnet.load(run / what)
    assert same(trained.network, network)
    assert not trained.training
    assert not trained.network.training
    assert (trained.class_names, trained.task) == (("ant", "bee", "cat"), "classification")
    path = photograph(tmp_path / "a.png")
    image = Image.open(path)
    expected = central_transform(36, crop_pct=0.9, mean=(0.4, 0.5, 0.6))(image)
    for given in (image, path, str(path), image.convert("RGBA")):
        assert torch.equal(trained.transform(given), expected)
    torch.testing.assert_close(trained(expected[None]), network(expected[None]))


def test_paths_are_read_upright(tmp_path: Path) -> None:
    run, _ = detector(tmp_path / "run")
    transform = ddfnet.load(run).transform
    assert transform(photograph(tmp_path / "a.png", 6)).shape == (3, 60, 40)
    assert transform(photograph(tmp_path / "b.png")).shape == (3, 40, 60)


def test_a_grey_classifier(tmp_path: Path) -> None:
    run, network = classifier(tmp_path / "run", in_chans=1)
    trained = ddfnet.load(run)
    assert same(trained.network, network)
    assert trained.transform(photograph(tmp_path / "a.png")).shape == (1, 36, 36)


def test_a_detector(tmp_path: Path) -> None:
    run, network = detector(tmp_path / "run")
    trained = ddfnet.load(run)
    assert same(trained.network, network)
    assert (trained.class_names, trained.task) == (("dog", "eel"), "detection")
    x = trained.transform(photograph(tmp_path / "a.png"))
    (found,), (expected,) = trained([x]), network([x])
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_depth_upsampler(tmp_path: Path) -> None:
    run, network = depth_upsampler(tmp_path / "run")
    trained = ddfnet.load(run)
    assert same(trained.network, network)
    assert trained.class_names == ()
    depth = trained(torch.rand(1, 1, 4, 5) + 1, torch.rand(1, 3, 8, 10))
    assert depth.shape == (1, 1, 8, 10)
    save(network, tmp_path / "network.safetensors")
    assert same(ddfnet.load(tmp_path / "network.safetensors").network, network)


def test_a_checkpoint_that_was_moved(tmp_path: Path) -> None:
    """Without the run's options: the network's are in it; images are prepared as timm says."""
    for make in (classifier, detector, depth_upsampler):
        run, network = make(tmp_path / make.__name__)
        path = tmp_path / f"{make.__name__}.ckpt"
        shutil.copy(run / "best.ckpt", path)
        trained = ddfnet.load(path)
        assert same(trained.network, network)
        assert trained.task == {"classifier": "classification", "detector": "detection"}.get(make.__name__, "depth")


@pytest.mark.parametrize("make", [classifier, detector, depth_upsampler])
def test_an_exported_folder(tmp_path: Path, make: Any) -> None:
    run, network = make(tmp_path / "run")
    trained, folder = ddfnet.load(run), tmp_path / "hub"
    export_hub(trained, folder, scores={"test_accuracy": 0.5})
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    image = photograph(tmp_path / "a.png")
    for source in (folder, folder / "model.safetensors"):
        again = ddfnet.load(source)
        assert same(again.network, network)
        assert (again.class_names, again.task) == (trained.class_names, trained.task)
        assert torch.equal(again.transform(image), trained.transform(image))
    assert "- test accuracy: 0.5" in (folder / "README.md").read_text()
    with pytest.raises(FileExistsError, match=r"model\.safetensors: expected a new or an empty folder, found a file"):
        export_hub(trained, folder)


@pytest.mark.parametrize("options", [{}, {"in_chans": 1}, {"block_args": {"layer_args": {"heads": 2}}}], ids=str)
def test_an_exported_classifier_by_timm_alone(tmp_path: Path, options: dict[str, Any]) -> None:
    run, network = classifier(tmp_path / "run", **options)
    trained = ddfnet.load(run)
    export_hub(trained, tmp_path / "hub")
    again = timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True).eval()
    assert same(again, network)
    prepared = timm.data.resolve_model_data_config(again)
    assert prepared["input_size"] == (options.get("in_chans", 3), 36, 36)
    assert prepared["crop_pct"] == 0.9
    assert tuple(again.pretrained_cfg["label_names"]) == ("ant", "bee", "cat")
    if not options.get("in_chans"):
        image = Image.open(photograph(tmp_path / "a.png"))
        assert torch.equal(timm.data.create_transform(**prepared)(image), trained.transform(image))


def test_checkpoint_path_of_timm(tmp_path: Path) -> None:
    for name in ("ddf_resnet_mini", "resnet_mini", "dyfilter_resnet_mini"):
        run, network = classifier(tmp_path / name, network=name)
        assert same(timm.create_model(name, num_classes=3, checkpoint_path=str(run / "best.ckpt")), network)


def test_lightnings_load_from_checkpoint(tmp_path: Path) -> None:
    run, network = classifier(tmp_path / "run")
    saved = torch.load(run / "best.ckpt")
    torch.save({**saved, "pytorch-lightning_version": "2.6.6"}, run / "best.ckpt")
    task = Classification.load_from_checkpoint(run / "best.ckpt", weights_only=True)
    assert same(task.network, network)
    assert task.classes == ("ant", "bee", "cat")


def test_starting_with_other_classes(tmp_path: Path) -> None:
    run, network = classifier(tmp_path / "run")
    for source in (run, run / "best.ckpt"):
        other: Any = timm.create_model("ddf_resnet_mini", num_classes=5)
        before = other.fc.weight.clone()
        assert start_from(other, source, ["fc"]) == ["fc.weight", "fc.bias"]
        assert torch.equal(other.fc.weight, before)
        assert torch.equal(other.conv1.weight, network.conv1.weight)
    equal: Any = timm.create_model("ddf_resnet_mini", num_classes=3)
    assert start_from(equal, run, ["fc"]) == []
    assert torch.equal(equal.fc.weight, network.fc.weight)
    with pytest.raises(ValueError, match=r"start: .*: weights of another network: "):
        start_from(timm.create_model("ddf_resnet_mini", num_classes=5, in_chans=1), run, ["fc"])


def test_tasks_know_what_depends_on_the_classes(tmp_path: Path) -> None:
    run, network = classifier(tmp_path / "classifier")
    classification = Classification("ddf_resnet_mini")
    classification.adopt(classification.create_network(["a", "b"], 3), ["a", "b"])
    classification.begin_with(str(run))
    assert torch.equal(classification.network.conv1.weight, network.conv1.weight)
    run, network = detector(tmp_path / "detector")
    options = {"out_channels": 16, "head_channels": 32}
    detection = Detection("test_byobnet", network_args=options)
    detection.adopt(detection.create_network(["a", "b", "c", "d"], 3), "abcd")
    detection.begin_with(str(run / "best.ckpt"))
    head: Any = detection.network
    assert head.roi_heads.box_predictor.cls_score.out_features == 5
    assert torch.equal(head.roi_heads.box_head.fc6.weight, network.roi_heads.box_head.fc6.weight)


def test_what_is_no_network(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such run or file"):
        ddfnet.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"expected a run, with config\.yaml, or an exported folder"):
        ddfnet.load(tmp_path)
    for source in (None, 3, b"run"):
        with pytest.raises(TypeError, match=r"source: expected a path, got (NoneType|int|bytes)"):
            ddfnet.load(source)
    (tmp_path / "a.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"a\.ckpt: "):
        ddfnet.load(tmp_path / "a.ckpt")
    (tmp_path / "a.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"a\.safetensors: damaged, or not a \.safetensors file"):
        ddfnet.load(tmp_path / "a.safetensors")
    run, _ = classifier(tmp_path / "run")
    (run / "best.ckpt").write_bytes((run / "best.ckpt").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"best\.ckpt: damaged or truncated checkpoint"):
        ddfnet.load(run)
    (run / "best.ckpt").unlink()
    with pytest.raises(FileNotFoundError, match=r"best\.ckpt: no such checkpoint"):
        ddfnet.load(run)
