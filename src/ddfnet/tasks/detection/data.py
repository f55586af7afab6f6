"""The data of object detection: a class for each data set."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from ddfnet.data.detection import garments
from ddfnet.data.detection.coco import CocoSplit
from ddfnet.data.detection.split import DetectionSplit, GroupedBatches
from ddfnet.data.detection.voc import voc_splits
from ddfnet.data.detection.yolo import yolo_splits
from ddfnet.data.samplers import dealt_batches
from ddfnet.tasks.data import TaskData

Part = Literal["train", "val", "test"]
Paths = tuple[Path, Path]  # the folder of images and the annotation file


@dataclass(frozen=True)
class DetectionSplits:
    """A detection data set. Without test images, `test` is `val`."""

    train: DetectionSplit
    val: DetectionSplit
    test: DetectionSplit

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; the first is that of label 1."""
        return self.train.classes


class DetectionData(TaskData):
    """Batches of images with boxes; the order of an epoch follows from the seed and the epoch's number alone.

    Args:
        batch_size, workers, seed: of `ddfnet.tasks.data.TaskData`.
        flip: mirrors training images left to right at random.
        group: makes batches of images that are all upright or all wide, so that little of them is padding.
        empty_images: trains on images without annotations too.
    """

    splits: DetectionSplits

    def __init__(
        self,
        *,
        flip: bool = True,
        group: bool = True,
        empty_images: bool = False,
        batch_size: int = 16,
        workers: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__(batch_size=batch_size, workers=workers, seed=seed)
        self.flip, self.group, self.empty_images = flip, group, empty_images

    def paths(self, part: Part) -> Paths:
        """Return where the images and the annotations of a part are; those of "val" for "test" if it has none."""
        raise NotImplementedError

    def read(self) -> DetectionSplits:
        train = CocoSplit(
            *self.paths("train"), train=True, flip=self.flip, empty_images=self.empty_images, seed=self.seed or 0
        )
        val = CocoSplit(*self.paths("val"))
        test = CocoSplit(*self.paths("test")) if self.paths("test") != self.paths("val") else val
        for split in (val, test):
            if (split.category_ids, split.classes) != (train.category_ids, train.classes):
                raise ValueError(
                    f"{split.annotations}: expected the categories of {train.annotations}, got"
                    f" {_categories(split)} and not {_categories(train)}"
                )
        return DetectionSplits(train, val, test)

    def describe(self) -> dict[str, Any]:
        parts = (self.splits.train, self.splits.val, self.splits.test)
        return {**super().describe(), "found": {str(split.annotations): split.counts for split in parts}}

    def training_batches(self, epoch: int, rank: int, world: int) -> dict[str, Any]:
        split, joined = self.splits.train, self.batch_size * world
        batches = GroupedBatches(
            split, joined, drop_last=len(split) > joined, seed=(self.seed or 0) * 1_000_003 + epoch, group=self.group
        )
        return {"batch_sampler": batches if world == 1 else dealt_batches(batches, rank=rank, world=world)}


class CocoData(DetectionData):
    """Any data set in COCO's format.

    Args:
        root: a folder with `train2017`, `val2017` and `annotations/instances_train2017.json`, `..._val2017.json`.
        train_images, train_annotations: a folder of images and its annotation file, in place of those below `root`.
        val_images, val_annotations: the same for validation.
        test_images, test_annotations: the same for testing; without them, as in the paper, the validation images test.
        options: of `DetectionData`.
    """

    dataset: ClassVar[str] = "coco"

    def __init__(
        self,
        root: Path | None = None,
        *,
        train_images: Path | None = None,
        train_annotations: Path | None = None,
        val_images: Path | None = None,
        val_annotations: Path | None = None,
        test_images: Path | None = None,
        test_annotations: Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root = root and Path(root)
        self.given = {
            "train": (train_images, train_annotations),
            "val": (val_images, val_annotations),
            "test": (test_images, test_annotations),
        }

    def paths(self, part: Part) -> Paths:
        images, annotations = (path and Path(path) for path in self.given[part])
        if part == "test" and images is None and annotations is None:
            return self.paths("val")
        if part != "test" and self.root is not None:
            images = images or self.root / f"{part}2017"
            annotations = annotations or self.root / "annotations" / f"instances_{part}2017.json"
        if images is None or annotations is None:
            what = "images" if images is None else "annotations"
            raise ValueError(f"{part}_{what}: expected a path, or root, a folder laid out as COCO's, got neither")
        return images, annotations


class _LabelledFolder(DetectionData):
    """A folder whose files define its parts."""

    read_splits: ClassVar[Callable[..., tuple[DetectionSplit, DetectionSplit, DetectionSplit]]]

    def __init__(self, root: Path | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = root and Path(root)

    def read(self) -> DetectionSplits:
        if self.root is None:
            raise ValueError(f"root: expected the folder of the data set with dataset={self.dataset!r}, got None")
        read = type(self).read_splits
        return DetectionSplits(*read(self.root, flip=self.flip, empty_images=self.empty_images, seed=self.seed or 0))


class VocData(_LabelledFolder):
    """A data set in Pascal VOC's format, an XML file an image; see `ddfnet.data.detection.voc.voc_splits`.

    Args:
        root: its folder, or one that holds it.
        options: of `DetectionData`.
    """

    dataset: ClassVar[str] = "voc"
    read_splits = staticmethod(voc_splits)


class YoloData(_LabelledFolder):
    """A data set of YOLO's labels, a text file an image; see `ddfnet.data.detection.yolo.yolo_splits`.

    Args:
        root: its folder, with `data.yaml` or `classes.txt`.
        options: of `DetectionData`.
    """

    dataset: ClassVar[str] = "yolo"
    read_splits = staticmethod(yolo_splits)


class GarmentsData(DetectionData):
    """The small data set that `ddfnet make-garments` makes, in COCO's format.

    Args:
        root: its folder, made if it is not there; None: one in the user's cache.
        options: of `DetectionData`.
    """

    dataset: ClassVar[str] = "garments"

    def __init__(self, root: Path | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = Path(root or garments.default_folder())

    def read(self) -> DetectionSplits:
        if not garments.is_made(self.root):
            garments.make_garments(self.root)
        return super().read()

    def paths(self, part: Part) -> Paths:
        return self.root / part, self.root / "annotations" / f"{part}.json"


def _categories(split: DetectionSplit) -> str:
    first = list(zip(split.category_ids, split.classes, strict=True))[:4]
    return ", ".join(f"{number} {name}" for number, name in first) + ", ..."
