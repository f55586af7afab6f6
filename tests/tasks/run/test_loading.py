"""A run of any task loads from its folder alone, also one that an older version wrote."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ddfnet.data.classification.fashion_mnist import fashion_mnist
from ddfnet.tasks.classification import Classification, FashionMnistData
from ddfnet.tasks.depth.data import NYUData
from ddfnet.tasks.depth.task import DepthUpsampling
from ddfnet.tasks.detection import CocoData, Detection
from ddfnet.tasks.run.loading import LoadedRun, load_run
from ddfnet.tasks.task import Task

BOXES = {"backbone": "test_byobnet", "network_args": {"out_channels": 16, "head_channels": 32}, "upsample": "nearest"}


def written(folder: Path, task: Task, classes: tuple[str, ...], channels: int, config: dict[str, Any]) -> LoadedRun:
    """Write a run as training leaves it, and load it."""
    task.adopt(task.create_network(classes, channels), classes)
    torch.save({"state_dict": task.state_dict(), "classes": list(classes)}, folder / "best.ckpt")
    (folder / "config.yaml").write_text("# ddfnet train\n" + yaml.safe_dump(config))
    run = load_run(folder)
    assert type(run.task) is type(task)
    assert run.task.classes == classes
    assert not run.task.network.training
    for name, value in task.network.state_dict().items():
        assert torch.equal(run.task.network.state_dict()[name], value), name
    return run


def test_classification(tmp_path: Path) -> None:
    options = {"network": "resnet_mini", "network_args": None, "channels_last": True}
    old = {"dataset": "fashion-mnist", "root": None, "image_size": 224, "mean": None, "max_shift": 1, "seed": 0}
    config = {
        "model": {"class_path": "ddfnet.tasks.classification.Classification", "init_args": options},
        "data": {"class_path": "ddfnet.tasks.classification_data.ClassificationData", "init_args": old},
    }
    classes = tuple("abcdefghij")
    run = written(tmp_path, Classification("resnet_mini"), classes, 1, config)
    assert isinstance(run.data, FashionMnistData)
    assert run.data.max_shift == 1
    test = fashion_mnist().test
    image = Image.fromarray(test.images[3, 0].numpy())  # type: ignore[attr-defined]
    torch.testing.assert_close(run.data.transform(image), test.__getitems__([3]).images[0])
    assert run.data.transform(Image.fromarray(np.zeros((50, 60, 3), np.uint8))).shape == (1, 28, 28)


def test_detection_needs_no_download(tmp_path: Path) -> None:
    config = {
        "model": {
            "class_path": "ddfnet.tasks.detection.Detection",
            "init_args": {**BOXES, "weights_backbone": "IMAGENET1K_V1"},
        },
        "data": {"class_path": "ddfnet.tasks.detection_data.DetectionData", "init_args": {"dataset": "coco"}},
    }
    run = written(tmp_path, Detection(**BOXES), ("cat", "dog"), 3, config)  # type: ignore[arg-type]
    assert isinstance(run.data, CocoData)


def test_depth(tmp_path: Path) -> None:
    config = {
        "model": {
            "class_path": "ddfnet.tasks.joint_upsampling.JointUpsampling",
            "init_args": {"network": "pac", "scale_factor": 4, "start": "nowhere"},
        },
        "data": {
            "class_path": "ddfnet.tasks.joint_upsampling_data.JointUpsamplingData",
            "init_args": {"dataset": "nyu", "root": "nowhere.mat", "scenes": 3},
        },
    }
    run = written(tmp_path, DepthUpsampling("pac", scale_factor=4), (), 3, config)
    assert isinstance(run.data, NYUData)
    assert run.task.name == "pac-x4"


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run here \(expected config.yaml in it\)"):
        load_run(tmp_path)
    config = {"model": {"class_path": "ddfnet.tasks.classification.Nothing"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(FileNotFoundError, match=r"best.ckpt: no such checkpoint"):
        load_run(tmp_path)
    torch.save({"state_dict": {}}, tmp_path / "best.ckpt")
    with pytest.raises(
        ValueError, match=r"class_path: expected the path of a class, got ddfnet.tasks.classification.N"
    ):
        load_run(tmp_path)
