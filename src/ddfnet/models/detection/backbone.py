"""Any timm network as the body of a detector: its feature maps by stride, frozen from the image upward."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timm import create_model, is_model
from timm.layers.norm_act import freeze_batch_norm_2d
from torch import Tensor, nn

import ddfnet.models.classification.resnet  # noqa: F401 - registers the DDF networks

STRIDES = (4, 8, 16, 32)


class TimmBackbone(nn.Module):
    """The feature maps of a timm network at the strides of a pyramid: (B, 3, H, W) -> {"0": the largest, "1": ...}.

    Args:
        name: of a network that timm can build with `features_only=True`, those of `ddfnet.models` among them.
        weights: None; "DEFAULT" or True for timm's, downloaded; or the path of a file of weights.
        strides: of the maps; None: those of 4, 8, 16, 32 that the network has, else all that it has.
        trainable_layers: how many of the network's stages, from the deepest, are trained; None: all but the first two (stem
            and first stage, as in torchvision) where there are weights, else all.
        freeze_norms: batch norms keep their statistics and weights; None: where there are weights.

    Attributes:
        strides, channels: of the maps.

    Raises:
        ValueError: no such network, one without feature maps or without maps of these strides, weights that do not fit.
        FileNotFoundError: a file of weights that is not there.
    """

    body: Any

    def __init__(
        self,
        name: str,
        *,
        weights: str | Path | bool | None = None,
        strides: Sequence[int] | None = None,
        trainable_layers: int | None = None,
        freeze_norms: bool | None = None,
    ) -> None:
        super().__init__()
        if not is_model(name.partition(".")[0]):
            raise ValueError(f"backbone: expected 'resnet50' or the name of a timm network, got {name!r}")
        own = weights is True or weights == "DEFAULT"
        file = "" if own or not weights else str(weights)
        if file and not Path(file).is_file():
            raise FileNotFoundError(f"weights_backbone: expected None, 'DEFAULT' or a file of weights, got {file!r}")
        overlay = {"file": file} if file else None
        try:
            self.body = create_model(name, bool(weights), pretrained_cfg_overlay=overlay, features_only=True)
        except (RuntimeError, AttributeError, AssertionError) as error:
            raise ValueError(f"backbone: timm can't give the feature maps of {name!r} ({error})") from error
        reductions: list[int] = self.body.feature_info.reduction()
        if strides is None:
            strides = sorted({s for s in reductions if s in STRIDES} or set(reductions))
        if len(strides) < 2:
            raise ValueError(
                f"backbone: expected a network with maps of two strides or more, got {name!r}: {reductions}"
            )
        for stride in strides:
            if stride not in reductions:
                raise ValueError(f"strides: expected some of {sorted(set(reductions))}, those of {name}, got {stride}")
        # Of several maps of one stride the deepest, as the pyramid's authors chose.
        self.indices = [max(i for i, s in enumerate(reductions) if s == stride) for stride in sorted(strides)]
        self.strides = [reductions[i] for i in self.indices]
        self.channels: list[int] = [self.body.feature_info.channels()[i] for i in self.indices]
        self._freeze(
            trainable_layers, bool(weights) if freeze_norms is None else freeze_norms, pretrained=bool(weights)
        )

    def _freeze(self, trainable_layers: int | None, norms: bool, *, pretrained: bool) -> None:
        stages = len(self.body.feature_info)
        trainable = trainable_layers if trainable_layers is not None else max(1, stages - 2) if pretrained else stages
        if not 0 <= trainable <= stages:
            raise ValueError(
                f"trainable_backbone_layers: expected 0 to {stages}, the network's stages, got {trainable}"
            )
        if norms:
            self.body = freeze_batch_norm_2d(self.body)
        if trainable == stages:
            return
        if trainable == 0:
            self.body.requires_grad_(False)
            return
        # timm joins the names of nested stages by "_" where it takes the network apart.
        last = self.body.feature_info.module_name(stages - trainable - 1)
        names = {name.replace(".", "_"): name for name, _ in self.body.named_modules()}
        last, reached = names[last.replace(".", "_")], False
        for name, module in self.body.named_modules():  # in the order of the forward pass
            inside = f"{name}.".startswith(f"{last}.")
            if reached and not inside:
                return
            reached = inside
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.body(x)
        if str(getattr(self.body, "output_fmt", "NCHW")).endswith("NHWC"):  # Swin and its kin
            maps = [level.permute(0, 3, 1, 2) for level in maps]
        return {str(level): maps[i] for level, i in enumerate(self.indices)}
