"""The names of the data sets, as `--data.dataset` takes them, by task. To add one, write its class and name it here."""

from importlib import import_module

DATASETS = {
    "classification": {
        "fashion-mnist": "ddfnet.tasks.classification.data.FashionMnistData",
        "cifar10": "ddfnet.tasks.classification.data.Cifar10Data",
        "image-folder": "ddfnet.tasks.classification.data.ImageFolderData",
    },
    "detection": {
        "coco": "ddfnet.tasks.detection.data.CocoData",
        "voc": "ddfnet.tasks.detection.data.VocData",
        "yolo": "ddfnet.tasks.detection.data.YoloData",
        "garments": "ddfnet.tasks.detection.data.GarmentsData",
    },
    "depth": {
        "scenes": "ddfnet.tasks.depth.data.ScenesData",
        "motorcycle": "ddfnet.tasks.depth.data.MotorcycleData",
        "nyu": "ddfnet.tasks.depth.data.NYUData",
        "folder": "ddfnet.tasks.depth.data.DepthFolderData",
    },
}


def class_path(task: str, dataset: str) -> str:
    """Return the class path of a data set's class.

    Raises:
        ValueError: the task has no data set of that name.
    """
    if dataset not in DATASETS[task]:
        raise ValueError(f"data.dataset: expected one of {', '.join(DATASETS[task])}, got {dataset!r}")
    return DATASETS[task][dataset]


def find(path: str) -> type:
    """Return the class at a class path.

    Raises:
        ValueError: there is none.
    """
    module, _, name = path.rpartition(".")
    try:
        found: type = getattr(import_module(module), name)
    except (AttributeError, ModuleNotFoundError, ValueError) as error:
        raise ValueError(f"class_path: expected the path of a class, got {path} ({error})") from None
    return found
