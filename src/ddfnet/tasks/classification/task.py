"""Image classification: a timm network, timm's optimisers and schedules, any data set of `ddfnet.data`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as lightning
import timm
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import EMAWeightAveraging
from timm.data.mixup import Mixup
from timm.loss import BinaryCrossEntropy  # type: ignore[attr-defined]
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from timm.scheduler import create_scheduler_v2  # type: ignore[attr-defined]
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics.classification import MulticlassAccuracy

import ddfnet.models  # noqa: F401 - registers the networks with timm
from ddfnet.data.splits import Batch, Split
from ddfnet.tasks.data import TaskData
from ddfnet.tasks.pictures import draw_spatial_filters
from ddfnet.tasks.task import Task
from ddfnet.tasks.unreadable import note


class Classification(Task):
    """Train a network of `timm.create_model` under a cosine schedule with warm-up.

    Top-5 is scored beside top-1 where there are more than ten classes. Unreadable images are reported, and listed in
    the summary of the run.

    Args:
        network: its name.
        network_args: further arguments of `timm.create_model`, such as `{block_args: {layer_args: {heads: 2}}}`.
        start: weights to begin with: of a run, by its folder, of a checkpoint or of an exported folder. The
            classifier begins at random where its classes are others.
        num_classes: None takes that of the data; a number must agree with it.
        loss: "cross-entropy" or "bce", timm's binary cross-entropy of every class.
        bce_threshold: of "bce": mixed targets above it are ones, the others zeros; None takes them as they are.
        optimizer: name in `timm.optim`.
        optimizer_args: further arguments of the optimiser.
        lr: the highest learning rate, reached after the warm-up.
        lr_batch: the joined batch (devices x batch x accumulated batches) that `lr` is for, which is scaled by the ratio to
            it; None takes `lr` as it is.
        min_lr: the learning rate at the end.
        momentum, weight_decay: of the optimiser; normalisations and biases are not decayed.
        warmup_epochs: epochs over which the learning rate rises linearly.
        warmup_prefix: the cosine starts after the warm-up, unshortened; else the warm-up hides its beginning, as in the
            paper's code, and it ends at `min_lr`.
        label_smoothing: of the loss.
        mixup, cutmix: alpha of timm's `Mixup` of each batch; 0 leaves it out, with both one of them is drawn.
        ema_decay: of a moving average of the weights, which is what is validated, saved and tested; None for none.
        channels_last: runs the network in the channels_last memory format.
        compile: runs the network under `torch.compile`.
    """

    monitor = ("val_accuracy", "max")

    def __init__(
        self,
        network: str = "ddf_resnet_mini",
        *,
        network_args: dict[str, Any] | None = None,
        num_classes: int | None = None,
        start: str | None = None,
        loss: Literal["cross-entropy", "bce"] = "cross-entropy",
        bce_threshold: float | None = None,
        optimizer: str = "adamw",
        optimizer_args: dict[str, Any] | None = None,
        lr: float = 3e-3,
        lr_batch: int | None = None,
        min_lr: float = 1e-5,
        momentum: float = 0.9,
        weight_decay: float = 0.05,
        warmup_epochs: float = 2.0,
        warmup_prefix: bool = True,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        ema_decay: float | None = None,
        channels_last: bool = False,
        compile: bool = False,  # noqa: A002 - as the option is called everywhere
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.name = network
        for name, value in (("mixup", mixup), ("cutmix", cutmix)):
            if value < 0:
                raise ValueError(f"{name}: expected a number >= 0, got {value}")
        if ema_decay is not None and not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay: expected a number >= 0 and below 1, got {ema_decay}")
        if bce_threshold is not None and loss != "bce":
            raise ValueError(f"bce_threshold: expected none with loss={loss!r}, got {bce_threshold}")
        if lr_batch is not None and lr_batch < 1:
            raise ValueError(f"lr_batch: expected an int >= 1, got {lr_batch}")
        self._averaging: EMAWeightAveraging | None = None

    def create_network(self, classes: Sequence[str], channels: int) -> nn.Module:
        name, wanted = self.hparams["network"], self.hparams["num_classes"]
        if not timm.is_model(name):
            raise ValueError(f"network: timm and ddfnet know no network named {name!r}")
        options = self.hparams["network_args"] or {}
        wanted = options.get("num_classes", wanted)
        if wanted not in (None, len(classes)):
            raise ValueError(f"num_classes: expected {len(classes)}, the classes of the data, got {wanted}")
        arguments = {"in_chans": channels, **options, "num_classes": len(classes)}
        network: nn.Module = timm.create_model(name, **arguments)
        return network

    def check(self, data: TaskData) -> None:
        channels = (self.hparams["network_args"] or {}).get("in_chans")
        if channels is not None:
            data.take_channels(channels)

    def adopt(self, network: nn.Module, classes: Sequence[str]) -> None:
        scored = getattr(network, "num_classes", len(classes))
        if scored != len(classes):
            raise ValueError(
                f"data: expected {scored} classes, those of the network, got {len(classes)}; "
                "data.class_map orders and names them where there are fewer folders"
            )
        super().adopt(network, classes)
        # The function is compiled and not the module, whose weights would get other names.
        self.run_network = torch.compile(self.network.forward) if self.hparams["compile"] else self.network.__call__

    @classmethod
    def without_start(cls, options: dict[str, Any]) -> dict[str, Any]:
        arguments = {k: v for k, v in (options.get("network_args") or {}).items() if not k.startswith("pretrained")}
        return {**options, "network_args": arguments, "start": None}

    def head(self) -> tuple[str, ...]:
        names = getattr(self.network, "pretrained_cfg", {}).get("classifier") or ()
        return (names,) if isinstance(names, str) else tuple(names)

    def create_metrics(self) -> None:
        classes = len(self.classes)
        self.train_loss, self.mixup = self._losses(classes)
        self.val_accuracy = MulticlassAccuracy(num_classes=classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes=classes, average="micro")
        if classes > 10:
            self.val_top5 = MulticlassAccuracy(num_classes=classes, average="micro", top_k=5)
            self.test_top5 = MulticlassAccuracy(num_classes=classes, average="micro", top_k=5)

    def _losses(self, classes: int) -> tuple[nn.Module, Mixup | None]:
        """Return the loss of training, and what mixes its images, which smooths labels itself."""
        options = self.hparams
        smoothing, mixed = options["label_smoothing"], options["mixup"] > 0 or options["cutmix"] > 0
        mixup = None
        if mixed:
            mixup = Mixup(
                mixup_alpha=options["mixup"],
                cutmix_alpha=options["cutmix"],
                label_smoothing=smoothing,
                num_classes=classes,
            )
        if options["loss"] == "bce":
            return BinaryCrossEntropy(smoothing, target_threshold=options["bce_threshold"]), mixup
        return nn.CrossEntropyLoss(label_smoothing=0.0 if mixed else smoothing), mixup

    def configure_callbacks(self) -> list[lightning.Callback]:
        """Return the moving average of the weights, where one is asked for."""
        decay = self.hparams["ema_decay"]
        self._averaging = None if decay is None else EMAWeightAveraging(decay=decay)
        return [] if self._averaging is None else [self._averaging]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self._averaging is not None and "current_model_state" not in checkpoint:  # one of weights alone
            self._averaging.on_save_checkpoint(self.trainer, self, checkpoint)
            del checkpoint["current_model_state"], checkpoint["averaging_state"]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        # timm's schedule is a function of the options and the step: one that was saved would end where the run once ended.
        checkpoint["lr_schedulers"] = [{} for _ in checkpoint.get("lr_schedulers", ())]

    def counted(self, data: TaskData) -> tuple[nn.Module, Sequence[int], str]:
        return self.network, _first_readable(data.splits.val, 1).shape, ""

    def draw(self, data: TaskData, folder: Path) -> dict[str, Path]:
        """Draw what the network learned: an input beside its per-pixel spatial filters, where it has such."""
        images = _first_readable(data.splits.test, 4)
        path = folder / "filters.png"
        return {"filters": path} if draw_spatial_filters(self.network, images, path) else {}

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores (B, classes) of images (B, C, H, W)."""
        if self.hparams["channels_last"]:
            images = images.contiguous(memory_format=torch.channels_last)
        scores: Tensor = self.run_network(images)
        return scores

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels, unreadable = batch
        note(self.unreadable, unreadable)
        targets = labels
        if self.mixup is not None:
            if len(labels) % 2:
                raise ValueError(f"batch_size: expected an even number with mixup or cutmix, got {len(labels)}")
            images, targets = self.mixup(images, labels)
        loss: Tensor = self.train_loss(self(images), targets)
        self.check_finite(loss, batch_idx)
        self.log(
            "train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(labels), sync_dist=True
        )
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._score(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._score(batch, "test")

    def _score(self, batch: Batch, part: Literal["val", "test"]) -> None:
        """Log the scores of a batch, and in validation its loss."""
        images, labels, unreadable = batch
        note(self.unreadable, unreadable)
        # A batch without a readable image is logged with no weight: a process that logged nothing would leave the others
        # waiting for its sums.
        scores = self(images) if len(labels) else None
        if part == "val":
            loss = images.new_zeros(()) if scores is None else F.cross_entropy(scores, labels)
            self.log("val_loss", loss, batch_size=len(labels), sync_dist=True)
        for name in ("accuracy", "top5") if len(self.classes) > 10 else ("accuracy",):
            metric = getattr(self, f"{part}_{name}")
            if scores is not None:
                metric.update(scores, labels)
            self.log(f"{part}_{name}", metric, prog_bar=part == "val" and name == "accuracy", batch_size=len(labels))

    def create_optimizer(self) -> Optimizer:
        options = self.hparams
        optimizer: Optimizer = create_optimizer_v2(
            self.network,
            opt=options["optimizer"],
            lr=self._lr(),
            momentum=options["momentum"],
            weight_decay=options["weight_decay"],
            **(options["optimizer_args"] or {}),
        )
        return optimizer

    def create_schedule(self, optimizer: Optimizer) -> Scheduler:
        options, epochs = self.hparams, self.trainer.max_epochs or 1
        scheduler, _ = create_scheduler_v2(
            optimizer,
            sched="cosine",
            num_epochs=epochs,
            warmup_epochs=options["warmup_epochs"],
            warmup_prefix=options["warmup_prefix"],
            warmup_lr=options["min_lr"],
            min_lr=options["min_lr"],
            cooldown_epochs=0,
            step_on_epochs=False,
            updates_per_epoch=int(self.trainer.estimated_stepping_batches) // epochs,
        )
        return scheduler

    def _lr(self) -> float:
        """Return the highest learning rate, for the joined batch of this run."""
        lr: float = self.hparams["lr"]
        if self.hparams["lr_batch"] is None:
            return lr
        data: TaskData = self.trainer.datamodule  # type: ignore[attr-defined]
        joined = data.batch_size * self.trainer.world_size * self.trainer.accumulate_grad_batches
        return lr * joined / self.hparams["lr_batch"]

    def lr_scheduler_step(self, scheduler: Scheduler, metric: Any) -> None:  # type: ignore[override]
        """Step timm's schedules, which count updates."""
        scheduler.step_update(num_updates=self.global_step)


def _first_readable(split: Split, count: int) -> Tensor:
    """Return the first images of a split that can be read, `count` or as many as there are."""
    images: list[Tensor] = []
    for index in range(len(split)):
        images += split.__getitems__([index]).images
        if len(images) == count:
            break
    if not images:
        raise ValueError(f"data: expected images that can be read, got none in {len(split)}")
    return torch.stack(images)
