"""Depth upsampled under an RGB image: DDF-Up-Net or PAC-Net, trained and scored by a named protocol (Table 7)."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric

from ddfnet.data.depth.protocols import Normalisation, low_resolution, protocol_of
from ddfnet.models.depth.joint_upsampling import (
    GUIDE_CHANNELS,
    DDFUpNet,
    JointUpsampler,
    PacJointUpsample,
    save,
)
from ddfnet.nn.filter_norm import FilterNorm
from ddfnet.nn.rivals.pac import PacConvTranspose2d
from ddfnet.ops.fill_unknown import fill_unknown
from ddfnet.tasks.data import TaskData
from ddfnet.tasks.depth.data import DepthBatch, DepthData, ScoredSplit
from ddfnet.tasks.depth.metrics import DepthErrors, depth_errors
from ddfnet.tasks.depth.pictures import draw_depth
from ddfnet.tasks.run.start import weights_of
from ddfnet.tasks.task import Task, gathered, share

NETWORKS: dict[str, type[JointUpsampler]] = {"ddf_up_net": DDFUpNet, "pac": PacJointUpsample}
PICTURES = 4  # test images drawn


class DepthUpsampling(Task):
    """Train a network that upsamples depth; the defaults are the protocol of Table 7.

    Scores are those of `ddfnet.tasks.depth.metrics.depth_errors`, in the unit of the split, means over images.

    Args:
        network: "ddf_up_net" or "pac", PAC-Net.
        scale_factor: 4, 8, 16, or another power of two from 2 up.
        network_args: further arguments of the network, such as `{residual: true}`.
        protocol: how the low resolution is made, "pac" or "bicubic"; see `ddfnet.data.depth.protocols`.
        loss: of the known pixels of a crop: "mse", or "l1".
        start: weights to begin with, of the same network at the same factor or half of that, see `begin_with`: the best
            weights of a run, by its folder, or a .safetensors file of a DDFUpNet.
        init: "default", or "he": weights such that a stage keeps the variance of what it is given, see `initialise`.
        optimizer: "adam" or "adamw".
        lr: the highest learning rate.
        weight_decay: of all weights.
        schedule: "step" divides the learning rate by 10 after each of `lr_steps` epochs, "cosine" lowers it to 0 at the end.
        lr_steps: epochs trained before each division.
        warmup_steps: steps over which the learning rate rises linearly.
        clip: greatest norm of the gradient; None for any.
        choose: the epoch that is tested: the "last", or the "best" one on validation images that are not trained on.
        channels_last: runs the network in the channels_last memory format.
    """

    network: JointUpsampler
    takes_batches = False  # of images alone

    def __init__(
        self,
        network: Literal["ddf_up_net", "pac"] = "ddf_up_net",
        *,
        scale_factor: int = 8,
        network_args: dict[str, Any] | None = None,
        protocol: Literal["pac", "bicubic"] = "pac",
        loss: Literal["mse", "l1"] = "mse",
        start: str | None = None,
        init: Literal["default", "he"] = "default",
        optimizer: Literal["adam", "adamw"] = "adam",
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        schedule: Literal["step", "cosine"] = "step",
        lr_steps: list[int] = [1000, 1350],  # noqa: B006 - never changed; jsonargparse shows it
        warmup_steps: int = 0,
        clip: float | None = None,
        choose: Literal["last", "best"] = "last",
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.monitor = ("val_rmse", "min") if choose == "best" else ("epoch", "max")
        self.name = f"{network}-x{scale_factor}"
        self._loss = F.mse_loss if loss == "mse" else F.l1_loss
        self._errors: list[DepthErrors] = []  # of the images that this process scored in the epoch

    def build(self, data: TaskData) -> None:
        super().build(data)
        factor = self.hparams["scale_factor"]
        if isinstance(data, DepthData) and data.augmentation.crop % factor:
            raise ValueError(f"crop: expected a multiple of scale_factor, {factor}, got {data.augmentation.crop}")

    def check(self, data: TaskData) -> None:
        if self.hparams["choose"] == "best" and not data.splits.held_out:
            raise ValueError("choose: expected 'last' where images that validate are trained on, got 'best'")

    def create_network(self, classes: Sequence[str], channels: int) -> nn.Module:
        options = self.hparams
        samples = "pac" if options["protocol"] == "pac" else "middle"
        arguments = {"samples": samples, **(options["network_args"] or {})}
        try:
            network = NETWORKS[options["network"]](options["scale_factor"], **arguments)
        except TypeError as error:
            raise ValueError(f"network_args: {error}") from None
        if options["init"] == "he":
            initialise(network)
        return network

    @classmethod
    def without_start(cls, options: dict[str, Any]) -> dict[str, Any]:
        return {**options, "start": None}

    def begin_with(self, start: str) -> None:
        begin_with(self.network, start)

    def describe(self, data: TaskData) -> dict[str, Any]:
        units = {"unit_of_validation": data.splits.val.unit, "unit": data.splits.test.unit}
        return {**super().describe(data), "protocol": self.hparams["protocol"], **units}

    def counted(self, data: TaskData) -> tuple[nn.Module, Sequence[int], str]:
        rgb, _ = data.splits.val.tensors(0)
        shape = (1, *rgb.shape)
        return _FromImage(self.network), shape, f"{shape[2]} x {shape[3]} pixels"

    def draw(self, data: TaskData, folder: Path) -> dict[str, Path]:
        """Draw test images: RGB, the low resolution, bicubic, ours and its error. Write the weights of a DDFUpNet."""
        split: ScoredSplit = data.splits.test
        path = folder / "depth.png"
        rows = []
        for index in range(min(PICTURES, len(split))):
            rgb, depth = split.tensors(index)
            low = self.low_resolution(depth[None])
            rows.append((rgb, low[0, 0], depth[0], self.predict(low, rgb[None])[0, 0]))
        draw_depth(rows, path, factor=self.hparams["scale_factor"], protocol=self.hparams["protocol"], unit=split.unit)
        if isinstance(self.network, DDFUpNet):
            trained_on = {"dataset": data.dataset, "protocol": self.hparams["protocol"]}
            save(self.network, folder / "network.safetensors", **trained_on)
        return {"depth": path}

    def predict(self, low: Tensor, rgb: Tensor) -> Tensor:
        """Upsample low (B, 1, h, w), in any unit and NaN where unknown, under rgb; on the CPU, in the mode of eval."""
        with self.inference():
            return self(low.to(self.device), rgb.to(self.device)).cpu()

    def low_resolution(self, depth: Tensor) -> Tensor:
        """Return the low resolution of depth (B, 1, H, W), NaN where unknown, by the protocol."""
        return low_resolution(depth, self.hparams["scale_factor"], self.hparams["protocol"])

    def forward(self, low: Tensor, rgb: Tensor) -> Tensor:
        """Return depth (B, 1, H, W) from low (B, 1, h, w), any unit and NaN where unknown, and rgb (B, 3, H, W) in 0..1."""
        if self.hparams["channels_last"]:
            rgb = rgb.contiguous(memory_format=torch.channels_last)
        return upsample(self.network, low, rgb)

    def training_step(self, batch: DepthBatch, batch_idx: int) -> Tensor:
        rgb, depth = batch
        if self.hparams["channels_last"]:
            rgb = rgb.contiguous(memory_format=torch.channels_last)
        low = self.low_resolution(depth)
        # A crop may know nothing at its samples; such a crop teaches nothing.
        usable = low.isfinite().flatten(1).any(1)
        if not usable.all():
            rgb, depth, low = rgb[usable], depth[usable], low[usable]
        found = self.network(fill_unknown(low) if len(low) else low, rgb)
        known = depth.isfinite()
        loss = self._loss(found[known].float(), depth[known]) if known.any() else found.sum() * 0
        if self.trainer.world_size > 1:  # processes know other numbers of pixels
            loss = loss * share(known.sum())
        self.check_finite(loss, batch_idx)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(rgb), sync_dist=True)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.hparams["clip"] is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.hparams["clip"])

    def validation_step(self, batch: DepthBatch, batch_idx: int) -> None:
        self._score(batch)

    def test_step(self, batch: DepthBatch, batch_idx: int) -> None:
        self._score(batch)

    def _score(self, batch: DepthBatch) -> None:
        """Keep the errors of each image of a batch."""
        if not len(batch.depth):
            return
        found = self(self.low_resolution(batch.depth), batch.rgb)
        margin = protocol_of(self.hparams["protocol"]).border
        pairs = zip(found[:, 0], batch.depth[:, 0], strict=True)
        self._errors += [depth_errors(depth, truth, border=margin) for depth, truth in pairs]

    def on_validation_epoch_start(self) -> None:
        self._errors.clear()

    def on_validation_epoch_end(self) -> None:
        self._log_errors("val")

    def on_test_epoch_start(self) -> None:
        self._errors.clear()

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self._log_errors("test")

    def _log_errors(self, stage: str) -> None:
        """Log the means over the images of all processes; an error that no image has is left out."""
        errors = list(itertools.chain.from_iterable(gathered(self._errors)))
        for name in DepthErrors._fields:
            values = [getattr(error, name) for error in errors]
            if name == "edge_rmse" and all(map(math.isnan, values)):
                continue
            mean = MeanMetric(nan_strategy="ignore")
            for value in values:
                mean.update(value)
            mean.sync_on_compute = False  # every process has all errors
            self.log(f"{stage}_{name}", mean.compute(), prog_bar=name == "rmse")

    def create_optimizer(self) -> Optimizer:
        options = self.hparams
        kind = torch.optim.Adam if options["optimizer"] == "adam" else torch.optim.AdamW
        return kind(self.network.parameters(), lr=options["lr"], weight_decay=options["weight_decay"])

    def warm_up(self, step: int) -> float:
        return min(1.0, (step + 1) / (self.hparams["warmup_steps"] + 1))


@torch.no_grad()
def initialise(network: JointUpsampler) -> None:
    """Initialise every layer as He et al. (ICCV 2015); a transposed one by the taps that meet an output pixel.

    PyTorch's default shrinks what passes a layer to 0.4 times, and DDF-Up, whose filters together have norm 1, to a third:
    after four stages next to nothing is left of the depth. The last layer starts at a tenth: the first steps are calm.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (5, 5):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, PacConvTranspose2d):
            met = layer.in_channels * layer.kernel_size**2 / layer.stride**2
            nn.init.normal_(layer.weight, std=math.sqrt(2 / met))
        elif isinstance(layer, FilterNorm) and layer.std is not None:
            layer.std.mul_(math.sqrt(2) / layer.init_scale)
        # A pixel's filter comes from the guide there, not from a bias that is the same everywhere.
        if isinstance(bias := getattr(layer, "bias", None), Tensor) and "channel_branch" not in name:
            nn.init.zeros_(bias)
    last: Any = network.decoder[-1]
    last.weight.mul_(0.1)


@torch.no_grad()
def begin_with(network: JointUpsampler, start: str | Path) -> None:
    """Give `network` the weights of the same one, or of one of half its factor with its coarsest stage twice.

    Args:
        start: folder of a run, or a .safetensors file of `save`.

    Raises:
        FileNotFoundError: no such checkpoint or file.
        ValueError: the weights are not those of such a network.
    """
    found = weights_of(start)
    begun = found
    if not any(name.startswith(f"stages.{len(network.stages) - 1}.") for name in found):
        last = f"guidance_encoder.{len(network.guidance_encoder) - 1}."
        begun = {}
        for name, value in found.items():
            if name.startswith("stages."):
                _, number, rest = name.split(".", 2)
                begun[f"stages.{int(number) + 1}.{rest}"] = value
            if not name.startswith("stages.") or name.startswith("stages.0."):
                begun[name] = torch.cat([value[:GUIDE_CHANNELS], value]) if name.startswith(last) else value
    try:
        network.load_state_dict(begun)
    except RuntimeError as error:
        reason, factor = str(error).splitlines()[-1].strip(), network.scale_factor
        raise ValueError(
            f"start: expected the weights of the same network at {factor}x or {factor // 2}x, got {start} ({reason})"
        ) from None


def upsample(network: JointUpsampler, low: Tensor, rgb: Tensor) -> Tensor:
    """Run `network` on maps of any unit: unknown pixels filled, each map brought to 0..1 by its known values, and back.

    Args:
        low: (B, 1, h, w), NaN where unknown.
        rgb: (B, 3, H, W), in 0..1.

    Returns:
        (B, 1, H, W) float32, in the unit of `low`.
    """
    scale = Normalisation.of(low)
    return scale.undo(network(fill_unknown(scale.apply(low)), rgb).float())


class _FromImage(nn.Module):
    """The network as one of the image alone, to be counted."""

    def __init__(self, network: JointUpsampler) -> None:
        super().__init__()
        self.network = network

    def forward(self, rgb: Tensor) -> Tensor:
        batch, _, height, width = rgb.shape
        size = (-(-length // self.network.scale_factor) for length in (height, width))
        return self.network(rgb.new_empty(batch, 1, *size), rgb)
