"""A canvas on which rays meet shapes: patches of planes, boxes, ellipsoids and tubes, nearest first.

World: x to the right, y ahead, z up, in metres. Camera: x to the right, y down, z ahead: z is the depth. Each pixel's ray is
(x, y, 1), so that the ray's parameter at a shape is the depth there.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Outline = Callable[[Floats, Floats], Mask]  # of a patch: which points are in it, by coordinates from -1 to 1
Window = tuple[slice, slice]

NEAR = 0.08  # metres: nothing is drawn nearer
SEGMENT = 96  # pixels: longer tubes are drawn in parts, whose windows are small
FINE = 3.0  # pixels: bends of thinner tubes need no joints


class Canvas:
    """The view of each pixel: depth, normal, material and the place on the material.

    Attributes:
        depth: (S, S), infinite where nothing is.
        normal: (3, S, S), in camera coordinates, towards the camera, of length 1.
        material: (S, S) int16.
        u, v: (S, S), metres along the surface.
    """

    def __init__(self, size: int, *, focal: float, height: float, pitch: float = 0.0, roll: float = 0.0) -> None:
        """size: S; focal: in pixels; height: of the camera, at (0, 0, height); pitch: down, roll: clockwise, radians."""
        self.size, self.focal = size, focal
        self.position = np.array([0.0, 0.0, height])
        level = np.array(
            [[1, 0, 0], [0, -np.sin(pitch), -np.cos(pitch)], [0, np.cos(pitch), -np.sin(pitch)]], np.float64
        )
        turn = np.array([[np.cos(roll), np.sin(roll), 0], [-np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
        self.rotation = turn @ level  # world to camera
        self.rays = ((np.arange(size) + 0.5 - size / 2) / focal).astype(np.float32)
        self.depth = np.full((size, size), np.inf, np.float32)
        self.normal = np.zeros((3, size, size), np.float32)
        self.material = np.zeros((size, size), np.int16)
        self.u = np.zeros((size, size), np.float32)
        self.v = np.zeros((size, size), np.float32)

    def seen(self, points: ArrayLike) -> NDArray[np.float64]:
        """Return world points (..., 3) in camera coordinates."""
        return (np.asarray(points, np.float64) - self.position) @ self.rotation.T

    def pixels(self, length: float, depth: float) -> float:
        """Return how many pixels a length across the view takes at a depth."""
        return length * self.focal / max(depth, NEAR)

    def patch(
        self,
        centre: ArrayLike,
        a: ArrayLike,
        b: ArrayLike,
        material: int,
        *,
        outline: Outline | None = None,
        bend: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> None:
        """Draw a flat piece, `centre + s a + t b` for s and t from -1 to 1 where `outline` has them; a is upright on b.

        bend: how far its depth swings, relative to it; how often over the patch; and where it begins, in radians.
        """
        middle, along, across = self.seen(centre), self.rotation @ np.asarray(a), self.rotation @ np.asarray(b)
        corners = middle + np.array([along + across, along - across, -along - across, -along + across])
        window = self._window(corners.tolist(), 0.0)
        if window is None:
            return
        long, wide = float(np.linalg.norm(along)), float(np.linalg.norm(across))
        normal = np.cross(along, across) / (long * wide)
        facing = float(normal @ middle)
        if abs(facing) < 1e-6:
            return
        slope = self._linear(normal, window)
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = np.float32(facing) / slope
            s = depth * self._linear(along / long**2, window) - np.float32(along @ middle / long**2)
            t = depth * self._linear(across / wide**2, window) - np.float32(across @ middle / wide**2)
            inside = (depth > NEAR) & (np.abs(s) <= 1) & (np.abs(t) <= 1)
            if outline is not None:
                inside &= outline(s, t)
        direction = -np.sign(facing) * normal
        if bend[0]:
            swing, often, start = (np.float32(number) for number in bend)
            wave = np.sin(often * s + start) * np.cos(often * np.float32(0.7) * t - start)
            depth = depth * (1 + swing * wave)
            lean = np.float32(swing * often * abs(facing) / min(long, wide))
            tilt = np.cos(often * s + start) * lean
            slant = (along / long).astype(np.float32)
            normals = direction.astype(np.float32)[:, None, None] - tilt * slant[:, None, None]
            normals /= np.sqrt((normals**2).sum(0))
            self._draw(window, inside, depth, s * np.float32(long), t * np.float32(wide), normals, material)
            return
        self._draw(window, inside, depth, s * np.float32(long), t * np.float32(wide), direction, material)

    def box(
        self, centre: ArrayLike, sides: ArrayLike, yaw: float, material: int, *, axes: ArrayLike | None = None
    ) -> None:
        """Draw a box of the given sides (x, y, z), turned by `yaw` about the upright, or along the columns of `axes`."""
        middle, half = np.asarray(centre, np.float64), np.asarray(sides, np.float64) / 2
        own = upright(yaw) if axes is None else np.asarray(axes, np.float64)
        towards = self.position - middle
        for axis in range(3):
            side = float(np.sign(towards @ own[:, axis]))
            if abs(towards @ own[:, axis]) <= half[axis]:
                continue  # seen from neither side
            a, b = (own[:, other] * half[other] for other in range(3) if other != axis)
            self.patch(middle + side * half[axis] * own[:, axis], a, b, material)

    def ellipsoid(self, centre: ArrayLike, radii: ArrayLike, material: int, *, axes: ArrayLike | None = None) -> None:
        """Draw an ellipsoid with the columns of `axes`, or the world's axes, as its axes."""
        middle, lengths = self.seen(centre), np.asarray(radii, np.float64)
        window = self._window([middle.tolist()], float(lengths.max()))
        if window is None or middle[2] < lengths.max() + NEAR:
            return
        own = (np.eye(3) if axes is None else np.asarray(axes, np.float64)).T @ self.rotation.T  # camera to its own
        squash = own / lengths[:, None]
        start = squash @ middle
        ways = [self._linear(row, window) for row in squash]
        a = _dot(ways, ways)
        b = _dot(ways, start.astype(np.float32))
        under = b * b - a * np.float32(start @ start - 1)
        inside = under > 0
        depth = (b - np.sqrt(np.maximum(under, 0))) / a
        places = [depth * way - np.float32(part) for way, part in zip(ways, start, strict=True)]
        normals = np.tensordot(squash.T.astype(np.float32), np.stack(places), 1)
        normals /= np.sqrt((normals**2).sum(0)) + np.float32(1e-9)
        size = np.float32(lengths.mean())
        self._draw(window, inside, depth, places[0] * size, (places[1] + places[2]) * size, normals, material)

    def tube(self, start: ArrayLike, end: ArrayLike, radius: float, material: int) -> None:
        """Draw a cylinder's mantle between two points."""
        first, last = self.seen(start), self.seen(end)
        if max(first[2], last[2]) < NEAR + radius:
            return
        for near, far in ((first, last), (last, first)):
            if near[2] < NEAR + radius:
                near += (far - near) * (NEAR + radius - near[2]) / (far[2] - near[2])
        shift = np.abs(first[:2] / first[2] - last[:2] / last[2]).min() * self.focal
        parts = int(np.clip(shift // SEGMENT + 1, 1, 8))
        for number in range(parts):
            self._straight(
                first + (last - first) * (number / parts),
                first + (last - first) * ((number + 1) / parts),
                radius,
                material,
                float(np.linalg.norm(last - first)) * number / parts,
            )

    def path(self, points: ArrayLike, radius: float, material: int) -> None:
        """Draw tubes from point to point, with round joints where they are thick enough to be seen."""
        places = np.asarray(points, np.float64)
        for start, end in pairwise(places):
            self.tube(start, end, radius, material)
        for place in places:
            if self.pixels(2 * radius, float(self.seen(place)[2])) > FINE:
                self.ellipsoid(place, [radius] * 3, material)

    def _straight(
        self, first: NDArray[np.float64], last: NDArray[np.float64], radius: float, material: int, begun: float
    ) -> None:
        window = self._window([first.tolist(), last.tolist()], radius)
        length = float(np.linalg.norm(last - first))
        if window is None or length < 1e-6:
            return
        axis = (last - first) / length
        flat = np.eye(3) - np.outer(axis, axis)  # takes away what is along the axis
        start = flat @ first
        ways = [self._linear(row, window) for row in flat]
        a = _dot(ways, ways) + np.float32(1e-12)
        b = _dot(ways, start.astype(np.float32))
        under = b * b - a * np.float32(start @ start - radius**2)
        depth = (b - np.sqrt(np.maximum(under, 0))) / a
        along = depth * self._linear(axis, window) - np.float32(axis @ first)
        inside = (under > 0) & (along >= 0) & (along <= length) & (depth > NEAR)
        normals = np.stack([depth * way - np.float32(part) for way, part in zip(ways, start, strict=True)])
        normals *= np.float32(1 / radius)
        self._draw(window, inside, depth, along + np.float32(begun), normals[0] * np.float32(radius), normals, material)

    def _window(self, points: list[list[float]], radius: float) -> Window | None:
        """Return the pixels that can see what is within `radius` of the points' hull; None if none can."""
        if max(z for _, _, z in points) + radius < NEAR:
            return None
        if min(z for _, _, z in points) - radius < NEAR:
            return slice(0, self.size), slice(0, self.size)
        lows: list[float] = []
        highs: list[float] = []
        for axis in (1, 0):
            # A ball's outline reaches farther the more it is seen from aside.
            reach = [
                (point[axis] / point[2], (1 + abs(point[axis]) / point[2]) * radius / (point[2] - radius))
                for point in points
            ]
            lows.append((min(place - far for place, far in reach)) * self.focal + self.size / 2 - 1)
            highs.append((max(place + far for place, far in reach)) * self.focal + self.size / 2 + 2)
        top, left = (max(int(low), 0) for low in lows)
        bottom, right = (min(int(high), self.size) for high in highs)
        return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None

    def _linear(self, weights: NDArray[np.float64], window: Window) -> Floats:
        """Compute weights . ray for each ray of the window."""
        x, y, z = weights.astype(np.float32)
        return self.rays[window[1]] * x + (self.rays[window[0], None] * y + z)

    def _draw(
        self,
        window: Window,
        inside: Mask,
        depth: Floats,
        u: Floats,
        v: Floats,
        normal: Floats | NDArray[np.float64],
        material: int,
    ) -> None:
        """Draw the shape where it is nearer than what is there."""
        front = inside & (depth < self.depth[window])
        np.copyto(self.depth[window], depth, where=front)
        np.copyto(self.u[window], u, where=front)
        np.copyto(self.v[window], v, where=front)
        np.copyto(self.material[window], np.int16(material), where=front)
        for target, part in zip(self.normal, normal, strict=True):
            np.copyto(target[window], part, where=front, casting="same_kind")


def _dot(ways: Sequence[Floats], others: Sequence[Floats] | Floats) -> Floats:
    """Compute the scalar product of vectors whose three parts are maps or numbers."""
    return ways[0] * others[0] + ways[1] * others[1] + ways[2] * others[2]


def upright(yaw: float) -> NDArray[np.float64]:
    """Return axes turned by `yaw` about the upright, as columns."""
    return np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
