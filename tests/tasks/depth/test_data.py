"""Crops and whole images of depth upsampling: a function of index and epoch, photograph and depth always in step."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.depth_files import Given, picture, write_folder

from ddfnet.data.depth.photographs import Motorcycle
from ddfnet.tasks.depth.data import (
    STRIP,
    STRIP_GAP,
    Augmentation,
    DepthFolderData,
    MotorcycleColumns,
    MotorcycleData,
    NYUData,
    ScenesData,
    ScoredSplit,
    TrainingSplit,
)

PICTURES = Given(picture(0), picture(1))


def split(crops: int = 8, **options: Any) -> TrainingSplit:
    return TrainingSplit(PICTURES, [crops] * len(PICTURES), Augmentation(**{"crop": 16, **options}), keep=True)


def test_a_crop_is_a_function_of_seed_epoch_and_index() -> None:
    options = {"turn": True, "invert": True, "colour": 0.5, "widen": True}
    a, b = split(**options), split(**options)
    a.__getitems__([5, 3])  # what was asked for before does not matter
    for epoch in (0, 3):
        a.set_epoch(epoch)
        b.set_epoch(epoch)
        one, other = a.__getitems__([2, 9]), b.__getitems__([7, 9])
        assert torch.equal(one.rgb[1], other.rgb[1])
        assert torch.equal(one.depth[1].nan_to_num(9), other.depth[1].nan_to_num(9))
    b.set_epoch(0)
    assert not torch.equal(a.__getitems__([9]).rgb, b.__getitems__([9]).rgb)


def test_turned_crops_keep_depth_under_the_photograph() -> None:
    """Red is the depth in tenths: where that is known, both say the same, whichever way the crop lies."""
    rgb, depth = split(turn=True).__getitems__(list(range(16)))
    known = depth[:, 0].isfinite()
    assert known.float().mean() > 0.8
    for image, crop, where in zip(rgb, depth[:, 0], known, strict=True):
        of = PICTURES[0] if (image[0].max() * 255).item() in np.round(PICTURES[0].depth * 10) else PICTURES[1]
        for candidate in (of, *PICTURES):
            least, span = np.nanmin(candidate.depth), np.ptp(candidate.depth[np.isfinite(candidate.depth)])
            error = (crop * span + least - image[0] * 25.5)[where].abs().max()
            if error <= 0.05 + 1e-4:  # half a tenth
                break
        else:
            pytest.fail(f"a crop whose depth is off by {error}")


def test_ranges() -> None:
    """By the image's range; widened, by one between it and the crop's own, which then reaches 0 and 1 more nearly."""
    plain = split(crops=40).__getitems__(list(range(80))).depth
    assert plain[plain.isfinite()].min() >= 0
    assert plain[plain.isfinite()].max() <= 1

    def spans(depth: torch.Tensor) -> torch.Tensor:
        return depth.nan_to_num(-1).amax((1, 2, 3)) - depth.nan_to_num(2).amin((1, 2, 3))

    widened = split(crops=40, widen=True).__getitems__(list(range(80))).depth
    assert (spans(widened) >= spans(plain) - 1e-6).all()
    assert spans(widened).mean() > spans(plain).mean() + 0.1
    assert spans(widened).max() <= 1 + 1e-6


def test_inverted_crops_are_the_others_upside_down() -> None:
    plain, inverted = (split(crops=20, invert=invert).__getitems__(list(range(40))).depth for invert in (False, True))
    same = torch.isclose(plain, inverted, equal_nan=True).flatten(1).all(1)
    flipped = torch.isclose(1 - plain, inverted, equal_nan=True, atol=1e-6).flatten(1).all(1)
    assert (same | flipped).all()
    assert 5 < flipped.sum() < 35


def test_colours_change_and_stay_colours() -> None:
    plain, changed = (split(colour=colour).__getitems__(list(range(16))).rgb for colour in (0.0, 0.5))
    assert (plain - changed).abs().flatten(1).mean(1).min() > 0.01
    assert 0 <= changed.min() <= changed.max() <= 1


def test_crops_that_cannot_be_cut_are_told() -> None:
    with pytest.raises(ValueError, match=r"crop: expected at most the sides of picture 0, \(48, 64\), got 49"):
        split(crop=49).__getitems__([0])
    unknown = picture(0)._replace(depth=np.full((48, 64), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"picture 0: expected known depth, got none in 10 crops of 16 pixels"):
        TrainingSplit(Given(unknown), [1], Augmentation(16), keep=False).__getitems__([0])


def test_whole_images_have_a_unit() -> None:
    image = picture(3, (50, 70))
    rgb, depth = ScoredSplit(Given(image)).tensors(0)
    assert ScoredSplit(Given(image)).unit == "cm"
    assert rgb.shape == (3, 48, 64)
    assert torch.equal(depth[0].nan_to_num(), torch.from_numpy(image.depth[:48, :64]).nan_to_num() * 100)
    relative = ScoredSplit(Given(image, picture(4, unit="px")), relative=True)
    assert relative.unit == "% of range"
    for index in range(2):
        known = relative.tensors(index)[1]
        known = known[known.isfinite()]
        assert float(known.max() - known.min()) == pytest.approx(100, rel=1e-5)


def test_the_motorcycles_strips_share_no_column_with_each_other_or_the_test_part() -> None:
    data = MotorcycleData(crop=16)
    whole = Motorcycle("train")[0]
    left, right = data.splits.train.images[0], data.splits.val.images[0]
    width = whole.depth.shape[1]
    assert left.depth.shape[1] + STRIP_GAP + STRIP == width
    assert np.array_equal(left.rgb, whole.rgb[:, : width - STRIP - STRIP_GAP])
    assert np.array_equal(right.rgb, whole.rgb[:, width - STRIP :])
    assert np.array_equal(data.splits.test.images[0].rgb, Motorcycle("test")[0].rgb)
    assert np.array_equal(MotorcycleColumns(slice(3, 5))[0].depth, whole.depth[:, 3:5], equal_nan=True)


def test_an_epoch_takes_its_crops_from_scenes_and_motorcycle() -> None:
    data = ScenesData(crop=16, crops=3, scenes=2, val_scenes=1, motorcycle_crops=4)
    train, val = data.splits.train, data.splits.val
    assert len(train) == 4 + 2 * 3
    assert len(val) == 2
    assert train._image_of.tolist() == [0] * 4 + [1] * 3 + [2] * 3
    assert not np.array_equal(train.images[1].rgb, val.images[1].rgb)
    batches = list(data.train_dataloader())
    assert [batch.depth.shape for batch in batches] == [(8, 1, 16, 16)]


def test_folders(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"train": 3, "val": 1, "test": 2})
    splits = DepthFolderData(root, crop=16, crops=2).splits
    assert (len(splits.train), len(splits.val), len(splits.test)) == (6, 1, 2)
    assert splits.held_out


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (NYUData, {}, r"root: expected the file nyu_depth_v2_labeled.mat with dataset='nyu', got none"),
        (DepthFolderData, {}, r"root: expected a folder with train, val and test with dataset='folder', got none"),
        (ScenesData, {"crop": 0}, r"crop: expected an int >= 1, got 0"),
        (MotorcycleData, {"motorcycle_crops": -1}, r"motorcycle_crops: expected an int >= 0, got -1"),
        (ScenesData, {"colour": -0.1}, r"colour: expected a number >= 0, got -0.1"),
    ],
)
def test_errors(make: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make(**options).splits  # noqa: B018
