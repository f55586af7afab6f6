"""Object detection: Faster R-CNN with the pyramid upsampling of your choice, on any data set in COCO's format (Table 6)."""

import json
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics.detection import MeanAveragePrecision
from torchvision.models.detection.anchor_utils import AnchorGenerator

from ddfnet.atomic import write_text
from ddfnet.data.detection.split import Batch, DetectionSplit
from ddfnet.models.complexity import complexity
from ddfnet.models.detection.faster_rcnn import fasterrcnn_resnet50_fpn_ddf_up
from ddfnet.tasks.detection.data import DetectionData
from ddfnet.tasks.pictures import draw_detections
from ddfnet.tasks.unreadable import note

# As COCO reports them: mean average precision over IoU 0.50 to 0.95, at 0.50 and 0.75, and of boxes of an area below 32^2,
# below 96^2 and above, in the image's own pixels.
SCORES = {
    "mAP": "map",
    "mAP_50": "map_50",
    "mAP_75": "map_75",
    "mAP_small": "map_small",
    "mAP_medium": "map_medium",
    "mAP_large": "map_large",
}
NONE_SUCH = -1.0  # what COCO's scorer says where there is nothing to be found
PICTURES = 6  # test images drawn
ASPECT_RATIOS = [0.5, 1.0, 2.0]  # the detector's own
SURE = 0.3  # least score of the detections drawn


class Detection(lightning.LightningModule):
    """Trains Faster R-CNN; the defaults are Table 6's protocol.

    Images that cannot be read are told, and listed in the summary of the run.

    Args:
        backbone, upsample, weights, weights_backbone: of `ddfnet.models.fasterrcnn_resnet50_fpn_ddf_up`.
        num_classes: without the background; None takes that of the data; a number must agree with it.
        min_size: images are resized so that their short side has so many pixels,
        max_size: and their long side at most so many.
        anchor_sizes: side of the anchors of each level of the pyramid (of the square of their area), the largest map first,
            in pixels of the resized image; None: the detector's own.
        aspect_ratios: height over width of the anchors; others than the default need `anchor_sizes`.
        network_args: further arguments of the detector, such as `{box_detections_per_img: 300}`.
        optimizer: "sgd" or "adamw".
        lr: the highest learning rate, for the batch size trained with.
        momentum: of "sgd".
        weight_decay: of all weights.
        schedule: "step" divides the learning rate by 10 after each of `lr_steps` epochs, "cosine" lowers it to 0 at the end.
        lr_steps: epochs trained before each division.
        warmup_steps: steps over which the learning rate rises linearly from a thousandth.
        choose: the epoch that is tested: "last", as in the paper, or the "best" one on the validation images, for which the
            test images must be others.
        channels_last: runs the backbone and the pyramid in the channels_last memory format.
    """

    network: nn.Module
    takes_batches = False  # but lists of images, each of its own size

    def __init__(
        self,
        backbone: str = "resnet50",
        upsample: str = "ddf",
        weights: str | None = None,
        weights_backbone: str | None = None,
        num_classes: int | None = None,
        min_size: int = 800,
        max_size: int = 1333,
        anchor_sizes: list[float] | None = None,
        aspect_ratios: list[float] = ASPECT_RATIOS,
        network_args: dict[str, Any] | None = None,
        optimizer: Literal["sgd", "adamw"] = "sgd",
        lr: float = 0.02,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        schedule: Literal["step", "cosine"] = "step",
        lr_steps: list[int] = [8, 11],  # noqa: B006 - never changed; jsonargparse shows it
        warmup_steps: int = 500,
        choose: Literal["last", "best"] = "last",
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if anchor_sizes is None and list(aspect_ratios) != ASPECT_RATIOS:
            raise ValueError(f"aspect_ratios: expected {ASPECT_RATIOS} without anchor_sizes, got {aspect_ratios}")
        self.monitor = ("val_mAP", "max") if choose == "best" else ("epoch", "max")
        self.name = f"{backbone}-fpn-{upsample}"
        self._results: list[dict[str, Any]] = []
        self.unreadable: set[str] = set()  # names of images

    def build(self, data: DetectionData) -> None:
        """Builds the detector for the classes of `data` (once)."""
        if hasattr(self, "network"):
            return
        options, splits = self.hparams, data.splits
        classes, wanted = len(splits.classes), options["num_classes"]
        if wanted not in (None, classes):
            raise ValueError(f"num_classes: expected {classes}, the classes of the data, got {wanted}")
        if options["choose"] == "best" and splits.test is splits.val:
            raise ValueError("choose: expected 'last' where the validation images are the test images, got 'best'")
        self.classes = splits.classes
        self.network = fasterrcnn_resnet50_fpn_ddf_up(
            weights=options["weights"],
            weights_backbone=options["weights_backbone"],
            num_classes=classes + 1,
            upsample=options["upsample"],
            backbone=options["backbone"],
            min_size=options["min_size"],
            max_size=options["max_size"],
            **self._anchors(),
            **(options["network_args"] or {}),
        )
        if options["channels_last"]:
            self.network = self.network.to(memory_format=torch.channels_last)
        self.val_precision, self.test_precision = average_precision(), average_precision()

    def _anchors(self) -> dict[str, AnchorGenerator]:
        sizes = self.hparams["anchor_sizes"]
        if sizes is None:
            return {}
        ratios = tuple(self.hparams["aspect_ratios"])
        return {"rpn_anchor_generator": AnchorGenerator(tuple((size,) for size in sizes), (ratios,) * len(sizes))}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["classes"] = list(self.classes)
        if self.unreadable:
            checkpoint["unreadable"] = sorted(self.unreadable)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.unreadable = set(checkpoint.get("unreadable", ()))

    def configure_model(self) -> None:
        self.build(self.trainer.datamodule)  # type: ignore[attr-defined]

    def describe(self, data: DetectionData) -> dict[str, Any]:
        """What the summary of a run says of the detector and its data. FLOPs are those of the backbone and its pyramid."""
        network: Any = self.network
        (image,) = _first_readable(data.splits.val, 1).images
        shape = network.transform([image.to(self.device)])[0].tensors.shape
        cost = complexity(network.backbone, shape)
        splits = {name: getattr(data.splits, name) for name in ("train", "val", "test")}
        return {
            "network": self.name,
            "data": {
                "dataset": data.dataset,
                "images": {name: len(split) for name, split in splits.items()},
                "found": {str(split.annotations): split.counts for split in splits.values()},
            },
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "flops": cost.flops,
            "multiply_adds": cost.multiply_adds,
            "counted": "backbone and pyramid",
            "input_shape": list(shape),
            **({"unreadable": sorted(self.unreadable)} if self.unreadable else {}),
        }

    def draw(self, data: DetectionData, folder: Path) -> dict[str, Path]:
        """Draws detections beside the ground truth; writes those of all test images, if just found, as COCO's results."""
        split = data.splits.test
        images, targets, _, _ = _first_readable(split, PICTURES)
        path = folder / "detections.png"
        draw_detections(images, targets, self.predict(images), self.classes, path, least=SURE)
        if self._results:
            write_text(folder / "detections.json", json.dumps(self._results) + "\n")
        return {"detections": path}

    def predict(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Boxes, labels and scores of each image (3, H, W) in 0..1, on the CPU; the mode of training is kept."""
        training = self.network.training
        self.network.eval()
        with torch.no_grad():
            found = self([image.to(self.device) for image in images])
        self.network.train(training)
        return _on_cpu(found)

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Detections of images (3, H, W) in 0..1: boxes (N, 4) in pixels, labels (N,) from 1, scores (N,)."""
        found: list[dict[str, Tensor]] = self.network(images)
        return [{**detections, "boxes": detections["boxes"].float()} for detections in found]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets, _, unreadable = batch
        note(self.unreadable, unreadable)
        wanted = [{name: target[name][target["iscrowd"] == 0] for name in ("boxes", "labels")} for target in targets]
        losses: dict[str, Tensor] = self.network(images, wanted)
        loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            told = ", ".join(f"{name} {value.item():.3g}" for name, value in losses.items())
            raise ValueError(f"lr: the loss is no longer finite at step {self.global_step} ({told}); try a lower one")
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._find(batch, self.val_precision)

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val", self.val_precision)

    def on_test_epoch_start(self) -> None:
        self._results.clear()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        found = self._find(batch, self.test_precision)
        split: DetectionSplit = self.trainer.datamodule.splits.test  # type: ignore[attr-defined]
        for place, detections in zip(batch.places, found, strict=True):
            self._results += split.result(place, **detections)

    def _find(self, batch: Batch, metric: MeanAveragePrecision) -> list[dict[str, Tensor]]:
        """Detections of the images of a batch that can be read, which `metric` is told."""
        note(self.unreadable, batch.unreadable)
        if not batch.images:
            return []
        found = _on_cpu(self(batch.images))
        metric.update(found, _on_cpu(batch.targets))
        return found

    def on_test_epoch_end(self) -> None:
        self._log_scores("test", self.test_precision)

    def _log_scores(self, stage: str, metric: MeanAveragePrecision) -> None:
        found = metric.compute()
        metric.reset()
        for name, key in SCORES.items():
            if name == "mAP" or found[key] != NONE_SUCH:
                self.log(f"{stage}_{name}", found[key], prog_bar=name == "mAP")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        options = self.hparams
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimizer: torch.optim.Optimizer
        if options["optimizer"] == "sgd":
            optimizer = torch.optim.SGD(
                parameters, lr=options["lr"], momentum=options["momentum"], weight_decay=options["weight_decay"]
            )
        else:
            optimizer = torch.optim.AdamW(parameters, lr=options["lr"], weight_decay=options["weight_decay"])
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = LambdaLR(optimizer, lambda step: self._lr_factor(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _lr_factor(self, step: int, steps: int) -> float:
        """Of the learning rate at a step of `steps`."""
        options, warmup = self.hparams, self.hparams["warmup_steps"]
        factor = 1.0 if step >= warmup else 0.001 + 0.999 * step / warmup
        if options["schedule"] == "cosine":
            return factor * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
        epoch = step * (self.trainer.max_epochs or 1) // steps
        return float(factor * 0.1 ** sum(epoch >= end for end in options["lr_steps"]))


def _first_readable(split: DetectionSplit, count: int) -> Batch:
    """The first images of a split that can be read, `count` or as many as there are."""
    places: list[int] = []
    for index in range(len(split)):
        places += split.__getitems__([index]).places
        if len(places) == count:
            break
    if not places:
        raise ValueError(f"data: expected images that can be read, got none in {len(split)}")
    return split.__getitems__(places)


def _on_cpu(images: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """What is scored is scored there, box by box."""
    return [{name: value.cpu() for name, value in of_image.items()} for of_image in images]


def average_precision() -> MeanAveragePrecision:
    """COCO's scores of boxes, as pycocotools computes them.

    torchmetrics' own thresholds are rounded to float32, which moves scores in their third digit: a recall of exactly 0.05
    misses a threshold of 0.0500000007. These are pycocotools'.
    """
    metric = MeanAveragePrecision(
        box_format="xyxy",
        iou_type="bbox",
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
        rec_thresholds=np.linspace(0.0, 1.0, 101).tolist(),
        backend="faster_coco_eval",
    )
    metric.warn_on_many_detections = False
    return metric
