"""Data sets in Pascal VOC's format: an XML file an image."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from ddfnet.data.detection.split import AnnotatedImage, DetectionSplit, known_sizes
from ddfnet.data.folders import PARTS, image_suffixes, listed, part_folder

log = logging.getLogger(__name__)


class _Annotation(NamedTuple):
    """An XML file, read."""

    path: Path
    image: Path
    size: tuple[int, int] | None  # width, height
    objects: list[tuple[str, list[float], bool]]  # name, corners as written, difficult


def voc_splits(
    root: Path, *, flip: bool = False, empty_images: bool = False, seed: int = 0
) -> tuple[DetectionSplit, DetectionSplit, DetectionSplit]:
    """Read a data set in Pascal VOC's format as its splits train, val and test; test is val where there is none.

    Either `Annotations`, `JPEGImages` and `ImageSets/Main/train.txt`, `val.txt`, `test.txt`, in `root` or in the one folder
    that has them below it; or a folder of images with their XML files for each split, such as `root/train`, `root/valid`.

    Corners are pixels counted from 1 and belong to their box, as VOC defines them: the left edge of the first pixel is 0
    here. A box whose corners share a row or a column is dropped, and named in a warning. A box marked difficult is neither
    trained on nor scored, as in VOC's scores. The classes are the names found in all splits, in alphabetical order.

    Args:
        flip, empty_images, seed: of the training split, see `DetectionSplit`.

    Raises:
        FileNotFoundError: a folder, a list or an image is not there.
        ValueError: an XML file is not what VOC's format says, or an image has another size than it says.
    """
    parts = {part: [_read(path, images) for path, images in files] for part, files in _files(root)}
    for part in PARTS[:2]:
        if part not in parts:
            raise FileNotFoundError(f"{root}: expected ImageSets/Main/{part}.txt or a folder {part}, found neither")
    classes = sorted({name for found in parts.values() for entry in found for name, *_ in entry.objects})
    splits = {}
    for part, found in parts.items():
        options: dict[str, Any] = {"train": part == "train"}
        if part == "train":
            options |= {"flip": flip, "empty_images": empty_images, "seed": seed}
        source = root / part
        splits[part] = DetectionSplit(source, classes, _records(source, found, classes), **options)
    return splits["train"], splits["val"], splits.get("test", splits["val"])


def _files(root: Path) -> Iterator[tuple[str, list[tuple[Path, list[Path]]]]]:
    """Return the parts that exist: for each, its XML files and the folders where its images may be."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    homes = [path.parent for pattern in (".", "*", "*/*") for path in root.glob(f"{pattern}/Annotations")]
    if len(homes) > 1 and homes[0] != root:
        raise ValueError(f"{root}: expected one data set, found {', '.join(str(home) for home in homes)}")
    for part in PARTS:
        folder = part_folder(root, part)
        if homes and (chosen := homes[0] / "ImageSets" / "Main" / f"{part}.txt").is_file():
            names = [line.split()[0] for line in chosen.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
            yield part, [(homes[0] / "Annotations" / f"{name}.xml", [homes[0] / "JPEGImages"]) for name in names]
        elif folder is not None and (files := sorted(folder.rglob("*.xml"))):
            yield part, [(path, [path.parent, folder / "images", folder / "JPEGImages"]) for path in files]


def _read(path: Path, folders: list[Path]) -> _Annotation:
    try:
        tree = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such annotation file") from None
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: not an XML file, or a damaged one ({error})") from None
    objects = []
    for position, entry in enumerate(tree.iter("object")):
        name = (entry.findtext("name") or "").strip()
        if not name:
            raise ValueError(f"{path}: object {position}: expected a name, found none")
        corners = [
            _number(entry, f"bndbox/{key}", f"{path}: object {position}") for key in ("xmin", "ymin", "xmax", "ymax")
        ]
        objects.append((name, corners, (entry.findtext("difficult") or "0").strip() == "1"))
    sides = [f"size/{side}" for side in ("width", "height") if (tree.findtext(f"size/{side}") or "").strip()]
    width, height = (int(_number(tree, side, str(path))) for side in sides) if len(sides) == 2 else (0, 0)
    return _Annotation(
        path, _image(path, tree.findtext("filename"), folders), (width, height) if width and height else None, objects
    )


def _image(path: Path, written: str | None, folders: list[Path]) -> Path:
    """Return the image that an XML file names, or that has its name."""
    name = Path((written or "").strip()).name
    for folder in folders:
        if name and (folder / name).is_file():
            return folder / name
        for other in sorted(folder.glob(f"{path.stem}.*")):
            if other.suffix.lower() in image_suffixes():
                return other
    return folders[0] / (name or f"{path.stem}.jpg")


def _number(entry: ElementTree.Element, key: str, where: str) -> float:
    text = entry.findtext(key)
    try:
        value = float(text or "")
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise ValueError(f"{where}: {key}: expected a finite number, got {text!r}")
    return value


def _records(source: Path, found: list[_Annotation], classes: list[str]) -> list[AnnotatedImage]:
    sizes = known_sizes(source, [entry.image for entry in found])
    label_of = {name: label for label, name in enumerate(classes, 1)}
    records, empty = [], []
    for entry, (_, displayed) in zip(found, sizes, strict=True):
        solid = [box for box in entry.objects if box[1][2] > box[1][0] and box[1][3] > box[1][1]]
        empty += [entry.path.name] * (len(entry.objects) - len(solid))
        boxes = np.array([corners for _, corners, _ in solid], np.float32).reshape(-1, 4) - np.array(
            [1, 1, 0, 0], np.float32
        )
        width, height = entry.size or displayed
        records.append(
            AnnotatedImage(
                *(entry.image, entry.path.stem, width, height),
                boxes=boxes,
                labels=np.array([label_of[name] for name, *_ in solid], np.int64),
                crowd=np.array([difficult for *_, difficult in solid], np.bool_),
                areas=np.prod(boxes[:, 2:] - boxes[:, :2], axis=1),
            )
        )
    if empty:
        log.warning("%s: boxes without width or height are left out: %s", source, listed(empty))
    return records
