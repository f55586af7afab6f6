"""Every recipe parses, and runs a few steps; those of ImageNet on a small folder of images at small size."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from PIL import Image

import ddfnet.models  # noqa: F401 - registers the networks
from ddfnet import recipes
from ddfnet.cli import main
from ddfnet.cli.experiment import make_parser, with_recipe

IMAGENET = [name for name in recipes.names() if name.startswith("imagenet/")]
KINDS = {  # recipes that differ in more than the network
    "paper": "imagenet/ddf_mul_resnet50_paper",
    "released": "imagenet/ddf_mul_resnet50",
    "larger": "imagenet/ddf_mul_wide_resnet50d_288",
    "modern": "imagenet/ddf_mul_resnet50_a2",
}
STEPS = [
    "--epochs=1",
    "--trainer.accelerator=cpu",
    "--trainer.limit_train_batches=2",
    "--data.batch_size=4",
    "--data.image_size=32",
    "--data.workers=0",
]


def parsed(name: str) -> Any:
    return make_parser("x", "x", "x").parse_args(with_recipe([f"--config={name}"], ""))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve classes, a few noisy JPEG files each; one of train is broken."""
    root = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 1)):
        for label in range(12):
            (root / part / f"class{label:02}").mkdir(parents=True)
            for number in range(count):
                pixels = noise.integers(0, 255, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / f"class{label:02}" / f"{number}.jpg")
    return root


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_parses_and_says_what_it_is(name: str) -> None:
    config = parsed(name)
    if config.model.class_path.endswith("Classification"):
        assert timm.is_model(config.model.init_args.network)
    text = recipes.find(name).read_text()
    assert f"--config {name} " in text.splitlines()[0]
    while base := re.search("^base: (.*)$", text, re.MULTILINE):
        text = text.replace(base[0], "") + recipes.find(base[1]).read_text()
    for word in ("Hardware: ", "Time: ", "Data: "):
        assert word in text


def test_a_recipe_changes_its_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("epochs: 3\nmodel: {class_path: A, init_args: {lr: 1, args: {a: 1, b: 2}}}\n")
    same, other = tmp_path / "same.yaml", tmp_path / "other.yaml"
    same.write_text(f"base: {tmp_path}/base.yaml\nmodel: {{init_args: {{args: {{b: 3}}, sizes: [1]}}}}\n")
    other.write_text(f"base: {tmp_path}/same.yaml\nepochs: 4\nmodel: {{class_path: B, init_args: {{lr: 2}}}}\n")
    options = {"lr": 1, "args": {"a": 1, "b": 3}, "sizes": [1]}
    assert recipes.load(str(same)) == {"epochs": 3, "model": {"class_path": "A", "init_args": options}}
    assert recipes.load(str(other)) == {"epochs": 4, "model": {"class_path": "B", "init_args": {"lr": 2}}}
    same.write_text("a: 1e-3")
    assert recipes.load(str(same)) == {"a": 0.001}  # as YAML 1.2 reads it
    for text in ("a: [", "[1]"):
        same.write_text(text)
        with pytest.raises(ValueError, match=r"same\.yaml: expected "):
            recipes.load(str(same))


def test_bases_are_no_recipes() -> None:
    assert recipes.find("coco/_base").is_file()
    assert not [name for name in recipes.names() if "_base" in name]


@pytest.mark.parametrize("name", IMAGENET)
def test_the_recipes_of_imagenet_are_of_four_kinds(name: str) -> None:
    """Each is one of the kinds that `test_a_few_steps` runs, with another network."""

    def options(recipe: str) -> dict[str, Any]:
        found: dict[str, Any] = parsed(recipe).as_dict()
        found["model"]["init_args"].pop("network")
        return {key: value for key, value in found.items() if key not in ("config", "recipe")}

    assert options(name) in [options(kind) for kind in KINDS.values()]


def test_the_tables_are_covered() -> None:
    """Every row of Tables 3 and C, and every released checkpoint, by its network."""
    networks = {parsed(name).model.init_args.network for name in IMAGENET}
    variants = {"spatial", "channel", "batchnorm", "sigmoid", "sigma03", "sigma04"}
    assert networks >= {f"ddf_mul_resnet50_{name}" for name in variants}
    assert networks >= {"resnet50", "ddf_mul_wide_resnet50", "ddf_mul_wide_resnet50d"}
    assert networks >= {f"ddf_{combine}_resnet{depth}" for combine in ("mul", "add") for depth in (50, 101)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_steps(kind: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The options are what is tried here, with a network that needs no kernels compiled; each network's turn is slow."""
    run = tmp_path / "run"
    small = [f"--config={KINDS[kind]}", "--model.network=dwresnet_mini", f"--run={run}", f"--data.root={images}"]
    larger = ["--data.test_size=48"] if kind == "larger" else []
    assert main(["train", *small, *STEPS, *larger]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert summary["data"]["images"] == {"train": 36, "val": 12, "test": 12}
    assert 0 <= summary["test_accuracy"] <= summary["test_top5"] <= 1
    assert summary["input_shape"] == [1, 3, *([48] * 2 if kind == "larger" else [32] * 2)]
    capsys.readouterr()
    if kind == "released":
        assert main(["evaluate", str(run)]) == 0
        printed = capsys.readouterr().out
        assert f"test accuracy  {summary['test_accuracy']!r}\ntest top5  {summary['test_top5']!r}\n" in printed
        assert main(["evaluate", str(run), "--data.test_size=40", "--data.crop_pct=1.0"]) == 0
        assert "test accuracy" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGENET)
def test_a_few_steps_of_every_network(name: str, images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert (
        main(["train", f"--config={name}", f"--run={run}", f"--data.root={images}", "--data.test_size=32", *STEPS]) == 0
    )
    assert json.loads((run / "summary.json").read_text())["network"] == parsed(name).model.init_args.network


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in recipes.names() if name.startswith("fashion_mnist/")])
def test_a_few_steps_on_small_images(name: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    steps = [f"--trainer.limit_{part}_batches=2" for part in ("train", "val", "test")]
    options = ["--epochs=1", "--trainer.accelerator=cpu", "--data.batch_size=8", "--data.workers=0", *steps]
    assert main(["train", f"--config={name}", f"--run={run}", *options]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert summary["network"] == parsed(name).model.init_args.network
