"""Images with boxes: every format of detection data is read into these, and checked whole before training starts."""

import logging
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Sampler
from torchvision.transforms.v2.functional import pil_to_tensor

from ddfnet.data.decode import displayed_size, read_rgb
from ddfnet.data.folders import listed
from ddfnet.data.images import TRIES

Target = dict[str, Tensor]
Size = tuple[int, int]  # width, height
MIN_SIDE = 1.0  # pixels: a training box with a shorter side has nothing to learn from, and the detectors refuse it
LEAST_AREA = 1e-30  # stands for an area of 0, which torchmetrics takes for an absent one
NO_AREA = 2e10  # stands for a negative area: above COCO's greatest, it is of no range either

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """Images with their boxes, and the names of those that could not be read."""

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
    crowd: NDArray[np.bool_]  # (N,) bool: neither required nor wrong when found
    areas: NDArray[np.float32]  # (N,) float32, in square pixels: what makes an object small, medium or large

    def only(self, chosen: NDArray[np.bool_]) -> "AnnotatedImage":
        """Return the image with those boxes alone for which `chosen` (N,) is set."""
        return replace(
            self,
            boxes=self.boxes[chosen],
            labels=self.labels[chosen],
            crowd=self.crowd[chosen],
            areas=self.areas[chosen],
        )


class DetectionSplit:
    """The images of a detection data set, or of a part, with their boxes.

    Boxes of a training split are clipped to their image, those with less than a pixel left are dropped, and images left
    without boxes are left out; what was done is counted in `counts`. Boxes of other splits are taken as they are.

    Photographs are turned upright as their EXIF orientation says, as the field's tools do. One whose annotations have its
    size as it is stored, and not as it is displayed, is read as it is stored.

    An image whose pixels cannot be read is named in its batch. In training the next one that can be takes its place;
    otherwise it is left out.

    Args:
        annotations: the file or the folder that the boxes are from, for messages.
        classes: names, the first being that of label 1.
        records: the images.
        category_ids: of the classes, in COCO's result format; 1, 2, ... without.
        train: whether it is trained on.
        flip: mirrors training images left to right at random.
        empty_images: trains on images without annotations too.
        seed: of the flips.

    Raises:
        FileNotFoundError: an image is not there; the first one missing is named, and how many are.
        ValueError: there are no boxes, or an image has another size than its record says.
    """

    def __init__(
        self,
        annotations: Path,
        classes: Sequence[str],
        records: list[AnnotatedImage],
        *,
        category_ids: Sequence[int] | None = None,
        train: bool = False,
        flip: bool = False,
        empty_images: bool = False,
        seed: int = 0,
    ) -> None:
        self.annotations, self.classes, self.records = annotations, tuple(classes), records
        self.category_ids = tuple(category_ids or range(1, len(classes) + 1))
        self.train, self.flip, self.seed = train, flip, seed
        self.counts = {
            "images": len(self.records),
            "boxes": sum(len(record.labels) for record in self.records),
            "crowd": sum(int(record.crowd.sum()) for record in self.records),
        }
        if train:
            self._make_trainable(empty_images)
        if not any(bool((~record.crowd).any()) for record in self.records):
            raise ValueError(f"{annotations}: expected boxes to {'train on' if train else 'score by'}, found none")
        _check_sizes(annotations, self.records)
        self.set_epoch(0)

    def _make_trainable(self, empty_images: bool) -> None:
        kept: list[AnnotatedImage] = []
        dropped: list[str] = []  # the images of the dropped boxes
        clipped = 0
        for record in self.records:
            boxes = np.clip(record.boxes, 0, np.array([record.width, record.height] * 2, np.float32))
            good: NDArray[np.bool_] = np.all(boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE, axis=1)
            clipped += int(((boxes != record.boxes).any(1) & good).sum())
            dropped += [record.path.name] * int((~good).sum())
            record = replace(record, boxes=boxes).only(good)
            if bool((~record.crowd).any()) or (empty_images and not len(record.labels)):
                kept.append(record)
        if dropped:
            what = f"boxes with less than {MIN_SIDE:g} pixel inside their image are not trained on"
            log.warning("%s: %s: %s", self.annotations, what, listed(dropped))
        self.counts |= {"clipped": clipped, "dropped": len(dropped), "left_out": len(self.records) - len(kept)}
        self.records = kept

    def __len__(self) -> int:
        return len(self.records)

    def set_epoch(self, epoch: int) -> None:
        """Draw the flips of this epoch."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) * 3 + 1)  # not the order's stream
        self.flips = torch.rand(len(self), generator=generator) < 0.5

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return the images of `indices`, in order.

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
                got = f"{image.shape[2]}x{image.shape[1]}"
                raise ValueError(f"{record.path}: expected {record.width}x{record.height} as annotated, got {got}")
            if self.flip and bool(self.flips[index]):
                image = image.flip(2)
                left, top, right, bottom = boxes.unbind(1)
                boxes = torch.stack([record.width - right, top, record.width - left, bottom], 1)
            images.append(image)
            crowd = torch.tensor(record.crowd, dtype=torch.int64)
            labels, areas = torch.tensor(record.labels), torch.tensor(_scored_areas(record.areas))
            targets.append({"boxes": boxes, "labels": labels, "iscrowd": crowd, "area": areas})
            places.append(index)
        return Batch(images, targets, tuple(places), tuple(unreadable))

    def _first_readable(self, asked: int) -> tuple[Image.Image | None, int, list[str]]:
        """Return the image at `asked`, or in training the first readable one after it; its place; the unreadable ones."""
        failed: list[str] = []
        first: ValueError | None = None
        for step in range(min(TRIES, len(self)) if self.train else 1):
            index = (asked + step) % len(self)
            record = self.records[index]
            try:
                return read_rgb(record.path, size=(record.width, record.height)), index, failed
            except ValueError as error:
                failed.append(str(record.path))
                first = first or error
        if self.train:
            raise ValueError(f"{first}; nor could any of the {len(failed) - 1} images after it be read")
        return None, asked, failed

    def result(self, index: int, boxes: Tensor, labels: Tensor, scores: Tensor) -> list[dict[str, Any]]:
        """Write detections (boxes (N, 4), labels (N,), scores (N,)) on image `index` in COCO's result format."""
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

    def __init__(
        self, split: DetectionSplit, batch_size: int, *, drop_last: bool, seed: int, group: bool = True
    ) -> None:
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


def image_sizes(paths: Sequence[Path]) -> list[tuple[Size, Size] | None]:
    """Return the size of each image as stored and as displayed, None where the file is not there; decodes no pixels.

    Raises:
        ValueError: a file is no image, or a damaged one.
    """
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(_image_size, paths))


def _image_size(path: Path) -> tuple[Size, Size] | None:
    try:
        with Image.open(path) as image:
            return image.size, displayed_size(image)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not an image") from None
    except Exception as error:  # Pillow raises whatever the damage leads its parsers to
        raise ValueError(f"{path}: unreadable image ({error})") from None


def known_sizes(annotations: Path, paths: Sequence[Path]) -> list[tuple[Size, Size]]:
    """Return `image_sizes` of images, all of which must exist.

    Raises:
        FileNotFoundError: some are not; the first is named, and how many they are.
        ValueError: a file is no image, or a damaged one.
    """
    sizes = image_sizes(paths)
    missing = [path for path, size in zip(paths, sizes, strict=True) if size is None]
    if missing:
        count = f"{len(missing)} of {len(paths)} images are missing"
        raise FileNotFoundError(f"{annotations}: {count}, the first is {missing[0]}")
    return [size for size in sizes if size is not None]


def _check_sizes(annotations: Path, records: list[AnnotatedImage]) -> None:
    """Open every image as far as its size, so that what is missing is known before the first step."""
    sizes = known_sizes(annotations, [record.path for record in records])
    for record, (stored, displayed) in zip(records, sizes, strict=True):
        if (record.width, record.height) not in (stored, displayed):
            turned = "" if stored == displayed else f", {displayed[0]}x{displayed[1]} turned upright as its EXIF says"
            raise ValueError(
                f"{record.path}: expected {record.width}x{record.height} as the annotations say,"
                f" got {stored[0]}x{stored[1]}{turned}"
            )


def _scored_areas(areas: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the areas such that torchmetrics sorts them as pycocotools does: 0 is small, and less than 0 is of no range."""
    return np.where(areas < 0, np.float32(NO_AREA), np.maximum(areas, np.float32(LEAST_AREA)))
