"""Checkpoints that are whole or absent, and that never run code when loaded."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import nn

from ddfnet.atomic import whole_or_absent


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints, written under a temporary name in their folder and moved."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_or_absent(target) as partial:
            torch.save(checkpoint, partial)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return what was saved in `path`, on the CPU; only tensors and plain Python data are ever loaded.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, truncated, or holding anything that loading would have to run.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except zipfile.BadZipFile:
        damaged = "no archive"
    if damaged is not None:
        raise ValueError(f"{path}: damaged or truncated checkpoint ({damaged})")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path}: holds more than tensors and plain data; refused, since loading it would run code"
        ) from None
    except Exception as error:  # torch.load raises whatever the damage leads it to
        raise ValueError(f"{path}: damaged checkpoint ({type(error).__name__})") from None
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{path}: expected a checkpoint with a state_dict")
    return checkpoint


def load_weights(model: nn.Module, path: Path) -> None:
    """Load the weights of `path` into `model`; raise ValueError, in one sentence, if they are those of another."""
    checkpoint = load_checkpoint(path)
    classes = checkpoint.get("classes")
    if classes is not None and classes != list(getattr(model, "classes", classes)):
        raise ValueError(f"{path}: trained for other classes ({', '.join(classes[:5])}, ...) than those of the data")
    found, expected = checkpoint["state_dict"], model.state_dict()
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is unknown" for name in found if name not in expected]
    problems += [
        f"{name}: expected {tuple(tensor.shape)}, got {tuple(found[name].shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if problems:
        more = f" (and {len(problems) - 1} more differences)" if len(problems) > 1 else ""
        raise ValueError(f"{path}: weights of another network: {problems[0]}{more}")
    model.load_state_dict(found)
