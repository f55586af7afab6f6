"""What goes wrong is told in one sentence, with an exit code and without a traceback, and leaves nothing behind."""

import gzip
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from ddfnet.cli import COMMANDS, main
from ddfnet.data.classification.fashion_mnist import SAMPLE


class Caller:
    """Runs a command line and returns its exit code and its one sentence."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *argv: object) -> tuple[int, str]:
        self.capsys.readouterr()
        code = main([str(argument) for argument in argv])
        error = self.capsys.readouterr().err
        assert "Traceback" not in error
        lines = error.strip().splitlines()
        assert len(lines) <= 2, error
        return code, lines[0]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Caller:
    monkeypatch.chdir(tmp_path)
    return Caller(capsys)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of two classes with five small pictures each."""
    root = tmp_path / "images"
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (20, 24), (number * 20, 60, 90)).save(root / label / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("argv", "code", "sentence"),
    [
        (["frob"], 2, f"unknown command 'frob'; expected one of {', '.join(COMMANDS)}"),
        (["train", "--frob"], 2, "unrecognized arguments: --frob"),
        (["train", "--epochs", "0"], 2, "epochs: "),
        (["train", "--model.lr", "fast"], 2, "model.lr: Expected a float. Got value: fast"),
        (["train", "--model.lrr", "1"], 2, "model: Option 'lrr' is not accepted"),
        (["train", "--data.image_size", "64"], 2, "data: Option 'image_size' is not accepted by FashionMnistData"),
        (["train", "--model.network", "nope"], 1, "network: timm and ddfnet know no network named 'nope'"),
        (["train", "--model.num_classes", "7"], 1, "num_classes: expected 10, the classes of the data, got 7"),
        (["train", "--config", "nope"], 1, "nope: neither a file nor a recipe; the recipes are cifar10/"),
        (["train", "--data.root", "nope"], 1, "nope: no such folder"),
        (["train", "--data.dataset", "image-folder"], 1, "root: expected a folder of images"),
        (["train", "--data.dataset", "image-folder", "--data.root", "nope"], 1, "nope: no such folder"),
        (["train", "--data.batch_size", "0"], 1, "batch_size: expected an int >= 1, got 0"),
        (["train", "--resume", "nope"], 1, "nope: no run here (expected config.yaml in it)"),
        (["train", "--resume", "nope", "--epochs", "3"], 1, "nope: no run here"),
        (["train", "--resume", "nope", "--seed", "3"], 1, "--resume: expected the folder of a run and no other option"),
        (["evaluate"], 1, "RUN: expected the folder of a run"),
        (["evaluate", "nope"], 1, "nope: no run here"),
    ],
)  # fmt: skip
def test_command_lines(call: Caller, tmp_path: Path, argv: list[str], code: int, sentence: str) -> None:
    found, error = call(*argv)
    assert found == code
    assert sentence in error
    assert not (tmp_path / "runs").exists()


def test_truncated_gzip(call: Caller, tmp_path: Path) -> None:
    for kind, dims in (("images", 3), ("labels", 1)):
        for stem in ("train", "t10k"):
            name = f"-{kind}-idx{dims}-ubyte.gz"
            shutil.copy(SAMPLE / f"train-10k{name}", tmp_path / f"{stem}{name}")
    damaged = tmp_path / "t10k-images-idx3-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:5000])
    code, error = call("train", "--data.root", tmp_path)
    assert code == 1
    assert f"{damaged}: damaged or truncated gzip file" in error


def test_short_idx_file(call: Caller, tmp_path: Path) -> None:
    name = "train-images-idx3-ubyte"
    data = gzip.decompress((SAMPLE / "train-10k-images-idx3-ubyte.gz").read_bytes())
    (tmp_path / name).write_bytes(data[:-1])
    code, error = call("train", "--data.root", tmp_path)
    assert code == 1
    assert f"{tmp_path / name}: truncated: expected 7840000 bytes of data, got 7839999" in error
    (tmp_path / name).write_bytes(b"not an idx file")
    assert "expected an IDX file of unsigned bytes" in call("train", "--data.root", tmp_path)[1]


@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_unreadable_image(call: Caller, images: Path, content: bytes | None) -> None:
    damaged = sorted(images.rglob("*.png"))
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-30] if content is None else content)
    options = ("--data.dataset=image-folder", "--data.image_size=16", "--trainer.accelerator=cpu", "--epochs=1")
    code, error = call("train", "--data.root", images, *options)
    assert code == 1
    assert any(f"{path}: " in error for path in damaged)
    assert "not an image" in error or "unreadable or truncated image" in error


def test_folder_without_images(call: Caller, tmp_path: Path) -> None:
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    code, error = call("train", "--data.dataset=image-folder", "--data.root", tmp_path / "empty")
    assert code == 1
    assert "expected a folder of images for each class" in error


def test_checkpoints(call: Caller, images: Path, tmp_path: Path) -> None:
    """One run on the folder; then every way in which its checkpoint can be no checkpoint of it."""
    run = tmp_path / "run"
    options = ("--data.dataset=image-folder", "--data.image_size=16", "--trainer.accelerator=cpu", "--epochs=1")
    assert main(["train", "--data.root", str(images), "--run", str(run), *options, "--data.batch_size=3"]) == 0
    good = (run / "best.ckpt").read_bytes()

    (run / "best.ckpt").write_bytes(good[: len(good) // 2])
    assert call("evaluate", run)[1].endswith("best.ckpt: damaged or truncated checkpoint (no archive)")
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    (run / "best.ckpt").write_bytes(flipped)
    assert "damaged" in call("evaluate", run)[1]
    (run / "best.ckpt").write_bytes(b"")
    assert "damaged or truncated checkpoint" in call("evaluate", run)[1]
    (run / "best.ckpt").unlink()
    assert "best.ckpt: no such checkpoint" in call("evaluate", run)[1]

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"state_dict": {}, "bomb": Bomb()}, run / "best.ckpt")
    assert "refused, since loading it would run code" in call("evaluate", run)[1]
    (run / "best.ckpt").write_bytes(pickle.dumps(Bomb()))
    assert call("evaluate", run)[0] == 1
    assert not (tmp_path / "exploded").exists()

    (run / "best.ckpt").write_bytes(good)
    code, error = call("evaluate", run, "--model.network", "resnet_mini")
    assert code == 1
    assert "weights of another network: " in error
    (images / "eel").mkdir()
    for number in range(5):
        shutil.copy(images / "cat" / "0.png", images / "eel" / f"{number}.png")
    assert "trained for other classes (cat, dog, ...) than those of the data" in call("evaluate", run)[1]


@pytest.mark.parametrize("option", ["--model.optimizer=nope", "--trainer.limit_val_batches=0"])
def test_a_run_that_fails_before_its_first_epoch_leaves_no_folder(call: Caller, tmp_path: Path, option: str) -> None:
    code, error = call("train", "--trainer.accelerator=cpu", "--run", tmp_path / "run", option)
    assert code == 1
    assert error.startswith("ddfnet train: ")
    assert not (tmp_path / "run").exists()


def test_an_image_that_a_worker_cannot_read(call: Caller, images: Path) -> None:
    for path in images.rglob("*.png"):
        path.write_bytes(b"no image")
    options = ("--data.dataset=image-folder", "--data.image_size=16", "--trainer.accelerator=cpu", "--data.workers=1")
    code, error = call("train", "--data.root", images, *options)
    assert code == 1
    assert ".png: not an image; nor could any of the" in error


def test_folders_and_files_that_are_in_the_way(call: Caller, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "expected a folder for the run, found a file" in call("train", "--run", tmp_path / "file")[1]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.ckpt").touch()
    assert "holds a run; go on with it by" in call("train", "--run", tmp_path / "run")[1]
