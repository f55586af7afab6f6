"""The base of every task's data: batches that follow from the seed and the epoch, dealt out to all processes."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import pytorch_lightning as lightning
import torch
from torch.utils.data import DataLoader

from ddfnet.data.samplers import scoring_batches, training_order


class TaskData(lightning.LightningDataModule, ABC):
    """Batches of one data set: a subclass for each data set, with the options that it has.

    To add a data set, subclass the data of its task, implement `read`, and name the class in `ddfnet.tasks.datasets`.

    Args:
        batch_size: images for each step and device.
        workers: processes that load batches; 0 loads them in the training process.
        seed: of order and augmentation; None takes that of the run.
    """

    dataset: ClassVar[str]  # its name on the command line
    channels: int = 3  # of the images

    def __init__(self, *, batch_size: int, workers: int = 0, seed: int | None = None) -> None:
        super().__init__()
        check_ints(1, batch_size=batch_size)
        check_ints(0, workers=workers)
        self.batch_size, self.workers, self.seed = batch_size, workers, seed

    @cached_property
    def splits(self) -> Any:
        """The data set as `train`, `val` and `test`, read and checked at first use."""
        return self.read()

    @abstractmethod
    def read(self) -> Any:
        """Read the data set: an object with `train`, `val` and `test`, which fetch whole batches by `__getitems__`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; () for a data set without."""
        return tuple(getattr(self.splits, "classes", ()))

    def take_channels(self, channels: int) -> None:
        """Make images of `channels`, as a network wants them.

        Raises:
            ValueError: the data set has no such images.
        """
        if channels != self.channels:
            raise ValueError(f"in_chans: expected {self.channels}, the channels of the images, got {channels}")

    def describe(self) -> dict[str, Any]:
        """Describe the data set for the summary of a run."""
        images = {name: len(getattr(self.splits, name)) for name in ("train", "val", "test")}
        return {"dataset": self.dataset, "images": images}

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the batches of the trainer's current epoch; a run asks for them in every epoch."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        split = self.splits.train
        split.set_epoch(epoch)
        return self._loader(split, **self.training_batches(epoch, *self.place()))

    def training_batches(self, epoch: int, rank: int, world: int) -> dict[str, Any]:
        """Return the sampler arguments of `DataLoader` for process `rank` of `world` in an epoch."""
        order = training_order(
            len(self.splits.train), self.batch_size, seed=self.seed or 0, epoch=epoch, rank=rank, world=world
        )
        return {"batch_size": self.batch_size, "sampler": order}

    def val_dataloader(self) -> DataLoader[Any]:
        return self._scoring(self.splits.val)

    def test_dataloader(self) -> DataLoader[Any]:
        return self._scoring(self.splits.test)

    @property
    def scoring_batch_size(self) -> int:
        """The number of images of a batch that is scored."""
        return self.batch_size

    def _scoring(self, split: Any) -> DataLoader[Any]:
        rank, world = self.place()
        return self._loader(
            split, batch_sampler=scoring_batches(len(split), self.scoring_batch_size, rank=rank, world=world)
        )

    def place(self) -> tuple[int, int]:
        """Return the number of this process and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _loader(self, split: Any, **order: Any) -> DataLoader[Any]:
        return DataLoader(
            split,
            num_workers=self.workers,
            collate_fn=_as_fetched,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(0),
            **order,
        )


def _as_fetched(batch: Any) -> Any:
    """Return the batch: splits fetch whole batches, so nothing is left to collate."""
    return batch


def check_ints(least: int, **values: int) -> None:
    """Raise ValueError for the first value below `least`."""
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name}: expected an int >= {least}, got {value}")


def options_of(cls: type) -> Sequence[str]:
    """Return the names of the options of a class, with those that it passes on to its bases as `**options`."""
    names: dict[str, None] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = [*inspect.signature(vars(base)["__init__"]).parameters.values()][1:]
        names |= {p.name: None for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(names)
