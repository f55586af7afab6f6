"""Worlds: a room, a street, a workbench seen from near, and things that float before a background."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from ddfnet.data.depth.scenes.canvas import Canvas, upright
from ddfnet.data.depth.scenes.furniture import (
    above,
    at,
    bars,
    blob,
    chair,
    cylinder,
    disc,
    frame,
    machine,
    plant,
    polygon,
    ring,
    shelves,
    small,
    table,
    turned,
    wheel,
    wire,
)

AHEAD = np.array([0.0, 1.0, 0.0])
World = Callable[[np.random.Generator, Canvas, int], None]


def room(rng: np.random.Generator, canvas: Canvas, count: int) -> None:
    """Draw floor, ceiling, walls with pictures, furniture on the floor, wires and lamps from the ceiling."""
    pick = _picker(rng, count)
    wide, deep, high = rng.uniform(2.0, 4.5), rng.uniform(2.5, 7.0), rng.uniform(2.2, 3.2)
    yaw = rng.normal(0, 0.35)
    middle = np.array([rng.normal(0, 0.3), deep * 0.45, 0.0])
    x, y, up = upright(yaw)[:, 0], upright(yaw)[:, 1], np.array([0, 0, high / 2])
    far = 3.0  # walls reach beyond what is seen, and behind the camera
    centre = middle + up
    canvas.patch(middle, x * wide * far, y * deep * far, pick())
    canvas.patch(middle + 2 * up, x * wide * far, y * deep * far, pick())
    wall = pick()
    canvas.patch(centre + y * deep / 2, x * wide * far, up, wall)
    for side in (-1, 1):
        canvas.patch(centre + side * x * wide * 0.75, y * deep * far, up, wall if rng.random() < 0.6 else pick())
    for _ in range(int(rng.integers(0, 5))):  # pictures: no edge of depth worth the name
        where = centre + y * (deep / 2 - 0.01) + x * rng.uniform(-0.6, 0.6) * wide + [0, 0, rng.normal(0, 0.4)]
        canvas.patch(where, x * rng.uniform(0.1, 0.6), [0, 0, rng.uniform(0.1, 0.5)], pick())
    if rng.random() < 0.4:  # a doorway's or a window's frame, a curtain
        where = centre + y * (deep / 2 - 0.06) + x * rng.uniform(-0.5, 0.5) * wide
        canvas.patch(where, x * 0.5, [0, 0, 0.8], pick(), outline=frame(rng.uniform(0.08, 0.3)))
    if rng.random() < 0.4:
        where = centre + y * deep * 0.35 + x * rng.choice([-1, 1]) * wide * rng.uniform(0.3, 0.6)
        canvas.patch(where, x * 0.5, [0, 0, high * 0.45], pick(), bend=(0.02, rng.uniform(8, 25), rng.uniform(0, 6)))
    for _ in range(int(rng.integers(4, 14))):
        place = at(middle, yaw, [rng.uniform(-0.6, 0.6) * wide, rng.uniform(-0.35, 0.42) * deep, 0])
        if place[1] < 0.9:
            continue
        turn = yaw + rng.choice([0, np.pi / 2, rng.uniform(0, 6)])
        kind = rng.integers(8)
        if kind == 0:
            table(rng, canvas, place, turn, pick(), pick())
        elif kind <= 2:
            chair(rng, canvas, place, turn, pick(), pick())
        elif kind == 3:
            shelves(
                rng, canvas, at(middle, yaw, [rng.uniform(-0.5, 0.5) * wide, deep * 0.4, 0]), yaw, pick(), _few(pick)
            )
        elif kind == 4:
            plant(rng, canvas, place, rng.uniform(0.6, 1.8), pick(), pick())
        elif kind == 5:
            machine(rng, canvas, place, turn, rng.uniform(0.9, 1.8), _few(pick))
        elif kind == 6:
            sides = rng.uniform(0.2, 1.1, 3)
            canvas.box(above(place, sides[2] / 2), sides, turn, pick())
        else:
            small(rng, canvas, place, rng.uniform(0.2, 0.7), pick())
    for _ in range(int(rng.integers(0, 3))):
        top = at(middle, yaw, [rng.uniform(-0.5, 0.5) * wide, rng.uniform(-0.2, 0.4) * deep, high])
        hang = top - [0, 0, rng.uniform(0.3, 1.2)]
        canvas.tube(top, hang, 0.008, pick())
        canvas.ellipsoid(hang, rng.uniform(0.08, 0.25, 3), pick())
    _foreground(rng, canvas, pick)


def street(rng: np.random.Generator, canvas: Canvas, count: int) -> None:
    """Draw ground, a far backdrop, houses, trees, poles with wires, fences, vehicles."""
    pick = _picker(rng, count)
    far = np.exp(rng.uniform(np.log(15), np.log(80)))
    canvas.patch([0, far, far / 2], [4 * far, 0, 0], [0, 0, far * 3], pick(), bend=(0.15, rng.uniform(2, 8), 0.0))
    canvas.patch([0, far / 2, 0], [4 * far, 0, 0], [0, far, 0], pick())
    yaw, side = rng.normal(0, 0.3), pick()
    for _ in range(int(rng.integers(2, 8))):
        x, y = rng.choice([-1, 1]) * rng.uniform(0.12, 0.6) * far, rng.uniform(0.25, 0.95) * far
        sides = rng.uniform(0.1, 0.35, 3) * far * [1, 1, 1.3]
        canvas.box([x, y, sides[2] / 2], sides, yaw, pick())
    canvas.patch([0, far * 0.2, 0.02], upright(yaw)[:, 0] * far * 0.08, upright(yaw)[:, 1] * far, side)  # the road
    for _ in range(int(rng.integers(1, 6))):
        place = np.array([rng.normal(0, 0.2) * far, rng.uniform(0.12, 0.7) * far, 0])
        plant(rng, canvas, place, rng.uniform(0.08, 0.2) * far, pick(), pick())
    poles = [
        np.array([x * far, y * far, rng.uniform(0.15, 0.25) * far])
        for x, y in zip(rng.uniform(-0.25, 0.25, 4), rng.uniform(0.1, 0.5, 4), strict=True)
    ]
    thin, metal = far * rng.uniform(0.001, 0.004), pick()
    for first, second in pairwise(poles):
        canvas.tube(first * [1, 1, 0], first, thin, metal)
        if rng.random() < 0.6:
            wire(rng, canvas, first, second, thin * 0.3, metal)
    for _ in range(int(rng.integers(0, 3))):
        place = np.array([rng.normal(0, 0.15) * far, rng.uniform(0.1, 0.4) * far, 0.03 * far])
        canvas.patch(
            place,
            upright(yaw + rng.normal(0, 0.5))[:, 0] * far * rng.uniform(0.05, 0.15),
            [0, 0, 0.03 * far],
            pick(),
            outline=bars(int(rng.integers(6, 24)), int(rng.integers(0, 4)), rng.uniform(0.15, 0.4)),
        )
    for _ in range(int(rng.integers(0, 4))):
        place = np.array([rng.normal(0, 0.15) * far, rng.uniform(0.12, 0.5) * far, 0])
        size, turn, body = far * rng.uniform(0.05, 0.09), yaw + rng.normal(0, 0.6), pick()
        if rng.random() < 0.5:
            machine(rng, canvas, place, turn, size, _few(pick))
            continue
        canvas.box(above(place, size * 0.25), size * np.array([1, 0.45, 0.25]), turn, body)
        canvas.ellipsoid(above(place, size * 0.4), size * np.array([0.35, 0.2, 0.18]), body, axes=upright(turn))
        for x in (-0.3, 0.3):
            wheel(
                rng, canvas, at(place, turn, [x * size, -0.23 * size, size * 0.12]), turn, size * 0.11, pick(), pick()
            )
    _foreground(rng, canvas, pick)


def workbench(rng: np.random.Generator, canvas: Canvas, count: int) -> None:
    """Draw a board full of small things near the camera, before a wall, with pipes and cables."""
    pick = _picker(rng, count)
    top = canvas.position[2] - rng.uniform(0.3, 0.7)
    back = rng.uniform(1.4, 3.5)
    canvas.patch([0, 0, top], [6, 0, 0], [0, back, 0], pick())
    tilt = np.array([0, rng.uniform(-0.3, 0.6), 2.5])
    canvas.patch([0, back, top], [6, rng.normal(0, 1.2), 0], tilt, pick(), bend=(rng.choice([0, 0.03]), 5.0, 1.0))
    if rng.random() < 0.5:
        shelves(rng, canvas, np.array([rng.normal(0, 0.4), back - 0.3, top]), 0.0, pick(), _few(pick))
    for _ in range(int(rng.integers(8, 26))):
        place = np.array([rng.normal(0, 0.45), rng.uniform(0.5, back), top])
        small(rng, canvas, place, rng.uniform(0.06, 0.4), pick())
    for _ in range(int(rng.integers(0, 3))):
        place = np.array([rng.normal(0, 0.3), rng.uniform(0.6, back * 0.8), top])
        machine(rng, canvas, place, rng.uniform(0, 3), rng.uniform(0.5, 1.4), _few(pick))
    for _ in range(int(rng.integers(1, 5))):
        start, end = (
            np.array([rng.normal(0, 0.6), rng.uniform(0.6, back), top + rng.uniform(0, 0.9)]) for _ in range(2)
        )
        wire(rng, canvas, start, end, rng.uniform(0.003, 0.03), pick())
    if rng.random() < 0.5:
        plant(
            rng,
            canvas,
            np.array([rng.normal(0, 0.4), rng.uniform(0.7, back), top]),
            rng.uniform(0.3, 1),
            pick(),
            pick(),
        )
    _foreground(rng, canvas, pick)


def floating(rng: np.random.Generator, canvas: Canvas, count: int) -> None:
    """Draw shapes of every kind, size and slant at every depth, before a slanted or billowing background."""
    pick = _picker(rng, count)
    far = np.exp(rng.uniform(np.log(1.5), np.log(30)))
    base = canvas.position
    lean = np.array([rng.normal(0, 0.35), 0, rng.normal(0, 0.35)])
    swing = (rng.choice([0.0, rng.uniform(0.02, 0.25)]), rng.uniform(3, 14), rng.uniform(0, 6))
    canvas.patch([0, 6 * far, base[2]], [60 * far, 0, 0], [0, 0, 60 * far], pick())
    canvas.patch(
        base + far * AHEAD, [4 * far, 4 * far * lean[0], 0], [0, 4 * far * lean[2], 4 * far], pick(), bend=swing
    )
    for _ in range(int(rng.integers(8, 45))):
        depth = far * np.exp(rng.uniform(np.log(0.25), np.log(1.1)))
        view = canvas.size / canvas.focal / 2
        place = base + np.array([rng.uniform(-1, 1) * view * depth, depth, rng.uniform(-1, 1) * view * depth])
        size = depth * view * np.exp(rng.uniform(np.log(0.05), np.log(0.6)))
        axes, kind, material = turned(rng), rng.integers(9), pick()
        if kind == 0:
            canvas.box(place, size * rng.uniform(0.2, 1.5, 3), 0.0, material, axes=axes.T)
        elif kind == 1:
            canvas.ellipsoid(place, size * rng.uniform(0.3, 1, 3), material, axes=axes.T)
        elif kind == 2:
            canvas.tube(
                place - axes[0] * size * 1.5, place + axes[0] * size * 1.5, size * rng.uniform(0.02, 0.3), material
            )
        elif kind == 3:
            wire(
                rng,
                canvas,
                place - axes[0] * size * 2,
                place + axes[1] * size * 2,
                size * rng.uniform(0.01, 0.06),
                material,
            )
        else:
            tilt = np.array([0.0, rng.normal(0, 0.5), 0.0])
            turn = rng.uniform(0, np.pi)
            a, b = np.array([np.cos(turn), 0, np.sin(turn)]), np.array([-np.sin(turn), 0, np.cos(turn)])
            outline = [
                blob(rng),
                polygon(rng),
                ring(rng.uniform(0.5, 0.93)),
                frame(rng.uniform(0.05, 0.4)),
                bars(int(rng.integers(2, 12)), int(rng.integers(0, 8)), rng.uniform(0.1, 0.5)),
                disc,
            ][rng.integers(6)]
            a = a + tilt
            b = b - a * (a @ b) / (a @ a)
            billow = (rng.choice([0.0, 0.04]), rng.uniform(2, 8), rng.uniform(0, 6))
            canvas.patch(place, a * size, b * size * rng.uniform(0.4, 1), material, outline=outline, bend=billow)


def _picker(rng: np.random.Generator, count: int) -> Callable[[], int]:
    """Draw numbers of materials; of few materials some come often, so that things lie before their like."""
    odds = rng.dirichlet(np.full(count, rng.choice([0.4, 2.0])))
    return lambda: int(rng.choice(count, p=odds))


def _few(pick: Callable[[], int]) -> list[int]:
    return [pick() for _ in range(3)]


def _foreground(rng: np.random.Generator, canvas: Canvas, pick: Callable[[], int]) -> None:
    """Draw, at times, something right before the camera: a pole, a lattice, a ball."""
    if rng.random() > 0.15:
        return
    depth = rng.uniform(0.5, 1.2)
    place = canvas.position + depth * np.array([rng.uniform(-0.4, 0.4), 1, 0])
    kind = rng.integers(3)
    if kind == 0:
        lean = np.array([rng.normal(0, 0.3), 0, 1.0])
        canvas.tube(place - lean, place + lean, rng.uniform(0.005, 0.05), pick())
    elif kind == 1:
        outline = bars(int(rng.integers(4, 14)), int(rng.choice([0, 6])), rng.uniform(0.08, 0.3))
        canvas.patch(place, [0.5, rng.normal(0, 0.2), 0], [0, 0, 0.6], pick(), outline=outline)
    else:
        cylinder(canvas, place - [0, 0, rng.uniform(0.3, 0.8)], rng.uniform(0.05, 0.15), 0.5, pick())


WORLDS: tuple[tuple[World, float], ...] = ((room, 0.35), (street, 0.15), (workbench, 0.25), (floating, 0.25))
