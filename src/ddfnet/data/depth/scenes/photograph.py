"""The photograph of a canvas: light, shadows without depth edges, haze; what a lens, a sensor and a file do to a picture."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter

from ddfnet.data.depth.scenes.canvas import Canvas, Floats
from ddfnet.data.depth.scenes.textures import GREY, Material, albedo

STEPS = 14  # from a point towards the light, in search of what shades it
SHADOW_SIDE = 128  # pixels: shadows are looked for at this resolution and are soft by it


def photograph(rng: np.random.Generator, canvas: Canvas, materials: list[Material], *, size: int) -> NDArray[np.uint8]:
    """Photograph the canvas as a camera would.

    Args:
        canvas: with something at every pixel, its side a multiple of `size`.
        materials: by the canvas's numbers.
        size: of the picture.

    Returns:
        (size, size, 3) uint8.
    """
    colours = _surfaces(canvas, materials)
    light = _direction(rng)
    lit = _lit(rng, canvas, light)
    brightness = np.exp(rng.normal(0, 0.08, 3)).astype(np.float32)
    sun = np.float32(rng.uniform(0.3, 1.0))
    sky = np.float32(1) - np.float32(0.85) * sun
    shade = sky * (np.float32(1) - np.float32(0.25) * canvas.normal[1])
    colours *= (_occlusion(canvas) * (sun * lit + shade))[..., None] * brightness
    colours += _highlights(canvas, materials, light)[..., None] * sun
    colours = colours.reshape(size, -1, size, canvas.size // size, 3).mean((1, 3))
    grey = (colours @ GREY)[..., None]
    colours = grey + (colours - grey) * np.float32(rng.uniform(0.35, 1))
    if rng.random() < 0.25:  # haze
        depth = canvas.depth[:: canvas.size // size, :: canvas.size // size]
        clear = np.exp(-depth / (np.float32(rng.uniform(0.8, 4)) * depth.max()))[..., None]
        colours = colours * clear + (1 - clear) * np.float32(rng.uniform(0.4, 0.9))
    return _file(rng, _sensor(rng, _lens(rng, colours)))


def _surfaces(canvas: Canvas, materials: list[Material]) -> Floats:
    """Return the albedo (S, S, 3), material by material."""
    order = np.argsort(canvas.material, axis=None, kind="stable")
    numbers = canvas.material.ravel()[order]
    bounds = np.searchsorted(numbers, np.arange(len(materials) + 1))
    rays = canvas.rays.astype(np.float32)
    facing = np.abs(canvas.normal[0] * rays + canvas.normal[1] * rays[:, None] + canvas.normal[2])
    footprint = canvas.depth / (np.float32(canvas.focal) * np.maximum(np.sqrt(facing), np.float32(0.2)))
    u, v, footprint = (field.ravel()[order] for field in (canvas.u, canvas.v, footprint))
    sorted_colours = np.empty((len(order), 3), np.float32)
    for material, first, last in zip(materials, bounds[:-1], bounds[1:], strict=True):
        if first < last:
            sorted_colours[first:last] = albedo(material, u[first:last], v[first:last], footprint[first:last])
    colours = np.empty_like(sorted_colours)
    colours[order] = sorted_colours
    return np.clip(colours, 0.01, 1, out=colours).reshape(canvas.size, canvas.size, 3)


def _direction(rng: np.random.Generator) -> Floats:
    """Return the direction of the light, from above and from before or beside the scene, in camera coordinates."""
    way = np.array([rng.normal(0, 0.8), -rng.uniform(0.4, 1.5), -rng.uniform(-0.3, 1.2)])
    return (way / np.linalg.norm(way)).astype(np.float32)


def _lit(rng: np.random.Generator, canvas: Canvas, light: Floats) -> Floats:
    """Return Lambert's cosine (S, S) where the light reaches."""
    cosine = np.maximum(np.tensordot(light, canvas.normal, 1), 0)
    if rng.random() < 0.15:  # an overcast sky
        return cosine
    shadow = _shadows(canvas, light)
    if rng.random() < 0.35:
        shadow = np.maximum(shadow, _cast(rng, canvas, light))
    return cosine * (1 - np.float32(rng.uniform(0.5, 1.0)) * shadow)


def _shadows(canvas: Canvas, light: Floats) -> Floats:
    """Return how far each point (S, S) is in the shadow of what the canvas shows, by steps towards the light."""
    ratio = canvas.size // SHADOW_SIDE
    depth = canvas.depth[ratio // 2 :: ratio, ratio // 2 :: ratio]
    rays = canvas.rays[ratio // 2 :: ratio]
    side = len(depth)
    points = np.stack([depth * rays, depth * rays[:, None], depth])
    reach = np.float32(0.5) * np.float32(np.median(depth))
    dark = np.zeros((side, side), bool)
    for step in range(1, STEPS + 1):
        way = reach * np.float32((step / STEPS) ** 2)
        x, y, z = (part + way * towards for part, towards in zip(points, light, strict=True))
        z = np.maximum(z, np.float32(1e-3))
        focal = np.float32(canvas.focal / ratio)
        column = (x / z * focal + side / 2).astype(np.int32)
        row = (y / z * focal + side / 2).astype(np.int32)
        seen = (column >= 0) & (column < side) & (row >= 0) & (row < side)
        blocker = depth[np.where(seen, row, 0), np.where(seen, column, 0)]
        behind = z - blocker
        dark |= seen & (behind > 0.02 * z) & (behind < 0.15 * z)
    soft: Floats = gaussian_filter(dark.astype(np.float32), 0.7)
    return _enlarged(soft, ratio)


def _cast(rng: np.random.Generator, canvas: Canvas, light: Floats) -> Floats:
    """Return shadows (S, S) of things out of view: bars or blotches with hard borders that run over all surfaces alike."""
    across = np.linalg.qr(np.column_stack([light, rng.normal(size=(3, 2))]))[0][:, 1:].astype(np.float32)
    x, y = (
        canvas.depth * (canvas.rays * way[0] + canvas.rays[:, None] * way[1] + way[2]) for way in across.T
    )  # on a plane upright on the light
    often = np.float32(rng.uniform(2, 9) / np.median(canvas.depth))
    wave = np.sin(often * x) if rng.random() < 0.5 else np.sin(often * x) + np.sin(often * 1.3 * y + np.sin(often * x))
    return np.clip((wave - np.float32(rng.uniform(-0.3, 0.6))) * np.float32(rng.uniform(3, 12)), 0, 1)


def _occlusion(canvas: Canvas) -> Floats:
    """Return the occlusion (S, S), darker in corners and beside things; what is much nearer or farther adds none."""
    ratio = canvas.size // SHADOW_SIDE
    near: Floats = np.float32(1) / canvas.depth[ratio // 2 :: ratio, ratio // 2 :: ratio]
    dark: Floats = np.zeros_like(near)
    for reach in (3, 7):
        for way in ((reach, 0), (-reach, 0), (0, reach), (0, -reach)):
            nearer = np.roll(near, way, (0, 1)) / near - np.float32(1)
            most = np.float32(0.02 * reach)
            dark = dark + np.where(
                (nearer > 0.15 * most) & (nearer < most), np.float32(1) - nearer / most, np.float32(0)
            )
    return np.float32(1) - np.float32(0.09) * _enlarged(dark, ratio)


def _enlarged(field: Floats, ratio: int) -> Floats:
    """Enlarge each side `ratio` times, without steps."""
    return uniform_filter(field.repeat(ratio, 0).repeat(ratio, 1), ratio + 1)


def _highlights(canvas: Canvas, materials: list[Material], light: Floats) -> Floats:
    half = light - np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half)
    gloss = np.array([material.gloss for material in materials], np.float32)[canvas.material]
    return gloss * np.maximum(np.tensordot(half, canvas.normal, 1), 0) ** 24


def _lens(rng: np.random.Generator, colours: Floats) -> Floats:
    """Apply blur and vignetting."""
    blur = float(rng.choice([0.0, rng.uniform(0.3, 0.6), rng.uniform(0.6, 1.1)], p=[0.5, 0.35, 0.15]))
    if blur:
        colours = np.asarray(gaussian_filter(colours, (blur, blur, 0), truncate=3.0), np.float32)
    if rng.random() < 0.5:
        place = np.linspace(-1, 1, len(colours), dtype=np.float32) ** 2
        dark = (place + place[:, None]) * np.float32(rng.uniform(0.02, 0.17))
        colours = colours * (np.float32(1) - dark)[..., None]
    return colours


def _sensor(rng: np.random.Generator, colours: Floats) -> Floats:
    """Apply exposure, the colour of the light, tone and noise; return (S, S, 3) from 0 to 255."""
    bright = np.float32(np.quantile(colours[::4, ::4], 0.95))
    exposed = colours * (np.float32(rng.uniform(0.55, 1.05)) / max(bright, np.float32(0.05)))
    noise = rng.standard_normal(colours.shape, np.float32)
    exposed += noise * (
        np.float32(rng.choice([0.002, 0.008, 0.02])) * np.sqrt(np.maximum(exposed, 0) + np.float32(0.02))
    )
    tone = np.clip(exposed, 0, 1) ** np.float32(rng.uniform(0.65, 1.2))
    steep = np.float32(rng.uniform(0, 1))
    return 255 * (tone + steep * (tone * tone * (3 - 2 * tone) - tone))


def _file(rng: np.random.Generator, colours: Floats) -> NDArray[np.uint8]:
    """Pass the picture through JPEG, most times."""
    pixels = (colours + np.float32(0.5)).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        return pixels
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(rng.integers(40, 97)), subsampling=int(rng.choice([0, 2])))
    with Image.open(file) as image:
        return np.array(image)
