"""A joint upsampling network run on an image of any size and ratio, window by window, in bounded memory, without seams.

Windows overlap by what the network's convolutions reach, and only the inner part of each is kept. What is left of a seam
comes from the global averages that DDF's channel filters are made of: those are taken over the whole image first. So the
result is the network's on the whole image, up to rounding, whatever the size of the windows.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from ddfnet.models.depth.grid import Axis, Part, interpolate
from ddfnet.models.depth.joint_upsampling import JointUpsampler
from ddfnet.nn.upsamplers.ddf_up import DDFUp

Progress = Callable[[int, int], None]
Features = Callable[[Tensor, Tensor], Tensor]


def upsample_tiled(
    network: JointUpsampler,
    depth: Tensor,
    rgb: Tensor,
    *,
    tile: int,
    subsampled: bool = True,
    progress: Progress | None = None,
) -> Tensor:
    """The network's output at the image's pixels.

    With more than one window, a pass over them for each of the network's averages comes first, which ends at that average.

    Where the ratio of the sizes is not the network's factor f, the image is brought to f times the depth map's size, and the
    output back to the image's: were it the depth that is resized, samples of it would be lost, and edges smeared.

    Args:
        network: a `DDFUpNet` or `PacJointUpsample`; its device is that of the computation.
        depth: (h, w) float32, about 0 to 1, without unknowns.
        rgb: (H, W, 3) uint8. Windows of both are moved to the network's device.
        tile: the longest side of a window, in pixels of the network.
        subsampled: as in `Axis`: where the depth's pixels lie, if the ratio is f.
        progress: called with the number of windows that are done, and of all.

    Returns:
        (H, W) float32 on the network's device.

    Raises:
        ValueError: `tile` is no longer than what the network reaches.
    """
    places = _places(network, depth.shape, rgb.shape[:2], tile, subsampled)
    total = count_windows(network, depth.shape, rgb.shape[:2], tile=tile, subsampled=subsampled)
    # A copy, for it gets hooks. Channels last is a tenth faster on a CPU.
    network = copy.deepcopy(network).eval().to(memory_format=torch.channels_last)
    device = next(network.parameters()).device
    pools = _pools(network) if len(places) > 1 else []
    done = 0

    def windows() -> Iterator[tuple[_Place, Tensor, Tensor]]:
        nonlocal done
        for place in places:
            yield place, place.depth(depth).to(device), place.image(rgb, device)
            done += 1
            if progress is not None:
                progress(done, total)

    result = torch.empty(rgb.shape[:2], dtype=torch.float32, device=device)
    with torch.no_grad():
        for number, pool in enumerate(pools):  # those before it are fixed by now
            features = _features_before(network, pool) if number else lambda low, image: network.depth_encoder(low)
            _fix(pool, sum(place.share(features(low, image)) for place, low, image in windows()) / depth.numel())
        for place, low, image in windows():
            place.put(network(low, image), result)
    return result


def count_windows(
    network: JointUpsampler, low: Sequence[int], size: Sequence[int], *, tile: int, subsampled: bool = True
) -> int:
    """How many windows `upsample_tiled` goes through, all passes counted, from a depth map's height and width to an image's.

    Raises:
        ValueError: as `upsample_tiled`.
    """
    places = len(_places(network, low, size, tile, subsampled))
    return places if places == 1 else places * (len(_pools(network)) + 1)


def reach_of(network: JointUpsampler) -> int:
    """How far an output pixel sees, in depth pixels: through the depth encoder, each stage and the decoder."""
    f = network.scale_factor
    encoder, decoder = (
        sum(layer.kernel_size[0] // 2 for layer in layers if isinstance(layer, nn.Conv2d))
        for layers in (network.depth_encoder, network.decoder)
    )
    # Of its input, a transposed 5x5 convolution of stride 2 sees no more than a 3x3 one.
    kernels = (stage.kernel_size if isinstance(stage, DDFUp) else 3 for stage in network.stages)
    stages = sum(kernel // 2 / 2**number for number, kernel in enumerate(kernels))
    return math.ceil(encoder + stages + (decoder + 1) / f)  # 1: the output's pixels may lie between the network's


def _places(
    network: JointUpsampler, low: Sequence[int], size: Sequence[int], tile: int, subsampled: bool
) -> "list[_Place]":
    f, reach = network.scale_factor, reach_of(network)
    if tile < f * (2 * reach + 1):
        raise ValueError(f"tile: expected at least {f * (2 * reach + 1)} pixels at {f}x, got {tile}")
    rows, columns = (Axis(short, length, f, subsampled) for short, length in zip(low, size, strict=True))
    return [
        _Place(rows, columns, row, column)
        for row in rows.parts(tile // f, reach)
        for column in columns.parts(tile // f, reach)
    ]


def _pools(network: nn.Module) -> list[nn.AdaptiveAvgPool2d]:
    return [module for module in network.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]


class _Place(NamedTuple):
    """A window: a part of the rows and one of the columns."""

    rows: Axis
    columns: Axis
    row: Part
    column: Part

    def depth(self, depth: Tensor) -> Tensor:
        """Of the map (h, w) the window, (1, 1, h', w')."""
        return depth[None, None, self.row.start : self.row.stop, self.column.start : self.column.stop]

    def image(self, rgb: Tensor, device: torch.device) -> Tensor:
        """The window of the image at the network's size, (1, 3, f*h', f*w') or less at the image's end; in 0 to 1."""
        sides = zip((self.rows, self.columns), (self.row, self.column), strict=True)
        rows, columns = (axis.image_positions(axis.factor * p.start, axis.factor * p.stop) for axis, p in sides)
        top, left = int(rows[0]), int(columns[0])
        crop = rgb[top : math.ceil(rows[-1]) + 1, left : math.ceil(columns[-1]) + 1].to(device)
        image = crop.permute(2, 0, 1)[None].float() / 255
        return image if self._exact else interpolate(image, rows - top, columns - left)

    def share(self, features: Tensor) -> Tensor:
        """The mean of features (1, C, s*h', s*w') over the inner part, times its number of depth pixels; (1, C, 1, 1)."""
        row, column = self.row, self.column
        scale = features.shape[2] // (row.stop - row.start)
        inner = features[
            :,
            :,
            scale * (row.inner_start - row.start) : scale * (row.inner_stop - row.start),
            scale * (column.inner_start - column.start) : scale * (column.inner_stop - column.start),
        ]
        return inner.mean((2, 3), keepdim=True) * (inner[0, 0].numel() / scale**2)

    def put(self, output: Tensor, result: Tensor) -> None:
        """Writes those pixels of the image (H, W) that the window answers for, from the network's output for it."""
        row, column, f = self.row, self.column, self.rows.factor
        part = result[row.image_start : row.image_stop, column.image_start : column.image_stop]
        sides = zip((self.rows, self.columns), (row, column), strict=True)
        rows, columns = (axis.network_positions(p.image_start, p.image_stop) - f * p.start for axis, p in sides)
        if self._exact and part.numel():
            output = output[..., int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
            part.copy_(output[0, 0])
        else:
            part.copy_(interpolate(output[0, 0], rows, columns))

    @property
    def _exact(self) -> bool:
        return self.rows.exact and self.columns.exact


class _Reached(Exception):  # noqa: N818 - no error, but the way out of a network
    def __init__(self, features: Tensor) -> None:
        self.features = features


def _features_before(network: nn.Module, module: nn.Module) -> Features:
    """A function of the network's inputs that returns the input of one of its modules, and computes nothing after it."""

    def leave(module: nn.Module, args: tuple[Tensor]) -> NoReturn:
        raise _Reached(args[0])

    def features(low: Tensor, image: Tensor) -> Tensor:
        handle = module.register_forward_pre_hook(leave)
        try:
            network(low, image)
        except _Reached as reached:
            return reached.features
        finally:
            handle.remove()
        raise RuntimeError(f"{type(network).__name__}: expected to come to {module}, and did not")

    return features


def _fix(module: nn.Module, output: Any) -> None:
    module.register_forward_hook(lambda module, args, computed: output)
