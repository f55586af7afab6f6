"""The effect of a DDF layer on one image: the filters it predicts, and its feature maps beside a dense convolution's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn

from ddfnet.data.decode import read_rgb
from ddfnet.nn.ddf import DDF
from ddfnet.tasks.classification.data import ClassificationData, ImageFolderData
from ddfnet.tasks.classification.task import Classification
from ddfnet.tasks.datasets import find
from ddfnet.tasks.run.config import read_config
from ddfnet.tasks.run.loading import existing_run, load_run
from ddfnet.tasks.run.start import channels_of


@dataclass(frozen=True)
class Subject:
    """A network that is looked at, and how its images are made."""

    network: nn.Module
    name: str
    weights: str  # where they are from, in words
    channels: int
    size: int  # pixels of the short side that it is made for
    mean: Sequence[float]
    std: Sequence[float]

    def prepare(self, image: Image.Image, size: int | None = None) -> tuple[Tensor, np.ndarray]:
        """Return the image as the network takes it, (1, C, H, W), and as it is shown, (H, W, 3) in 0..1.

        Args:
            image: RGB.
            size: of the shorter side, in pixels; by default the network's.
        """
        side = self.size if size is None else size
        scale = side / min(image.size)
        width, height = (max(1, round(scale * length)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        if self.channels == 1:
            image = image.convert("L")
        pixels = np.asarray(image, dtype=np.float32).reshape(height, width, -1) / 255
        shown = np.broadcast_to(pixels, (height, width, 3))
        mean, std = (np.asarray(values, dtype=np.float32) for values in (self.mean, self.std))
        return torch.from_numpy((pixels - mean) / std).permute(2, 0, 1).unsqueeze(0), shown


@dataclass(frozen=True)
class Look:
    """One layer at one image. Arrays are float32; head 0 where there are several."""

    title: str
    image: np.ndarray  # (H, W, 3) in 0..1
    before: np.ndarray  # (C, H', W')
    after: np.ndarray  # (C, P, Q)
    dense: np.ndarray  # (C', P, Q), of what stands beside
    dense_title: str
    channel: np.ndarray | None  # (C, k, k)
    spatial: np.ndarray | None  # (P, Q, k, k)


def subject(model: str) -> Subject:
    """Return the network that `model` names: a run's folder (its best epoch), the authors' checkpoint or a name of timm.

    By name its weights are random. A run's data need not be there.

    Raises:
        FileNotFoundError, ValueError: it is none of these, or a run of another task than classification.
    """
    from ddfnet.models.classification.checkpoints import load_released
    from ddfnet.models.classification.resnet import create_model, is_model

    path = Path(model)
    if path.is_dir():
        return _of_run(path)
    if path.is_file():
        return _of_timm(load_released(model), path.name, f"weights of {path.name}")
    if not is_model(model):
        raise ValueError(f"--model: neither a run, a checkpoint nor a network of timm or ddfnet: {model!r}")
    torch.manual_seed(0)
    return _of_timm(create_model(model), model, "random weights")


def look(
    subject: Subject, images: tuple[Tensor, np.ndarray], layer: str | None = None, beside: Subject | None = None
) -> Look:
    """Run the image through the network and keep what its layer sees, predicts and gives.

    Args:
        subject: whose layer it is.
        images: of `subject.prepare`.
        layer: its name; the first DDF layer without.
        beside: a network whose layer of the same name gives the dense maps; a dense convolution with random weights on the
            layer's input by default.

    Raises:
        ValueError: there is no such layer, or no DDF layer at all, or `beside` takes images of other channels.
    """
    layers = {name: module for name, module in subject.network.named_modules() if isinstance(module, DDF)}
    if not layers:
        raise ValueError(f"--model: expected a network with DDF layers, {subject.name} has none")
    name = layer or next(iter(layers))
    if name not in layers:
        raise ValueError(f"--layer: expected one of {', '.join(layers)}, got {name!r}")
    if beside is not None and beside.channels != subject.channels:
        raise ValueError(
            f"--beside: expected a network of images with {subject.channels} channels, {beside.name} takes {beside.channels}"
        )
    module, (x, shown) = layers[name], images
    before, after = _seen(subject.network, module, x)
    with torch.no_grad():
        channel, spatial = module.filters(before)
        if beside is None:
            dense = _dense(module)(before)
            dense_title = (
                f"a dense {module.kernel_size}x{module.kernel_size} convolution of the same input, random weights"
            )
        else:
            other = dict(beside.network.named_modules()).get(name)
            if other is None:
                raise ValueError(f"--beside: expected a network with a layer named {name}, {beside.name} has none")
            dense = _seen(beside.network, other, x)[1]
            dense_title = f"{beside.name}, {name}, {beside.weights}"
    k = module.kernel_size
    return Look(
        title=f"{subject.name}, {name}, {subject.weights}",
        image=shown,
        before=before[0].numpy(),
        after=after[0].numpy(),
        dense=dense[0].numpy(),
        dense_title=dense_title,
        channel=None if channel is None else channel[0].numpy(),
        spatial=None if spatial is None else spatial[0, 0].permute(1, 2, 0).unflatten(-1, (k, k)).numpy(),
    )


def read(path: Path) -> Image.Image:
    """Return the image in a file, as RGB.

    Raises:
        FileNotFoundError, ValueError: it is not there, or is no image that can be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image")
    return read_rgb(path)


def cluster(filters: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cluster per-pixel filters by k-means: cluster of each pixel (P, Q), mean filters (n, k, k), shares (n,).

    The largest cluster is number 0. There are fewer than `count` where there are fewer different filters.

    Args:
        filters: (P, Q, k, k).
        count: of clusters, at least 1.
    """
    rows, columns, *taps = filters.shape
    points = filters.reshape(rows * columns, -1).astype(np.float64)
    different = len(np.unique(points, axis=0))
    _, labels = kmeans2(points, min(count, different), minit="++", rng=np.random.default_rng(0), missing="warn")
    found, labels, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    labels = np.argsort(order)[labels]
    means = np.stack([points[labels == number].mean(0) for number in range(len(found))])
    return labels.reshape(rows, columns), means.reshape(-1, *taps), sizes[order] / len(points)


def _of_timm(network: Any, name: str, weights: str) -> Subject:
    prepared = network.pretrained_cfg
    channels, _, size = prepared["input_size"]
    return Subject(network.eval(), name, weights, channels, size, prepared["mean"], prepared["std"])


def _of_run(path: Path) -> Subject:
    """Return the network of a run's best epoch."""
    kind: Any = find(read_config(existing_run(path).config)["model"]["class_path"])
    if not issubclass(kind, Classification):
        raise ValueError(f"{path}: expected a run of classification, got one of {kind.__name__}")
    run = load_run(path)
    task, data = run.task, run.data
    if not isinstance(data, ClassificationData):
        raise ValueError(f"{path}: expected a run on images with labels, got one on {type(data).__name__}")
    network: Any = task.network
    channels = channels_of(network.state_dict())
    data.take_channels(channels)
    mean, std = (data.preparation[name][:channels] for name in ("mean", "std"))
    size = data.image_size if isinstance(data, ImageFolderData) else data.preparation["size"]
    return Subject(network, task.name, f"trained weights of {path.name}", channels, size, mean, std)


def _seen(network: nn.Module, module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return what goes into and comes out of a module of the network at x."""
    seen: list[tuple[Tensor, Tensor]] = []
    hook = module.register_forward_hook(lambda _, args, output: seen.append((args[0].clone(), output.clone())))
    try:
        with torch.no_grad():
            network(x)
    finally:
        hook.remove()
    return seen[0]


def _dense(layer: DDF) -> nn.Conv2d:
    """Return a dense convolution in the layer's place, its weights drawn as PyTorch draws them, from seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Conv2d(
            layer.channels,
            layer.channels,
            layer.kernel_size,
            stride=layer.stride,
            padding=layer.kernel_size // 2 * layer.dilation,
            dilation=layer.dilation,
            bias=False,
        )
