"""The two protocols that make a low-resolution depth map from a full one; their numbers are not comparable.

Table 7 is PAC-Net's protocol (Su et al. 2019, after Li et al. 2016): pure subsampling. Most papers since 2021 shrink the
depth bicubically instead, which keeps more detail: name the protocol wherever a number is printed.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Depth = TypeVar("Depth", Tensor, NDArray[Any])
KNOWN = 0.5  # least weight of the known pixels under the kernel for its sum to count as known


@dataclass(frozen=True)
class Protocol:
    """One way to make the low resolution and to score what methods make of that.

    Attributes:
        description: one line, to print beside scores.
        border: pixels at each side of the image that are not scored.
        subsampled: whether low-resolution pixels are pixels of the full map, not means of some.
    """

    description: str
    border: int
    subsampled: bool

    def sample_position(self, factor: int) -> float:
        """Return where low-resolution pixel 0 lies, in high-resolution pixels from the centre of the first one."""
        return float((factor - 1) // 2) if self.subsampled else (factor - 1) / 2


PROTOCOLS: dict[str, Protocol] = {
    "pac": Protocol(
        "every factor-th pixel from the ((factor-1)//2)-th, unsmoothed (PAC-Net's, Table 7)", border=6, subsampled=True
    ),
    "bicubic": Protocol(
        "bicubic downsampling with antialiasing (later papers'; not comparable with Table 7)",
        border=6,
        subsampled=False,
    ),
}


def protocol_of(name: str) -> Protocol:
    """Return the protocol of that name; raise ValueError if there is none."""
    if name not in PROTOCOLS:
        raise ValueError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {name!r}")
    return PROTOCOLS[name]


def border(protocol: str) -> int:
    """Return how many pixels at each side of the image the protocol does not score."""
    return protocol_of(protocol).border


def low_resolution(depth: Depth, factor: int, protocol: str = "pac") -> Depth:
    """Return the depth map at a `factor`-th of its size, by the protocol.

    Low-resolution pixel i of "pac" lies on high-resolution pixel `i * factor + (factor - 1) // 2`; of "bicubic", in the
    middle of its `factor x factor` pixels, as everywhere else half a pixel off: `Protocol.sample_position` says. The
    bicubic kernel is widened by the factor, as Pillow's and MATLAB's imresize do (a = -1/2); at the image's border it is
    cut and its weights brought to sum 1, as Pillow does (MATLAB mirrors the image there). Over unknown pixels it is brought
    to sum 1 likewise, and the result is unknown where less than half of the weight is over known ones.

    Args:
        depth: (..., H, W) floating, tensor or NumPy array; NaN where unknown. H and W are multiples of `factor`.
        factor: 1 or more.
        protocol: "pac" or "bicubic".

    Returns:
        (..., H / factor, W / factor), of depth's kind and dtype; NaN where unknown.

    Raises:
        TypeError: depth is not floating.
        ValueError: there is no such protocol, the factor is below 1, or the sides are not multiples of the factor.

    Example:
        >>> low_resolution(np.arange(8.0)[None].repeat(8, 0), 4)
        array([[1., 5.],
               [1., 5.]])
    """
    chosen = protocol_of(protocol)
    if factor < 1:
        raise ValueError(f"factor: expected an int >= 1, got {factor}")
    if depth.ndim < 2 or not depth.shape[-2] or depth.shape[-2] % factor or depth.shape[-1] % factor:
        raise ValueError(f"depth: expected sides that are multiples of {factor}, (..., H, W), got {tuple(depth.shape)}")
    if isinstance(depth, np.ndarray):
        return low_resolution(torch.from_numpy(np.ascontiguousarray(depth)), factor, protocol).numpy()
    if not depth.is_floating_point():
        raise TypeError(f"depth: expected a floating dtype, got {depth.dtype}")
    if chosen.subsampled:
        first = (factor - 1) // 2
        return depth[..., first::factor, first::factor].clone()
    known = ~depth.isnan()
    total = _shrunk(depth.nan_to_num(0.0), factor)
    if known.all():
        return total
    weight = _shrunk(known.to(depth.dtype), factor)
    return torch.where(weight >= KNOWN, total / weight, torch.nan)


def _shrunk(image: Tensor, factor: int) -> Tensor:
    """Shrink (..., H, W) to (..., H / factor, W / factor), bicubic with antialiasing, computed in fp32 or wider."""
    height, width = image.shape[-2:]
    wide = image if image.dtype in (torch.float32, torch.float64) else image.float()
    small = F.interpolate(
        wide.reshape(-1, 1, height, width),
        (height // factor, width // factor),
        mode="bicubic",
        align_corners=False,
        antialias=True,
    )
    return small.view(*image.shape[:-2], *small.shape[-2:]).to(image.dtype)


class Normalisation(NamedTuple):
    """PAC-Net's: each low-resolution map brought to 0..1 by its least and greatest value, undone before the error.

    Example:
        >>> low = torch.tensor([[2.0, 4.0], [3.0, 6.0]])
        >>> scale = Normalisation.of(low)
        >>> scale.apply(low)
        tensor([[0.0000, 0.5000],
                [0.2500, 1.0000]])
        >>> torch.equal(scale.undo(scale.apply(low)), low)
        True
    """

    least: Tensor  # (..., 1, 1)
    span: Tensor  # (..., 1, 1), above 0: 1 where all known values are one

    @classmethod
    def of(cls, low: Tensor) -> "Normalisation":
        """Measure a low-resolution map (..., h, w), NaN where unknown; raise ValueError if a map has no known value."""
        known = ~low.isnan()
        if not known.flatten(-2).any(-1).all():
            raise ValueError("low: expected at least one known value a map, got a map that is NaN everywhere")
        least = torch.where(known, low, torch.inf).amin((-2, -1), keepdim=True)
        span = torch.where(known, low, -torch.inf).amax((-2, -1), keepdim=True) - least
        return cls(least, torch.where(span > 0, span, 1.0))

    def apply(self, depth: Tensor) -> Tensor:
        """Bring depths to about 0..1; a high-resolution map may go beyond."""
        return (depth - self.least) / self.span

    def undo(self, normalised: Tensor) -> Tensor:
        """Bring values back to the unit of the depth."""
        return normalised * self.span + self.least
