"""What the options of an experiment become before its objects are made."""

from argparse import ArgumentError
from pathlib import Path
from typing import Any

import pytest

from ddfnet.cli.experiment import changes, instantiate, make_parser, with_recipe


@pytest.mark.parametrize(("given", "there"), [("w.pth", True), ("nope.pth", False), ("DEFAULT", False)])
def test_files_of_weights_are_found_from_any_folder(
    given: str, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").touch()
    parser = make_parser("ddfnet train", "", "")
    argv = ["--config=coco/faster_rcnn_r50_fpn_nearest_1x", f"--model.weights_backbone={given}"]
    config = parser.parse_args(with_recipe(argv, ""))
    model, _, _ = instantiate(parser, config)
    expected = str(tmp_path / given) if there else given
    assert model.hparams["weights_backbone"] == expected
    assert config.model.init_args.weights_backbone == expected  # what the run's config.yaml says


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--data.root=x", "--data.workers=4", "--trainer.devices=4", "--seed=3"], {}),
        (["--epochs", "1", "--model.upsample", "nearest"], {"epochs": 1}),  # the recipe's upsampler
        (["--model.network_args.box_detections_per_img", "9"], {"model.network_args.box_detections_per_img": 9}),
    ],
)
def test_changes_to_a_recipe(options: list[str], expected: dict[str, Any]) -> None:
    parser = make_parser("ddfnet train", "", "")
    config = parser.parse_args(with_recipe(["--config=coco/faster_rcnn_r50_fpn_nearest_1x", *options], ""))
    assert config.recipe == "coco/faster_rcnn_r50_fpn_nearest_1x"
    assert changes(parser, config) == expected


def test_a_data_set_is_named_and_its_options_are_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    parser = make_parser("ddfnet train", "", "")
    recipe = "--config=fashion_mnist/ddf_resnet_mini"
    config = parser.parse_args(with_recipe([recipe, "--data.dataset", "image-folder", "--data.image_size=64"], ""))
    assert config.data.class_path.endswith("ImageFolderData")
    assert (config.data.init_args.image_size, config.data.init_args.batch_size) == (64, 64)
    assert "data: image-folder has no max_shift: left out of the recipe" in capsys.readouterr().out
    with pytest.raises(ArgumentError, match="Option 'image_size' is not accepted"):
        parser.parse_args(with_recipe([recipe, "--data.image_size=64"], ""))
    with pytest.raises(
        ValueError, match=r"data\.dataset: expected one of fashion-mnist, cifar10, image-folder, got 'coco'"
    ):
        with_recipe([recipe, "--data.dataset=coco"], "")
