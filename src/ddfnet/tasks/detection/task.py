"""Object detection: Faster R-CNN with the pyramid upsampling of your choice, on any data set in COCO's format (Table 6)."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics.detection import MeanAveragePrecision
from torchvision.models.detection.anchor_utils import AnchorGenerator

from ddfnet.atomic import write_text
from ddfnet.data.detection.split import Batch, DetectionSplit
from ddfnet.models.detection.faster_rcnn import fasterrcnn_resnet50_fpn_ddf_up
from ddfnet.tasks.data import TaskData
from ddfnet.tasks.pictures import draw_detections
from ddfnet.tasks.task import Task, gathered
from ddfnet.tasks.unreadable import note

# As COCO reports them: mean average precision over IoU 0.50 to 0.95, at 0.50 and 0.75, and of boxes of an area below 32^2,
# below 96^2 and above, in pixels of the image.
SCORES = {
    "mAP": "map",
    "mAP_50": "map_50",
    "mAP_75": "map_75",
    "mAP_small": "map_small",
    "mAP_medium": "map_medium",
    "mAP_large": "map_large",
}
NONE_SUCH = -1.0  # COCO's score where there is nothing to find
PICTURES = 6  # test images drawn
ASPECT_RATIOS = [0.5, 1.0, 2.0]  # the detector's
SURE = 0.3  # least score of the detections drawn
Found = tuple[int, dict[str, Tensor], dict[str, Tensor]]  # an image: its place in the split, detections, targets


class Detection(Task):
    """Train Faster R-CNN; the defaults are Table 6's protocol.

    Images that cannot be read are reported, and listed in the summary of the run.

    Args:
        backbone, upsample, weights, weights_backbone: of `ddfnet.models.fasterrcnn_resnet50_fpn_ddf_up`.
        start: weights to begin with: of a run, by its folder, of a checkpoint or of an exported folder. The
            box predictor begins at random where its classes are others.
        num_classes: without the background; None takes that of the data; a number must agree with it.
        min_size: images are resized so that their short side has so many pixels,
        max_size: and their long side at most so many.
        anchor_sizes: side of the anchors of each level of the pyramid (of the square of their area), the largest map first,
            in pixels of the resized image; None: the detector's.
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

    takes_batches = False  # but lists of images, each of another size
    look = 1  # a step takes so long that waiting for its loss does not matter

    def __init__(
        self,
        backbone: str = "resnet50",
        *,
        upsample: str = "ddf",
        weights: str | None = None,
        weights_backbone: str | None = None,
        num_classes: int | None = None,
        start: str | None = None,
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
        self._found: list[Found] = []  # what this process found in the epoch
        self._results: list[dict[str, Any]] = []  # of all test images

    def check(self, data: TaskData) -> None:
        if self.hparams["choose"] == "best" and data.splits.test is data.splits.val:
            raise ValueError("choose: expected 'last' where the validation images are the test images, got 'best'")

    def create_network(self, classes: Sequence[str], channels: int) -> nn.Module:
        options, wanted = self.hparams, self.hparams["num_classes"]
        if wanted not in (None, len(classes)):
            raise ValueError(f"num_classes: expected {len(classes)}, the classes of the data, got {wanted}")
        return fasterrcnn_resnet50_fpn_ddf_up(
            weights=options["weights"],
            weights_backbone=options["weights_backbone"],
            num_classes=len(classes) + 1,
            upsample=options["upsample"],
            backbone=options["backbone"],
            min_size=options["min_size"],
            max_size=options["max_size"],
            **self._anchors(),
            **(options["network_args"] or {}),
        )

    @classmethod
    def without_start(cls, options: dict[str, Any]) -> dict[str, Any]:
        return {**options, "weights": None, "weights_backbone": None, "start": None}

    def head(self) -> tuple[str, ...]:
        return ("roi_heads.box_predictor",)

    def _anchors(self) -> dict[str, AnchorGenerator]:
        sizes = self.hparams["anchor_sizes"]
        if sizes is None:
            return {}
        ratios = tuple(self.hparams["aspect_ratios"])
        return {"rpn_anchor_generator": AnchorGenerator(tuple((size,) for size in sizes), (ratios,) * len(sizes))}

    def counted(self, data: TaskData) -> tuple[nn.Module, Sequence[int], str]:
        network: Any = self.network
        (image,) = _first_readable(data.splits.val, 1).images
        shape = network.transform([image.to(self.device)])[0].tensors.shape
        return network.backbone, shape, "backbone and pyramid"

    def draw(self, data: TaskData, folder: Path) -> dict[str, Path]:
        """Draw detections beside the ground truth; write those of all test images, if just found, as COCO's results."""
        split = data.splits.test
        images, targets, _, _ = _first_readable(split, PICTURES)
        path = folder / "detections.png"
        draw_detections(images, targets, self.predict(images), self.classes, path, least=SURE)
        if self._results:
            write_text(folder / "detections.json", json.dumps(self._results) + "\n")
        return {"detections": path}

    def predict(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Return boxes, labels and scores of each image (3, H, W) in 0..1, on the CPU; the mode of training is kept."""
        with self.inference():
            return _on_cpu(self([image.to(self.device) for image in images]))

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Return detections of images (3, H, W) in 0..1: boxes (N, 4) in pixels, labels (N,) from 1, scores (N,)."""
        found: list[dict[str, Tensor]] = self.network(images)
        return [{**detections, "boxes": detections["boxes"].float()} for detections in found]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets, _, unreadable = batch
        note(self.unreadable, unreadable)
        wanted = [{name: target[name][target["iscrowd"] == 0] for name in ("boxes", "labels")} for target in targets]
        losses: dict[str, Tensor] = self.network(images, wanted)
        loss = torch.stack(list(losses.values())).sum()
        self.check_finite(loss, batch_idx, losses)
        self.log(
            "train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(images), sync_dist=True
        )
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._find(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._find(batch)

    def _find(self, batch: Batch) -> None:
        """Keep the detections of the images of a batch that can be read."""
        note(self.unreadable, batch.unreadable)
        if batch.images:
            found, targets = _on_cpu(self(batch.images)), _on_cpu(batch.targets)
            self._found += zip(batch.places, found, targets, strict=True)

    def on_validation_epoch_start(self) -> None:
        self._found.clear()

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    def on_test_epoch_start(self) -> None:
        self._found.clear()

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        split: DetectionSplit = self.trainer.datamodule.splits.test  # type: ignore[attr-defined]
        found = self._log_scores("test")
        self._results = [result for place, detections in found for result in split.result(place, **detections)]

    def _log_scores(self, stage: str) -> list[tuple[int, dict[str, Tensor]]]:
        """Log the scores of what all processes found, and return it in the order of the images."""
        found = sorted(itertools.chain.from_iterable(gathered(self._found)), key=lambda image: image[0])
        metric = average_precision()
        metric.sync_on_compute = False  # every process has all detections
        for _, detections, targets in found:
            metric.update([detections], [targets])
        scores = metric.compute()
        for name, key in SCORES.items():
            if name == "mAP" or scores[key] != NONE_SUCH:
                self.log(f"{stage}_{name}", scores[key], prog_bar=name == "mAP")
        return [(place, detections) for place, detections, _ in found]

    def create_optimizer(self) -> Optimizer:
        options = self.hparams
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        if options["optimizer"] == "sgd":
            momentum, decay = options["momentum"], options["weight_decay"]
            return torch.optim.SGD(parameters, lr=options["lr"], momentum=momentum, weight_decay=decay)
        return torch.optim.AdamW(parameters, lr=options["lr"], weight_decay=options["weight_decay"])

    def warm_up(self, step: int) -> float:
        steps = self.hparams["warmup_steps"]
        return 1.0 if step >= steps else 0.001 + 0.999 * step / steps


def _first_readable(split: DetectionSplit, count: int) -> Batch:
    """Return the first images of a split that can be read, `count` or as many as there are."""
    places: list[int] = []
    for index in range(len(split)):
        places += split.__getitems__([index]).places
        if len(places) == count:
            break
    if not places:
        raise ValueError(f"data: expected images that can be read, got none in {len(split)}")
    return split.__getitems__(places)


def _on_cpu(images: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Move detections to the CPU, where they are scored box by box."""
    return [{name: value.cpu() for name, value in of_image.items()} for of_image in images]


def average_precision() -> MeanAveragePrecision:
    """Compute COCO's scores of boxes, as pycocotools does.

    torchmetrics' thresholds are rounded to float32, which moves scores in their third digit: a recall of exactly 0.05
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
