"""Things that stand in the worlds, made of a canvas's shapes: furniture, plants, wheels, poles and wires, clutter."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddfnet.data.depth.scenes.canvas import Canvas, Floats, Mask, Outline, upright

Place = NDArray[np.float64]
SIDEWAYS = np.array([1.0, 0.0, 0.0])


def at(place: ArrayLike, yaw: float, offset: ArrayLike) -> Place:
    """Return the world point `offset` from `place`, in axes turned by `yaw`."""
    return np.asarray(place, np.float64) + upright(yaw) @ np.asarray(offset, np.float64)


def above(place: Place, high: float) -> Place:
    """Return the world point at this height above `place`."""
    return place + np.array([0.0, 0.0, high])


def table(rng: np.random.Generator, canvas: Canvas, place: Place, yaw: float, material: int, other: int) -> None:
    """Draw a board on four legs, with things on it."""
    wide, deep, high = rng.uniform(0.6, 1.8), rng.uniform(0.5, 1.0), rng.uniform(0.4, 0.9)
    canvas.box(at(place, yaw, [0, 0, high]), [wide, deep, rng.uniform(0.02, 0.08)], yaw, material)
    leg = rng.uniform(0.015, 0.05)
    for x in (-1, 1):
        for y in (-1, 1):
            foot = at(place, yaw, [x * (wide / 2 - leg), y * (deep / 2 - leg), 0])
            canvas.tube(foot, above(foot, high), leg, material)
    for _ in range(int(rng.integers(0, 5))):
        offset = [rng.uniform(-0.4, 0.4) * wide, rng.uniform(-0.4, 0.4) * deep, high + 0.03]
        small(rng, canvas, at(place, yaw, offset), rng.uniform(0.05, 0.2), int(rng.choice([material, other])))


def chair(rng: np.random.Generator, canvas: Canvas, place: Place, yaw: float, material: int, other: int) -> None:
    """Draw a seat on thin legs, with a back of bars."""
    side, high, back = rng.uniform(0.35, 0.5), rng.uniform(0.4, 0.5), rng.uniform(0.8, 1.1)
    thin = rng.uniform(0.01, 0.022)
    canvas.box(at(place, yaw, [0, 0, high]), [side, side, 0.03], yaw, other)
    for x in (-1, 1):
        for y in (-1, 1):
            foot = at(place, yaw, [x * side / 2, y * side / 2, 0])
            canvas.tube(foot, above(foot, back if y > 0 else high), thin, material)
    count = int(rng.integers(2, 6))
    for number in range(count):
        if rng.random() < 0.5:
            level = high + (back - high) * (number + 1) / count
            canvas.tube(
                at(place, yaw, [-side / 2, side / 2, level]),
                at(place, yaw, [side / 2, side / 2, level]),
                thin,
                material,
            )
        else:
            off = side * ((number + 1) / (count + 1) - 0.5)
            canvas.tube(
                at(place, yaw, [off, side / 2, high]), at(place, yaw, [off, side / 2, back]), thin * 0.7, material
            )


def shelves(
    rng: np.random.Generator, canvas: Canvas, place: Place, yaw: float, material: int, others: list[int]
) -> None:
    """Draw boards between posts, with boxes, balls and bottles on them."""
    wide, deep, high = rng.uniform(0.8, 2.2), rng.uniform(0.25, 0.5), rng.uniform(1.2, 2.3)
    boards = int(rng.integers(3, 6))
    if rng.random() < 0.5:
        canvas.box(at(place, yaw, [0, deep / 2, high / 2]), [wide, 0.02, high], yaw, material)
    for side in (-1, 1):
        for y in (-1, 1):
            canvas.box(at(place, yaw, [side * wide / 2, y * deep / 2, high / 2]), [0.04, 0.04, high], yaw, material)
    for number in range(boards):
        level = high * (number + 0.3) / boards
        canvas.box(at(place, yaw, [0, 0, level]), [wide, deep, 0.03], yaw, material)
        x = -wide / 2 + 0.06
        while x < wide / 2 - 0.1:
            size = rng.uniform(0.04, 0.3)
            if rng.random() < 0.75:
                tall = rng.uniform(0.3, 0.95) * high / boards
                middle = [x + size / 2, rng.uniform(-0.3, 0.1) * deep, level + 0.015 + tall / 2]
                if rng.random() < 0.75:
                    sides = [size, rng.uniform(0.4, 0.8) * deep, tall]
                    canvas.box(at(place, yaw, middle), sides, yaw + rng.normal(0, 0.1), int(rng.choice(others)))
                else:
                    tall = min(tall, 1.5 * size)
                    centre = at(place, yaw, [*middle[:2], level + 0.015 + tall / 2])
                    canvas.ellipsoid(centre, [size / 2, size / 2, tall / 2], int(rng.choice(others)))
            x += size * rng.uniform(1.0, 1.5)


def small(rng: np.random.Generator, canvas: Canvas, place: Place, size: float, material: int) -> None:
    """Draw a thing of about `size` that stands on `place`: a box, a ball, a bottle or can, a cup, a lamp, a picture."""
    kind = rng.integers(5)
    if kind == 0:
        sides = size * rng.uniform(0.4, 1.5, 3)
        canvas.box(above(place, sides[2] / 2), sides, rng.uniform(0, np.pi), material)
    elif kind == 1:
        radii = size / 2 * rng.uniform(0.6, 1.2, 3)
        canvas.ellipsoid(above(place, radii[2]), radii, material)
    elif kind == 2:
        high = size * rng.uniform(0.8, 2.0)
        cylinder(canvas, place, size * 0.35, high, material)
        if rng.random() < 0.5:
            cylinder(canvas, above(place, high), size * 0.12, high * 0.4, material)
    elif kind == 3:
        high = size * rng.uniform(1.5, 3.0)
        canvas.tube(place, above(place, high), size * 0.05, material)
        canvas.ellipsoid(above(place, high), size * np.array([0.5, 0.5, 0.35]), material)
    else:
        yaw = rng.normal(0, 0.5)
        canvas.patch(
            above(place, size * 0.6),
            upright(yaw)[:, 0] * size * 0.5,
            [0, 0, size * 0.6],
            material,
            outline=frame(0.2),
        )


def cylinder(canvas: Canvas, place: Place, radius: float, high: float, material: int) -> None:
    """Draw an upright cylinder with its lid."""
    canvas.tube(place, above(place, high), radius, material)
    canvas.patch(above(place, high), [radius, 0, 0], [0, radius, 0], material, outline=disc)


def plant(rng: np.random.Generator, canvas: Canvas, place: Place, high: float, wood: int, leaves: int) -> None:
    """Draw a stem, branches and many small leaves turned every way."""
    stem = above(place, high * rng.uniform(0.4, 0.6)) + rng.normal(0, 0.1) * high * SIDEWAYS
    canvas.path(
        [place, (place + stem) / 2 + rng.normal(0, 0.02, 3) * high, stem], high * rng.uniform(0.012, 0.04), wood
    )
    for _ in range(int(rng.integers(4, 9))):
        tip = above(stem, high * 0.25) + rng.normal(0, 0.17, 3) * high
        canvas.tube(stem, tip, high * 0.008, wood)
        for _ in range(int(rng.integers(4, 10))):
            leaf = tip + rng.normal(0, 0.08, 3) * high
            a, b, _ = turned(rng)
            canvas.patch(leaf, a * high * rng.uniform(0.03, 0.08), b * high * 0.025, leaves, outline=disc)


def wheel(
    rng: np.random.Generator, canvas: Canvas, place: Place, yaw: float, radius: float, tyre: int, metal: int
) -> None:
    """Draw a tyre, a rim, a hub and spokes, upright at `place`, the centre."""
    a, b = upright(yaw)[:, 0], np.array([0.0, 0.0, 1.0])
    angles = np.linspace(0, 2 * np.pi, 25)
    thick = radius * rng.uniform(0.06, 0.16)
    canvas.path(place + np.outer(np.cos(angles), a * radius) + np.outer(np.sin(angles), b * radius), thick, tyre)
    inner = radius - thick
    canvas.patch(place, a * inner, b * inner, metal, outline=ring(rng.uniform(0.8, 0.92)))
    canvas.patch(place - upright(yaw)[:, 1] * 0.03, a * radius * 0.18, b * radius * 0.18, metal, outline=disc)
    spokes, begin = int(rng.integers(5, 14)), rng.uniform(0, 1)
    for angle in begin + np.arange(spokes) * 2 * np.pi / spokes:
        way = np.cos(angle) * a + np.sin(angle) * b
        canvas.tube(place + way * radius * 0.1, place + way * inner, radius * rng.uniform(0.01, 0.04), metal)


def machine(rng: np.random.Generator, canvas: Canvas, place: Place, yaw: float, size: float, others: list[int]) -> None:
    """Draw something on two wheels: a frame of tubes, rounded bodies, cables."""
    radius = size * rng.uniform(0.18, 0.24)
    front, rear = (at(place, yaw, [x * size * rng.uniform(0.36, 0.44), 0, radius]) for x in (-1, 1))
    for hub in (front, rear):
        wheel(rng, canvas, hub, yaw, radius, others[0], others[-1])
    joints = [front, rear] + [
        at(place, yaw, [rng.uniform(-0.35, 0.35) * size, rng.normal(0, 0.03) * size, rng.uniform(0.2, 0.6) * size])
        for _ in range(5)
    ]
    for _ in range(9):
        first, second = rng.choice(len(joints), 2, replace=False)
        canvas.tube(joints[first], joints[second], size * rng.uniform(0.006, 0.025), int(rng.choice(others)))
    for joint in joints[2:]:
        axes = upright(yaw + rng.normal(0, 0.2))
        canvas.ellipsoid(joint, size * rng.uniform(0.04, 0.16, 3) * [1.4, 0.5, 0.7], int(rng.choice(others)), axes=axes)
    for _ in range(3):
        start, end = rng.choice(len(joints), 2, replace=False)
        wire(rng, canvas, joints[start], joints[end], size * 0.004, int(rng.choice(others)))


def wire(rng: np.random.Generator, canvas: Canvas, start: Place, end: Place, radius: float, material: int) -> None:
    """Draw a wire that sags between its ends."""
    share = np.linspace(0, 1, 11)[:, None]
    slack = np.linalg.norm(np.subtract(end, start)) * rng.uniform(0.0, 0.3)
    way = np.array([rng.normal(0, 0.3), rng.normal(0, 0.3), -1.0])
    canvas.path(start + (end - start) * share + 4 * share * (1 - share) * slack * way, radius, material)


def turned(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return three axes turned at random, as rows."""
    return np.linalg.qr(rng.normal(size=(3, 3)))[0]


def disc(s: Floats, t: Floats) -> Mask:
    return s * s + t * t <= 1


def ring(inner: float) -> Outline:
    """Return the outline of a ring from `inner` to 1 of the radius."""

    def outline(s: Floats, t: Floats) -> Mask:
        far = s * s + t * t
        return (far <= 1) & (far >= np.float32(inner**2))

    return outline


def frame(width: float) -> Outline:
    """Return the outline of a rectangle's border that takes this share of its half sides."""

    def outline(s: Floats, t: Floats) -> Mask:
        return np.maximum(np.abs(s), np.abs(t)) >= np.float32(1 - width)

    return outline


def bars(across: int, along: int, width: float) -> Outline:
    """Return the outline of a fence or a lattice: `bars` either way, each taking the share `width` of its place."""

    def outline(s: Floats, t: Floats) -> Mask:
        inside = (s + 1) * np.float32(across / 2) % 1 < np.float32(width)
        if along:
            inside |= (t + 1) * np.float32(along / 2) % 1 < np.float32(width)
        return inside

    return outline


def blob(rng: np.random.Generator) -> Outline:
    """Return the outline of a closed curve that bulges and narrows at random."""
    waves = [(int(often), rng.normal(0, 0.25 / often), rng.uniform(0, 2 * np.pi)) for often in rng.integers(2, 9, 3)]

    def outline(s: Floats, t: Floats) -> Mask:
        angle = np.arctan2(t, s)
        reach = np.float32(0.75) + sum(np.float32(h) * np.cos(often * angle + np.float32(p)) for often, h, p in waves)
        return s * s + t * t <= np.clip(reach, 0.2, 1) ** 2

    return outline


def polygon(rng: np.random.Generator) -> Outline:
    """Return the outline of a random convex polygon."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
    sides = [
        (np.float32(np.cos(angle)), np.float32(np.sin(angle)), np.float32(rng.uniform(0.4, 0.9))) for angle in angles
    ]

    def outline(s: Floats, t: Floats) -> Mask:
        inside = np.ones(np.broadcast_shapes(s.shape, t.shape), bool)
        for x, y, far in sides:
            inside &= x * s + y * t <= far
        return inside

    return outline
