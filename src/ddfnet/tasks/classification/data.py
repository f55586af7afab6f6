"""The data of image classification: a class for each data set."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddfnet.data.images import Transform
from ddfnet.data.samplers import training_order
from ddfnet.data.splits import Splits
from ddfnet.tasks.data import TaskData, check_ints

Triple = tuple[float, float, float]


class ClassificationData(TaskData):
    """Batches of labelled images; the order of an epoch follows from the seed and the epoch's number alone.

    Args:
        batch_size, workers, seed: of `ddfnet.tasks.data.TaskData`.
        augment: draws training images at random, each data set in its way.
    """

    splits: Splits

    def __init__(
        self, *, augment: bool = True, batch_size: int = 64, workers: int = 0, seed: int | None = None
    ) -> None:
        super().__init__(batch_size=batch_size, workers=workers, seed=seed)
        self.augment = augment

    @property
    @abstractmethod
    def transform(self) -> Transform:
        """The transform of a PIL image into the tensor (C, H, W) that the network is scored on; needs no data."""

    @property
    @abstractmethod
    def preparation(self) -> dict[str, Any]:
        """The steps of `transform` in timm's words, with the `size` in pixels."""


class FashionMnistData(ClassificationData):
    """Fashion-MNIST: grey images of 28 x 28 pixels in 10 classes.

    Args:
        root: folder of the four original files; None is the sample of 10,000 images that ships with the package.
        max_shift: with `augment`, training images are shifted at random by up to so many pixels, beside flips.
        options: of `ClassificationData`.
    """

    dataset: ClassVar[str] = "fashion-mnist"
    channels = 1

    def __init__(self, root: Path | None = None, *, max_shift: int = 0, **options: Any) -> None:
        super().__init__(**options)
        check_ints(0, max_shift=max_shift)
        self.root, self.max_shift = root and Path(root), max_shift

    def read(self) -> Splits:
        from ddfnet.data.classification.fashion_mnist import fashion_mnist

        return fashion_mnist(self.root, augment=self.augment, max_shift=self.max_shift, seed=self.seed or 0)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "root": self.root and str(self.root)}

    @property
    def transform(self) -> Transform:
        return _grey_28

    @property
    def preparation(self) -> dict[str, Any]:
        from ddfnet.data.classification.fashion_mnist import MEAN, STD

        return {"size": 28, "crop_pct": 1.0, "interpolation": "bilinear", "mean": (MEAN,), "std": (STD,)}


class Cifar10Data(ClassificationData):
    """CIFAR-10: RGB images of 32 x 32 pixels in 10 classes, of which 5,000 training images validate.

    Args:
        root: folder that torchvision downloaded the data to, or of sheets; see `ddfnet.data.classification.cifar10`.
        max_shift: with `augment`, training images are shifted at random by up to so many pixels, beside flips.
        options: of `ClassificationData`.
    """

    dataset: ClassVar[str] = "cifar10"

    def __init__(self, root: Path | None = None, *, max_shift: int = 4, **options: Any) -> None:
        super().__init__(**options)
        check_ints(0, max_shift=max_shift)
        self.root, self.max_shift = root and Path(root), max_shift

    def read(self) -> Splits:
        from ddfnet.data.classification.cifar10 import cifar10

        if self.root is None:
            raise ValueError("root: expected a folder with CIFAR-10 with dataset='cifar10', got None")
        return cifar10(self.root, augment=self.augment, max_shift=self.max_shift, seed=self.seed or 0)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "root": str(self.root)}

    @property
    def transform(self) -> Transform:
        from ddfnet.data.images import central_transform

        return central_transform(**self.preparation)

    @property
    def preparation(self) -> dict[str, Any]:
        from ddfnet.data.classification.cifar10 import MEAN, STD

        return {"size": 32, "crop_pct": 1.0, "interpolation": "bilinear", "mean": MEAN, "std": STD}


class ImageFolderData(ClassificationData):
    """Images in a folder for each class, or in tar files of such folders; see `ddfnet.data.classification`.

    They are RGB, or grey for a network with `in_chans: 1` in `network_args`.

    Args:
        root: the folder.
        held_out: share of the training images held out for each split that has no folder.
        image_size: side of the square crops, in pixels.
        test_size: the same for validation and test; None: `image_size`.
        crop_pct: share of an image's shorter side that the central crop of validation and test takes.
        crop_mode: of that crop, as timm's: "center", "squash" or "border".
        interpolation: "bilinear", "bicubic" or "random" (which is bilinear outside training).
        mean, std: of the pixels scaled to 0..1; None: ImageNet's.
        augmentation: with `augment`, options of `timm.data.create_transform` for training images beside crops and flips,
            such as `{auto_augment: rand-m7-mstd0.5-inc1, re_prob: 0.4}`.
        repeats: repeated augmentation: each image of an epoch so many times, and as many images fewer.
        class_map: a text file with the names of the classes, one a line, in the order of the network's scores; None: those
            of the folders, in alphabetical order.
        test_only: all images are test images, for scoring a network that was trained elsewhere.
        options: of `ClassificationData`.
    """

    dataset: ClassVar[str] = "image-folder"

    def __init__(
        self,
        root: Path | None = None,
        *,
        held_out: float = 0.1,
        image_size: int = 224,
        test_size: int | None = None,
        crop_pct: float = 0.875,
        crop_mode: Literal["center", "squash", "border"] = "center",
        interpolation: Literal["bilinear", "bicubic", "random"] = "bilinear",
        mean: Triple | None = None,
        std: Triple | None = None,
        augmentation: dict[str, Any] | None = None,
        repeats: int = 1,
        class_map: Path | None = None,
        test_only: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_ints(1, image_size=image_size, test_size=test_size or 1, repeats=repeats)
        self.root, self.class_map = root and Path(root), class_map and Path(class_map)
        self.held_out, self.test_only, self.repeats = held_out, test_only, repeats
        self.image_size, self.test_size = image_size, test_size or image_size
        self.crop_pct, self.crop_mode, self.interpolation = crop_pct, crop_mode, interpolation
        self.augmentation = augmentation
        self.statistics: dict[str, Any] = {
            name: tuple(value) for name, value in (("mean", mean), ("std", std)) if value is not None
        }

    def read(self) -> Splits:
        from ddfnet.data.classification.image_folder import Transforms, image_folder
        from ddfnet.data.images import training_transform

        if self.root is None:
            raise ValueError("root: expected a folder of images with dataset='image-folder', got None")
        train = self._central(self.image_size)
        if self.augment:
            train = training_transform(
                self.image_size, self.augmentation, interpolation=self.interpolation, **self._statistics()
            )
        return image_folder(
            self.root,
            Transforms(train, self.transform, self.image_size, self.test_size),
            held_out=self.held_out,
            seed=self.seed or 0,
            class_map=self.class_map,
            test_only=self.test_only,
            channels=self.channels,
        )

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "root": str(self.root)}

    @property
    def transform(self) -> Transform:
        return self._central(self.test_size)

    @property
    def preparation(self) -> dict[str, Any]:
        return {"size": self.test_size, **self._crop(), **self._statistics()}

    def take_channels(self, channels: int) -> None:
        if channels not in (1, 3):
            raise ValueError(f"in_chans: expected 1 or 3, the channels that images can have, got {channels}")
        if channels != self.channels:
            self.channels = channels
            self.__dict__.pop("splits", None)  # read for others

    def _central(self, size: int) -> Transform:
        from ddfnet.data.images import central_transform

        return central_transform(size, **self._crop(), **self._statistics())

    def _crop(self) -> dict[str, Any]:
        settled = "bilinear" if self.interpolation == "random" else self.interpolation
        return {"crop_pct": self.crop_pct, "crop_mode": self.crop_mode, "interpolation": settled}

    def _statistics(self) -> dict[str, Any]:
        """Return mean and standard deviation of each channel; for grey images, theirs three times."""
        from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

        found = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, **self.statistics}
        if self.channels == 1:
            found = {name: (sum(values) / len(values),) * 3 for name, values in found.items()}
        return found

    def training_batches(self, epoch: int, rank: int, world: int) -> dict[str, Any]:
        order = training_order(
            len(self.splits.train),
            self.batch_size,
            seed=self.seed or 0,
            epoch=epoch,
            rank=rank,
            world=world,
            repeats=self.repeats,
        )
        return {"batch_size": self.batch_size, "sampler": order}


def _grey_28(image: Image.Image) -> Tensor:
    """Return an image as Fashion-MNIST's are: grey, 28 x 28 pixels, normalised."""
    from ddfnet.data.classification.fashion_mnist import MEAN, STD

    grey = image.convert("L")
    if grey.size != (28, 28):
        grey = grey.resize((28, 28), Image.Resampling.BILINEAR)
    return (torch.from_numpy(np.array(grey, dtype=np.float32))[None] / 255 - MEAN) / STD
