"""The predictions of a trained network for images: rows for a table, and files."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddfnet.atomic import write_text
from ddfnet.tasks.trained import Trained

Value = str | int | float


@dataclass
class Predictions:
    """Rows of `columns`, the pictures and maps written beside them, and unreadable images with the reason."""

    columns: tuple[str, ...]
    rows: list[tuple[Value, ...]] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> list[Path]:
        """Write `predictions.csv` and `predictions.json`, a list of an object a row, into `folder`."""
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerows([self.columns, *self.rows])
        write_text(folder / "predictions.csv", table.getvalue())
        objects = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        write_text(folder / "predictions.json", json.dumps(objects, indent=2) + "\n")
        return [folder / "predictions.csv", folder / "predictions.json"]

    def read(self, trained: Trained, path: Path) -> Tensor | None:
        """Return the network's input for an image; None, with a note of the reason, if the image cannot be read."""
        try:
            return trained.transform(path)
        except ValueError as error:
            self.unreadable.append(str(error))
            return None


@torch.no_grad()
def classify(trained: Trained, images: Sequence[Path], *, top: int) -> Predictions:
    """Return the `top` classes of each image with their scores: a softmax, or sigmoids of a network trained with "bce"."""
    found = Predictions(("image", "class", "score"))
    binary = _options(trained).get("loss") == "bce"
    for path in images:
        x = found.read(trained, path)
        if x is None:
            continue
        logits = trained(x[None].to(_device(trained)))[0].float().cpu()
        scores = logits.sigmoid() if binary else logits.softmax(0)
        values, labels = scores.topk(min(top, len(scores)))
        names = trained.class_names or tuple(map(str, range(len(scores))))
        found.rows += [
            (str(path), names[label], round(value, 6))
            for label, value in zip(labels.tolist(), values.tolist(), strict=True)
        ]
    return found


@torch.no_grad()
def detect(trained: Trained, images: Sequence[Path], folder: Path, *, least: float) -> Predictions:
    """Return the boxes of each image with a score of at least `least`, and draw them into `folder`."""
    from ddfnet.tasks.pictures import draw_found

    found = Predictions(("image", "class", "score", "left", "top", "right", "bottom"))
    for path, drawing in zip(images, _names(images, folder, ".png"), strict=True):
        x = found.read(trained, path)
        if x is None:
            continue
        (boxes,) = trained([x.to(_device(trained))])
        sure = {name: value[boxes["scores"] >= least].cpu() for name, value in boxes.items()}
        for box, label, score in zip(*(sure[name].tolist() for name in ("boxes", "labels", "scores")), strict=True):
            corners = [round(corner, 2) for corner in box]
            found.rows.append((str(path), trained.class_names[label - 1], round(score, 6), *corners))
        draw_found(x, sure, trained.class_names, drawing)
        found.pictures.append(drawing)
    return found


@torch.no_grad()
def upsample(trained: Trained, images: Sequence[Path], depths: Sequence[Path], folder: Path) -> Predictions:
    """Write the depth map of each image, in the format and the unit of the low one, into `folder`.

    Raises:
        ValueError: there is not one low depth map for each image, or one does not fit its image.
    """
    from ddfnet.data.depth.files import read_depth, read_rgb, write_depth
    from ddfnet.tasks.depth.task import upsample as by_network

    if len(depths) != len(images):
        raise ValueError(f"--depth: expected a map for each of {len(images)} images, got {len(depths)}")
    found = Predictions(("image", "depth", "height", "width", "least", "greatest"))
    for path, low, place in zip(images, depths, _names(images, folder, ""), strict=True):
        try:
            depth, rgb = read_depth(low), read_rgb(path)
        except ValueError as error:
            found.unreadable.append(str(error))
            continue
        network: Any = trained.network
        maps = torch.from_numpy(depth.values)[None, None]
        image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
        result = by_network(network, maps.to(_device(trained)), image.to(_device(trained)))[0, 0].cpu().numpy()
        out = place.with_name(place.name + low.suffix.lower())
        write_depth(out, depth.bounded(result), depth)
        found.rows.append((str(path), str(low), *result.shape, float(result.min()), float(result.max())))
        found.pictures.append(out)
    return found


def _options(trained: Trained) -> dict[str, Any]:
    options: dict[str, Any] = (trained.config.get("model") or {}).get("init_args") or {}
    return options


def _device(trained: Trained) -> torch.device:
    return next(trained.parameters()).device


def _names(images: Sequence[Path], folder: Path, suffix: str) -> list[Path]:
    """Return a file in `folder` for each image: its name, with a number if an earlier image has the same."""
    taken: set[str] = set()
    paths = []
    for image in images:
        name, number = image.stem, 1
        while name in taken:
            number += 1
            name = f"{image.stem}-{number}"
        taken.add(name)
        paths.append(folder / f"{name}{suffix}")
    return paths
