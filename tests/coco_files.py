"""Small data sets in COCO's format, made for the tests."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 90, "name": "eel"}]  # with gaps, in no order


def annotation(image_id: Any, bbox: Sequence[float], category_id: int = 3, **more: Any) -> dict[str, Any]:
    return {"image_id": image_id, "bbox": list(bbox), "category_id": category_id, **more}


def write(folder: Path, name: str, images: Sequence[dict[str, Any]], annotations: Sequence[Any], **more: Any) -> Path:
    """`folder/annotations/NAME.json`, ids of the annotations filled in."""
    path = folder / "annotations" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES, **more}
    content["annotations"] = [
        {"id": i, "iscrowd": 0, **entry} if isinstance(entry, dict) else entry for i, entry in enumerate(annotations, 1)
    ]
    path.write_text(json.dumps(content))
    return path


def make(folder: Path, name: str, sizes: Sequence[tuple[int, int]], *, seed: int = 0) -> Path:
    """Images of the sizes (width, height), with one or two bright boxes each on noise, and their annotations."""
    rng = np.random.default_rng(seed)
    (folder / name).mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations = []
    for image_id, (width, height) in enumerate(sizes, 100):
        pixels = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
        for _ in range(int(rng.integers(1, 3))):
            wide, high = (int(rng.integers(length // 4, length // 2)) for length in (width, height))
            left, top = int(rng.integers(width - wide)), int(rng.integers(height - high))
            label = int(rng.integers(3))
            pixels[top : top + high, left : left + wide, label] += 150
            category = sorted(entry["id"] for entry in CATEGORIES)[label]
            annotations.append(annotation(image_id, (left, top, wide, high), category, area=wide * high))
        file = f"{image_id}.png"
        Image.fromarray(pixels).save(folder / name / file)
        images.append({"id": image_id, "file_name": file, "width": width, "height": height})
    return write(folder, name, images, annotations)
