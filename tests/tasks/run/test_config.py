"""Configurations that older versions wrote name classes that are gone."""

from pathlib import Path

import pytest
import yaml

from ddfnet.tasks.classification import FashionMnistData
from ddfnet.tasks.data import options_of
from ddfnet.tasks.datasets import DATASETS, find
from ddfnet.tasks.depth.data import ScenesData
from ddfnet.tasks.run.config import OLD_DATA, OLD_TASKS, read_config, updated, with_dataset
from ddfnet.tasks.task import Task

OLD = """\
# ddfnet train --config depth/ddf_up_net_x4
seed: 0
epochs: 5
model:
  class_path: ddfnet.tasks.joint_upsampling.JointUpsampling
  init_args:
    network: ddf_up_net
    scale_factor: 4
data:
  class_path: ddfnet.tasks.joint_upsampling_data.JointUpsamplingData
  init_args:
    dataset: nyu
    root: nyu.mat
    crop: 64
    scenes: 300
    seed: 0
"""


def test_an_older_run_reads_as_one_of_today(tmp_path: Path) -> None:
    """One class served all data sets: the options of the others, which had no effect, go."""
    (tmp_path / "config.yaml").write_text(OLD)
    config = read_config(tmp_path / "config.yaml")
    assert config["model"]["class_path"] == "ddfnet.tasks.depth.task.DepthUpsampling"
    assert config["model"]["init_args"] == {"network": "ddf_up_net", "scale_factor": 4}
    assert config["data"] == {
        "class_path": "ddfnet.tasks.depth.data.NYUData",
        "init_args": {"root": "nyu.mat", "crop": 64, "seed": 0},
    }
    assert updated(config) == config


@pytest.mark.parametrize("path", OLD_DATA)
@pytest.mark.parametrize("named", [False, True])
def test_every_older_class_of_data_has_its_data_set(path: str, named: bool) -> None:
    task, default = OLD_DATA[path]
    for dataset in DATASETS[task] if named else [default]:
        options = {"batch_size": 3, "mean": None, **({"dataset": dataset} if named else {})}
        found = updated({"data": {"class_path": path, "init_args": options}})["data"]
        assert found["class_path"] == DATASETS[task][dataset]
        assert found["init_args"]["batch_size"] == 3
        assert ("mean" in found["init_args"]) == (dataset == "image-folder")


def test_the_tables_name_classes() -> None:
    for path in OLD_TASKS.values():
        assert issubclass(find(path), Task)
    for names in DATASETS.values():
        for name, path in names.items():
            assert find(path).dataset == name


def test_options_are_collected_from_the_bases() -> None:
    assert set(options_of(FashionMnistData)) == {"root", "max_shift", "augment", "batch_size", "workers", "seed"}
    assert {"scenes", "motorcycle_crops", "crop", "batch_size"} <= set(options_of(ScenesData))


def test_another_data_set_of_the_task() -> None:
    config = updated(
        {"data": {"class_path": "ddfnet.tasks.classification.ClassificationData", "init_args": {"max_shift": 1}}}
    )
    changed, left_out = with_dataset(config, "image-folder")
    assert changed["data"] == {"class_path": DATASETS["classification"]["image-folder"], "init_args": {}}
    assert left_out == ["max_shift"]
    with pytest.raises(
        ValueError, match=r"data\.dataset: expected one of fashion-mnist, cifar10, image-folder, got 'mars'"
    ):
        with_dataset(config, "mars")


def test_what_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(ValueError, match="expected YAML"):
        read_config(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text(yaml.safe_dump([1]))
    with pytest.raises(ValueError, match="expected options by name, got list"):
        read_config(tmp_path / "a.yaml")
