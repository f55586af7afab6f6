"""YOLO's labels: shares of the image, outlines, the layouts that tools write, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddfnet.data.detection.yolo import yolo_splits


def make(root: Path, pattern: str, parts: tuple[str, ...] = ("train", "val")) -> Path:
    """An image a part, of 20 by 10 pixels, with a box of 10 by 5 at (5, 5); `pattern` is of its folders."""
    for part in parts:
        for kind in ("images", "labels"):
            (root / pattern.format(part=part, kind=kind)).mkdir(parents=True)
        Image.new("RGB", (20, 10)).save(root / pattern.format(part=part, kind="images") / "a.jpg")
        (root / pattern.format(part=part, kind="labels") / "a.txt").write_text("1 0.5 0.75 0.5 0.5\n\n")
    return root


@pytest.mark.parametrize(
    ("pattern", "parts", "yaml"),
    [
        ("{kind}/{part}", ("train", "val"), "path: .\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n"),
        (
            "{part}/{kind}",
            ("train", "valid", "test"),
            "train: ../train/images\nval: ../valid/images\nnames: [cat, dog]\n",
        ),
        ("{kind}/{part}", ("Train", "Valid"), "names: [cat, dog]\n"),
        ("{kind}/{part}", ("train", "val"), None),
    ],
)
def test_layouts(tmp_path: Path, pattern: str, parts: tuple[str, ...], yaml: str | None) -> None:
    root = make(tmp_path, pattern, parts)
    (root / ("data.yaml" if yaml else "classes.txt")).write_text(yaml or "cat\ndog\n")
    train, val, test = yolo_splits(root)
    assert train.classes == ("cat", "dog")
    assert (test is val) == (len(parts) == 2)
    for split in (train, val, test):
        (image,), (target,), *_ = split.__getitems__([0])
        assert image.shape == (3, 10, 20)
        assert target["boxes"].tolist() == [[5, 5, 15, 10]]
        assert target["labels"].tolist() == [2]
        assert target["area"].tolist() == [50]


def test_lists_outlines_and_images_without_labels(tmp_path: Path) -> None:
    root = make(tmp_path, "{kind}/{part}")
    (root / "labels" / "train" / "a.txt").write_text("0 0.1 0.2 0.6 0.2 0.3 0.8\n")
    Image.new("RGB", (20, 10)).save(root / "images" / "train" / "b.png")
    (root / "train.txt").write_text("images/train/a.jpg\nimages/train/b.png\n")
    (root / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [cat, dog]\n")
    train = yolo_splits(root, empty_images=True)[0]
    assert len(train) == 2
    np.testing.assert_allclose(train.records[0].boxes, [[2, 2, 12, 8]], rtol=1e-6)
    assert train.records[1].boxes.shape == (0, 4)
    assert len(yolo_splits(root)[0]) == 1


def test_labels_are_for_the_image_as_displayed(tmp_path: Path) -> None:
    root = make(tmp_path, "{kind}/{part}")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(root / "images" / "train" / "a.jpg", exif=exif)
    (root / "classes.txt").write_text("cat\ndog\n")
    (image,), (target,), *_ = yolo_splits(root)[0].__getitems__([0])
    assert image.shape == (3, 20, 10)
    assert target["boxes"].tolist() == [[2.5, 10, 7.5, 20]]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("1 0.5 0.5 0.5", r"a\.txt: line 1: expected `class x y width height` or an outline, got '1 0\.5 0\.5 0\.5'"),
        ("1 0.5 0.5 0.5 half", "line 1: expected `class x y width height` or an outline"),
        ("2 0.5 0.5 0.5 0.5", "line 1: expected a class of 0 to 1, got 2"),
        ("nan 0.5 0.5 0.5 0.5", "line 1: expected"),
    ],
)
def test_damaged_labels(tmp_path: Path, line: str, sentence: str) -> None:
    root = make(tmp_path, "{kind}/{part}")
    (root / "classes.txt").write_text("cat\ndog\n")
    (root / "labels" / "train" / "a.txt").write_text(line)
    with pytest.raises(ValueError, match=sentence):
        yolo_splits(root)


def test_names_that_are_no_list(tmp_path: Path) -> None:
    root = make(tmp_path, "{kind}/{part}")
    for names in ("{0: cat, last: dog}", "{1: cat, 2: dog}", "cat", "[]"):
        (root / "data.yaml").write_text(f"names: {names}\n")
        with pytest.raises(ValueError, match="names: expected a list of the classes, or a mapping from 0"):
            yolo_splits(root)


def test_what_is_missing(tmp_path: Path) -> None:
    root = make(tmp_path, "{kind}/{part}", ("train",))
    with pytest.raises(FileNotFoundError, match=r"expected the names of the classes in data\.yaml or classes\.txt"):
        yolo_splits(root)
    (root / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(FileNotFoundError, match="expected images of val in images/val or val/images, found none"):
        yolo_splits(root)
