"""The detection task: scores are pycocotools', recipes run, killed runs go on bit-equal, bad input is told in a sentence."""

import json
import math
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tests.coco_files import annotation, make, write
from torch import nn

from ddfnet import recipes
from ddfnet.cli import main
from ddfnet.data.detection.coco import CocoSplit
from ddfnet.data.detection.garments import make_garments
from ddfnet.data.detection.split import Batch
from ddfnet.tasks.detection.data import CocoData
from ddfnet.tasks.detection.task import SCORES, Detection, average_precision

SMALL = [
    "--model.backbone=test_byobnet",
    "--model.network_args={out_channels: 16, head_channels: 32, rpn_batch_size_per_image: 32, box_batch_size_per_image: 16}",
    "--model.weights_backbone=null",
    "--model.min_size=64",
    "--model.max_size=96",
    "--trainer.accelerator=cpu",
]


def pycocotools_scores(annotations: Path, results: Any) -> dict[str, float]:
    """mAP and its kin of a result file, or of what is in one, by the scorer that COCO's own numbers come from."""
    truth = COCO(str(annotations))
    scorer = COCOeval(truth, truth.loadRes(results if isinstance(results, list) else str(results)), "bbox")
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    return dict(zip(SCORES, (float(value) for value in scorer.stats[:6]), strict=True))


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright boxes on noise, in two shapes of images, laid out as COCO 2017."""
    root = tmp_path_factory.mktemp("boxes")
    for seed, (name, count) in enumerate((("train2017", 12), ("val2017", 5))):
        make(root, name, [(72, 56), (56, 72)] * count, seed=seed)
        (root / "annotations" / f"{name}.json").rename(root / "annotations" / f"instances_{name}.json")
    return root


@pytest.mark.parametrize("areas", ["given", "zero", "negative"])
def test_scores_are_those_of_pycocotools(tmp_path: Path, areas: str) -> None:
    """On results as a detector gives them: boxes moved, missed, doubled, of the wrong class; crowds; gaps in the ids."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    Image.new("L", (400, 300)).save(tmp_path / "images" / "a.png")
    images, annotations, results = [], [], []
    for image_id in range(3, 63):
        images.append({"id": image_id, "file_name": "a.png", "width": 400, "height": 300})
        for _ in range(int(rng.integers(0, 9))):
            box = [*rng.uniform(0, (300, 200)), *np.exp(rng.uniform(2, 5.3, 2))]
            category = int(rng.choice([3, 7]))
            crowd = int(rng.random() < 0.1)
            area = float(box[2] * box[3] * rng.uniform(0.5, 1))
            if areas != "given":
                area = 0.0 if areas == "zero" or rng.random() < 0.5 else -1.0
            ignore = int(rng.random() < 0.1)
            annotations.append(annotation(image_id, box, category, iscrowd=crowd, area=area, ignore=ignore))
            for _ in range(int(rng.choice([0, 1, 1, 2]))):
                moved = np.array(box) + rng.normal(0, 0.08, 4) * [box[2], box[3], box[2], box[3]]
                kind = category if rng.random() < 0.9 else int(rng.choice([3, 7, 90]))
                score = float(np.float32(rng.random()))
                results.append({"image_id": image_id, "category_id": kind, "bbox": moved.tolist(), "score": score})
    split = CocoSplit(tmp_path / "images", write(tmp_path, "a", images, annotations))
    metric = average_precision()
    label = {category_id: place for place, category_id in enumerate(split.category_ids, 1)}
    for index, record in enumerate(split.records):
        mine = [entry for entry in results if entry["image_id"] == record.image_id]
        sides = torch.tensor([entry["bbox"] for entry in mine], dtype=torch.float64).view(-1, 4)
        found = {
            "boxes": torch.cat([sides[:, :2], sides[:, :2] + sides[:, 2:]], 1).float(),
            "labels": torch.tensor([label[entry["category_id"]] for entry in mine], dtype=torch.int64),
            "scores": torch.tensor([entry["score"] for entry in mine]),
        }
        metric.update([found], split.__getitems__([index])[1])
    ours, expected = metric.compute(), pycocotools_scores(split.annotations, results)
    assert expected["mAP"] > 0.2
    assert min(expected.values()) > 0.1 or areas != "given"
    for name, key in SCORES.items():
        assert float(ours[key]) == pytest.approx(expected[name], abs=1e-6), name


@pytest.fixture(scope="module")
def trained(boxes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run long enough to find some of the boxes."""
    run = tmp_path_factory.mktemp("runs") / "trained"
    options = ["--model.optimizer=adamw", "--model.lr=4e-3", "--model.schedule=cosine", "--model.warmup_steps=5"]
    options += ["--data.batch_size=4", "--epochs=6", "--model.anchor_sizes=[8, 16, 24, 32, 48]"]
    config = "--config=coco/faster_rcnn_r50_fpn_nearest_1x"
    assert main(["train", config, f"--data.root={boxes}", f"--run={run}", *SMALL, *options]) == 0
    return run


def test_a_run_prints_what_pycocotools_computes_from_its_result_file(boxes: Path, trained: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    expected = pycocotools_scores(boxes / "annotations" / "instances_val2017.json", trained / "detections.json")
    assert expected["mAP"] > 0
    for name, value in expected.items():
        if value == -1:
            assert f"test_{name}" not in summary
        else:
            assert summary[f"test_{name}"] == pytest.approx(value, abs=1e-6), name
    assert summary["chosen"] == "the last"
    assert summary["best_epoch"] == 6
    assert summary["pictures"] == ["curves.png", "detections.png"]
    assert (trained / "detections.png").is_file()


@pytest.mark.release
def test_truncated_images_are_left_out_and_named(
    boxes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of training's, and of the test images the first: the scores are those of the others, with their own ids."""
    root = tmp_path / "boxes"
    shutil.copytree(boxes, root)
    bad = [root / "train2017" / "101.png", root / "val2017" / "100.png"]
    for path in bad:
        path.write_bytes(path.read_bytes()[:1000])
    options = [
        *SMALL,
        "--data.batch_size=2",
        "--epochs=1",
        "--model.warmup_steps=0",
        "--model.anchor_sizes=[8, 16, 24, 32, 48]",
    ]
    run = tmp_path / "run"
    config = "--config=coco/faster_rcnn_r50_fpn_nearest_1x"
    assert main(["train", config, f"--data.root={root}", f"--run={run}", *options]) == 0
    told = capsys.readouterr().err
    assert all(str(path) in told for path in bad)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["unreadable"] == [str(path) for path in bad]
    results = json.loads((run / "detections.json").read_text())
    assert {result["image_id"] for result in results} <= set(range(101, 110))
    truth = json.loads((root / "annotations" / "instances_val2017.json").read_text())
    truth["images"] = [entry for entry in truth["images"] if entry["id"] != 100]
    truth["annotations"] = [entry for entry in truth["annotations"] if entry["image_id"] != 100]
    (tmp_path / "others.json").write_text(json.dumps(truth))
    if results:
        expected = pycocotools_scores(tmp_path / "others.json", results)
        assert summary["test_mAP"] == pytest.approx(expected["mAP"], abs=1e-6)
    assert main(["evaluate", str(run), "--trainer.accelerator=cpu"]) == 0
    printed = capsys.readouterr().out
    assert "9 test images" in printed
    assert f"1 more could not be read and are not in the score: {bad[1]}" in printed


def test_evaluate_prints_the_scores_again(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    assert main(["evaluate", str(trained)]) == 0
    out = capsys.readouterr().out
    assert "10 test images" in out
    assert f"test mAP  {summary['test_mAP']!r}\n" in out


def test_a_detector_is_not_exported(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(trained), "--onnx", str(tmp_path / "a.onnx")]) == 1
    error = capsys.readouterr().err
    assert "MODEL: expected a run whose network takes batches of images, got test_byobnet-fpn-nearest" in error


@pytest.mark.release
def test_a_killed_run_goes_on_bit_equal(boxes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the middle of its second epoch, and again in that epoch's validation."""
    options = ["--config=coco/faster_rcnn_r50_fpn_ddf_up_1x", f"--data.root={boxes}", *SMALL]
    options += ["--data.batch_size=4", "--epochs=2", "--model.warmup_steps=3", "--trainer.limit_train_batches=4"]
    assert main(["train", *options, f"--run={tmp_path / 'a'}"]) == 0
    for step, at in (("training_step", 6), ("validation_step", 2)):
        with monkeypatch.context() as patched:
            _stop(patched, step, at)
            begun = (tmp_path / "b").exists()
            command = ["--resume", str(tmp_path / "b")] if begun else [*options, f"--run={tmp_path / 'b'}"]
            handler = signal.getsignal(signal.SIGINT)
            assert main(["train", *command]) == 130
            signal.signal(signal.SIGINT, handler)  # which Lightning takes away
    assert main(["train", "--resume", str(tmp_path / "b")]) == 0
    for name in ("best.ckpt", "last.ckpt"):
        a, b = (torch.load(tmp_path / run / name, weights_only=True) for run in "ab")
        assert a["epoch"] == b["epoch"] == 1
        for key, value in a["state_dict"].items():
            assert torch.equal(value, b["state_dict"][key]), key
    scores = [json.loads((tmp_path / run / "summary.json").read_text())["test_mAP"] for run in "ab"]
    assert scores[0] == scores[1]
    files = [(tmp_path / run / "detections.json").read_bytes() for run in "ab"]
    assert files[0] == files[1]


def _stop(patched: pytest.MonkeyPatch, step: str, at: int) -> None:
    """Ctrl-C in the call of that number."""
    whole, calls = getattr(Detection, step), 0

    def stopped(self: Detection, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        return whole(self, *args)

    patched.setattr(Detection, step, stopped)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if "ddf_up" in name else pytest.mark.release) for name in recipes.group("coco")],
)
def test_the_recipes_of_coco_run(name: str, boxes: Path, tmp_path: Path) -> None:
    options = [f"--data.root={boxes}", *SMALL, "--data.batch_size=2", "--epochs=1", f"--run={tmp_path / 'run'}"]
    limits = [f"--trainer.limit_{stage}_batches=2" for stage in ("train", "val", "test")]
    assert main(["train", "--config", name, *options, *limits]) == 0
    recipe = recipes.load(name)
    options = recipe["model"]["init_args"] | recipe["data"]["init_args"]
    paper = {"lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4, "lr_steps": [8, 11], "batch_size": 16}
    assert recipe["epochs"] == 12
    assert options | paper == options  # Table 6's protocol


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if "ddf_up" in name else pytest.mark.release) for name in recipes.group("garments")],
)
def test_the_recipes_of_garments_run(name: str, tmp_path: Path) -> None:
    make_garments(tmp_path / "garments", images=(4, 1, 1))
    options = [f"--data.root={tmp_path / 'garments'}", "--data.batch_size=2", "--epochs=1", "--trainer.accelerator=cpu"]
    assert main(["train", "--config", name, *options, f"--run={tmp_path / 'run'}"]) == 0


def test_the_recipes_of_garments_differ_in_the_upsampler_alone() -> None:
    found = [recipes.load(name) for name in recipes.group("garments")]
    assert len({recipe["model"]["init_args"].pop("upsample") for recipe in found}) == 5
    assert all(recipe == found[0] for recipe in found)


def test_the_learning_rate(boxes: Path) -> None:
    """Up over the warm-up, then a tenth after epochs 8 and 11 of 12; or a cosine."""

    def factors(**options: Any) -> list[float]:
        model = Detection(warmup_steps=4, **options)

        class Trainer:
            max_epochs = 12

        model._trainer = Trainer()  # type: ignore[assignment]
        return [model.lr_factor(step, 120) for step in range(120)]

    step = factors()
    assert step[0] == 0.001
    assert step[2] == pytest.approx(0.5005)
    assert {round(f, 9) for f in step[4:80]} == {1.0}
    assert {round(f, 9) for f in step[80:110]} == {0.1}
    assert {round(f, 9) for f in step[110:]} == {0.01}
    assert factors(schedule="cosine")[60] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))


def test_crowds_are_not_trained_on_and_a_lost_loss_is_told(boxes: Path) -> None:
    data = CocoData(root=boxes, batch_size=2)
    model = Detection(backbone="test_byobnet", min_size=64, max_size=96, network_args={"out_channels": 16})
    model.build(data)
    seen: list[Any] = []

    class Network(nn.Module):
        loss = 0.0

        def forward(self, images: Sequence[torch.Tensor], targets: Any) -> dict[str, torch.Tensor]:
            seen.append(targets)
            return {"loss": torch.tensor(self.loss)}

    model.network = Network()
    model.log = lambda *args, **options: None  # type: ignore[assignment, method-assign]
    target = {"boxes": torch.rand(3, 4), "labels": torch.tensor([1, 2, 3]), "iscrowd": torch.tensor([0, 1, 0])}
    model.training_step(Batch([torch.rand(3, 8, 8)], [target], (0,)), 0)
    assert seen[0][0]["labels"].tolist() == [1, 3]
    Network.loss = math.nan
    with pytest.raises(ValueError, match=r"lr: the loss is no longer finite at step 0 \(loss nan\)"):
        model.training_step(Batch([torch.rand(3, 8, 8)], [target], (0,)), 0)


@pytest.mark.parametrize("upsample", ["ddf", "nearest", "carafe", "dysample"])
def test_images_whose_coarsest_level_is_one_pixel(boxes: Path, upsample: str) -> None:
    model = Detection(
        backbone="test_byobnet", upsample=upsample, min_size=8, max_size=32, network_args={"out_channels": 16}
    )
    model.build(CocoData(root=boxes))
    assert set(model.predict([torch.rand(3, 8, 8), torch.rand(3, 5, 31)])[1]) == {"boxes", "labels", "scores"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--data.root=nope"], "nope/train2017: no such folder of images"),
        (["--data.root=null"], "train_images: expected a path, or root, a folder laid out as COCO's, got neither"),
        (["--data.val_annotations=nope.json"], "nope.json: no such annotation file"),
        (["--data.test_images=ROOT/val2017"], "test_annotations: expected a path, or root"),
        (["--model.num_classes=7"], "num_classes: expected 3, the classes of the data, got 7"),
        (
            ["--model.choose=best"],
            "choose: expected 'last' where the validation images are the test images, got 'best'",
        ),
        (["--model.upsample=nope"], "upsample: expected 'ddf', "),
        (["--model.backbone=nope"], "backbone: expected 'resnet50' or the name of a timm network, got 'nope'"),
        (["--model.network_args={nope: 1}"], "nope: expected an argument of torchvision's FasterRCNN"),
        (["--model.aspect_ratios=[1.0]"], "aspect_ratios: expected [0.5, 1.0, 2.0] without anchor_sizes, got [1.0]"),
        (["--data.batch_size=0"], "batch_size: expected an int >= 1, got 0"),
    ],
)
def test_what_is_wrong_is_told_before_training(
    boxes: Path, options: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [option.replace("ROOT", str(boxes)) for option in options]
    argv = ["train", "--config=coco/faster_rcnn_r50_fpn_nearest_1x", f"--data.root={boxes}", *SMALL, *given]
    assert main(argv) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.strip().splitlines()) <= 2
    assert not (tmp_path / "runs").exists()


def test_splits_of_other_categories_are_refused(boxes: Path, tmp_path: Path) -> None:
    content = json.loads((boxes / "annotations" / "instances_val2017.json").read_text())
    content["categories"][0]["name"] = "fox"
    (tmp_path / "other.json").write_text(json.dumps(content))
    data = CocoData(root=boxes, val_annotations=tmp_path / "other.json")
    with pytest.raises(ValueError, match=r"other\.json: expected the categories of .*, got 3 dog, 7 fox"):
        data.splits  # noqa: B018
