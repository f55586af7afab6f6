"""`DDFUpNet`: depth upsampled under an RGB image by guided DDF-Up (Fig. 6b, Table 7), and PAC-Net, its rival.

Both have one structure, with the widths of PAC-Net (Su et al., "Pixel-Adaptive Convolutional Neural Networks", CVPR 2019);
DDF-Up-Net's were not published. All convolutions are 5x5, with ReLU between and no normalisation:

    depth (B, 1, h, w)   --> 1-32-32-32 -----------------> log2(f) guided 2x stages of 32 channels --> 32-32-1
    rgb (B, 3, f*h, f*w) --> 3-32-32-16*log2(f) --> 16 channels guide each stage, resized to where they are used
"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from ddfnet.models.depth.stored import read_network, write_network
from ddfnet.nn.layer import check_dtype
from ddfnet.nn.rivals.pac import PacConvTranspose2d
from ddfnet.nn.upsamplers.contract import resize
from ddfnet.nn.upsamplers.ddf_up import DDFUp
from ddfnet.ops.ddf.api import Backend
from ddfnet.ops.ddf.geometry import Combine

WIDTH = 32
GUIDE_CHANNELS = 16

Samples = Literal["pac", "middle"]


class JointUpsampler(nn.Module):
    """The structure that `DDFUpNet` and `PacJointUpsample` share; see the module.

    Sizes need not be multiples of f: rgb is padded to f*h x f*w by its last row and column, and the output cropped.

    Args:
        scale_factor: f, a power of two, at least 2.
        stage: makes a 2x stage, called as `stage(x, guide)` with x (B, 32, p, q) and guide (B, 16, 2*p, 2*q).
        residual: add the bilinear upsampling of the depth to the output.
        samples: where that takes the depth's pixels to lie: the i-th on pixel i*f + (f-1)//2 of the output ("pac", for that
            protocol), or in the middle of the f it upsamples to, i*f + (f-1)/2 ("middle", for protocol "bicubic").

    Shape:
        depth (B, 1, h, w), about 0 to 1, and rgb (B, 3, H, W), 0 to 1, with h = ceil(H / f) and w = ceil(W / f)
        -> (B, 1, H, W).

    Raises:
        ValueError: another factor, or shapes that are not as described.
        TypeError: another dtype than the network's, without autocast.
    """

    def __init__(
        self, scale_factor: int, stage: Callable[[], nn.Module], *, residual: bool = False, samples: Samples = "pac"
    ) -> None:
        super().__init__()
        if not isinstance(scale_factor, int) or scale_factor < 2 or scale_factor & (scale_factor - 1):
            raise ValueError(f"scale_factor: expected a power of two of at least 2, got {scale_factor!r}")
        if samples not in get_args(Samples):
            raise ValueError(f"samples: expected 'pac' or 'middle', got {samples!r}")
        stages = scale_factor.bit_length() - 1
        self.scale_factor = scale_factor
        self.residual = residual
        self.samples: Samples = samples
        self.depth_encoder = _convolutions(1, WIDTH, WIDTH, WIDTH)
        self.guidance_encoder = _convolutions(3, WIDTH, WIDTH, GUIDE_CHANNELS * stages)
        self.stages = nn.ModuleList(stage() for _ in range(stages))
        self.relu = nn.ReLU()
        self.decoder = _convolutions(WIDTH, WIDTH, 1)

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's arguments, from which the same network can be built."""
        return {"scale_factor": self.scale_factor, "residual": self.residual, "samples": self.samples}

    def forward(self, depth: Tensor, rgb: Tensor) -> Tensor:
        self._check(depth, rgb)
        f, (h, w), (height, width) = self.scale_factor, depth.shape[2:], rgb.shape[2:]
        if (f * h, f * w) != (height, width):
            rgb = F.pad(rgb, (0, f * w - width, 0, f * h - height), mode="replicate")
        y = self.depth_encoder(depth)
        for stage, guide in zip(self.stages, self.guidance_encoder(rgb).split(GUIDE_CHANNELS, 1), strict=True):
            y = self.relu(stage(y, self.resize(guide, [2 * length for length in y.shape[2:]])))
        y = self.decoder(y)
        if self.residual:
            y = y + _bilinear(depth, f, self.samples)
        return y[:, :, :height, :width]

    def resize(self, guide: Tensor, size: Sequence[int]) -> Tensor:
        """Return a stage's guide, brought from the resolution of rgb to that of the stage's output."""
        return resize(guide, size)

    def _check(self, depth: Tensor, rgb: Tensor) -> None:
        if depth.dim() != 4 or depth.shape[1] != 1:
            raise ValueError(f"depth: expected (B, 1, h, w), got {tuple(depth.shape)}")
        if rgb.dim() != 4 or rgb.shape[0] != depth.shape[0] or rgb.shape[1] != 3:
            raise ValueError(f"rgb: expected ({depth.shape[0]}, 3, H, W), got {tuple(rgb.shape)}")
        if 0 in rgb.shape[2:]:
            raise ValueError(f"rgb: expected at least one pixel, got {tuple(rgb.shape)}")
        f, sizes = self.scale_factor, tuple(rgb.shape[2:])
        expected = tuple(-(-length // f) for length in sizes)
        if tuple(depth.shape[2:]) != expected:
            size = "x".join(map(str, sizes))
            raise ValueError(
                f"depth: expected ({depth.shape[0]}, 1, {expected[0]}, {expected[1]}), an rgb of {size} divided by"
                f" {f} and rounded up, got {tuple(depth.shape)}"
            )
        weight = self.depth_encoder[0].weight
        check_dtype(depth, weight, "depth")
        check_dtype(rgb, weight, "rgb")


class DDFUpNet(JointUpsampler):
    """DDF-Up-Net (Fig. 6b, Table 7): depth upsampled 2, 4, 8, ... times by DDF-Up modules in series, guided by an RGB image.

    Each stage's spatial filters come from its guide at the resolution of its output (`guide_scale=2` of `DDFUp`): every
    output pixel has a filter made from what the image shows there, as in PAC-Net. At the resolution of its input
    (`guide_scale=1`, the released form) the last stage would choose the filters of four pixels by one mean of the image
    over them, and edges could not be placed to the pixel. Channel filters come from the depth features.

    Args:
        scale_factor: f, a power of two, at least 2.
        residual: False is the paper's network. True, ours, predicts what bilinear upsampling of the depth misses.
        samples: where depth pixels lie, for `residual`; as in `JointUpsampler`.
        kernel_size, heads, combine, backend: of the stages, as in `DDFUp`.

    Shape, raises:
        As `JointUpsampler`.

    Example:
        >>> import torch
        >>> from ddfnet.models import DDFUpNet
        >>> network = DDFUpNet(8)
        >>> network(torch.rand(1, 1, 8, 10), torch.rand(1, 3, 64, 77)).shape
        torch.Size([1, 1, 64, 77])
    """

    def __init__(
        self,
        scale_factor: int = 8,
        *,
        residual: bool = False,
        samples: Samples = "pac",
        kernel_size: int = 3,
        heads: int = 1,
        combine: Combine = "mul",
        backend: Backend = "auto",
    ) -> None:
        def stage() -> DDFUp:
            return DDFUp(
                WIDTH,
                2,
                guide_channels=GUIDE_CHANNELS,
                guide_scale=2,
                kernel_size=kernel_size,
                heads=heads,
                combine=combine,
                backend=backend,
            )

        super().__init__(scale_factor, stage, residual=residual, samples=samples)
        self._stage_options = {"kernel_size": kernel_size, "heads": heads, "combine": combine}

    @property
    def options(self) -> dict[str, Any]:
        return {**super().options, **self._stage_options}


class PacJointUpsample(JointUpsampler):
    """PAC-Net for joint upsampling (Su et al. 2019, Table 7): 5x5 stride-2 transposed pixel-adaptive convolutions.

    183,489, 221,937 and 260,385 parameters at 4x, 8x and 16x, as published. Guides are resized as there, bilinearly without
    antialiasing.

    Args:
        scale_factor: f, a power of two, at least 2.
        residual: False is the published network; True as in `DDFUpNet`.
        samples: as in `DDFUpNet`.

    Shape, raises:
        As `JointUpsampler`.

    Example:
        >>> import torch
        >>> from ddfnet.models import PacJointUpsample
        >>> network = PacJointUpsample(4)
        >>> network(torch.rand(1, 1, 8, 10), torch.rand(1, 3, 32, 40)).shape
        torch.Size([1, 1, 32, 40])
    """

    def __init__(self, scale_factor: int = 8, *, residual: bool = False, samples: Samples = "pac") -> None:
        def stage() -> PacConvTranspose2d:
            return PacConvTranspose2d(WIDTH, WIDTH, 5, stride=2)

        super().__init__(scale_factor, stage, residual=residual, samples=samples)

    def resize(self, guide: Tensor, size: Sequence[int]) -> Tensor:
        return F.interpolate(guide, size=tuple(size), mode="bilinear", align_corners=False)


def load(path: Path | str) -> DDFUpNet:
    """Return the `DDFUpNet` of a file of `save`, in eval mode.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or not one of `save`.
    """
    return read_network(path, DDFUpNet)


def save(network: DDFUpNet, path: Path | str, **card: Any) -> None:
    """Write the weights as .safetensors, whole or not at all, with the constructor's options as metadata.

    Args:
        network: of any device.
        path: of the file.
        card: further metadata: data, command, scores; what is not a string is written as JSON.

    Raises:
        ValueError: a name that does not end in .safetensors, or a card with "options" in it.
        TypeError: a value of the card that is not JSON.
    """
    write_network(network, path, network.state_dict(), card)


def _bilinear(depth: Tensor, factor: int, samples: Samples) -> Tensor:
    """Interpolate (B, 1, h, w) -> (B, 1, f*h, f*w) between the samples where they lie; constant beyond the outermost."""
    if samples == "middle":
        return F.interpolate(depth, scale_factor=float(factor), mode="bilinear", align_corners=False)
    # With corners on corners, samples come to lie f pixels apart from pixel 0 on, of which the first is one of the border.
    size = [(length + 1) * factor + 1 for length in depth.shape[2:]]
    y = F.interpolate(F.pad(depth, (1, 1, 1, 1), mode="replicate"), size=size, mode="bilinear", align_corners=True)
    start = factor - (factor - 1) // 2
    return y[:, :, start : start + factor * depth.shape[2], start : start + factor * depth.shape[3]]


def _convolutions(*widths: int) -> nn.Sequential:
    """Return 5x5 convolutions from each width to the next, with ReLU between."""
    layers: list[nn.Module] = []
    for channels, out_channels in itertools.pairwise(widths):
        layers += [nn.ReLU(), nn.Conv2d(channels, out_channels, 5, padding=2)]
    return nn.Sequential(*layers[1:])
