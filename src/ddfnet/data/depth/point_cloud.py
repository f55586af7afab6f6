"""Depth maps as clouds of coloured points, in PLY files."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddfnet.atomic import whole_or_absent

POINT = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])


class Intrinsics(NamedTuple):
    """A pinhole camera's focal lengths and principal point, in pixels of the image; pixel centres are whole numbers."""

    fx: float
    fy: float
    cx: float
    cy: float


def write_point_cloud(
    path: Path, depth: NDArray[np.floating[Any]], rgb: NDArray[np.uint8], intrinsics: Intrinsics
) -> int:
    """Write a PLY file (binary, little endian) with a point for every known pixel, whole or not at all.

    x points right, y down and z away from the camera, in the depth's unit: pixel (u, v) of depth z lies at
    ((u - cx) z / fx, (v - cy) z / fy, z). The depth is that along the camera's axis, not a disparity.

    Args:
        depth: (H, W), NaN where unknown.
        rgb: (H, W, 3).

    Returns:
        The number of points.

    Raises:
        ValueError: a focal length is not above 0, or the sizes differ.
    """
    fx, fy, cx, cy = intrinsics
    if not (fx > 0 and fy > 0):
        raise ValueError(f"intrinsics: expected focal lengths above 0, got {fx:g} and {fy:g}")
    if rgb.shape != (*depth.shape, 3):
        raise ValueError(f"rgb: expected {(*depth.shape, 3)}, got {rgb.shape}")
    v, u = np.nonzero(np.isfinite(depth))
    z = depth[v, u].astype(np.float64)
    points = np.empty(len(z), POINT)
    points["xyz"] = np.stack([(u - cx) * z / fx, (v - cy) * z / fy, z], 1)
    points["rgb"] = rgb[v, u]
    names = [f"property float {name}" for name in "xyz"] + [
        f"property uchar {name}" for name in ("red", "green", "blue")
    ]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}", *names, "end_header", ""]
    with whole_or_absent(path) as partial, partial.open("wb") as file:
        file.write("\n".join(header).encode())
        file.write(points.tobytes())
    return len(points)
