"""Any data set in COCO's format: a folder of images and an annotation file, checked whole before training starts."""

import json
import math
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Sampler
from torchvision.transforms.v2.functional import pil_to_tensor

from ddfnet.data.decode import read_rgb
from ddfnet.data.images import TRIES

Target = dict[str, Tensor]
MIN_SIDE = 1.0  # pixels: a training box with a shorter side has nothing to learn from, and the detectors refuse it


class Batch(NamedTuple):
    """Images with their boxes, and the names of those that were asked for and could not be read."""

    images: list[Tensor]  # (3, H, W) float32 in 0..1
    targets: list[Target]  # of each image: boxes (N, 4), labels (N,), iscrowd (N,) and area (N,)
    places: tuple[int, ...]  # of the images in their split
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class AnnotatedImage:
    """An image and its N boxes, in the order of the annotation file.

    Arrays, not tensors, each of which would take a file descriptor on its way to a worker.
    """

    path: Path
    image_id: int | str
    width: int
    height: int
    boxes: NDArray[np.float32]  # (N, 4) float32: left, top, right, bottom, in pixels
    labels: NDArray[
        np.int64
    ]  # (N,) int64: 1 to the number of classes, in the order of the category ids; 0 is the background
    crowd: NDArray[np.bool_]  # (N,) bool: neither to be found nor wrong to be found
    areas: NDArray[np.float32]  # (N,) float32, in square pixels: what makes an object small, medium or large


class CocoSplit:
    """The images of one annotation file.

    Boxes of a training split are clipped to their image, those with less than a pixel left are dropped, and images left
    without boxes are left out; what was done is counted in `counts`. Boxes of other splits are taken as they are, so that
    scores are those that pycocotools computes from the same file.

    An image whose pixels cannot be read is named in its batch. In training the next one that can be takes its place;
    otherwise it is left out.

    Args:
        images: the folder that `file_name` is relative to.
        annotations: the JSON file. `iscrowd` (or `ignore`) marks boxes that are neither trained on nor scored; an absent
            `area` is that of the box.
        train: whether it is trained on.
        flip: mirrors training images left to right at random.
        empty_images: trains on images without annotations too.
        seed: of the flips.

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
        self.images, self.annotations = images, annotations
        self.train, self.flip, self.seed = train, flip, seed
        self.category_ids, self.classes, self.records = _read(images, annotations)
        self.counts = {
            "images": len(self.records),
            "boxes": sum(len(record.labels) for record in self.records),
            "crowd": sum(int(record.crowd.sum()) for record in self.records),
        }
        if train:
            self._make_trainable(empty_images)
        if not any(bool((~record.crowd).any()) for record in self.records):
            raise ValueError(f"{annotations}: expected boxes to {'train on' if train else 'score by'}, found none")
        _check_files(images, self.records)
        self.set_epoch(0)

    def _make_trainable(self, empty_images: bool) -> None:
        kept: list[AnnotatedImage] = []
        clipped = dropped = 0
        for record in self.records:
            boxes = np.clip(record.boxes, 0, np.array([record.width, record.height] * 2, np.float32))
            good = ((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIDE).all(1)
            clipped += int(((boxes != record.boxes).any(1) & good).sum())
            dropped += int((~good).sum())
            # Flat fields rather than `replace`: this loop passes over every image of the data set.
            record = AnnotatedImage(
                *(record.path, record.image_id, record.width, record.height),
                *(boxes[good], record.labels[good], record.crowd[good], record.areas[good]),
            )
            if bool((~record.crowd).any()) or (empty_images and not len(record.labels)):
                kept.append(record)
        self.counts |= {"clipped": clipped, "dropped": dropped, "left_out": len(self.records) - len(kept)}
        self.records = kept

    def __len__(self) -> int:
        return len(self.records)

    def set_epoch(self, epoch: int) -> None:
        """Draws the flips of this epoch."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) * 3 + 1)  # a stream of its own
        self.flips = torch.rand(len(self), generator=generator) < 0.5

    def __getitems__(self, indices: list[int]) -> Batch:
        """The images of `indices`, in order.

        Raises:
            ValueError: an image has another size than the annotations say; in training, none of 100 in a row can be read.
        """
        images: list[Tensor] = []
        targets: list[Target] = []
        places: list[int] = []
        unreadable: list[str] = []
        for asked in indices:
            read, index, failed = self._first_readable(asked)
            unreadable += failed
            if read is None:
                continue
            record = self.records[index]
            image, boxes = pil_to_tensor(read).float() / 255, torch.tensor(record.boxes)
            if tuple(image.shape[1:]) != (record.height, record.width):
                raise ValueError(_another_size(record, image.shape[2], image.shape[1]))
            if self.flip and bool(self.flips[index]):
                image = image.flip(2)
                left, top, right, bottom = boxes.unbind(1)
                boxes = torch.stack([record.width - right, top, record.width - left, bottom], 1)
            images.append(image)
            crowd = torch.tensor(record.crowd, dtype=torch.int64)
            labels, areas = torch.tensor(record.labels), torch.tensor(record.areas)
            targets.append({"boxes": boxes, "labels": labels, "iscrowd": crowd, "area": areas})
            places.append(index)
        return Batch(images, targets, tuple(places), tuple(unreadable))

    def _first_readable(self, asked: int) -> tuple[Image.Image | None, int, list[str]]:
        """The image at `asked`, or in training the first after it that can be read; its place; those that could not."""
        failed: list[str] = []
        first: ValueError | None = None
        for step in range(min(TRIES, len(self)) if self.train else 1):
            index = (asked + step) % len(self)
            try:
                return read_rgb(self.records[index].path), index, failed
            except ValueError as error:
                failed.append(str(self.records[index].path))
                first = first or error
        if self.train:
            raise ValueError(f"{first}; nor could any of the {len(failed) - 1} images after it be read")
        return None, asked, failed

    def result(self, index: int, boxes: Tensor, labels: Tensor, scores: Tensor) -> list[dict[str, Any]]:
        """Detections (boxes (N, 4), labels (N,), scores (N,)) on image `index` as COCO's result format has them."""
        corners = boxes.double()
        sides = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
        return [
            {
                "image_id": self.records[index].image_id,
                "category_id": self.category_ids[label - 1],
                "bbox": box,
                "score": score,
            }
            for box, label, score in zip(sides.tolist(), labels.tolist(), scores.tolist(), strict=True)
        ]


class GroupedBatches(Sampler[list[int]]):
    """Shuffled batches of images that are all upright or all wide, so that little of a batch is padding.

    What is left over of both makes the last, mixed batches; `drop_last` drops the last one where it is short. Without
    `group` the batches are those of a plain shuffle.
    """

    def __init__(self, split: CocoSplit, batch_size: int, *, drop_last: bool, seed: int, group: bool = True) -> None:
        self.wide = [group and record.width > record.height for record in split.records]
        self.batch_size, self.drop_last, self.seed = batch_size, drop_last, seed

    def __len__(self) -> int:
        whole, rest = divmod(len(self.wide), self.batch_size)
        return whole + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(len(self.wide)))
        random.Random(self.seed).shuffle(order)
        waiting: dict[bool, list[int]] = {False: [], True: []}
        for index in order:
            group = waiting[self.wide[index]]
            group.append(index)
            if len(group) == self.batch_size:
                yield group.copy()
                group.clear()
        rest = waiting[False] + waiting[True]
        for start in range(0, len(rest), self.batch_size):
            if start + self.batch_size <= len(rest) or not self.drop_last:
                yield rest[start : start + self.batch_size]


def _read(images: Path, annotations: Path) -> tuple[tuple[int, ...], tuple[str, ...], list[AnnotatedImage]]:
    """Category ids in order, their names, and every image with its boxes."""
    if not images.is_dir():
        raise FileNotFoundError(f"{images}: no such folder of images")
    if not annotations.is_file():
        raise FileNotFoundError(f"{annotations}: no such annotation file")
    try:
        content = json.loads(annotations.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{annotations}: not a JSON file, or a damaged one ({error})") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{annotations}: expected COCO's format with a list {key!r}, found none")
    categories = sorted(_by_id(content["categories"], annotations, "categories", name=str).items())
    if not categories:
        raise ValueError(f"{annotations}: expected categories, found none")
    labels = {category_id: label for label, (category_id, _) in enumerate(categories, 1)}
    entries = _by_id(content["images"], annotations, "images", file_name=str, width=int, height=int)
    if not entries:
        raise ValueError(f"{annotations}: expected images, found none")
    found: dict[Any, list[tuple[list[float], int, bool, float]]] = {image_id: [] for image_id in entries}
    for position, annotation in enumerate(content["annotations"]):
        where = f"{annotations}: annotations[{position}]"
        if not isinstance(annotation, dict):
            raise ValueError(f"{where}: expected an object, got {annotation!r}")
        for key, known in (("image_id", found), ("category_id", labels)):
            if annotation.get(key) not in known:
                raise ValueError(f"{where}: {key}: expected one of the file's, got {annotation.get(key)!r}")
        box = annotation.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
            raise ValueError(f"{where}: bbox: expected 4 finite numbers (left, top, width, height), got {box!r}")
        area = annotation.get("area", max(box[2], 0) * max(box[3], 0))
        if not _is_number(area):
            raise ValueError(f"{where}: area: expected a finite number, got {area!r}")
        crowd = bool(annotation.get("iscrowd") or annotation.get("ignore"))
        found[annotation["image_id"]].append((box, labels[annotation["category_id"]], crowd, area))
    records = [
        _annotated_image(images / entry["file_name"], image_id, entry["width"], entry["height"], found[image_id])
        for image_id, entry in entries.items()
    ]
    return tuple(labels), tuple(entry["name"] for _, entry in categories), records


def _annotated_image(
    path: Path, image_id: int | str, width: int, height: int, found: list[tuple[list[float], int, bool, float]]
) -> AnnotatedImage:
    boxes, labels, crowd, areas = zip(*found, strict=True) if found else ((), (), (), ())
    corners = [(left, top, left + wide, top + high) for left, top, wide, high in boxes]
    return AnnotatedImage(
        *(path, image_id, width, height),
        boxes=np.array(corners, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        crowd=np.array(crowd, np.bool_),
        areas=np.array(areas, np.float32),
    )


def _by_id(entries: list[Any], annotations: Path, key: str, **fields: type) -> dict[Any, dict[str, Any]]:
    """The entries by their ids; ValueError where one lacks a field or shares its id."""
    found: dict[Any, dict[str, Any]] = {}
    for position, entry in enumerate(entries):
        where = f"{annotations}: {key}[{position}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int | str):
            raise ValueError(f"{where}: expected an object with an id, got {entry!r}")
        for name, kind in fields.items():
            if not isinstance(entry.get(name), kind) or (kind is int and entry[name] < 1):
                expected = "a positive int" if kind is int else "a string"
                raise ValueError(f"{where}: {name}: expected {expected}, got {entry.get(name)!r}")
        if entry["id"] in found:
            raise ValueError(f"{where}: expected an id of its own, got {entry['id']!r}, which an earlier one has")
        found[entry["id"]] = entry
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _check_files(folder: Path, records: list[AnnotatedImage]) -> None:
    """Opens every image as far as its size, so that what is missing is known before the first step."""
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(_size, records))
    missing = [record for record, size in zip(records, sizes, strict=True) if size is None]
    if missing:
        name = missing[0].path.relative_to(folder).as_posix()
        raise FileNotFoundError(f"{folder}: {len(missing)} of {len(records)} images are missing, the first is {name}")
    for record, size in zip(records, sizes, strict=True):
        if size is not None and size != (record.width, record.height):
            raise ValueError(_another_size(record, *size))


def _size(record: AnnotatedImage) -> tuple[int, int] | None:
    """Width and height of the file, None where it is not there."""
    try:
        with Image.open(record.path) as image:
            return image.size
    except FileNotFoundError:
        return None
    except UnidentifiedImageError:
        raise ValueError(f"{record.path}: not an image") from None


def _another_size(record: AnnotatedImage, width: int, height: int) -> str:
    return f"{record.path}: expected {record.width}x{record.height} as the annotations say, got {width}x{height}"
