"""The batches of depth upsampling: crops of photographs with depth maps to train on, whole images to score."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddfnet.data.depth.generated import GeneratedScenes
from ddfnet.data.depth.nyu import NYUDepth
from ddfnet.data.depth.photographs import Motorcycle, RGBDFolder, RGBDImage, RGBDImages, cropped
from ddfnet.tasks.data import TaskData, check_ints
from ddfnet.tasks.depth.metrics import reported

SCENE_SEEDS = {"train": 0, "val": 1}
SCENE_SIZE = 256
STRIP, STRIP_GAP = 96, 32  # columns at the right of the Motorcycle's training part that validate, and of neither
SHOWN = 16  # training images that stand in for validation where nothing is chosen by it
KNOWN = 0.5  # least share of known pixels in a training crop
TRIES = 10  # to find such a crop


class DepthBatch(NamedTuple):
    """Photographs and their full depth maps, which are the targets."""

    rgb: Tensor  # (B, 3, H, W) float32, 0..1
    depth: Tensor  # (B, 1, H, W) float32, NaN where unknown; of training about 0..1, else in the split's unit


@dataclass(frozen=True)
class Augmentation:
    """The random changes of training crops.

    Attributes:
        crop: side, in pixels.
        turn: mirrors and turns by quarters.
        invert: makes near far in half of the crops: others' maps may be disparities.
        colour: strength of changes of brightness, contrast, gamma and white balance; 0 for none.
        widen: brings a crop to 0..1 by a random range between the crop's and the image's, mostly near the crop's, so that
            a whole image, whose range is larger than that of any part, is nothing new; otherwise by the image's.
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
        """Return rgb (3, c, c) and depth (1, c, c)."""
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
    """Return the mean square of the steps from pixel to pixel, in ranges of the map."""
    steps = np.concatenate([np.diff(depth, axis=axis).ravel() for axis in (0, 1)])
    steps = steps[np.isfinite(steps)]
    span = np.nanmax(depth) - np.nanmin(depth)
    return float(np.mean(steps**2) / span**2) if span > 0 and len(steps) else 0.0


def _recoloured(rgb: NDArray[Any], strength: float, rng: np.random.Generator) -> NDArray[Any]:
    """Return rgb (H, W, 3) in 0..1 under another light: white balance, contrast, brightness, gamma, in part grey."""
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
        if not indices:  # a process may have fewer images to score than batches
            return DepthBatch(torch.empty(0, 3, 16, 16), torch.empty(0, 1, 16, 16))
        pairs = [self.tensors(index) for index in indices]
        return DepthBatch(*(torch.stack(tensors) for tensors in zip(*pairs, strict=True)))

    def tensors(self, index: int) -> tuple[Tensor, Tensor]:
        """Return rgb (3, H, W) and depth (1, H, W) of an image."""
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


class DepthData(TaskData):
    """Batches of photographs with depth maps; an epoch's crops follow from the seed and the epoch's number alone.

    Args:
        batch_size: crops for each step and device; whole images are scored one at a time.
        workers, seed: of `ddfnet.tasks.data.TaskData`.
        crop: side of training crops, in pixels.
        crops: of each training image in an epoch.
        picks, turn, invert, colour, widen: of `Augmentation`.
    """

    splits: DepthSplits

    def __init__(
        self,
        *,
        crop: int = 256,
        crops: int = 1,
        picks: int = 1,
        turn: bool = False,
        invert: bool = False,
        colour: float = 0.0,
        widen: bool = False,
        batch_size: int = 8,
        workers: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__(batch_size=batch_size, workers=workers, seed=seed)
        check_ints(1, crop=crop, crops=crops, picks=picks)
        if colour < 0:
            raise ValueError(f"colour: expected a number >= 0, got {colour}")
        self.crops = crops
        self.augmentation = Augmentation(crop, picks=picks, turn=turn, invert=invert, colour=colour, widen=widen)

    def describe(self) -> dict[str, Any]:
        counts = super().describe()
        counts["images"]["train"] = len(self.splits.train.images)
        return {**counts, "crops": len(self.splits.train)}

    @property
    def scoring_batch_size(self) -> int:
        return 1

    def training_split(self, images: RGBDImages, crops: Sequence[int], *, keep: bool) -> TrainingSplit:
        """Return the crops of `images`, so many of each; `keep` holds the images in memory."""
        return TrainingSplit(images, crops, self.augmentation, keep=keep, seed=self.seed or 0)


class MotorcycleData(DepthData):
    """One photograph that ships: columns of the Motorcycle train and validate, its right part tests.

    Args:
        motorcycle_crops: of the Motorcycle in an epoch.
        options: of `DepthData`.
    """

    dataset: ClassVar[str] = "motorcycle"

    def __init__(self, *, motorcycle_crops: int = 50, **options: Any) -> None:
        super().__init__(**options)
        check_ints(0, motorcycle_crops=motorcycle_crops)
        self.motorcycle_crops = motorcycle_crops

    def read(self) -> DepthSplits:
        width = Motorcycle("train")[0].depth.shape[1]
        train: RGBDImages = MotorcycleColumns(slice(0, width - STRIP - STRIP_GAP))
        val: RGBDImages = MotorcycleColumns(slice(width - STRIP, None))
        scenes, val_scenes = self.generated("train"), self.generated("val")
        return DepthSplits(
            self.training_split(
                JoinedImages(train, *scenes),
                [self.motorcycle_crops] + [self.crops] * sum(map(len, scenes)),
                keep=True,
            ),
            ScoredSplit(JoinedImages(val, *val_scenes), relative=True),
            ScoredSplit(Motorcycle("test")),
            held_out=True,
        )

    def generated(self, part: str) -> list[GeneratedScenes]:
        """Return the generated scenes of a part: none."""
        return []


class ScenesData(MotorcycleData):
    """Generated scenes beside the Motorcycle, to train and to validate; tested on the Motorcycle's right part.

    Args:
        scenes: how many are generated to train, drawn in the first epoch and kept in memory; the same for all seeds.
        val_scenes: the same, to validate.
        options: of `MotorcycleData`.
    """

    dataset: ClassVar[str] = "scenes"

    def __init__(self, *, scenes: int = 300, val_scenes: int = 16, **options: Any) -> None:
        super().__init__(**options)
        check_ints(1, scenes=scenes, val_scenes=val_scenes)
        self.scenes = {"train": scenes, "val": val_scenes}

    def generated(self, part: str) -> list[GeneratedScenes]:
        return [GeneratedScenes(self.scenes[part], seed=SCENE_SEEDS[part], size=SCENE_SIZE)]


class NYUData(DepthData):
    """NYU Depth v2's labelled images, 1,000 to train and 449 to test, as in Table 7.

    None validates: 16 training images are scored so that a curve shows, and nothing is to be chosen by them.

    Args:
        root: the file nyu_depth_v2_labeled.mat.
        options: of `DepthData`.
    """

    dataset: ClassVar[str] = "nyu"

    def __init__(self, root: Path | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = root and Path(root)

    def read(self) -> DepthSplits:
        if self.root is None:
            raise ValueError("root: expected the file nyu_depth_v2_labeled.mat with dataset='nyu', got none")
        train, test = NYUDepth(self.root, "train"), NYUDepth(self.root, "test")
        crops = self.training_split(train, [self.crops] * len(train), keep=False)
        return DepthSplits(crops, ScoredSplit(FirstImages(train, SHOWN)), ScoredSplit(test), held_out=False)


class DepthFolderData(DepthData):
    """The pairs of three folders, train, val and test; see `ddfnet.data.depth.photographs.RGBDFolder`.

    Args:
        root: the folder of these.
        options: of `DepthData`.
    """

    dataset: ClassVar[str] = "folder"

    def __init__(self, root: Path | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = root and Path(root)

    def read(self) -> DepthSplits:
        if self.root is None:
            raise ValueError("root: expected a folder with train, val and test with dataset='folder', got none")
        train, val, test = (RGBDFolder(self.root / name) for name in ("train", "val", "test"))
        crops = self.training_split(train, [self.crops] * len(train), keep=False)
        return DepthSplits(crops, ScoredSplit(val), ScoredSplit(test), held_out=True)
