"""The depth task: scores in any unit, recipes as published, a start from half the factor, killed runs go on bit-equal."""

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.depth_files import write_folder

from ddfnet import recipes
from ddfnet.cli import main
from ddfnet.data.depth.protocols import low_resolution
from ddfnet.models.depth.joint_upsampling import DDFUpNet, JointUpsampler, load, save
from ddfnet.tasks.depth.data import DepthFolderData
from ddfnet.tasks.depth.metrics import depth_errors
from ddfnet.tasks.depth.task import NETWORKS, DepthUpsampling, begin_with, initialise, upsample

TINY = ["--data.dataset=folder", "--data.crop=16", "--data.batch_size=2", "--trainer.accelerator=cpu"]
NAMES = [*recipes.group("depth"), *recipes.group("nyu")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pairs"), {"train": 4, "val": 1, "test": 2})


def network(name: str = "ddf_up_net", factor: int = 4, **options: Any) -> JointUpsampler:
    torch.manual_seed(0)
    return NETWORKS[name](factor, **options)


def test_maps_of_any_unit_give_the_same_picture() -> None:
    """Powers of two scale a float exactly; what a shift adds is rounded off before the network sees it."""
    generator = torch.Generator().manual_seed(0)
    low, rgb = torch.rand(2, 1, 5, 6, generator=generator), torch.rand(2, 3, 20, 24, generator=generator)
    low[0, 0, 2, 3] = torch.nan
    net = network()
    with torch.no_grad():
        found = upsample(net, low, rgb)
        assert found.isfinite().all()
        assert torch.equal(upsample(net, low * 1024, rgb), found * 1024)
        assert torch.allclose(upsample(net, low + 3, rgb), found + 3, rtol=0, atol=1e-4)
        alone = upsample(net, low[1:], rgb[1:])  # a map's range is its own
        assert torch.allclose(alone, found[1:], rtol=0, atol=1e-4)


def test_a_run_prints_the_scores_of_its_test_images(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    options = [*TINY, f"--data.root={folder}", f"--run={run}", "--epochs=2", "--trainer.precision=32"]
    assert main(["train", "--config=depth/ddf_up_net_x4", *options]) == 0
    summary = json.loads((run / "summary.json").read_text())
    printed = capsys.readouterr().out
    assert f"{summary['test_rmse']!r} file unit" in printed
    assert "depth.png" in printed
    assert (run / "depth.png").is_file()
    assert summary["pictures"] == ["curves.png", "depth.png"]
    assert summary["data"]["images"] == {"train": 4, "val": 1, "test": 2}
    assert summary["protocol"] == "pac"

    model = DepthUpsampling(scale_factor=4, network_args={"residual": True})
    data = DepthFolderData(folder, crop=16)
    model.build(data)
    saved = torch.load(run / "best.ckpt", weights_only=True)
    model.load_state_dict(saved["state_dict"])
    assert saved["epoch"] + 1 == summary["best_epoch"]
    errors = []
    for index in range(2):
        rgb, depth = data.splits.test.tensors(index)
        found = model.predict(low_resolution(depth[None], 4), rgb[None])[0, 0]
        errors.append(depth_errors(found, depth[0], border=6))
    for place, name in enumerate(("rmse", "mae", "edge_rmse")):
        # channels_last kernels sum in another order
        assert summary[f"test_{name}"] == pytest.approx(sum(e[place] for e in errors) / 2, rel=1e-4), name
    network_of_run = load(run / "network.safetensors")
    for a, b in zip(model.network.parameters(), network_of_run.parameters(), strict=True):
        assert torch.equal(a, b)
    assert main(["evaluate", str(run)]) == 0
    printed = capsys.readouterr().out
    assert "2 test images" in printed
    assert f"test rmse  {summary['test_rmse']!r}\n" in printed


@pytest.mark.release
def test_a_killed_run_goes_on_bit_equal(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the middle of its second epoch, and again in that epoch's validation; begun from another run."""
    assert (
        main(
            [
                "train",
                "--config=depth/ddf_up_net_x4",
                *TINY,
                f"--data.root={folder}",
                "--epochs=1",
                f"--run={tmp_path / 'x4'}",
            ]
        )
        == 0
    )
    options = ["--config=depth/ddf_up_net_x8", *TINY, f"--data.root={folder}", "--epochs=2"]
    options += [f"--model.start={tmp_path / 'x4'}", "--data.crops=2"]
    assert main(["train", *options, f"--run={tmp_path / 'a'}"]) == 0
    for step, at in (("training_step", 6), ("validation_step", 1)):
        with monkeypatch.context() as patched:
            whole, calls = getattr(DepthUpsampling, step), [0]

            def stopped(self: DepthUpsampling, *args: Any, whole: Any = whole, calls: Any = calls, at: int = at) -> Any:
                calls[0] += 1
                if calls[0] == at:
                    raise KeyboardInterrupt
                return whole(self, *args)

            patched.setattr(DepthUpsampling, step, stopped)
            begun = (tmp_path / "b").exists()
            command = ["--resume", str(tmp_path / "b")] if begun else [*options, f"--run={tmp_path / 'b'}"]
            handler = signal.getsignal(signal.SIGINT)
            assert main(["train", *command]) == 130
            signal.signal(signal.SIGINT, handler)  # which Lightning takes away
            (tmp_path / "x4" / "best.ckpt").rename(tmp_path / "moved.ckpt") if not begun else None
    assert main(["train", "--resume", str(tmp_path / "b")]) == 0  # for which the other run is not needed
    for name in ("best.ckpt", "last.ckpt"):
        a, b = (torch.load(tmp_path / run / name, weights_only=True) for run in "ab")
        assert a["epoch"] == b["epoch"]
        for key, value in a["state_dict"].items():
            assert torch.equal(value, b["state_dict"][key]), key


@pytest.mark.parametrize("name", NETWORKS)
def test_a_start_from_half_the_factor(name: str, tmp_path: Path) -> None:
    """The finer stages and their guides are those of the smaller network, the coarsest is a copy of its coarsest."""
    small, large = network(name, 4, residual=True), network(name, 8, residual=True)
    state = {f"network.{key}": value for key, value in small.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "best.ckpt")
    begin_with(large, tmp_path)
    for part in ("depth_encoder", "decoder"):
        for a, b in zip(getattr(small, part).parameters(), getattr(large, part).parameters(), strict=True):
            assert torch.equal(a, b)
    for place, stage in enumerate((0, 0, 1)):
        for a, b in zip(small.stages[stage].parameters(), large.stages[place].parameters(), strict=True):
            assert torch.equal(a, b)
    rgb = torch.rand(1, 3, 16, 16)
    first, second = small.guidance_encoder(rgb).split(16, 1)
    for guide, expected in zip(large.guidance_encoder(rgb).split(16, 1), (first, first, second), strict=True):
        assert torch.allclose(guide, expected, rtol=1e-5, atol=1e-6)
    again = network(name, 4)
    initialise(again)
    begin_with(again, tmp_path)  # or from the whole of the same
    for a, b in zip(small.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match=r"start: expected the weights of the same network at 16x or 8x, got "):
        begin_with(network(name, 16), tmp_path)


def test_a_start_from_a_file(tmp_path: Path) -> None:
    small, large = DDFUpNet(2), DDFUpNet(4)
    save(small, tmp_path / "small.safetensors")
    begin_with(large, str(tmp_path / "small.safetensors"))
    assert torch.equal(large.decoder[0].weight, small.decoder[0].weight)
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors: no such checkpoint"):
        begin_with(large, tmp_path / "none.safetensors")


def test_the_protocol_says_where_samples_lie(folder: Path) -> None:
    for protocol, samples in (("pac", "pac"), ("bicubic", "middle")):
        model = DepthUpsampling(scale_factor=4, protocol=protocol, network_args={"residual": True})
        model.build(DepthFolderData(folder, crop=16))
        assert model.network.samples == samples


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("factor", [4, 16])
def test_initialised_networks_pass_the_depth_on(name: str, factor: int) -> None:
    """Before the last layer the scale of the features is that of the input, after two stages and after four."""
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(1, 1, 8, 8, generator=generator)
    rgb = torch.rand(1, 3, 8 * factor, 8 * factor, generator=generator)
    scales = {}
    for init in (False, True):
        net = network(name, factor)
        if init:
            initialise(net)
        seen: list[torch.Tensor] = []
        net.decoder.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            net(low, rgb)
            first = seen[0].clone()
            net(low + torch.randn(low.shape, generator=torch.Generator().manual_seed(1)), rgb)
        scales[init] = (seen[1] - first).square().mean().sqrt().item()  # what a change of the depth changes
    assert scales[True] > 0.03
    assert scales[True] > 3 * scales[False]


def test_the_learning_rate() -> None:
    """A tenth after epochs 1000 and 1350 of 1500; or a cosine, after a linear warm-up."""

    def factors(**options: Any) -> list[float]:
        model = DepthUpsampling(**options)

        class Trainer:
            max_epochs = 1500

        model._trainer = Trainer()  # type: ignore[assignment]
        return [model.lr_factor(step, 3000) for step in range(3000)]

    step = factors()
    assert {round(f, 9) for f in step[:2000]} == {1.0}
    assert {round(f, 9) for f in step[2000:2700]} == {0.1}
    assert {round(f, 9) for f in step[2700:]} == {0.01}
    cosine = factors(schedule="cosine", warmup_steps=9)
    assert cosine[0] == pytest.approx(0.1)
    assert cosine[1500] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))


@pytest.mark.parametrize("name", recipes.group("nyu"))
def test_the_recipes_of_nyu_are_the_papers(name: str) -> None:
    recipe = recipes.load(name)
    options = recipe["model"]["init_args"] | recipe["data"]["init_args"]
    paper = {"lr": 1e-4, "lr_steps": [1000, 1350], "batch_size": 8, "crop": 256, "loss": "mse"}
    assert recipe["epochs"] == 1500
    assert options | paper == options
    assert "network_args" not in options


@pytest.mark.parametrize("factor", [4, 8, 16])
@pytest.mark.parametrize("kind", ["depth", "nyu"])
def test_recipes_differ_in_the_network_alone(kind: str, factor: int) -> None:
    found = [recipes.load(f"{kind}/{name}_x{factor}") for name in ("ddf_up_net", "pac")]
    for recipe in found:
        recipe["model"]["init_args"].pop("network")
    assert found[0] == found[1]


@pytest.mark.parametrize("name", NAMES)
def test_recipes_name_network_and_factor(name: str) -> None:
    options = recipes.load(name)["model"]["init_args"]
    assert name.partition("/")[2] == f"{options['network']}_x{options['scale_factor']}"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_runs(name: str, folder: Path, tmp_path: Path) -> None:
    options = [*TINY, f"--data.root={folder}", "--epochs=1", f"--run={tmp_path / 'run'}"]
    assert main(["train", f"--config={name}", *options]) == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--model.scale_factor=3"], "scale_factor: expected a power of two"),
        (["--data.crop=18"], "crop: expected a multiple of scale_factor, 8, got 18"),
        (["--model.network_args={nope: 1}"], "network_args: "),
        (["--model.start=nope"], "nope: no such checkpoint"),
        (["--data.root=nope"], "nope/train: expected a folder of photographs and depth maps, found none"),
        (["--data.dataset=nyu", "--data.root=nope"], "nope: expected nyu_depth_v2_labeled.mat"),
    ],
)
def test_what_is_wrong_is_told_before_training(
    folder: Path, tmp_path: Path, options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--config=depth/ddf_up_net_x8", *TINY, f"--data.root={folder}", f"--run={tmp_path / 'run'}", *options]
    assert main(["train", *argv]) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.strip().splitlines()) <= 2
    assert not (tmp_path / "run").exists()


def test_nothing_is_chosen_by_images_that_are_trained_on(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DepthFolderData(folder, crop=16)
    monkeypatch.setattr(data, "splits", type(data.splits)(data.splits.train, data.splits.val, data.splits.test, False))
    with pytest.raises(ValueError, match="choose: expected 'last' where images that validate are trained on"):
        DepthUpsampling(choose="best").build(data)
