"""The data of image classification: any data set of `ddfnet.data`, dealt out to the processes of a run."""

from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as lightning
from torch.utils.data import DataLoader

from ddfnet.data.samplers import scoring_batches, training_order
from ddfnet.data.splits import Split, Splits
from ddfnet.tasks.loading import loader


class ClassificationData(lightning.LightningDataModule):
    """Batches of a data set's three splits; the order of an epoch follows from the seed and the epoch's number alone.

    Args:
        dataset: "fashion-mnist" or "image-folder": a folder a class, or tar files of such folders.
        root: folder of the data; None with "fashion-mnist" is the sample of 10,000 images that ships with the package.
        held_out: the share of "image-folder" training images held out for each split that has no folder.
        batch_size: images a step and device.
        image_size: side of the square crops of "image-folder", in pixels.
        test_size: the same for validation and test; None: `image_size`.
        crop_pct: the share of an image's shorter side that the central crop of validation and test takes.
        crop_mode: of that crop, as timm's: "center", "squash" or "border".
        interpolation: "bilinear", "bicubic" or "random" (which is bilinear outside training).
        mean, std: of the pixels of "image-folder", scaled to 0..1; None: ImageNet's.
        augment: flips (and, for folders, crops) training images at random.
        augmentation: of training images of "image-folder" besides: options of `timm.data.create_transform`, such as
            `{auto_augment: rand-m7-mstd0.5-inc1, re_prob: 0.4}`.
        repeats: repeated augmentation: each image of an epoch so many times, and as many images fewer.
        max_shift: "fashion-mnist" training images are shifted at random by up to so many pixels; folders' are cropped.
        class_map: a text file with the names of the classes, one a line, in the order of the network's scores; None: those
            of the folders, in alphabetical order.
        test_only: all images of "image-folder" are test images, for scoring a network that was trained elsewhere.
        workers: processes that load batches; 0 loads them in the training process.
        seed: of order and augmentation; None takes that of the run.
    """

    deals_out = True

    def __init__(
        self,
        dataset: Literal["fashion-mnist", "image-folder"] = "fashion-mnist",
        root: Path | None = None,
        held_out: float = 0.1,
        batch_size: int = 64,
        image_size: int = 224,
        test_size: int | None = None,
        crop_pct: float = 0.875,
        crop_mode: Literal["center", "squash", "border"] = "center",
        interpolation: Literal["bilinear", "bicubic", "random"] = "bilinear",
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        augment: bool = True,
        augmentation: dict[str, Any] | None = None,
        repeats: int = 1,
        max_shift: int = 0,
        class_map: Path | None = None,
        test_only: bool = False,
        workers: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("image_size", image_size, 1),
            ("test_size", test_size or 1, 1),
            ("repeats", repeats, 1),
            ("workers", workers, 0),
        ):
            if value < least:
                raise ValueError(f"{name}: expected an int >= {least}, got {value}")
        if dataset == "fashion-mnist" and repeats > 1:
            raise ValueError(f"repeats: expected 1 with dataset='fashion-mnist', got {repeats}")
        self.dataset, self.root, self.held_out, self.batch_size = dataset, root, held_out, batch_size
        self.image_size = image_size
        self.test_size, self.crop_pct, self.crop_mode = test_size or image_size, crop_pct, crop_mode
        self.interpolation, self.mean, self.std = interpolation, mean, std
        self.augment, self.augmentation, self.repeats = augment, augmentation, repeats
        self.max_shift, self.class_map, self.test_only = max_shift, class_map, test_only
        self.workers, self.seed = workers, seed
        self._splits: Splits | None = None
        self._channels = 3  # of the images of a folder

    @property
    def splits(self) -> Splits:
        """The data set, read at first use."""
        if self._splits is None:
            if self.dataset == "fashion-mnist":
                from ddfnet.data.classification.fashion_mnist import fashion_mnist

                self._splits = fashion_mnist(
                    self.root, augment=self.augment, max_shift=self.max_shift, seed=self.seed or 0
                )
            else:
                self._splits = self._image_folder()
        return self._splits

    def take_channels(self, channels: int | None) -> None:
        """Make images of `channels`, as a network wants them, before they are read; None leaves them as they are.

        Raises:
            ValueError: the data set cannot be read so.
        """
        if channels is None:
            return
        possible = (1,) if self.dataset == "fashion-mnist" else (1, 3)
        if channels not in possible:
            expected = " or ".join(map(str, possible))
            raise ValueError(f"network_args.in_chans: expected {expected}, the channels of the images, got {channels}")
        self._channels = channels
        if self._splits is not None and self._splits.channels != channels:
            self._splits = None

    def _image_folder(self) -> Splits:
        from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD  # type: ignore[attr-defined]

        from ddfnet.data.classification.image_folder import Transforms, image_folder
        from ddfnet.data.images import central_transform, training_transform

        if self.root is None:
            raise ValueError("root: expected a folder of images with dataset='image-folder', got None")
        statistics: dict[str, Any] = {
            name: value for name, value in (("mean", self.mean), ("std", self.std)) if value is not None
        }
        if self._channels == 1:  # one channel's, the mean of the three
            for name, default in (("mean", IMAGENET_DEFAULT_MEAN), ("std", IMAGENET_DEFAULT_STD)):
                values = statistics.get(name, default)
                statistics[name] = (sum(values) / len(values),) * 3
        settled: Any = "bilinear" if self.interpolation == "random" else self.interpolation

        def central(size: int) -> Any:
            return central_transform(
                size, crop_pct=self.crop_pct, crop_mode=self.crop_mode, interpolation=settled, **statistics
            )

        train: Any = central(self.image_size)
        if self.augment:
            train = training_transform(
                self.image_size, self.augmentation, interpolation=self.interpolation, **statistics
            )
        transforms = Transforms(train, central(self.test_size), self.image_size, self.test_size)
        return image_folder(
            self.root,
            transforms,
            held_out=self.held_out,
            seed=self.seed or 0,
            class_map=self.class_map,
            test_only=self.test_only,
            channels=self._channels,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """The batches of the trainer's current epoch; the run reloads it every epoch."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        split = self.splits.train
        split.set_epoch(epoch)
        rank, world = self._place()
        order = training_order(
            len(split),
            self.batch_size,
            seed=self.seed or 0,
            epoch=epoch,
            rank=rank,
            world=world,
            repeats=self.repeats,
        )
        return loader(split, self.workers, batch_size=self.batch_size, sampler=order)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._scoring(self.splits.val)

    def test_dataloader(self) -> DataLoader[Any]:
        return self._scoring(self.splits.test)

    def _scoring(self, split: Split) -> DataLoader[Any]:
        rank, world = self._place()
        return loader(
            split, self.workers, batch_sampler=scoring_batches(len(split), self.batch_size, rank=rank, world=world)
        )

    def _place(self) -> tuple[int, int]:
        """This process's number and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
