"""The callbacks of a run: seeds drawn from the epoch's number, and `metrics.csv`."""

import csv
import io
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
from pytorch_lightning.callbacks import Checkpoint

from ddfnet.atomic import write_text


class SeedEachEpoch(lightning.Callback):
    """Seed every random number generator at the start of an epoch, so that a resumed epoch equals an undisturbed one.

    Each process draws other numbers.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        number = (self.seed * 1_000_003 + trainer.current_epoch) * 3 + 2 + trainer.global_rank * 0x9E3779B1
        lightning.seed_everything(number % 2**32, verbose=False)


class History(lightning.Callback):
    """The log of each epoch, with its training time: kept in the checkpoints and written to `metrics.csv`."""

    def __init__(self, path: Path, metric: str, mode: str) -> None:
        self.path = path
        self.metric, self.mode = metric, mode
        self.rows: list[dict[str, float]] = []
        self._seconds = 0.0
        self._images = 0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._seconds, self._images = 0.0, 0

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:  # the first batch pays for what is done once: kernels compiled, memory taken
            self._since = time.perf_counter()
            return
        self._images += len(batch[0]) * trainer.world_size
        self._seconds = time.perf_counter() - self._since

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        row = {"epoch": trainer.current_epoch, "lr": trainer.optimizers[0].param_groups[0]["lr"]}
        row |= {name: round(float(value), 6) for name, value in trainer.callback_metrics.items()}
        row |= {"train_seconds": round(self._seconds, 3), "train_images": self._images}
        self.rows.append(row)
        if trainer.is_global_zero:
            self.write()
            if not sys.stdout.isatty():
                scores = (f"{name} {row[name]:.4f}" for name in sorted(trainer.callback_metrics))
                print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}:", ", ".join(scores), flush=True)

    def write(self) -> None:
        """Write `metrics.csv`, one row an epoch."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(dict.fromkeys(name for row in self.rows for name in row)))
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    @property
    def best(self) -> dict[str, float]:
        """The row of the first epoch whose metric none surpasses; raises ValueError if an epoch has none."""
        if any(self.metric not in row for row in self.rows):
            raise ValueError(f"data: expected validation images that can be read, got none to compute {self.metric} by")
        sign = 1 if self.mode == "max" else -1
        return max(self.rows, key=lambda row: sign * row[self.metric])

    @property
    def images_per_second(self) -> float:
        """Training images a second over all epochs, without their first batches and without validation."""
        seconds = sum(row["train_seconds"] for row in self.rows)
        return sum(row["train_images"] for row in self.rows) / seconds if seconds else 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


class Checkpoints(Checkpoint):
    """Write `best.ckpt` (weights) when the history says so and then `last.ckpt` (everything), after each epoch.

    What is best follows from the history, which the checkpoints hold, and from no path: a run folder can be moved.
    """

    def __init__(self, history: History, best: Path, last: Path) -> None:
        self.history, self.best, self.last = history, best, last

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.history.best is self.history.rows[-1]:
            trainer.save_checkpoint(self.best, weights_only=True)
        trainer.save_checkpoint(self.last)
