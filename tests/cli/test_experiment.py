"""What the options of an experiment become before its objects are made."""

from pathlib import Path

import pytest

from ddfnet.cli.experiment import instantiate, make_parser, with_recipe


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
