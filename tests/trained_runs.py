"""Folders of runs as `ddfnet train` leaves them, made for the tests without training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn


def write_run(
    folder: Path, network: nn.Module, model: dict[str, Any], data: dict[str, Any] | None, classes: Sequence[str] = ()
) -> Path:
    """The folder of a finished run with the weights of `network`; `model` and `data` are the options in config.yaml."""
    folder.mkdir(parents=True)
    config = {"seed": 0, "epochs": 1, "model": model, "data": data, "trainer": {"devices": 1}}
    (folder / "config.yaml").write_text("# ddfnet train\n" + yaml.safe_dump(config))
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    saved = {"state_dict": state, "hyper_parameters": model.get("init_args", {}), "epoch": 0}
    torch.save({**saved, **({"classes": list(classes)} if classes else {})}, folder / "best.ckpt")
    return folder


def classifier(
    folder: Path, *, network: str = "ddf_resnet_mini", old: bool = False, **options: Any
) -> tuple[Path, Any]:
    """A run on a folder of images of 3 classes, and its network. `old`: as versions with one class of data wrote it."""
    import ddfnet.models  # registers the networks

    torch.manual_seed(0)
    made = ddfnet.models.classification.resnet.create_model(network, num_classes=3, **options).eval()
    model = {
        "class_path": "ddfnet.tasks.classification.Classification",
        "init_args": {"network": network, "network_args": options or None},
    }
    prepared = {"root": "/nowhere", "image_size": 32, "test_size": 36, "crop_pct": 0.9, "mean": [0.4, 0.5, 0.6]}
    data = {"class_path": "ddfnet.tasks.classification.ImageFolderData", "init_args": prepared}
    if old:
        options = {"dataset": "image-folder", "max_shift": 0, **prepared}
        data = {"class_path": "ddfnet.tasks.classification.ClassificationData", "init_args": options}
    return write_run(folder, made, model, data, ("ant", "bee", "cat")), made


def detector(folder: Path) -> tuple[Path, Any]:
    """A run of a small detector of 2 classes, and its network."""
    from ddfnet.models import fasterrcnn_resnet50_fpn_ddf_up

    torch.manual_seed(0)
    options = {"out_channels": 16, "head_channels": 32}
    sizes = {"min_size": 64, "max_size": 96}
    made = fasterrcnn_resnet50_fpn_ddf_up(backbone="test_byobnet", num_classes=3, **sizes, **options).eval()
    arguments = {"backbone": "test_byobnet", **sizes, "network_args": options, "weights_backbone": "DEFAULT"}
    model = {"class_path": "ddfnet.tasks.detection.Detection", "init_args": arguments}
    data = {"class_path": "ddfnet.tasks.detection.DetectionData", "init_args": {"dataset": "coco", "root": "/nowhere"}}
    return write_run(folder, made, model, data, ("dog", "eel")), made


def depth_upsampler(folder: Path) -> tuple[Path, Any]:
    """A run of a DDF-Up-Net of factor 2, and its network."""
    from ddfnet.models import DDFUpNet

    torch.manual_seed(0)
    made = DDFUpNet(2, residual=True).eval()
    arguments = {"network": "ddf_up_net", "scale_factor": 2, "network_args": {"residual": True}}
    model = {"class_path": "ddfnet.tasks.depth.task.JointUpsampling", "init_args": arguments}
    data = {"class_path": "ddfnet.tasks.depth.data.JointUpsamplingData", "init_args": {"dataset": "scenes"}}
    return write_run(folder, made, model, data), made
