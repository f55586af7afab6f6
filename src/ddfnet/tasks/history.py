"""The callbacks of a run: seeds drawn from the epoch's number, and `metrics.csv`."""

import csv
import io
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning

from ddfnet.atomic import write_text


class SeedEachEpoch(lightning.Callback):
    """Seeds every random number generator at the start of an epoch, so that a resumed epoch is the undisturbed one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        lightning.seed_everything((self.seed * 1_000_003 + trainer.current_epoch) % 2**32, verbose=False)


class History(lightning.Callback):
    """What was logged in each epoch, with its training time: kept in the checkpoints and written to `metrics.csv`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._seconds = 0.0
        self._images = 0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._seconds, self._images = 0.0, 0
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
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
                told = (f"{name} {row[name]:.4f}" for name in sorted(trainer.callback_metrics))
                print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}:", ", ".join(told), flush=True)

    def write(self) -> None:
        """Writes `metrics.csv`, one row an epoch."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(dict.fromkeys(name for row in self.rows for name in row)))
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    @property
    def images_per_second(self) -> float:
        """Training images a second, over all epochs, validation left out."""
        seconds = sum(row["train_seconds"] for row in self.rows)
        return sum(row["train_images"] for row in self.rows) / seconds if seconds else 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
