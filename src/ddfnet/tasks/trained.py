"""`ddfnet.load`: a trained network from its run, a checkpoint or an exported folder, with what its images need."""

import json
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ddfnet.data.decode import read_rgb
from ddfnet.data.images import timm_transform, transformed, unit_transform
from ddfnet.tasks.data import options_of
from ddfnet.tasks.datasets import find
from ddfnet.tasks.run.checkpoints import load_checkpoint
from ddfnet.tasks.run.config import read_config
from ddfnet.tasks.run.folder import RunFolder
from ddfnet.tasks.run.start import channels_of

CLASSIFICATION = "ddfnet.tasks.classification.Classification"
# Options that identify the task of a checkpoint without its run: no other task has them.
TASKS = {
    "backbone": "ddfnet.tasks.detection.Detection",
    "scale_factor": "ddfnet.tasks.depth.task.DepthUpsampling",
    "network": CLASSIFICATION,
}


class Trained(nn.Module):
    """A trained network with what images need for it, in eval mode.

    Called as the network is: class scores (B, classes) of images (B, C, H, W); boxes, labels and scores of a list of images
    (3, H, W) in 0..1, as torchvision's detectors give them; depth (B, 1, H, W) of depth (B, 1, h, w), in any unit and NaN
    where unknown, and images (B, 3, H, W) in 0..1.

    Attributes:
        network: the network itself, as `timm.create_model` or `ddfnet.models` make it.
        transform: makes the network's input (C, H, W) of a PIL image, or of the path of one, which it reads upright.
        class_names: in the order of the scores; of a detector that of label 1 first; () for depth.
        task: "classification", "detection" or "depth".
        config: the options `model` and `data` of its run, as far as they are known.
    """

    def __init__(
        self,
        network: nn.Module,
        transform: Callable[[Any], Tensor],
        class_names: Sequence[str],
        task: str,
        config: dict[str, Any],
    ) -> None:
        super().__init__()
        self.network, self.transform, self.class_names = network, transform, tuple(class_names)
        self.task, self.config = task, config
        self.eval()

    def forward(self, *inputs: Any) -> Any:
        if self.task != "depth":
            return self.network(*inputs)
        from ddfnet.tasks.depth.task import upsample

        network: Any = self.network
        return upsample(network, *inputs)


def load(source: Path | str) -> Trained:
    """Load a trained network of any task, in eval mode, on the CPU.

    Args:
        source: the folder of a run, of this version or an earlier one, whose best epoch is taken; a checkpoint of a run,
            `best.ckpt` or `last.ckpt`; a folder of `ddfnet export --hub`, or its .safetensors file; the weights of a
            DDF-Up-Net; a checkpoint of the authors'.

    Raises:
        FileNotFoundError: there is no such file or run.
        TypeError: it is no path.
        ValueError: it is damaged, or none of these.

    Example:
        >>> trained = ddfnet.load("runs/ddf_resnet_mini-seed0")  # doctest: +SKIP
        >>> scores = trained(trained.transform("cat.jpg")[None]).softmax(1)  # doctest: +SKIP
        >>> trained.class_names[scores.argmax()]  # doctest: +SKIP
        'cat'
    """
    if not isinstance(source, str | PathLike):
        raise TypeError(f"source: expected a path, got {type(source).__name__}")
    path = Path(source)
    if path.is_dir():
        folder = RunFolder(path)
        if folder.config.is_file():
            return _of_checkpoint(folder.best)
        if (path / "config.json").is_file():
            return _of_export(path / "model.safetensors")
        raise FileNotFoundError(f"{path}: expected a run, with config.yaml, or an exported folder, with config.json")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such run or file")
    if path.suffix == ".safetensors":
        return _of_safetensors(path)
    return _of_checkpoint(path)


def _of_checkpoint(path: Path) -> Trained:
    """Load a run's checkpoint, beside the run's options or alone; else the authors'."""
    config = RunFolder(path.parent).config
    try:
        saved = load_checkpoint(path)
    except ValueError:
        if config.is_file():
            raise
        return _of_released(path)
    options = saved.get("hyper_parameters")
    if config.is_file():
        options = read_config(config)
    elif isinstance(options, dict):
        kind = next((kind for option, kind in TASKS.items() if option in options), CLASSIFICATION)
        known = options_of(find(kind))
        options = {"model": {"class_path": kind, "init_args": {n: v for n, v in options.items() if n in known}}}
    else:
        return _of_released(path)
    state = {name.removeprefix("network."): tensor for name, tensor in saved["state_dict"].items()}
    return _assembled(options, saved.get("classes", ()), state, path)


def _of_released(path: Path) -> Trained:
    from ddfnet.models.classification.checkpoints import load_released

    return _of_timm(load_released(path))


def _of_safetensors(path: Path) -> Trained:
    from safetensors import SafetensorError, safe_open

    if (path.parent / "config.json").is_file():
        return _of_export(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged, or not a .safetensors file ({error})") from None
    if "options" not in metadata:
        return _of_released(path)
    from ddfnet.models.depth.joint_upsampling import load as load_depth

    return Trained(load_depth(path), _Transform(unit_transform), (), "depth", {})


def _of_export(path: Path) -> Trained:
    """Load the weights beside a config.json, of `ddfnet export --hub` or of timm."""
    from ddfnet.models.classification.checkpoints import read_released

    described = path.parent / "config.json"
    try:
        content = json.loads(described.read_bytes())
    except ValueError as error:
        raise ValueError(f"{described}: not a JSON file, or a damaged one ({error})") from None
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of weights")
    if "ddfnet" in content:
        ours = content["ddfnet"]
        return _assembled(ours["config"], ours["classes"], read_released(path), path)
    if "architecture" not in content:
        raise ValueError(f"{described}: expected what `ddfnet export --hub` or timm writes, with an architecture")
    from ddfnet.models.classification.resnet import create_model

    return _of_timm(create_model(f"local-dir:{path.parent}", pretrained=True))


def _of_timm(network: Any) -> Trained:
    """Load a timm network with weights, by what timm keeps about it."""
    names = network.pretrained_cfg.get("label_names") or ()
    channels = network.pretrained_cfg["input_size"][0]
    return Trained(network, _Transform(timm_transform(network), channels), names, "classification", {})


def _assembled(config: dict[str, Any], classes: Sequence[str], state: Mapping[str, Tensor], where: Path) -> Trained:
    """Build the network that `config` describes, give it its weights, and find its transform."""
    kind: Any = find(config["model"]["class_path"])
    task = kind(**kind.without_start(dict(config["model"].get("init_args") or {})))
    channels = channels_of(state)
    network = task.create_network(classes, channels)
    if task.hparams.get("channels_last"):
        network = network.to(memory_format=torch.channels_last)
    _load_weights(network, state, where)
    name = kind.__module__.split(".")[2]
    transform = _Transform(unit_transform)
    if name == "classification":
        transform = _data_transform(config, network, channels)
    kept = {"model": config["model"], **({"data": config["data"]} if config.get("data") else {})}
    return Trained(network, transform, classes, name, kept)


def _data_transform(config: dict[str, Any], network: nn.Module, channels: int) -> "_Transform":
    """Return how the run's test images became tensors; timm's way if the data are unknown."""
    if not config.get("data"):
        return _Transform(timm_transform(network), channels)
    data: Any = find(config["data"]["class_path"])(**(config["data"].get("init_args") or {}))
    data.take_channels(channels)
    return _Transform(data.transform, channels, data.preparation)


class _Transform:
    """A transform of a PIL image of any mode, or of a path, to a tensor of `channels`.

    `preparation` says what it does in timm's words, with the `size` in pixels, as far as that is known.
    """

    def __init__(
        self,
        transform: Callable[[Image.Image], Tensor],
        channels: int = 3,
        preparation: Mapping[str, Any] | None = None,
    ) -> None:
        self.transform, self.channels, self.preparation = transform, channels, dict(preparation or {})

    def __call__(self, image: Image.Image | Path | str) -> Tensor:
        read = image.convert("RGB") if isinstance(image, Image.Image) else read_rgb(Path(image))
        return transformed(read, self.transform, self.channels)


def _load_weights(network: nn.Module, state: Mapping[str, Tensor], where: Path) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise ValueError(f"{where}: weights of another network: {first}") from None
