"""Pascal VOC's format: corners counted from 1, lists of the parts, and what is left out."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from ddfnet.data.detection.voc import voc_splits

BCCD = Path(os.environ.get("DDFNET_BCCD", "../shared/data/bccd"))


def write(path: Path, image: str, objects: Sequence[tuple[str, tuple[int, ...], int]], size: str = "20 10") -> None:
    width, height = size.split()
    text = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for name, box, difficult in objects
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<annotation><filename>{image}</filename><size><width>{width}</width><height>{height}</height></size>{text}</annotation>"
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """VOC's own layout: two images to train on, one to validate."""
    for folder in ("JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    for name in "abc":
        Image.new("RGB", (20, 10)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
    write(tmp_path / "Annotations" / "a.xml", "a.jpg", [("dog", (1, 1, 20, 10), 0), ("cat", (3, 2, 6, 8), 1)])
    write(tmp_path / "Annotations" / "b.xml", "b.jpg", [("cat", (5, 5, 5, 5), 0), ("cat", (2, 2, 9, 9), 0)], "0 0")
    write(tmp_path / "Annotations" / "c.xml", "other.png", [("eel", (2, 3, 4, 7), 0)])
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\nb  1\n")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("c\n")
    return tmp_path


def test_corners_classes_and_difficult_objects(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    train, val, test = voc_splits(root)
    assert train.classes == val.classes == ("cat", "dog", "eel")
    assert test is val
    (image, _), (first, second), *_ = train.__getitems__([0, 1])
    assert image.shape == (3, 10, 20)
    assert first["boxes"].tolist() == [[0, 0, 20, 10], [2, 1, 6, 8]]
    assert (first["labels"].tolist(), first["iscrowd"].tolist()) == ([2, 1], [0, 1])
    assert first["area"].tolist() == [200, 28]
    assert second["boxes"].tolist() == [[1, 1, 9, 9]]
    assert "boxes without width or height are left out: 1 (b.xml)" in caplog.text
    assert val.__getitems__([0]).targets[0]["boxes"].tolist() == [[1, 2, 4, 7]]
    assert val.records[0].path.name == "c.jpg"  # the file named in it is not there, but one of its name is


def test_a_folder_for_each_part(root: Path, tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        write(tmp_path / "flat" / part / "a.xml", "a.jpg", [(part, (1, 1, 5, 5), 0)])
        Image.new("RGB", (20, 10)).save(tmp_path / "flat" / part / "a.jpg")
    splits = voc_splits(tmp_path / "flat")
    assert [split.__getitems__([0]).targets[0]["labels"].tolist() for split in splits] == [[2], [3], [1]]


@pytest.mark.parametrize(
    ("objects", "sentence"),
    [
        ([("", (1, 1, 5, 5), 0)], r"a\.xml: object 0: expected a name, found none"),
        ([("cat", (1, 1, 5, "five"), 0)], r"object 0: bndbox/ymax: expected a finite number, got 'five'"),
    ],
)
def test_damaged_annotations(root: Path, objects: Sequence[tuple[str, tuple[int, ...], int]], sentence: str) -> None:
    write(root / "Annotations" / "a.xml", "a.jpg", objects)
    with pytest.raises(ValueError, match=sentence):
        voc_splits(root)


def test_sizes_and_lists_that_tools_write(root: Path) -> None:
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\nb  1\n", encoding="utf-8-sig")
    write(root / "Annotations" / "a.xml", "a.jpg", [("dog", (1, 1, 5, 5), 0)], "20.0 10.0")
    assert len(voc_splits(root)[0]) == 2
    write(root / "Annotations" / "a.xml", "a.jpg", [("dog", (1, 1, 5, 5), 0)], "wide 10")
    with pytest.raises(ValueError, match=r"a\.xml: size/width: expected a finite number, got 'wide'"):
        voc_splits(root)


def test_what_is_missing(root: Path) -> None:
    (root / "Annotations" / "b.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match=r"b\.xml: not an XML file, or a damaged one"):
        voc_splits(root)
    (root / "Annotations" / "b.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.xml: no such annotation file"):
        voc_splits(root)
    (root / "ImageSets" / "Main" / "val.txt").unlink()
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    with pytest.raises(FileNotFoundError, match=r"expected ImageSets/Main/val\.txt or a folder val, found neither"):
        voc_splits(root)


@pytest.mark.skipif(not BCCD.is_dir(), reason="needs BCCD, whose folder DDFNET_BCCD names")
def test_bccd(caplog: pytest.LogCaptureFixture) -> None:
    train, val, test = voc_splits(BCCD)
    assert train.classes == ("Platelets", "RBC", "WBC")
    assert [len(split) for split in (train, val, test)] == [205, 87, 72]
    assert sum(split.counts["boxes"] for split in (train, val, test)) == 4888 - 2
    assert "BloodImage_00338.xml" in caplog.text
    assert "BloodImage_00343.xml" in caplog.text
