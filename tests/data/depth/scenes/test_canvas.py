"""The canvas: each shape's depth by geometry, nearest first, and nothing behind the camera."""

import numpy as np
import pytest

from ddfnet.data.depth.scenes.canvas import Canvas, upright

SIZE = 64
# A few dozen fp32 operations on values within a few times the distance.
ULPS = 64 * np.finfo(np.float32).eps


def canvas(**options: float) -> Canvas:
    return Canvas(SIZE, **{"focal": 64.0, "height": 1.5, **options})


def points(drawn: Canvas) -> np.ndarray:
    """(S, S, 3) in world coordinates: what each pixel sees, back from depth and camera."""
    rays = np.stack([*np.broadcast_arrays(drawn.rays, drawn.rays[:, None]), np.ones((SIZE, SIZE))], -1)
    return (np.where(np.isinf(drawn.depth), 0, drawn.depth)[..., None] * rays) @ drawn.rotation + drawn.position


@pytest.mark.parametrize("options", [{}, {"pitch": 0.3, "roll": -0.2}])
def test_a_floor_is_a_plane(options: dict[str, float]) -> None:
    drawn = canvas(**options)
    drawn.patch([0, 0, 0], [500, 0, 0], [0, 500, 0], 3)
    hit = np.isfinite(drawn.depth)
    assert 0.3 < hit.mean() < 0.95
    assert np.abs(points(drawn)[hit][:, 2] / drawn.depth[hit]).max() < ULPS * 4
    assert (drawn.material[hit] == 3).all()
    up = drawn.rotation @ [0, 0, 1]
    np.testing.assert_allclose(drawn.normal[:, hit].T, np.broadcast_to(up, (hit.sum(), 3)), atol=ULPS)


def test_depth_is_along_the_view_not_along_the_ray() -> None:
    drawn = canvas()
    drawn.patch([0, 4, 1.5], [10, 0, 0], [0, 0, 10], 0)
    np.testing.assert_allclose(drawn.depth, 4, rtol=ULPS)
    np.testing.assert_allclose(drawn.normal[2], -1)


def test_an_ellipsoids_points_are_on_it() -> None:
    drawn = canvas(pitch=0.1)
    axes, radii, centre = upright(0.5), np.array([0.6, 0.9, 0.4]), np.array([0.2, 5.0, 1.3])
    drawn.ellipsoid(centre, radii, 1, axes=axes)
    hit = np.isfinite(drawn.depth)
    assert hit.sum() > 50
    own = (points(drawn)[hit] - centre) @ axes / radii
    # The grazing rays lose half the digits: depth is a root of what there is near 0.
    assert np.abs((own**2).sum(1) - 1).max() < np.sqrt(ULPS)
    assert (own @ np.diag(1 / radii) @ axes.T * (drawn.position - points(drawn)[hit])).sum(1).min() > -np.sqrt(ULPS)


def test_a_tubes_points_are_at_its_radius_between_its_ends() -> None:
    drawn = canvas()
    start, end, radius = np.array([-1.0, 4.0, 0.5]), np.array([1.5, 6.0, 2.5]), 0.2
    drawn.tube(start, end, radius, 1)
    hit = np.isfinite(drawn.depth)
    assert hit.sum() > 50
    axis = (end - start) / np.linalg.norm(end - start)
    along = (points(drawn)[hit] - start) @ axis
    away = np.linalg.norm(points(drawn)[hit] - start - along[:, None] * axis, axis=1)
    np.testing.assert_allclose(away, radius, atol=10 * np.sqrt(ULPS) * radius)
    assert -1e-3 < along.min() < along.max() < np.linalg.norm(end - start) + 1e-3
    np.testing.assert_allclose(drawn.u[hit], along, atol=1e-3)


def test_a_box_is_as_wide_as_its_nearest_face() -> None:
    drawn = canvas()
    drawn.box([0, 5, 1.5], [2, 2, 2], 0.0, 1)
    hit = np.isfinite(drawn.depth)
    np.testing.assert_allclose(drawn.depth[hit], 4, rtol=ULPS)
    assert hit.sum() == 32 * 32  # 2 m at 4 m by a focal length of 64 pixels
    turned = canvas()
    turned.box([0, 5, 1.5], [2, 2, 2], np.pi / 4, 1)
    assert np.isclose(turned.depth.min(), 5 - np.sqrt(2), rtol=0.02)


def test_the_nearest_is_seen_whatever_comes_first() -> None:
    scenes = []
    for order in ((0, 1, 2), (2, 1, 0)):
        drawn = canvas()
        for number in order:
            drawn.patch([0, 2 + number, 1.5], [1, 0, 0], [0, 0, 1], number)
        scenes.append(drawn)
    np.testing.assert_array_equal(scenes[0].material, scenes[1].material)
    np.testing.assert_array_equal(scenes[0].depth, scenes[1].depth)
    assert scenes[0].depth.min() == 2


def test_windows_hold_all_of_a_shape() -> None:
    """The same shape again with every pixel asked."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        place, way = rng.normal((0, 3, 1.5)), rng.normal(0, 1, 3)
        a, b = (np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.1, 1))[:2]
        seen = []
        for everywhere in (False, True):
            drawn = canvas(pitch=0.2)
            if everywhere:
                drawn._window = lambda *_: (slice(0, SIZE), slice(0, SIZE))  # type: ignore[method-assign]
            drawn.patch(place, a, b, 1)
            drawn.ellipsoid(place + way, np.abs(a) + 0.05, 2)
            drawn.tube(place, place + way, 0.1, 3)
            seen.append(drawn)
        np.testing.assert_array_equal(seen[0].material, seen[1].material)


def test_what_is_behind_or_at_the_camera_is_not_drawn() -> None:
    drawn = canvas()
    drawn.patch([0, -3, 1.5], [9, 0, 0], [0, 0, 9], 1)
    drawn.ellipsoid([0, 0, 1.5], [1, 1, 1], 1)
    drawn.ellipsoid([0, -3, 1.5], [1, 1, 1], 1)
    drawn.tube([0, -3, 1.5], [0, -5, 1.5], 0.5, 1)
    assert np.isinf(drawn.depth).all()
