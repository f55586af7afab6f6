"""Image classification: a timm network, timm's optimisers and schedules, any data set of `ddfnet.data`."""

from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as lightning
import timm
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from timm.scheduler import create_scheduler_v2  # type: ignore[attr-defined]
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from torchmetrics.classification import MulticlassAccuracy

from ddfnet.data.splits import Split, Splits
from ddfnet.models import complexity  # importing the models registers them with timm
from ddfnet.tasks.pictures import draw_spatial_filters


class Classification(lightning.LightningModule):
    """Trains a network of `timm.create_model` with cross-entropy under a cosine schedule with warm-up.

    Args:
        network: its name.
        network_args: further arguments of `timm.create_model`, such as `{block_args: {layer_args: {heads: 2}}}`.
        num_classes: None takes that of the data; a number must agree with it.
        optimizer: name in `timm.optim`.
        lr: the highest learning rate, reached after the warm-up.
        min_lr: the learning rate at the end.
        momentum, weight_decay: of the optimiser; normalisations and biases are not decayed.
        warmup_epochs: epochs over which the learning rate rises linearly.
        label_smoothing: of the cross-entropy.
        channels_last: runs the network in the channels_last memory format.
    """

    network: nn.Module
    monitor = ("val_accuracy", "max")  # what the best epoch is chosen by

    def __init__(
        self,
        network: str = "ddf_resnet_mini",
        network_args: dict[str, Any] | None = None,
        num_classes: int | None = None,
        optimizer: str = "adamw",
        lr: float = 3e-3,
        min_lr: float = 1e-5,
        momentum: float = 0.9,
        weight_decay: float = 0.05,
        warmup_epochs: float = 2.0,
        label_smoothing: float = 0.0,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.name = network

    def build(self, data: "ClassificationData") -> None:
        """Builds the network for the classes and channels of `data` (once)."""
        if hasattr(self, "network"):
            return
        name, splits = self.hparams["network"], data.splits
        if not timm.is_model(name):
            raise ValueError(f"network: timm and ddfnet know no network named {name!r}")
        classes, wanted = len(splits.classes), self.hparams["num_classes"]
        if wanted not in (None, classes):
            raise ValueError(f"num_classes: expected {classes}, the classes of the data, got {wanted}")
        self.network = timm.create_model(
            name,
            num_classes=classes,
            in_chans=splits.channels,
            **(self.hparams["network_args"] or {}),
        )
        if self.hparams["channels_last"]:
            self.network = self.network.to(memory_format=torch.channels_last)
        self.classes = splits.classes
        self.val_accuracy = MulticlassAccuracy(num_classes=classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes=classes, average="micro")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["classes"] = list(self.classes)

    def configure_model(self) -> None:
        self.build(self.trainer.datamodule)  # type: ignore[attr-defined]

    def describe(self, data: "ClassificationData") -> dict[str, Any]:
        """What the summary of a run says of the network and its data."""
        images, _ = data.splits.val.__getitems__([0])
        cost = complexity(self.network, images.shape)
        sizes = {name: len(getattr(data.splits, name)) for name in ("train", "val", "test")}
        return {
            "network": self.hparams["network"],
            "data": {"dataset": data.dataset, "root": data.root and str(data.root), "images": sizes},
            "parameters": cost.parameters,
            "flops": cost.flops,
            "multiply_adds": cost.multiply_adds,
            "input_shape": list(images.shape),
        }

    def draw(self, data: "ClassificationData", folder: Path) -> dict[str, Path]:
        """Draws what the network learned: an input beside its per-pixel spatial filters, where it has such."""
        images, _ = data.splits.test.__getitems__(list(range(min(4, len(data.splits.test)))))
        path = folder / "filters.png"
        return {"filters": path} if draw_spatial_filters(self.network, images, path) else {}

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (B, classes) of images (B, C, H, W)."""
        if self.hparams["channels_last"]:
            images = images.contiguous(memory_format=torch.channels_last)
        scores: Tensor = self.network(images)
        return scores

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self(images), labels, label_smoothing=self.hparams["label_smoothing"])
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(labels))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        scores = self(images)
        self.val_accuracy(scores, labels)
        self.log("val_loss", F.cross_entropy(scores, labels), batch_size=len(labels), sync_dist=True)
        self.log("val_accuracy", self.val_accuracy, prog_bar=True, batch_size=len(labels))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.test_accuracy(self(images), labels)
        self.log("test_accuracy", self.test_accuracy, batch_size=len(labels))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        options = self.hparams
        optimizer = create_optimizer_v2(
            self.network,
            opt=options["optimizer"],
            lr=options["lr"],
            momentum=options["momentum"],
            weight_decay=options["weight_decay"],
        )
        epochs = self.trainer.max_epochs or 1
        updates = int(self.trainer.estimated_stepping_batches) // epochs
        scheduler, _ = create_scheduler_v2(
            optimizer,
            sched="cosine",
            num_epochs=epochs,
            warmup_epochs=options["warmup_epochs"],
            warmup_prefix=True,
            warmup_lr=options["min_lr"],
            min_lr=options["min_lr"],
            cooldown_epochs=0,
            step_on_epochs=False,
            updates_per_epoch=updates,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Scheduler, metric: Any) -> None:  # type: ignore[override]
        """timm's schedules are told the number of updates done."""
        scheduler.step_update(num_updates=self.global_step)


class ClassificationData(lightning.LightningDataModule):
    """Batches of a data set's three splits; the order of an epoch follows from the seed and the epoch's number alone.

    Args:
        dataset: "fashion-mnist" or "image-folder".
        root: folder of the data; None with "fashion-mnist" is the sample of 10,000 images that ships with the package.
        batch_size: images a step and device.
        image_size: side of the square crops of "image-folder", in pixels.
        augment: flips (and, for folders, crops) training images at random.
        max_shift: "fashion-mnist" training images are shifted at random by up to so many pixels; folders' are cropped.
        workers: processes that load batches; 0 loads them in the training process.
        seed: of order and augmentation; None takes that of the run.
    """

    def __init__(
        self,
        dataset: Literal["fashion-mnist", "image-folder"] = "fashion-mnist",
        root: Path | None = None,
        batch_size: int = 64,
        image_size: int = 224,
        augment: bool = True,
        max_shift: int = 0,
        workers: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("image_size", image_size, 1),
            ("workers", workers, 0),
        ):
            if value < least:
                raise ValueError(f"{name}: expected an int >= {least}, got {value}")
        self.dataset, self.root, self.batch_size, self.image_size = dataset, root, batch_size, image_size
        self.augment, self.max_shift, self.workers, self.seed = augment, max_shift, workers, seed
        self._splits: Splits | None = None

    @property
    def splits(self) -> Splits:
        """The data set, read at first use."""
        if self._splits is None:
            seed = self.seed or 0
            if self.dataset == "fashion-mnist":
                from ddfnet.data.fashion_mnist import fashion_mnist

                self._splits = fashion_mnist(self.root, augment=self.augment, max_shift=self.max_shift, seed=seed)
            else:
                from ddfnet.data.image_folder import image_folder

                if self.root is None:
                    raise ValueError("root: expected a folder of images with dataset='image-folder', got None")
                self._splits = image_folder(self.root, image_size=self.image_size, augment=self.augment, seed=seed)
        return self._splits

    def train_dataloader(self) -> DataLoader[Any]:
        """The batches of the trainer's current epoch; the run reloads it every epoch."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        split = self.splits.train
        split.set_epoch(epoch)
        generator = torch.Generator().manual_seed((self.seed or 0) * 1_000_003 + epoch)
        sampler = RandomSampler(split, generator=generator)
        return self._loader(split, sampler, drop_last=len(split) > self.batch_size)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.splits.val, SequentialSampler(self.splits.val), drop_last=False)

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.splits.test, SequentialSampler(self.splits.test), drop_last=False)

    def _loader(self, split: Split, sampler: Any, *, drop_last: bool) -> DataLoader[Any]:
        return DataLoader(
            split,  # type: ignore[arg-type]
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.workers,
            collate_fn=_as_fetched,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(0),
        )


def _as_fetched(batch: Any) -> Any:
    """Splits fetch whole batches: nothing is left to collate."""
    return batch
