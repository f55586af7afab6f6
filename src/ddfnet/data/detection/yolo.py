"""Data sets of YOLO's labels: a text file an image, a line `class x y width height` a box, in shares of the image."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddfnet.data.detection.split import AnnotatedImage, DetectionSplit, known_sizes
from ddfnet.data.folders import PARTS, SYNONYMS, image_suffixes, part_folder, visible


def yolo_splits(
    root: Path, *, flip: bool = False, empty_images: bool = False, seed: int = 0
) -> tuple[DetectionSplit, DetectionSplit, DetectionSplit]:
    """Read a data set of YOLO's labels as its splits train, val and test; test is val where there is none.

    `root/data.yaml` (or the only other YAML file there) says where the images are: for each of `train`, `val` and `test` a
    folder or a text file that lists images. Without it, they are in `root/images/train` or `root/train/images`, and so on.
    The labels are in the same place under `labels`, or beside the images. The names of the classes are those of the YAML
    file, or the lines of `classes.txt`.

    A line of more than five numbers is an outline `class x y x y ...`, whose bounding box is taken. Boxes are for the image
    as it is displayed. An image without a label file has no boxes.

    Args:
        flip, empty_images, seed: of the training split, see `DetectionSplit`.

    Raises:
        FileNotFoundError: a folder, the names of the classes or an image is not there.
        ValueError: a line is not of this format, or names an unknown class.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    content = _content(root)
    classes = _classes(root, content)
    splits = {}
    for part in PARTS:
        paths = _images(root, content, part)
        if paths is None and part == "test":
            continue
        if not paths:
            raise FileNotFoundError(f"{root}: expected images of {part} in images/{part} or {part}/images, found none")
        options: dict[str, Any] = {"train": part == "train"}
        if part == "train":
            options |= {"flip": flip, "empty_images": empty_images, "seed": seed}
        source = root / part
        sizes = known_sizes(source, paths)
        records = [_record(path, size, classes) for path, (_, size) in zip(paths, sizes, strict=True)]
        splits[part] = DetectionSplit(source, classes, records, **options)
    return splits["train"], splits["val"], splits.get("test", splits["val"])


def _content(root: Path) -> dict[str, Any]:
    """Return the content of the data set's YAML file; {} without one."""
    import yaml

    files = [path for name in ("data", "dataset", "*") for path in sorted(root.glob(f"{name}.y*ml"))]
    if not files:
        return {}
    try:
        content = yaml.safe_load(files[0].read_text(encoding="utf-8-sig"))
    except yaml.YAMLError as error:
        raise ValueError(f"{files[0]}: not a YAML file, or a damaged one ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{files[0]}: expected names and folders, got {type(content).__name__}")
    return content


def _classes(root: Path, content: dict[str, Any]) -> list[str]:
    names = content.get("names")
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if isinstance(names, list) and names:
        return [str(name) for name in names]
    if names is not None:
        raise ValueError(f"{root}: names: expected a list of the classes, or a mapping from 0, 1, ..., got {names!r}")
    for path in sorted(root.rglob("classes.txt")):
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    raise FileNotFoundError(f"{root}: expected the names of the classes in data.yaml or classes.txt, found neither")


def _images(root: Path, content: dict[str, Any], part: str) -> list[Path] | None:
    """Return the images of a part; None if nothing says that it exists."""
    named = next((value for key, value in content.items() if key in SYNONYMS[part] and value), None)
    if named is not None:
        found = []
        for entry in named if isinstance(named, list) else [named]:
            found += _listed(_place(root, content.get("path"), str(entry)))
        return found
    images = next((path for path in root.iterdir() if path.is_dir() and path.name.lower() == "images"), None)
    folder = part_folder(images, part) if images is not None else part_folder(root, part)
    return None if folder is None else _listed(folder)


def _place(root: Path, base: Any, entry: str) -> Path:
    """Return a path of the YAML file, which tools write from several folders."""
    candidates = [Path(str(base or "")) / entry, Path(entry), Path(entry.removeprefix("../"))]
    for candidate in candidates:
        for path in (root / candidate, candidate):
            if path.exists():
                return path
    raise FileNotFoundError(f"{root}: {entry}, which its YAML file names, is not there")


def _listed(place: Path) -> list[Path]:
    """Return the images of a folder, or those that a text file lists."""
    if place.is_file():
        lines = [line.strip() for line in place.read_text(encoding="utf-8-sig").splitlines()]
        return [place.parent / line for line in lines if line]
    return [
        path
        for path in sorted(place.rglob("*"))
        if path.suffix.lower() in image_suffixes() and visible(path.relative_to(place)) and path.is_file()
    ]


def _record(image: Path, size: tuple[int, int], classes: list[str]) -> AnnotatedImage:
    width, height = size
    path = _label_file(image)
    lines = path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else []
    found = [_box(line, f"{path}: line {number}", classes) for number, line in enumerate(lines, 1) if line.strip()]
    boxes = np.array([corners for _, corners in found], np.float32).reshape(-1, 4)
    boxes = boxes * np.array([width, height] * 2, np.float32)
    return AnnotatedImage(
        *(image, image.stem, width, height),
        boxes=boxes,
        labels=np.array([label for label, _ in found], np.int64),
        crowd=np.zeros(len(found), np.bool_),
        areas=np.prod(boxes[:, 2:] - boxes[:, :2], axis=1),
    )


def _label_file(image: Path) -> Path:
    """Return the image's path with the last folder `images` replaced by `labels`, or a file beside the image."""
    parts = list(image.parts)
    for place in reversed(range(len(parts) - 1)):
        if parts[place].lower() == "images":
            parts[place] = "labels"
            return Path(*parts).with_suffix(".txt")
    return image.with_suffix(".txt")


def _box(line: str, where: str, classes: list[str]) -> tuple[int, NDArray[np.float64]]:
    """Return the label, from 1, and left, top, right and bottom in shares of the image."""
    try:
        number, *values = (float(word) for word in line.split())
    except ValueError:
        values = []
    if (len(values) != 4 and (len(values) < 6 or len(values) % 2)) or not np.isfinite(values).all():
        raise ValueError(f"{where}: expected `class x y width height` or an outline, got {line.strip()!r}")
    if number not in range(len(classes)):
        raise ValueError(f"{where}: expected a class of 0 to {len(classes) - 1}, got {line.split()[0]}")
    if len(values) == 4:
        x, y, wide, high = values
        return int(number) + 1, np.array([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2])
    points = np.array(values).reshape(-1, 2)
    return int(number) + 1, np.concatenate([points.min(0), points.max(0)])
