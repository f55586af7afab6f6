"""Any data set in COCO's format: a folder of images and an annotation file."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddfnet.data.detection.split import AnnotatedImage, DetectionSplit

FLAGS = {"0": False, "1": True, "false": False, "true": True, "none": False}  # as tools write them, in quotes or not


class _Box(NamedTuple):
    """An annotation, checked."""

    sides: list[float]  # left, top, width, height
    label: int
    crowd: bool
    area: float


class CocoSplit(DetectionSplit):
    """The images of one annotation file; `DetectionSplit` says how they are prepared.

    Scores of a split that is not trained on are those that pycocotools computes from the same file.

    Args:
        images: the folder that `file_name` is relative to.
        annotations: the JSON file. `iscrowd` marks boxes that are neither trained on nor scored; `ignore` those that are not
            trained on, and are scored like any other, as pycocotools does. An absent `area` is that of the box.
        train, flip, empty_images, seed: of `DetectionSplit`.

    Raises:
        FileNotFoundError: a file or the folder is not there; the first one missing is named, and how many are.
        ValueError: the file is not what COCO's format says, or an image has another size than it says.
    """

    def __init__(
        self,
        images: Path,
        annotations: Path,
        *,
        train: bool = False,
        flip: bool = False,
        empty_images: bool = False,
        seed: int = 0,
    ) -> None:
        category_ids, classes, records = _read(images, annotations, train)
        options: dict[str, Any] = {"train": train, "flip": flip, "empty_images": empty_images, "seed": seed}
        super().__init__(annotations, classes, records, category_ids=category_ids, **options)


def _read(
    images: Path, annotations: Path, train: bool
) -> tuple[tuple[int, ...], tuple[str, ...], list[AnnotatedImage]]:
    """Return the category ids in order, their names, and every image with its boxes."""
    content = _content(images, annotations)
    categories = sorted(_by_id(content["categories"], annotations, "categories", name=str).items())
    if not categories:
        raise ValueError(f"{annotations}: expected categories, found none")
    labels = {category_id: label for label, (category_id, _) in enumerate(categories, 1)}
    entries = _by_id(content["images"], annotations, "images", file_name=str, width=int, height=int)
    if not entries:
        raise ValueError(f"{annotations}: expected images, found none")
    found: dict[Any, list[_Box]] = {image_id: [] for image_id in entries}
    for position, annotation in enumerate(content["annotations"]):
        where = f"{annotations}: annotations[{position}]"
        if not isinstance(annotation, dict):
            raise ValueError(f"{where}: expected an object, got {annotation!r}")
        for key, known in (("image_id", found), ("category_id", labels)):
            value = annotation.get(key)
            if isinstance(value, list | dict) or value not in known:
                raise ValueError(f"{where}: {key}: expected one of the file's, got {value!r}")
        found[annotation["image_id"]].append(_box(annotation, labels[annotation["category_id"]], where, train))
    records = [
        _annotated_image(
            images / entry["file_name"], image_id, int(entry["width"]), int(entry["height"]), found[image_id]
        )
        for image_id, entry in entries.items()
    ]
    return tuple(labels), tuple(entry["name"] for _, entry in categories), records


def _content(images: Path, annotations: Path) -> dict[str, list[Any]]:
    """Return the lists of the annotation file."""
    if not images.is_dir():
        raise FileNotFoundError(f"{images}: no such folder of images")
    if not annotations.is_file():
        raise FileNotFoundError(f"{annotations}: no such annotation file")
    try:
        content = json.loads(
            annotations.read_bytes()
        )  # of bytes: in UTF-8, 16 or 32, with or without a byte-order mark
    except ValueError as error:
        raise ValueError(f"{annotations}: not a JSON file, or a damaged one ({error})") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{annotations}: expected COCO's format with a list {key!r}, found none")
    return content


def _box(annotation: dict[str, Any], label: int, where: str, train: bool) -> _Box:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        raise ValueError(f"{where}: bbox: expected 4 finite numbers (left, top, width, height), got {box!r}")
    area = annotation.get("area")
    if area is None:
        area = max(box[2], 0) * max(box[3], 0)
    if not _is_number(area):
        raise ValueError(f"{where}: area: expected a finite number, got {area!r}")
    crowd, ignored = (_flag(annotation, name, where) for name in ("iscrowd", "ignore"))
    return _Box(box, label, crowd or (ignored and train), area)


def _flag(annotation: dict[str, Any], name: str, where: str) -> bool:
    value = annotation.get(name)
    if isinstance(value, int | float) and value in (0, 1):  # True and False are
        return bool(value)
    flag = FLAGS.get(str(value).strip().lower())
    if flag is None:
        raise ValueError(f"{where}: {name}: expected 0 or 1, got {value!r}")
    return flag


def _annotated_image(path: Path, image_id: int | str, width: int, height: int, found: list[_Box]) -> AnnotatedImage:
    corners = [(left, top, left + wide, top + high) for (left, top, wide, high), *_ in found]
    return AnnotatedImage(
        *(path, image_id, width, height),
        boxes=np.array(corners, np.float32).reshape(-1, 4),
        labels=np.array([box.label for box in found], np.int64),
        crowd=np.array([box.crowd for box in found], np.bool_),
        areas=np.array([box.area for box in found], np.float32),
    )


def _by_id(entries: list[Any], annotations: Path, key: str, **fields: type) -> dict[Any, dict[str, Any]]:
    """Return the entries by their ids; raise ValueError if one lacks a field or shares its id."""
    found: dict[Any, dict[str, Any]] = {}
    for position, entry in enumerate(entries):
        where = f"{annotations}: {key}[{position}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int | str):
            raise ValueError(f"{where}: expected an object with an id, got {entry!r}")
        for name, kind in fields.items():
            value: Any = entry.get(name)
            if kind is int and not (_is_number(value) and value >= 1 and value == int(value)):
                raise ValueError(f"{where}: {name}: expected a positive int, got {value!r}")
            if kind is str and not isinstance(value, str):
                raise ValueError(f"{where}: {name}: expected a string, got {value!r}")
        if entry["id"] in found:
            raise ValueError(f"{where}: expected a unique id, got {entry['id']!r}, which an earlier one has")
        found[entry["id"]] = entry
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
