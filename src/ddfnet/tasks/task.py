"""The base of every task: one class that a run trains, scores, describes and draws."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytorch_lightning as lightning
import torch
import torch.distributed as distributed
from pytorch_lightning.utilities.rank_zero import rank_zero_info  # type: ignore[attr-defined]
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ddfnet.models.complexity import complexity
from ddfnet.tasks.data import TaskData
from ddfnet.tasks.run.start import channels_of, start_from


class Task(lightning.LightningModule, ABC):
    """Train a network on a data set, score it, and say what it is.

    A subclass names its options in `__init__`, builds the network, and implements Lightning's steps. It logs validation
    scores as `val_...` and test scores as `test_...`, the one that counts first.

    Attributes:
        network: the network, once `build` or `adopt` has run.
        name: of the network, for folders and tables.
        classes: names of the classes, () for a task without.
        monitor: the metric that chooses the best epoch and whether more is better; "epoch" chooses the last.
        takes_batches: whether the network maps a batch of images to a tensor, so that it can be exported as such.
        unreadable: names of the images that could not be read.
    """

    network: nn.Module
    name: str
    classes: tuple[str, ...] = ()
    monitor: tuple[str, Literal["min", "max"]]
    takes_batches: ClassVar[bool] = True
    look: ClassVar[int] = 50  # batches from one look at the loss to the next: each look waits for the device

    def __init__(self) -> None:
        super().__init__()
        self.unreadable: set[str] = set()
        self._lost_at = torch.tensor(math.inf)  # first step of this epoch with a loss that is not finite

    def build(self, data: TaskData) -> None:
        """Create the network for `data`; do nothing if there is one already.

        Raises:
            ValueError: the options do not fit the data.
        """
        if hasattr(self, "network"):
            return
        self.check(data)
        self.adopt(self.create_network(data.classes, data.channels), data.classes)

    def check(self, data: TaskData) -> None:
        """Raise ValueError if the options do not fit the data."""

    @abstractmethod
    def create_network(self, classes: Sequence[str], channels: int) -> nn.Module:
        """Create the network for these classes and images of so many channels."""

    def adopt(self, network: nn.Module, classes: Sequence[str]) -> None:
        """Take `network`, with the weights that it has, as the network of this task.

        Raises:
            ValueError: it scores another number of classes.
        """
        if self.hparams.get("channels_last"):
            network = network.to(memory_format=torch.channels_last)
        self.network, self.classes = network, tuple(classes)
        self.create_metrics()

    def create_metrics(self) -> None:
        """Create the metrics, which depend on the classes."""

    @classmethod
    def without_start(cls, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options without those that name weights to start from: a trained run needs no download."""
        return options

    def describe(self, data: TaskData) -> dict[str, Any]:
        """Describe the network and its data for the summary of a run."""
        counted, shape, note = self.counted(data)
        cost = complexity(counted, shape)
        return {
            "network": self.name,
            "data": data.describe(),
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "flops": cost.flops,
            "multiply_adds": cost.multiply_adds,
            **({"counted": note} if note else {}),
            "input_shape": list(shape),
            **({"unreadable": sorted(self.unreadable)} if self.unreadable else {}),
        }

    @abstractmethod
    def counted(self, data: TaskData) -> tuple[nn.Module, Sequence[int], str]:
        """Return the module whose FLOPs are counted, the shape of its input, and a note if it is not the whole network."""

    @abstractmethod
    def draw(self, data: TaskData, folder: Path) -> dict[str, Path]:
        """Draw the results into `folder` and return the pictures by name."""

    def on_fit_start(self) -> None:
        start = self.hparams.get("start")
        if start is not None and self.trainer.ckpt_path is None:  # a resumed run has weights
            self.begin_with(start)

    def begin_with(self, start: str) -> None:
        """Give the network the weights of another run; its head keeps its weights if the number of classes differs."""
        kept = start_from(self.network, start, self.head())
        if kept:
            rank_zero_info(f"start: drawn at random, since their classes differ: {', '.join(kept)}")

    def head(self) -> tuple[str, ...]:
        """Return the names of the modules of the network that depend on the classes."""
        return ()

    def configure_model(self) -> None:
        if self._trainer is not None:  # None in `load_from_checkpoint`: there the checkpoint has the classes
            self.build(self.trainer.datamodule)  # type: ignore[attr-defined]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.create_optimizer()
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.create_schedule(optimizer), "interval": "step"},
        }

    @abstractmethod
    def create_optimizer(self) -> Optimizer:
        """Create the optimizer of the network."""

    def create_schedule(self, optimizer: Optimizer) -> Any:
        """Create the schedule of the learning rate, which is stepped after each update."""
        steps = int(self.trainer.estimated_stepping_batches)
        return LambdaLR(optimizer, lambda step: self.lr_factor(step, steps))

    def lr_factor(self, step: int, steps: int) -> float:
        """Return the factor of the learning rate at `step` of `steps`, by the options `schedule` and `lr_steps`."""
        options, factor = self.hparams, self.warm_up(step)
        if options["schedule"] == "cosine":
            return factor * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
        epoch = step * (self.trainer.max_epochs or 1) // steps
        return float(factor * 0.1 ** sum(epoch >= end for end in options["lr_steps"]))

    def warm_up(self, step: int) -> float:
        """Return the factor of the warm-up at `step`."""
        return 1.0

    def check_finite(self, loss: Tensor, batch_idx: int, parts: Mapping[str, Tensor] | None = None) -> None:
        """Raise ValueError, in all processes alike, if the loss of one was not finite.

        It looks every `look` batches and after the last one of an epoch; no checkpoint is written in between.

        Args:
            parts: what the loss is the sum of, for the message.
        """
        at = torch.where(torch.isfinite(loss.detach()), math.inf, float(self.global_step))
        self._lost_at = at if batch_idx == 0 else torch.minimum(self._lost_at, at)
        if batch_idx % self.look and not self.trainer.is_last_batch:
            return
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(self._lost_at, distributed.ReduceOp.MIN)
        step = self._lost_at.item()
        if math.isfinite(step):
            shown = ", ".join(f"{name} {value.item():.3g}" for name, value in (parts or {}).items())
            shown = f" ({shown})" if shown else ""
            raise ValueError(f"lr: the loss is no longer finite at step {step:.0f}{shown}; try a lower one")

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Run the network in eval mode and without gradients, and return to the mode that it was in."""
        training = self.network.training
        self.network.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.network.train(training)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.classes:
            checkpoint["classes"] = list(self.classes)
        if self.unreadable:
            checkpoint["unreadable"] = sorted(self.unreadable)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.unreadable = set(checkpoint.get("unreadable", ()))
        if not hasattr(self, "network"):
            classes = checkpoint.get("classes", ())
            self.adopt(self.create_network(classes, channels_of(checkpoint["state_dict"])), classes)

    def on_train_epoch_end(self) -> None:
        self.unreadable = set().union(*gathered(self.unreadable))

    def on_test_epoch_end(self) -> None:
        self.unreadable = set().union(*gathered(self.unreadable))


def gathered(value: Any) -> list[Any]:
    """Return `value` of every process, in their order."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, value)
    return found


def share(count: Tensor) -> Tensor:
    """Return the weight that turns the processes' mean of means over `count` values into the mean over all values."""
    total = count.clone()
    distributed.all_reduce(total)
    return count * distributed.get_world_size() / total.clamp(min=1)
