"""Depth maps as PLY files: each known pixel where the camera saw it, in its colour."""

from pathlib import Path

import numpy as np
import pytest

from ddfnet.data.depth.point_cloud import POINT, Intrinsics, write_point_cloud


def test_points(tmp_path: Path) -> None:
    depth = np.array([[2, np.nan, 4], [1, 3, 5]], np.float32)
    rgb = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    assert write_point_cloud(tmp_path / "a.ply", depth, rgb, Intrinsics(2, 4, 1, 0.5)) == 5
    header, _, data = (tmp_path / "a.ply").read_bytes().partition(b"end_header\n")
    assert header.startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex 5\nproperty float x\n")
    points = np.frombuffer(data, POINT)
    np.testing.assert_array_equal(points["xyz"][0], [(0 - 1) * 2 / 2, (0 - 0.5) * 2 / 4, 2])
    np.testing.assert_array_equal(points["xyz"][4], [(2 - 1) * 5 / 2, (1 - 0.5) * 5 / 4, 5])
    np.testing.assert_array_equal(points["rgb"], rgb.reshape(-1, 3)[[0, 2, 3, 4, 5]])


def test_what_does_not_fit(tmp_path: Path) -> None:
    depth, rgb = np.ones((2, 3)), np.zeros((2, 3, 3), np.uint8)
    with pytest.raises(ValueError, match="intrinsics: expected focal lengths above 0, got 0 and 4"):
        write_point_cloud(tmp_path / "a.ply", depth, rgb, Intrinsics(0, 4, 1, 0.5))
    with pytest.raises(ValueError, match=r"rgb: expected \(2, 3, 3\), got \(3, 2, 3\)"):
        write_point_cloud(tmp_path / "a.ply", depth, rgb.transpose(1, 0, 2), Intrinsics(4, 4, 1, 0.5))
    assert not list(tmp_path.iterdir())
