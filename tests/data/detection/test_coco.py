"""COCO's format: what is read, what is made trainable, and what is refused, in one sentence, before training starts."""

import json
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.coco_files import annotation, make, write

from ddfnet.data.detection.coco import CocoSplit
from ddfnet.data.detection.split import GroupedBatches

SIZE = {"width": 20, "height": 10}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, a, b and c, of 20 by 10 pixels."""
    (tmp_path / "images").mkdir()
    for number, name in enumerate("abc"):
        Image.new("RGB", (20, 10), (80 * number, 0, 0)).save(tmp_path / "images" / f"{name}.png")
    return tmp_path


def entries(names: str = "abc") -> list[dict[str, Any]]:
    return [{"id": number, "file_name": f"{name}.png", **SIZE} for number, name in enumerate(names)]


def split(folder: Path, annotations: list[Any], *, train: bool = True, images: Any = None, **options: Any) -> CocoSplit:
    path = write(folder, "a", entries() if images is None else images, annotations)
    return CocoSplit(folder / "images", path, train=train, **options)


def test_categories_with_gaps_are_mapped_and_mapped_back(folder: Path) -> None:
    found = split(
        folder, [annotation(0, (1, 2, 3, 4), 90), annotation(0, (5, 1, 2, 2), 3), annotation(2, (0, 0, 5, 5), 7)]
    )
    assert found.classes == ("dog", "cat", "eel")  # by their ids
    assert found.category_ids == (3, 7, 90)
    images, targets, _, _ = found.__getitems__([0])
    assert images[0].shape == (3, 10, 20)
    assert targets[0]["labels"].tolist() == [3, 1]
    assert targets[0]["boxes"].tolist() == [[1, 2, 4, 6], [5, 1, 7, 3]]
    result = found.result(1, torch.tensor([[1.0, 2.0, 4.0, 6.0]]), torch.tensor([2]), torch.tensor([0.5]))
    assert result == [{"image_id": 2, "category_id": 7, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}]


def test_training_boxes_are_clipped_and_degenerate_ones_dropped(folder: Path) -> None:
    annotations = [
        annotation(0, (-4, -4, 10, 10)),  # clipped
        annotation(0, (15, 5, 100, 100)),  # clipped
        annotation(0, (2, 2, 0, 5)),  # no width
        annotation(0, (5, 5, -3, 2)),  # negative width
        annotation(0, (19.5, 0, 10, 10)),  # half a pixel inside
        annotation(1, (30, 30, 5, 5)),  # outside: the image is left out
        annotation(2, (1, 1, 5, 5)),
    ]
    found = split(folder, annotations)
    assert found.counts == {"images": 3, "boxes": 7, "crowd": 0, "clipped": 2, "dropped": 4, "left_out": 1}
    assert found.records[0].boxes.tolist() == [[0, 0, 6, 6], [15, 5, 20, 10]]
    assert [record.image_id for record in found.records] == [0, 2]
    raw = split(folder, annotations, train=False)  # what is scored is what the file says
    assert len(raw) == 3
    assert raw.records[0].boxes[0].tolist() == [-4, -4, 6, 6]


def test_crowds_and_ignored_boxes_are_marked(folder: Path) -> None:
    annotations = [
        annotation(0, (1, 1, 5, 5)),
        annotation(0, (2, 2, 5, 5), iscrowd=1, segmentation={"counts": [1], "size": [10, 20]}),
        annotation(0, (3, 3, 5, 5), ignore=1),
        annotation(1, (3, 3, 5, 5), iscrowd=1),
    ]
    found = split(folder, annotations, empty_images=True)
    assert found.__getitems__([0])[1][0]["iscrowd"].tolist() == [0, 1, 1]
    # An image with nothing but a crowd would teach that the crowd is background; one without anything is background.
    assert [record.image_id for record in found.records] == [0, 2]
    assert [record.image_id for record in split(folder, annotations).records] == [0]
    assert found.__getitems__([1])[1][0]["boxes"].shape == (0, 4)


@pytest.mark.parametrize("value", ["0", "false", "False", 0, 0.0, False, None])
def test_flags_that_tools_write_in_quotes(folder: Path, value: Any) -> None:
    found = split(folder, [annotation(0, (1, 1, 5, 5), iscrowd=value), annotation(0, (1, 1, 5, 5), ignore="1")])
    assert found.__getitems__([0])[1][0]["iscrowd"].tolist() == [0, 1]


def test_ignored_boxes_are_scored_as_pycocotools_does(folder: Path) -> None:
    boxes = [annotation(0, (1, 1, 5, 5), ignore=1), annotation(0, (1, 1, 5, 5), iscrowd=1)]
    assert split(folder, boxes, train=False).__getitems__([0])[1][0]["iscrowd"].tolist() == [0, 1]


def test_areas_are_those_of_the_file_or_of_the_box(folder: Path) -> None:
    found = split(folder, [annotation(0, (1, 1, 5, 4)), annotation(0, (1, 1, 5, 4), area=7.5)])
    assert found.__getitems__([0])[1][0]["area"].tolist() == [20, 7.5]


@pytest.mark.parametrize("mode", ["L", "I;16", "RGBA", "P"])
def test_images_of_any_kind_are_three_channels(folder: Path, mode: str) -> None:
    image = Image.new("L", (20, 10), 51)
    if mode == "I;16":
        image = Image.fromarray(np.full((10, 20), 51 * 257, np.uint16))
    elif mode != "L":
        image = image.convert(mode)
    image.save(folder / "images" / "a.png")
    (pixels,), *_ = split(folder, [annotation(0, (1, 1, 5, 5))]).__getitems__([0])
    torch.testing.assert_close(pixels, torch.full((3, 10, 20), 0.2))


def test_flips_depend_on_seed_and_epoch_alone(folder: Path) -> None:
    Image.fromarray(np.arange(200, dtype=np.uint8).reshape(10, 20)).save(folder / "images" / "a.png")
    found = split(folder, [annotation(0, (1, 2, 5, 6))], flip=True)
    seen = {}
    for epoch in range(20):
        found.set_epoch(epoch)
        (image,), (target,), *_ = found.__getitems__([0])
        seen[bool(found.flips[0])] = (image, target["boxes"].tolist())
        found.set_epoch(epoch)
        assert torch.equal(found.__getitems__([0])[0][0], image)
    assert torch.equal(seen[True][0], seen[False][0].flip(2))
    assert seen[False][1] == [[1, 2, 6, 8]]
    assert seen[True][1] == [[14, 2, 19, 8]]


def test_batches_are_of_one_kind_and_cover_everything(tmp_path: Path) -> None:
    path = make(tmp_path, "train", [(16, 8), (8, 16)] * 7 + [(8, 8)])
    found = CocoSplit(tmp_path / "train", path, train=True)
    for drop_last in (True, False):
        batches = GroupedBatches(found, 4, drop_last=drop_last, seed=1)
        listed = list(batches)
        assert len(listed) == len(batches) == (3 if drop_last else 4)
        assert list(batches) == listed
        wide = [{found.records[i].width > found.records[i].height for i in batch} for batch in listed]
        assert sum(len(kinds) == 1 for kinds in wide) >= 3
    assert sorted(i for batch in listed for i in batch) == list(range(15))
    assert list(GroupedBatches(found, 4, drop_last=True, seed=2)) != listed[:3]


GOOD = annotation(0, (1, 1, 5, 5))


@pytest.mark.parametrize(
    ("annotations", "sentence"),
    [
        ([annotation(9, (1, 1, 5, 5))], r"annotations\[0\]: image_id: expected one of the file's, got 9"),
        ([GOOD, annotation(0, (1, 1, 5, 5), 4)], r"annotations\[1\]: category_id: expected one of the file's, got 4"),
        ([annotation(0, (1, 1, 5))], r"annotations\[0\]: bbox: expected 4 finite numbers .*, got \[1, 1, 5\]"),
        ([annotation(0, (1, 1, 5, float("nan")))], "bbox: expected 4 finite numbers"),
        ([annotation(0, (1, 1, 5, 5), area="big")], "area: expected a finite number, got 'big'"),
        (["box"], r"annotations\[0\]: expected an object, got 'box'"),
        ([], "expected boxes to train on, found none"),
        ([annotation(0, (1, 1, 5, 5), iscrowd=1)], "expected boxes to train on, found none"),
        ([annotation(0, (1, 1, 5, 5), [1])], r"annotations\[0\]: category_id: expected one of the file's, got \[1\]"),
        ([annotation({}, (1, 1, 5, 5))], r"annotations\[0\]: image_id: expected one of the file's, got \{\}"),
        ([annotation(0, (1, 1, 5, 5), iscrowd="no")], r"annotations\[0\]: iscrowd: expected 0 or 1, got 'no'"),
        ([annotation(0, (1, 1, 5, 5), ignore=[1])], r"annotations\[0\]: ignore: expected 0 or 1, got \[1\]"),
    ],
)
def test_damaged_annotations(folder: Path, annotations: list[Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        split(folder, annotations)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"images": [*entries("aab")[:2], {**entries()[2], "id": 1}]},
            r"images\[2\]: expected a unique id, got 1",
        ),
        ({"images": [{"id": 0, **SIZE}]}, r"images\[0\]: file_name: expected a string, got None"),
        ({"images": [{**entries()[0], "width": 0}]}, r"images\[0\]: width: expected a positive int, got 0"),
        ({"images": [{"file_name": "a.png"}]}, r"images\[0\]: expected an object with an id"),
        ({"images": []}, "expected images, found none"),
        ({"categories": []}, "expected categories, found none"),
        ({"categories": None}, "expected COCO's format with a list 'categories', found none"),
    ],
)
def test_damaged_files(folder: Path, change: dict[str, Any], sentence: str) -> None:
    path = write(folder, "a", entries(), [GOOD])
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=sentence):
        CocoSplit(folder / "images", path)


def test_what_is_missing_is_named(folder: Path) -> None:
    path = write(folder, "a", [*entries(), {"id": 8, "file_name": "sub/d.png", **SIZE}], [GOOD])
    with pytest.raises(
        FileNotFoundError, match=r"a\.json: 1 of 4 images are missing, the first is .*images/sub/d\.png"
    ):
        CocoSplit(folder / "images", path)
    with pytest.raises(FileNotFoundError, match=r"nope\.json: no such annotation file"):
        CocoSplit(folder / "images", folder / "nope.json")
    with pytest.raises(FileNotFoundError, match="nope: no such folder of images"):
        CocoSplit(folder / "nope", path)
    path.write_text('{"images": [')
    with pytest.raises(ValueError, match=r"a\.json: not a JSON file, or a damaged one"):
        CocoSplit(folder / "images", path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(folder: Path, encoding: str) -> None:
    path = write(folder, "a", entries(), [GOOD])
    path.write_text(path.read_text(), encoding=encoding)
    assert len(CocoSplit(folder / "images", path)) == 3


def test_files_named_by_absolute_paths(folder: Path) -> None:
    there, absent = folder / "images" / "a.png", folder / "elsewhere" / "a.png"
    images = [{"id": 0, "file_name": str(there), **SIZE}]
    assert split(folder, [GOOD], images=images).records[0].path == there
    images.append({"id": 1, "file_name": str(absent), **SIZE})
    with pytest.raises(FileNotFoundError, match=f"a.json: 1 of 2 images are missing, the first is {absent}"):
        split(folder, [GOOD], images=images, train=False)
    with pytest.raises(FileNotFoundError, match=r"1 of 1 images are missing, the first is .*images$"):
        split(folder, [GOOD], images=[{"id": 0, "file_name": "", **SIZE}])


def test_sides_written_as_floats(folder: Path) -> None:
    assert split(folder, [GOOD], images=[{**entries()[0], "width": 20.0, "height": 10.0}]).records[0].width == 20


def test_dropped_boxes_are_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    split(folder, [GOOD, annotation(0, (2, 2, 0, 5)), annotation(1, (30, 30, 5, 5))])
    assert "boxes with less than 1 pixel inside their image are not trained on: 2 (a.png, b.png)" in caplog.text


def photograph(path: Path, orientation: int) -> None:
    """An image of 20 by 10 pixels as stored, bright at the left half of its top row of blocks."""
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:5, :10] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


@pytest.mark.parametrize(
    ("orientation", "size", "bright"),
    [
        (1, (20, 10), (0, 0, 10, 5)),
        (3, (20, 10), (10, 5, 10, 5)),  # upside down as stored: turned, as the annotators' tools showed it
        (2, (20, 10), (10, 0, 10, 5)),
        (6, (10, 20), (5, 0, 5, 10)),  # the sides as displayed
        (8, (10, 20), (0, 10, 5, 10)),
        (6, (20, 10), (0, 0, 10, 5)),  # the sides as stored: the boxes are for what is stored
    ],
)
@pytest.mark.parametrize("train", [False, True])
def test_photographs_are_upright_under_their_boxes(
    folder: Path, orientation: int, size: tuple[int, int], bright: tuple[int, ...], train: bool
) -> None:
    photograph(folder / "images" / "a.png", orientation)
    images = [{**entries()[0], "width": size[0], "height": size[1]}]
    (image,), (target,), *_ = split(folder, [annotation(0, bright)], images=images, train=train).__getitems__([0])
    assert image.shape == (3, size[1], size[0])
    left, top, right, bottom = (int(value) for value in target["boxes"][0])
    assert image[:, top:bottom, left:right].min() == 1
    assert image.sum() == 3 * 50


def test_photographs_of_neither_size(folder: Path) -> None:
    photograph(folder / "images" / "a.png", 6)
    with pytest.raises(ValueError, match=r"expected 30x10 .*, got 20x10, 10x20 turned upright as its EXIF says"):
        split(folder, [GOOD], images=[{**entries()[0], "width": 30}])


def test_images_that_are_not_what_the_annotations_say(folder: Path) -> None:
    Image.new("RGB", (10, 20)).save(folder / "images" / "b.png")
    with pytest.raises(ValueError, match=r"b\.png: expected 20x10 as the annotations say, got 10x20"):
        split(folder, [annotation(1, (1, 1, 5, 5))])
    (folder / "images" / "b.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"b\.png: not an image"):
        split(folder, [annotation(1, (1, 1, 5, 5))])


def test_images_that_are_truncated(folder: Path) -> None:
    """Their headers are whole. In training the next one takes the place, with its own boxes; else they are left out."""
    noise = np.random.default_rng(0).integers(0, 255, (10, 20, 3), dtype=np.uint8)
    for name in "ac":
        path = folder / "images" / f"{name}.png"
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:300])
    annotations = [annotation(number, (number, 1, 5, 5)) for number in range(3)]
    bad = tuple(str(folder / "images" / f"{name}.png") for name in "ac")
    batch = split(folder, annotations).__getitems__([0, 1, 2])
    assert batch.places == (1, 1, 1)
    assert [target["boxes"].tolist() for target in batch.targets] == [[[1, 1, 6, 6]]] * 3
    assert batch.unreadable == (bad[0], bad[1], bad[0])  # the last one's next is the first
    batch = split(folder, annotations, train=False).__getitems__([0, 1, 2])
    assert (len(batch.images), batch.places, batch.unreadable) == (1, (1,), bad)
    (folder / "images" / "b.png").write_bytes((folder / "images" / "a.png").read_bytes())
    with pytest.raises(ValueError, match=r"a\.png: unreadable .*; nor could any of the 2 images after it be read"):
        split(folder, annotations).__getitems__([0])


def test_records_take_no_file_descriptors_on_their_way_to_a_worker(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, seen = split(folder, [GOOD]), []
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", lambda storage: seen.append(storage) or (0, 0))
    monkeypatch.setattr(torch.multiprocessing.reductions.reduction, "DupFd", lambda fd: fd)
    ForkingPickler.dumps(found.records)
    assert not seen
    ForkingPickler.dumps(torch.zeros(2))
    assert seen
