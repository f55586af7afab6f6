"""The batches of a detection data set: in COCO's format, Pascal VOC's or YOLO's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as lightning
from torch.utils.data import DataLoader, SequentialSampler

from ddfnet.data.detection import garments
from ddfnet.data.detection.coco import CocoSplit
from ddfnet.data.detection.split import DetectionSplit, GroupedBatches
from ddfnet.tasks.loading import loader

LAYOUTS = {  # below the root: images, and annotations in the folder of that name
    "coco": {name: (f"{name}2017", f"instances_{name}2017.json") for name in ("train", "val")},
    "garments": {name: (name, f"{name}.json") for name in garments.SPLITS},
}


@dataclass(frozen=True)
class DetectionSplits:
    """Where the data set has no test images of its own, `test` is `val`."""

    train: DetectionSplit
    val: DetectionSplit
    test: DetectionSplit

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, the first being that of label 1."""
        return self.train.classes


class DetectionData(lightning.LightningDataModule):
    """Batches of a data set in COCO's format, Pascal VOC's or YOLO's.

    The order of an epoch follows from the seed and the epoch's number alone.

    Args:
        dataset: "coco"; "voc", see `ddfnet.data.detection.voc.voc_splits`; "yolo", see
            `ddfnet.data.detection.yolo.yolo_splits`; or "garments", the small one that `ddfnet make-garments` makes.
        root: "coco": a folder with `train2017`, `val2017` and `annotations/instances_train2017.json`, `..._val2017.json`.
            "voc", "yolo": the folder of the data set. "garments": its folder, made if it is not there; None: one in the
            user's cache.
        train_images, train_annotations: a folder of images and its annotation file, in the place of those below `root`.
        val_images, val_annotations: alike.
        test_images, test_annotations: alike; "coco" without them is tested on the validation images, as in the paper.
        batch_size: images a step and device.
        flip: mirrors training images left to right at random.
        group: makes batches of images that are all upright or all wide, so that little of them is padding.
        empty_images: trains on images without annotations too.
        workers: processes that load batches; 0 loads them in the training process.
        seed: of order and flips; None takes that of the run.
    """

    def __init__(
        self,
        dataset: Literal["coco", "voc", "yolo", "garments"] = "coco",
        root: Path | None = None,
        train_images: Path | None = None,
        train_annotations: Path | None = None,
        val_images: Path | None = None,
        val_annotations: Path | None = None,
        test_images: Path | None = None,
        test_annotations: Path | None = None,
        batch_size: int = 16,
        flip: bool = True,
        group: bool = True,
        empty_images: bool = False,
        workers: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0)):
            if value < least:
                raise ValueError(f"{name}: expected an int >= {least}, got {value}")
        self.dataset, self.root, self.batch_size, self.workers, self.seed = dataset, root, batch_size, workers, seed
        self.flip, self.group, self.empty_images = flip, group, empty_images
        self.given = {
            "train": (train_images, train_annotations),
            "val": (val_images, val_annotations),
            "test": (test_images, test_annotations),
        }
        self._splits: DetectionSplits | None = None

    @property
    def splits(self) -> DetectionSplits:
        """The data set, read, checked and, if it is "garments", made at first use."""
        if self._splits is None and self.dataset in ("voc", "yolo"):
            self._splits = self._other_format()
        if self._splits is None:
            if self.dataset == "garments":
                self.root = self.root or garments.default_folder()
                if not garments.is_made(self.root):
                    garments.make_garments(self.root)
            train = CocoSplit(
                *self._paths("train"), train=True, flip=self.flip, empty_images=self.empty_images, seed=self.seed or 0
            )
            val = CocoSplit(*self._paths("val"))
            test = CocoSplit(*self._paths("test")) if self._paths("test") != self._paths("val") else val
            for split in (val, test):
                if (split.category_ids, split.classes) != (train.category_ids, train.classes):
                    raise ValueError(
                        f"{split.annotations}: expected the categories of {train.annotations}, got"
                        f" {_told(split)} and not {_told(train)}"
                    )
            self._splits = DetectionSplits(train, val, test)
        return self._splits

    def _other_format(self) -> DetectionSplits:
        from ddfnet.data.detection.voc import voc_splits
        from ddfnet.data.detection.yolo import yolo_splits

        if self.root is None:
            raise ValueError(f"root: expected the folder of the data set with dataset={self.dataset!r}, got None")
        read = voc_splits if self.dataset == "voc" else yolo_splits
        return DetectionSplits(*read(self.root, flip=self.flip, empty_images=self.empty_images, seed=self.seed or 0))

    def _paths(self, name: str) -> tuple[Path, Path]:
        """The images and the annotations of a split; ValueError where one has no path."""
        images, annotations = self.given[name]
        layout = LAYOUTS[self.dataset].get(name)
        if layout is None and images is None and annotations is None:
            return self._paths("val")
        if layout is not None and self.root is not None:
            images, annotations = images or self.root / layout[0], annotations or self.root / "annotations" / layout[1]
        for what, path in (("images", images), ("annotations", annotations)):
            if path is None:
                raise ValueError(f"{name}_{what}: expected a path, or root, a folder laid out as COCO's, got neither")
        return images, annotations  # type: ignore[return-value]

    def train_dataloader(self) -> DataLoader[Any]:
        """The batches of the trainer's current epoch; the run reloads it every epoch."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        split = self.splits.train
        split.set_epoch(epoch)
        batches = GroupedBatches(
            split,
            self.batch_size,
            drop_last=len(split) > self.batch_size,
            seed=(self.seed or 0) * 1_000_003 + epoch,
            group=self.group,
        )
        return loader(split, self.workers, batch_sampler=batches)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._evaluated(self.splits.val)

    def test_dataloader(self) -> DataLoader[Any]:
        return self._evaluated(self.splits.test)

    def _evaluated(self, split: DetectionSplit) -> DataLoader[Any]:
        return loader(split, self.workers, sampler=SequentialSampler(split), batch_size=self.batch_size)


def _told(split: DetectionSplit) -> str:
    return (
        ", ".join(f"{i} {name}" for i, name in list(zip(split.category_ids, split.classes, strict=True))[:4]) + ", ..."
    )
