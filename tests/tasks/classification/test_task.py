"""Options of the task: learning rates, losses, what is refused; images that cannot be read."""

import csv
import json
import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ddfnet.cli import main
from ddfnet.tasks.classification.data import FashionMnistData, ImageFolderData
from ddfnet.tasks.classification.task import Classification
from ddfnet.tasks.run.history import History
from ddfnet.tasks.unreadable import shown


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """train/ and val/, two classes of noise."""
    noise = np.random.default_rng(0)
    for part, count in (("train", 20), ("val", 4)):
        for label in ("cat", "dog"):
            folder = tmp_path / "images" / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(noise.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "images"


def test_the_rate_follows_the_joined_batch_and_unreadable_images_are_listed(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 images a batch, 4 accumulated: 8 a step, so 0.1 at 64 is 0.0125; a cosine that the warm-up does not shift."""
    bad = [images / "train" / "cat" / "3.png", images / "train" / "cat" / "4.png", images / "val" / "dog" / "0.png"]
    for path in bad:
        path.write_bytes(b"no image")
    options = [f"--data.root={images}", "--data.dataset=image-folder", "--data.image_size=32", "--data.batch_size=2"]
    options += ["--model.network=dwresnet_mini", "--model.optimizer=sgd", "--model.lr=0.1", "--model.lr_batch=64"]
    options += ["--model.min_lr=0.001", "--model.warmup_epochs=0", "--model.warmup_prefix=false", "--epochs=2"]
    options += ["--trainer.accelerator=cpu", "--trainer.accumulate_grad_batches=4", "--trainer.limit_train_batches=18"]
    run = tmp_path / "run"
    assert main(["train", f"--run={run}", *options]) == 0
    with (run / "metrics.csv").open() as file:
        rates = [float(row["lr"]) for row in csv.DictReader(file)]
    assert rates == pytest.approx([(0.0125 + 0.001) / 2, 0.001])
    summary = json.loads((run / "summary.json").read_text())
    told = capsys.readouterr().err
    assert str(bad[2]) in summary["unreadable"]
    assert set(summary["unreadable"]) == {str(path) for path in bad if str(path) in told}
    assert len(summary["unreadable"]) >= 2  # one of training's may be among those held out, or never drawn
    assert torch.load(run / "last.ckpt", weights_only=True)["unreadable"]


def test_a_lost_loss_is_told(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At the last batch of the epoch it was lost in, before anything is saved."""
    options = [f"--data.root={images}", "--data.dataset=image-folder", "--data.image_size=32", "--data.batch_size=4"]
    options += ["--model.network=dwresnet_mini", "--model.optimizer=sgd", "--model.lr=1e38", "--model.warmup_epochs=0"]
    run = tmp_path / "run"
    assert main(["train", f"--run={run}", *options, "--epochs=2", "--trainer.accelerator=cpu"]) == 1
    assert re.search(r"lr: the loss is no longer finite at step \d; try a lower one", capsys.readouterr().err)
    assert not (run / "last.ckpt").exists()
    assert not (run / "summary.json").exists()


def test_validation_without_an_image_that_can_be_read(tmp_path: Path) -> None:
    history = History(tmp_path / "metrics.csv", "val_accuracy", "max")
    history.rows = [{"epoch": 0, "train_loss": 1.0}]
    with pytest.raises(
        ValueError, match="data: expected validation images that can be read, got none to compute val_a"
    ):
        history.best  # noqa: B018


def test_the_lost_loss_of_any_process_is_told_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process's losses are finite; another one's were lost at step 3."""

    class Trainer:
        is_last_batch, global_step = False, 0

    def reduce(value: torch.Tensor, op: Any) -> None:
        assert op == torch.distributed.ReduceOp.MIN
        value.clamp_(max=3)

    model = Classification()
    model._trainer = Trainer()  # type: ignore[assignment]
    monkeypatch.setattr(type(model), "global_step", 0)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", reduce)
    model._lost_at = torch.tensor(math.inf)
    for batch in range(1, model.look):
        model.check_finite(torch.tensor(1.0), batch)
    with pytest.raises(ValueError, match="lr: the loss is no longer finite at step 3; try a lower one"):
        model.check_finite(torch.tensor(1.0), model.look)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mixup": -1.0}, "mixup: expected a number >= 0, got -1.0"),
        ({"ema_decay": 1.0}, "ema_decay: expected a number >= 0 and below 1, got 1.0"),
        ({"bce_threshold": 0.2}, "bce_threshold: expected none with loss='cross-entropy', got 0.2"),
        ({"lr_batch": 0}, "lr_batch: expected an int >= 1, got 0"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Classification(**options)


def test_a_data_set_has_its_own_options() -> None:
    with pytest.raises(ValueError, match="repeats: expected an int >= 1, got 0"):
        ImageFolderData(repeats=0)
    with pytest.raises(ValueError, match="max_shift: expected an int >= 0, got -1"):
        FashionMnistData(max_shift=-1)
    with pytest.raises(TypeError, match="repeats"):
        FashionMnistData(repeats=3)


@pytest.mark.parametrize("loss", ["cross-entropy", "bce"])
@pytest.mark.parametrize("mixed", [{}, {"mixup": 0.1, "cutmix": 1.0}])
def test_losses_of_plain_and_mixed_labels(loss: Any, mixed: dict[str, float]) -> None:
    """Smoothing is done once, by the loss or by what mixes; a perfect answer is at the bound that smoothing leaves."""
    model = Classification(loss=loss, label_smoothing=0.1, bce_threshold=0.2 if loss == "bce" else None, **mixed)
    criterion, mixup = model._losses(10)
    labels = torch.arange(8)
    targets = labels
    if mixup is not None:
        np.random.seed(0)
        _, targets = mixup(torch.rand(8, 3, 8, 8), labels)
        torch.testing.assert_close(targets.sum(1), torch.ones(8))
    smoothed = torch.full((8, 10), 0.01).scatter_(1, labels[:, None], 0.91) if mixup is None else targets
    scores = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    if loss == "bce":
        expected = torch.nn.functional.binary_cross_entropy_with_logits(scores, smoothed.gt(0.2).float())
    else:
        expected = -(smoothed * scores.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(criterion(scores, targets), expected)


def test_names_are_shown_in_part() -> None:
    assert shown(["b", "a"]) == "2 images: a, b"
    assert shown(["a"]) == "1 image: a"
    assert shown(str(n) for n in range(7)) == "7 images: 0, 1, 2, 3, 4 and 2 more"


@pytest.mark.slow
def test_a_compiled_network_trains_as_the_plain_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captured and differentiated as for Inductor, and run without its C++ compiler."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    losses = []
    for compiled in ("false", "true"):
        options = [
            f"--model.compile={compiled}",
            "--model.network=dwresnet_mini",
            f"--run={tmp_path / compiled}",
            "--epochs=1",
            "--seed=1",
        ]
        options += [
            "--trainer.limit_train_batches=4",
            "--trainer.limit_val_batches=2",
            "--trainer.limit_test_batches=2",
        ]
        assert main(["train", *options, "--trainer.accelerator=cpu", "--model.ema_decay=0.9"]) == 0
        with (tmp_path / compiled / "metrics.csv").open() as file:
            losses.append(float(next(csv.DictReader(file))["train_loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
