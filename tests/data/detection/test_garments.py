"""The garments: the same bytes every time, whole or absent, nothing shared between the splits."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddfnet.cli import main
from ddfnet.data.classification.fashion_mnist import CLASSES
from ddfnet.data.detection import garments
from ddfnet.data.detection.coco import CocoSplit

COUNTS = (12, 5, 6)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("garments") / "a"
    garments.make_garments(folder, images=COUNTS)
    return folder


def test_the_same_arguments_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    assert main(["make-garments", str(tmp_path / "b"), "--images", *map(str, COUNTS)]) == 0
    files = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert len(files) == sum(COUNTS) + 3
    assert files == sorted(path.relative_to(tmp_path / "b") for path in (tmp_path / "b").rglob("*") if path.is_file())
    for file in files:
        assert (made / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    garments.make_garments(tmp_path / "c", images=COUNTS, seed=1)
    assert (made / files[0]).read_bytes() != (tmp_path / "c" / files[0]).read_bytes()


def test_it_is_cocos_format_with_every_class_and_size(made: Path) -> None:
    sizes = []
    for name, count in zip(garments.SPLITS, COUNTS, strict=True):
        split = CocoSplit(made / name, made / "annotations" / f"{name}.json", train=True)
        assert len(split) == count
        assert split.classes == CLASSES
        assert split.counts["clipped"] == split.counts["dropped"] == split.counts["left_out"] == 0
        sizes += [float(area) for record in split.records for area in record.areas]
    assert min(sizes) < 32**2 < 96**2 < max(sizes)


def test_boxes_are_tight_around_what_was_laid_there() -> None:
    """On a black canvas every pixel that is lit is the garment's; its border is soft, by a pixel."""
    picture = np.zeros((28, 28), np.uint8)
    picture[4:24, 8:19] = 200
    for seed in range(20):
        canvas, placed = np.zeros((64, 64, 3), np.uint8), []
        garments._place(np.random.default_rng(seed), canvas, placed, picture, 3, side=20.0)
        (garment,) = placed
        lit = garments._bounds(canvas.max(2) > 0)
        assert np.abs(np.subtract(lit, garments._bounds(garment.mask))).max() <= 1
        assert garment.label == 3


def test_boxes_are_inside_their_images(made: Path) -> None:
    content = json.loads((made / "annotations" / "train.json").read_text())
    for entry in content["annotations"]:
        left, top, wide, high = entry["bbox"]
        assert 0 <= left < left + wide <= garments.IMAGE_SIZE
        assert 0 <= top < top + high <= garments.IMAGE_SIZE
        assert entry["area"] == wide * high
    assert all(Image.open(made / "train" / entry["file_name"]).size == (128, 128) for entry in content["images"])


def test_no_photograph_and_no_garment_is_in_two_splits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = [name for split in garments.SPLITS for name in garments.PHOTOGRAPHS[split]]
    assert len(names) == len(set(names))
    used: dict[str, set[bytes]] = {}
    cut_out = garments._cut_out

    def spy(picture: garments.Pixels) -> tuple[garments.Pixels, garments.Mask]:
        used.setdefault(current[0], set()).add(picture.tobytes())
        return cut_out(picture)

    current = [""]
    make_split = garments._make_split

    def announce(folder: Path, *args: object) -> object:
        current[0] = folder.name
        return make_split(folder, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(garments, "_cut_out", spy)
    monkeypatch.setattr(garments, "_make_split", announce)
    garments.make_garments(tmp_path / "g", images=(20, 20, 20), image_size=64)
    assert set(used) == set(garments.SPLITS)
    assert not used["train"] & used["val"]
    assert not used["train"] & used["test"]
    assert not used["val"] & used["test"]


def test_a_failure_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(garments, "_place", fail)
    with pytest.raises(KeyboardInterrupt):
        garments.make_garments(tmp_path / "g", images=COUNTS)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_may_make_it_at_once(made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_split = garments._make_split

    def overtaken(folder: Path, *args: object) -> object:
        if folder.name == "test":
            shutil.copytree(made, tmp_path / "g")
        return make_split(folder, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(garments, "_make_split", overtaken)
    garments.make_garments(tmp_path / "g", images=COUNTS)
    assert garments.is_made(tmp_path / "g")
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def test_covered_garments_stay_visible(made: Path) -> None:
    """With two masks on one, what both cover counts once."""
    full, half = np.ones((4, 4), bool), np.zeros((4, 4), bool)
    half[:1] = True
    below = garments._Placed(0, full)
    assert not garments._covered(below, [garments._Placed(1, half)], half)
    assert garments._covered(below, [garments._Placed(1, half)], ~half)


def test_errors(made: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="expected a new folder, found one"):
        garments.make_garments(made)
    with pytest.raises(ValueError, match=r"images: expected three counts >= 1, of train, val, test, got \[1, 0, 1\]"):
        garments.make_garments(tmp_path / "g", images=[1, 0, 1])
    with pytest.raises(ValueError, match="image_size: expected an int >= 64, got 32"):
        garments.make_garments(tmp_path / "g", image_size=32)


def test_another_version_is_kept_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = garments.default_folder()
    assert before.parent == tmp_path / "ddfnet"
    monkeypatch.setattr(garments, "VERSION", garments.VERSION + 1)
    assert garments.default_folder() != before
