"""`ddfnet show` end to end: its pictures, what it says of the weights, and what it refuses."""

from pathlib import Path

import pytest
from PIL import Image

from ddfnet.cli import main


def test_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, folder = tmp_path / "noise.png", tmp_path / "pictures"
    Image.effect_noise((20, 16), 60).save(image)
    assert main(["show", str(image), "--model", "ddf_resnet_mini", "--clusters", "3", "-o", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "ddf_resnet_mini: its weights are drawn at random" in printed
    names = {f"{name}.png" for name in ("spatial_filters", "filter_clusters", "channel_filters", "feature_maps")}
    assert {path.name for path in folder.iterdir()} == names
    for name in names:
        assert str(folder / name) in printed
        with Image.open(folder / name) as drawn:
            assert len(drawn.convert("L").getcolors() or range(300)) > 50  # not blank


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["nowhere.png"], "nowhere.png: no such image"),
        (["text.png", "--model", "ddf_resnet_mini"], "text.png: not an image"),
        (["cut.png", "--model", "ddf_resnet_mini"], "cut.png: unreadable or truncated image"),
        (
            ["good.png", "--model", "nope"],
            "--model: neither a run, a checkpoint nor a network of timm or ddfnet: 'nope'",
        ),
        (["good.png", "--model", "resnet_mini"], "--model: expected a network with DDF layers, resnet_mini has none"),
        (["good.png", "--model", "ddf_resnet_mini", "--layer", "fc"], "--layer: expected one of layer1.0.conv2, "),
        (["good.png", "--size", "0"], "--size: expected an int >= 1, got 0"),
        (["good.png", "--clusters", "11"], "--clusters: expected 1 to 10, got 11"),
        (["good.png", "-o", "text.png"], "--output: expected a folder, text.png is a file"),
    ],
)
def test_what_is_refused(
    argv: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((64, 64), 60).save("good.png")
    Path("text.png").write_text("no picture")
    Path("cut.png").write_bytes(Path("good.png").read_bytes()[:900])
    before = sorted(tmp_path.iterdir())
    assert main(["show", *argv]) in (1, 2)  # found while options are read, or later
    assert sentence in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
