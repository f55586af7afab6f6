"""The batches of depth upsampling: crops of photographs with depth maps to train on, whole images to score."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytorch_lightning as lightning
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler

from ddfnet.data.depth.generated import GeneratedScenes
from ddfnet.data.depth.nyu import NYUDepth
from ddfnet.data.depth.photographs import Motorcycle, RGBDFolder, RGBDImage, RGBDImages, cropped
from ddfnet.data.samplers import training_order
from ddfnet.tasks.depth.metrics import reported
from ddfnet.tasks.loading import loader

Dataset = Literal["nyu", "scenes", "motorcycle", "folder"]
SCENE_SEEDS = {"train": 0, "val": 1}
SCENE_SIZE = 256
STRIP, STRIP_GAP = 96, 32  # columns at the right of the Motorcycle's training part that validate, and of neither
SHOWN = 16  # training images that stand in for validation where nothing is chosen by it
KNOWN = 0.5  # least share of known pixels in a training crop
TRIES = 10  # to find such a crop


class DepthBatch(NamedTuple):
    """Photographs and the full depth maps that are to be found for them."""

    rgb: Tensor  # (B, 3, H, W) float32, 0..1
    depth: Tensor  # (B, 1, H, W) float32, NaN where unknown; of training about 0..1, else in the split's unit


@dataclass(frozen=True)
class Augmentation:
    """What is done to training crops at random.

    Attributes:
        crop: side, in pixels.
        turn: mirrors and turns by quarters.
        invert: makes near far in half of the crops: others' maps may be disparities.
        colour: strength of changes of brightness, contrast, gamma and white balance; 0 for none.
        widen: brings a crop to 0..1 by a range between its own and its image's, drawn anew and mostly near its own, so that
            a whole image, whose range is larger than that of any part, is nothing new; else by its image's.
        picks: takes the steepest of so many crops: where depth has no edge, there is little to learn.
    """

    crop: int
    picks: int = 1
    turn: bool = False
    invert: bool = False
    colour: float = 0.0
    widen: bool = False


class TrainingSplit:
    """Crops of images, a pure function of index and epoch.

    Args:
        images: the data set; each is kept in memory once it was asked for if `keep`.
        crops: of each image in an epoch.
    """

    def __init__(
        self, images: RGBDImages, crops: Sequence[int], augmentation: Augmentation, *, keep: bool, seed: int = 0
    ) -> None:
        self.images, self.augmentation, self.seed = images, augmentation, seed
        self._image_of = np.repeat(np.arange(len(images)), crops)
        self._kept: dict[int, RGBDImage] | None = {} if keep else None
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self._image_of)

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __getitems__(self, indices: list[int]) -> DepthBatch:
        pairs = [self._crop(index) for index in indices]
        return DepthBatch(*(torch.from_numpy(np.stack(arrays)) for arrays in zip(*pairs, strict=True)))

    def _image(self, index: int) -> RGBDImage:
        if self._kept is None:
            return self.images[index]
        if index not in self._kept:
            self._kept[index] = self.images[index]
        return self._kept[index]

    def _crop(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """rgb (3, c, c) and depth (1, c, c)."""
        options, side = self.augmentation, self.augmentation.crop
        rng = np.random.default_rng([self.seed, self._epoch, index])
        image = self._image(int(self._image_of[index]))
        room = [length - side + 1 for length in image.depth.shape]
        if min(room) < 1:
            raise ValueError(f"crop: expected at most the sides of {image.name}, {image.depth.shape}, got {side}")
        places = [tuple(int(rng.integers(length)) for length in room) for _ in range(max(TRIES, options.picks))]
        crops = [(slice(top, top + side), slice(left, left + side)) for top, left in places]
        known = [float(np.isfinite(image.depth[crop]).mean()) for crop in crops]
        if not max(known):
            raise ValueError(f"{image.name}: expected known depth, got none in {len(crops)} crops of {side} pixels")
        usable = [crop for crop, share in zip(crops, known, strict=True) if share >= KNOWN]
        chosen = max(usable[: options.picks], key=lambda crop: _steepness(image.depth[crop]), default=None)
        if chosen is None:
            chosen = crops[int(np.argmax(known))]
        rgb: NDArray[Any] = image.rgb[chosen].astype(np.float32) / 255
        depth: NDArray[Any] = image.depth[chosen]
        least, greatest = np.nanmin(image.depth), np.nanmax(image.depth)
        if options.widen:
            own = np.nanmin(depth), np.nanmax(depth)
            least, greatest = (o + rng.random() ** 3 * (w - o) for o, w in zip(own, (least, greatest), strict=True))
        depth = (depth - least) / ((greatest - least) or 1.0)
        if options.invert and rng.random() < 0.5:
            depth = 1 - depth
        if options.turn:
            quarters, mirrored = int(rng.integers(4)), rng.random() < 0.5
            rgb, depth = np.rot90(rgb, quarters), np.rot90(depth, quarters)
            if mirrored:
                rgb, depth = rgb[:, ::-1], depth[:, ::-1]
        if options.colour:
            rgb = _recoloured(rgb, options.colour, rng)
        rgb, depth = rgb.transpose(2, 0, 1), depth[None]
        return np.ascontiguousarray(rgb, dtype=np.float32), np.ascontiguousarray(depth, dtype=np.float32)


def _steepness(depth: NDArray[np.float32]) -> float:
    """The mean square of the steps from pixel to pixel, in ranges of the map."""
    steps = np.concatenate([np.diff(depth, axis=axis).ravel() for axis in (0, 1)])
    steps = steps[np.isfinite(steps)]
    span = np.nanmax(depth) - np.nanmin(depth)
    return float(np.mean(steps**2) / span**2) if span > 0 and len(steps) else 0.0


def _recoloured(rgb: NDArray[Any], strength: float, rng: np.random.Generator) -> NDArray[Any]:
    """rgb (H, W, 3) in 0..1 under another light: white balance, contrast, brightness and gamma; some of it in grey."""
    gains = np.exp(rng.uniform(-0.5, 0.5, 3) * strength + rng.uniform(-1, 1) * strength)
    shift = rng.uniform(-0.25, 0.25) * strength
    gamma = np.exp(rng.uniform(-1, 1) * strength)
    if rng.random() < 0.2 * strength:
        rgb = np.broadcast_to(rgb.mean(2, keepdims=True), rgb.shape)
    return np.clip(rgb * gains + shift, 0, 1) ** gamma


class ScoredSplit:
    """Whole images, cropped to multiples of 16, so that every factor sees the same pixels.

    Attributes:
        unit: of the depth of its batches: that of the images (metres as centimetres), or, with `relative`, a hundredth of
            the range of each image, for images of several units and ranges.
    """

    def __init__(self, images: RGBDImages, *, relative: bool = False) -> None:
        self.images, self.relative = images, relative
        self.unit = "% of range" if relative else reported(images[0].unit)[0]

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: list[int]) -> DepthBatch:
        pairs = [self.tensors(index) for index in indices]
        return DepthBatch(*(torch.stack(tensors) for tensors in zip(*pairs, strict=True)))

    def tensors(self, index: int) -> tuple[Tensor, Tensor]:
        """rgb (3, H, W) and depth (1, H, W) of an image."""
        image = cropped(self.images[index])
        span = float(np.nanmax(image.depth) - np.nanmin(image.depth)) or 1.0
        scale = 100 / span if self.relative else reported(image.unit)[1]
        depth = torch.from_numpy(np.ascontiguousarray(image.depth)) * scale
        return torch.from_numpy(np.ascontiguousarray(image.rgb)).permute(2, 0, 1).float() / 255, depth[None]


@dataclass(frozen=True)
class DepthSplits:
    """The test split is for the one score at the end; choices are made on `val`."""

    train: TrainingSplit
    val: ScoredSplit
    test: ScoredSplit
    held_out: bool  # whether no image of val is in train


class JoinedImages(RGBDImages):
    """Data sets, one after the other."""

    def __init__(self, *parts: RGBDImages) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __getitem__(self, index: int) -> RGBDImage:
        index = self._checked(index)
        for part in self.parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError(index)


class FirstImages(RGBDImages):
    """The first `count` images of a data set, or all where it has fewer."""

    def __init__(self, images: RGBDImages, count: int) -> None:
        self.images, self.count = images, count

    def __len__(self) -> int:
        return min(self.count, len(self.images))

    def __getitem__(self, index: int) -> RGBDImage:
        return self.images[self._checked(index)]


class MotorcycleColumns(RGBDImages):
    """Columns of the Motorcycle's training part: one image."""

    def __init__(self, columns: slice) -> None:
        image = Motorcycle("train")[0]
        self._image = image._replace(rgb=image.rgb[:, columns], depth=image.depth[:, columns])

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> RGBDImage:
        self._checked(index)
        return self._image


class JointUpsamplingData(lightning.LightningDataModule):
    """Batches of photographs with depth maps; an epoch's crops follow from the seed and the epoch's number alone.

    Args:
        dataset: "nyu": NYU Depth v2's labelled images, 1,000 to train and 449 to test, as in Table 7; none validates: 16 of
            training are scored so that a curve shows, and nothing is to be chosen by them.
            "scenes": generated scenes and the left of the Motorcycle's training part to train; others of the scenes and the
            right of that part to validate; tested on the Motorcycle's test part.
            "motorcycle": the same without scenes.
            "folder": the pairs of `root`/train, `root`/val and `root`/test (see `ddfnet.data.depth.photographs.RGBDFolder`).
        root: of "nyu" the file nyu_depth_v2_labeled.mat, of "folder" the folder.
        crop: side of training crops, in pixels.
        crops: of each scene in an epoch; of each image of "nyu" and "folder".
        scenes: how many are generated to train, drawn in the first epoch and kept in memory.
        val_scenes: alike, to validate.
        motorcycle_crops: of the Motorcycle in an epoch.
        picks, turn, invert, colour, widen: of `Augmentation`.
        batch_size: crops a step; whole images are scored one at a time.
        workers: processes that load batches; 0 loads them in the training process.
        seed: of order, crops and augmentation; None takes that of the run. The scenes are the same for all seeds.
    """

    def __init__(
        self,
        dataset: Dataset = "scenes",
        root: Path | None = None,
        crop: int = 256,
        crops: int = 1,
        scenes: int = 300,
        val_scenes: int = 16,
        motorcycle_crops: int = 50,
        picks: int = 1,
        turn: bool = False,
        invert: bool = False,
        colour: float = 0.0,
        widen: bool = False,
        batch_size: int = 8,
        workers: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("crop", crop, 1),
            ("crops", crops, 1),
            ("scenes", scenes, 1),
            ("val_scenes", val_scenes, 1),
            ("motorcycle_crops", motorcycle_crops, 0),
            ("picks", picks, 1),
            ("batch_size", batch_size, 1),
            ("workers", workers, 0),
        ):
            if value < least:
                raise ValueError(f"{name}: expected an int >= {least}, got {value}")
        if colour < 0:
            raise ValueError(f"colour: expected a number >= 0, got {colour}")
        self.dataset, self.root, self.batch_size, self.workers, self.seed = dataset, root, batch_size, workers, seed
        self.crops, self.scenes, self.val_scenes, self.motorcycle_crops = crops, scenes, val_scenes, motorcycle_crops
        self.augmentation = Augmentation(crop, picks=picks, turn=turn, invert=invert, colour=colour, widen=widen)
        self._splits: DepthSplits | None = None

    @property
    def splits(self) -> DepthSplits:
        """The data set, found and checked at first use."""
        if self._splits is None:
            self._splits = self._scenes() if self.dataset in ("scenes", "motorcycle") else self._photographs()
        return self._splits

    def _scenes(self) -> DepthSplits:
        width = Motorcycle("train")[0].depth.shape[1]
        left = MotorcycleColumns(slice(0, width - STRIP - STRIP_GAP))
        right = MotorcycleColumns(slice(width - STRIP, None))
        train, val = JoinedImages(left), JoinedImages(right)
        crops = [self.motorcycle_crops]
        if self.dataset == "scenes":
            drawn = {
                name: GeneratedScenes(count, seed=SCENE_SEEDS[name], size=SCENE_SIZE)
                for name, count in (("train", self.scenes), ("val", self.val_scenes))
            }
            train, val = JoinedImages(left, drawn["train"]), JoinedImages(right, drawn["val"])
            crops += [self.crops] * self.scenes
        return DepthSplits(
            TrainingSplit(train, crops, self.augmentation, keep=True, seed=self.seed or 0),
            ScoredSplit(val, relative=True),
            ScoredSplit(Motorcycle("test")),
            held_out=True,
        )

    def _photographs(self) -> DepthSplits:
        if self.root is None:
            wanted = (
                "the file nyu_depth_v2_labeled.mat" if self.dataset == "nyu" else "a folder with train, val and test"
            )
            raise ValueError(f"root: expected {wanted} with dataset={self.dataset!r}, got none")
        train: RGBDImages
        val: RGBDImages
        test: RGBDImages
        if self.dataset == "nyu":
            train, test = NYUDepth(self.root, "train"), NYUDepth(self.root, "test")
            val = FirstImages(train, SHOWN)
        else:
            train, val, test = (RGBDFolder(self.root / name) for name in ("train", "val", "test"))
        return DepthSplits(
            TrainingSplit(train, [self.crops] * len(train), self.augmentation, keep=False, seed=self.seed or 0),
            ScoredSplit(val),
            ScoredSplit(test),
            held_out=self.dataset != "nyu",
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """The batches of the trainer's current epoch; the run reloads it every epoch."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        split = self.splits.train
        split.set_epoch(epoch)
        order = training_order(len(split), self.batch_size, seed=self.seed or 0, epoch=epoch)
        return loader(split, self.workers, batch_size=self.batch_size, sampler=order)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._scored(self.splits.val)

    def test_dataloader(self) -> DataLoader[Any]:
        return self._scored(self.splits.test)

    def _scored(self, split: ScoredSplit) -> DataLoader[Any]:
        return loader(split, self.workers, batch_size=1, sampler=SequentialSampler(split))
