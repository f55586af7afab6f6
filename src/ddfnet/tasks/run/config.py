"""The configuration of a run as plain data, with today's classes in place of those of older versions."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from ddfnet.tasks.data import options_of
from ddfnet.tasks.datasets import class_path, find

OLD_TASKS = {
    "ddfnet.tasks.joint_upsampling.JointUpsampling": "ddfnet.tasks.depth.task.DepthUpsampling",
    "ddfnet.tasks.depth.task.JointUpsampling": "ddfnet.tasks.depth.task.DepthUpsampling",
}
# One class once served all data sets of a task, by an option `dataset` with this default.
OLD_DATA = {
    "ddfnet.tasks.classification_data.ClassificationData": ("classification", "fashion-mnist"),
    "ddfnet.tasks.classification.ClassificationData": ("classification", "fashion-mnist"),
    "ddfnet.tasks.classification.data.ClassificationData": ("classification", "fashion-mnist"),
    "ddfnet.tasks.detection_data.DetectionData": ("detection", "coco"),
    "ddfnet.tasks.detection.DetectionData": ("detection", "coco"),
    "ddfnet.tasks.detection.data.DetectionData": ("detection", "coco"),
    "ddfnet.tasks.joint_upsampling_data.JointUpsamplingData": ("depth", "scenes"),
    "ddfnet.tasks.depth.data.JointUpsamplingData": ("depth", "scenes"),
}


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML file of options, of this version or an older one.

    Raises:
        ValueError: it is not YAML, or not a mapping.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: expected YAML ({' '.join(str(error).split())})") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path}: expected options by name, got {type(config).__name__}")
    return updated(config)


def updated(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with today's classes.

    The class of a data set takes its options alone: the others, which older versions wrote beside them, had no effect.
    """
    config = deepcopy(config)
    model, data = config.get("model"), config.get("data")
    if isinstance(model, dict) and model.get("class_path") in OLD_TASKS:
        model["class_path"] = OLD_TASKS[model["class_path"]]
    if isinstance(data, dict) and data.get("class_path") in OLD_DATA:
        task, dataset = OLD_DATA[data["class_path"]]
        options = dict(data.get("init_args") or {})
        path = class_path(task, options.pop("dataset", dataset))
        known = options_of(find(path))
        config["data"] = {
            "class_path": path,
            "init_args": {name: value for name, value in options.items() if name in known},
        }
    return config


def with_dataset(config: dict[str, Any], dataset: str) -> tuple[dict[str, Any], list[str]]:
    """Return a configuration with another data set of the same task, and the data options that it does not have.

    Raises:
        ValueError: the task has no such data set.
    """
    data = config.get("data")
    module = str(data.get("class_path") if isinstance(data, dict) else data).split(".")
    if module[:2] != ["ddfnet", "tasks"]:
        raise ValueError(f"data.dataset: expected a data set of ddfnet in the recipe, got {'.'.join(module)}")
    path = class_path(module[2], dataset)
    known = options_of(find(path))
    options = (data.get("init_args") or {}) if isinstance(data, dict) else {}
    kept = {name: value for name, value in options.items() if name in known}
    return {**config, "data": {"class_path": path, "init_args": kept}}, [name for name in options if name not in known]
