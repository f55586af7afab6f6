"""Textures of surfaces: drawn ones and pieces of the photographs that scikit-image ships, and the materials made of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddfnet.data.depth.scenes.canvas import Floats

SIDE = 256  # of a texture, in texels; it repeats without a seam
LEVELS = 7  # each at half the side of the one before
PHOTOGRAPHS = (  # in scikit-image's package; the Motorcycle is not among them: its right part is for testing
    "astronaut",
    "brick",
    "camera",
    "cat",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "moon",
    "page",
    "retina",
    "rocket",
    "text",
)
GREY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Bank:
    """All textures, at all levels of detail.

    Attributes:
        texels: (N, 3) uint8: level after level, in each texture after texture, in each row after row.
        starts: of the levels.
        count: of the textures.
    """

    texels: NDArray[np.uint8]
    starts: tuple[int, ...]
    count: int


@dataclass(frozen=True)
class Material:
    """A texture with colours, laid on a surface.

    Attributes:
        texture: which one.
        turn: (2, 2): metres along the surface to texels.
        shift: (2,), in texels.
        colours: (3, 3) and colour: (3,): the albedo is `colours @ texel + colour`, the texel 0..1.
        gloss: strength of the highlight.
    """

    texture: int
    turn: Floats
    shift: Floats
    colours: Floats
    colour: Floats
    gloss: float


@lru_cache(maxsize=1)
def bank() -> Bank:
    """Return the textures, the same in every process; the first call makes them in two or three seconds."""
    rng = np.random.default_rng(20210401)
    images = [*_pieces(rng), *(draw(rng) for draw in DRAWN for _ in range(4))]
    level = np.stack([np.clip(image * 255, 0, 255) for image in images]).astype(np.float32)
    levels, starts, total = [], [], 0
    for _ in range(LEVELS):
        levels.append(level.round().astype(np.uint8).reshape(-1, 3))
        starts.append(total)
        total += len(levels[-1])
        count, side = level.shape[:2]
        level = level.reshape(count, side // 2, 2, side // 2, 2, 3).mean((2, 4))
    return Bank(np.concatenate(levels), tuple(starts), len(images))


def materials(rng: np.random.Generator, count: int, *, contrast: float, scale: float) -> list[Material]:
    """Draw a scene's materials. contrast: of the colours between and within them, 0..1; scale: metres per texture."""
    family = rng.uniform(0.15, 0.75) + rng.normal(0, 0.06, 3)
    made = []
    for _ in range(count):
        angle = rng.choice([0.0, np.pi / 2, rng.uniform(0, 2 * np.pi)])
        per_metre = SIDE / (scale * np.exp(rng.normal(0, 0.7)))
        cosine, sine = np.cos(angle) * per_metre, np.sin(angle) * per_metre
        base = (family + (_colour(rng) - family) * contrast).clip(0.02, 1)
        strength = rng.choice([0.03, 0.15, 0.5, 1.0], p=[0.15, 0.15, 0.3, 0.4]) * (0.5 + 0.5 * contrast)
        if rng.random() < 0.45:  # the texture's colours
            colours = np.diag(rng.uniform(0.7, 1.1, 3) * strength)
            colour = base * (1 - strength)
        else:  # two colours by its brightness
            other = np.clip(base + rng.normal(0, 0.08, 3) + rng.normal(0, 0.4), 0.02, 1)
            colours = np.outer((other - base) * strength * 1.6, GREY)
            colour = base
        made.append(
            Material(
                int(rng.integers(bank().count)),
                np.array([[cosine, -sine], [sine, cosine]], np.float32),
                rng.uniform(0, SIDE, 2).astype(np.float32),
                colours.astype(np.float32),
                colour.astype(np.float32),
                float(rng.choice([0.0, rng.uniform(0, 0.6)])),
            )
        )
    return made


def albedo(material: Material, u: Floats, v: Floats, footprint: Floats) -> Floats:
    """Return the surface's colours (N, 3) at places (N,) whose pixels span `footprint` (N,) metres."""
    stock = bank()
    a, b, c, d = material.turn.ravel()
    x = a * u + b * v + material.shift[0]
    y = c * u + d * v + material.shift[1]
    spread = np.float32(np.hypot(a, c)) * footprint
    level = np.clip(np.frexp(spread)[1], 0, LEVELS - 1)  # the texels of that level are as wide as the pixel, or half
    shrink = np.ldexp(np.float32(1), -level)
    x, y = x * shrink - np.float32(0.5), y * shrink - np.float32(0.5)
    left, top = np.floor(x), np.floor(y)
    x -= left
    y -= top
    side = np.right_shift(SIDE, level).astype(np.int32)
    column, row = left.astype(np.int32) & (side - 1), top.astype(np.int32) & (side - 1)
    start = np.array(stock.starts, np.int32)[level] + material.texture * side * side
    right, bottom = (column + 1) & (side - 1), (row + 1) & (side - 1)
    upper, lower = start + row * side, start + bottom * side
    x, y = x[:, None], y[:, None]
    take = stock.texels.take
    high = take(upper + column, 0) * (1 - x) + take(upper + right, 0) * x
    low = take(lower + column, 0) * (1 - x) + take(lower + right, 0) * x
    texel = high + (low - high) * y
    return texel @ (material.colours.T / np.float32(255)) + material.colour


def _pieces(rng: np.random.Generator) -> list[Floats]:
    """Cut pieces of photographs and mirror them so that they repeat without a seam."""
    import skimage.data
    from PIL import Image

    found = []
    for name in PHOTOGRAPHS:
        loader: Callable[[], Any] = getattr(skimage.data, name)
        pixels = np.asarray(loader())
        pixels = np.stack([pixels] * 3, -1) if pixels.ndim == 2 else pixels
        for share in (0.95, 0.5, 0.25):
            side = int(min(pixels.shape[:2]) * share)
            top, left = (int(rng.integers(length - side + 1)) for length in pixels.shape[:2])
            piece = Image.fromarray(pixels[top : top + side, left : left + side]).resize((SIDE // 2, SIDE // 2))
            half = np.asarray(piece, np.float32) / 255
            wide = np.concatenate([half, half[:, ::-1]], 1)
            found.append(np.concatenate([wide, wide[::-1]]))
    return found


def _spectrum(rng: np.random.Generator, steepness: float, stretch: float = 1.0) -> Floats:
    """Draw noise (SIDE, SIDE) of mean 0 and deviation 1 whose amplitude falls with frequency; stretched along x."""
    rows, columns = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)
    frequency = np.hypot(rows, columns * stretch)
    frequency[0, 0] = 1.0
    phases = np.exp(2j * np.pi * rng.random(frequency.shape)) * frequency**-steepness
    phases[0, 0] = 0
    noise = np.fft.irfft2(phases, (SIDE, SIDE))
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


def _coloured(rng: np.random.Generator, pattern: NDArray[np.floating[Any]]) -> Floats:
    """Colour (SIDE, SIDE), from 0 to 1, between two colours."""
    first, second = _colour(rng), _colour(rng)
    return (first + (second - first) * pattern[..., None]).astype(np.float32)


def _colour(rng: np.random.Generator) -> Floats:
    """Draw a colour, mostly muted, as most surfaces are."""
    return (rng.uniform(0.05, 0.95) + rng.normal(0, rng.choice([0.04, 0.12, 0.3]), 3)).clip(0, 1).astype(np.float32)


def _grain(rng: np.random.Generator, image: Floats, amount: float) -> Floats:
    return image + amount * _spectrum(rng, rng.uniform(0.3, 1.2))[..., None]


def _clouds(rng: np.random.Generator) -> Floats:
    steepness = rng.uniform(0.8, 2.2)
    grey, hue = _spectrum(rng, steepness), rng.uniform(0.02, 0.12)
    return (0.5 + np.stack([0.18 * grey + hue * _spectrum(rng, steepness) for _ in range(3)], -1)).astype(np.float32)


def _speckle(rng: np.random.Generator) -> Floats:
    noise = _spectrum(rng, rng.uniform(0.0, 1.0))
    return _coloured(rng, 0.5 + 0.25 * noise)


def _spots(rng: np.random.Generator) -> Floats:
    """Draw islands with hard shores."""
    noise = _spectrum(rng, rng.uniform(1.2, 2.0))
    return _grain(rng, _coloured(rng, np.digitize(noise, [-0.5, 0.2, 0.9]).astype(np.float32) / 3), 0.02)


def _wood(rng: np.random.Generator) -> Floats:
    rings = np.sin(rng.uniform(4, 14) * _spectrum(rng, 1.8, stretch=rng.uniform(6, 14)))
    return _grain(rng, _coloured(rng, 0.5 + 0.3 * rings), 0.03)


def _brushed(rng: np.random.Generator) -> Floats:
    return _coloured(rng, 0.5 + 0.22 * _spectrum(rng, rng.uniform(0.4, 1.0), stretch=rng.uniform(8, 30)))


def _stripes(rng: np.random.Generator) -> Floats:
    wave = np.arange(SIDE) * int(2 ** rng.integers(2, 6)) / SIDE % 1
    return _grain(rng, _coloured(rng, np.tile((wave < rng.uniform(0.2, 0.8)).astype(np.float32), (SIDE, 1))), 0.03)


def _checks(rng: np.random.Generator) -> Floats:
    wave = np.arange(SIDE) * int(2 ** rng.integers(1, 5)) / SIDE % 1 < 0.5
    return _grain(rng, _coloured(rng, (wave ^ wave[:, None]).astype(np.float32)), 0.03)


def _bricks(rng: np.random.Generator) -> Floats:
    """Draw bricks or tiles, each in its shade, with joints."""
    rows, columns = int(2 ** rng.integers(2, 5)), int(2 ** rng.integers(1, 4))
    row = np.arange(SIDE) * rows // SIDE
    shift = (row % 2 * SIDE // columns // 2 * int(rng.integers(2)))[:, None]
    across = (np.arange(SIDE) + shift) % SIDE
    shade = rng.normal(0.6, 0.12, (rows, columns))[row[:, None], across * columns // SIDE]
    joint = rng.uniform(1.5, 5)
    edge = (across % (SIDE // columns) < joint) | (np.arange(SIDE) % (SIDE // rows) < joint)[:, None]
    return _grain(rng, _coloured(rng, np.where(edge, rng.choice([0.0, 1.0]), shade).astype(np.float32)), 0.03)


def _dots(rng: np.random.Generator) -> Floats:
    period = SIDE // int(2 ** rng.integers(2, 5))
    place = (np.arange(SIDE) % period - period / 2 + 0.5) / period
    return _grain(
        rng, _coloured(rng, (np.hypot(place, place[:, None]) < rng.uniform(0.2, 0.4)).astype(np.float32)), 0.02
    )


def _print(rng: np.random.Generator) -> Floats:
    """Draw lines of words on paper, a heading, a picture."""
    page = np.full((SIDE, SIDE, 3), rng.uniform(0.7, 1), np.float32)
    line = int(rng.choice([8, 12, 16]))
    for top in range(line, SIDE - line, line):
        left = 10
        while left < SIDE - 24:
            wide = int(rng.integers(4, 3 * line))
            strokes = rng.random((line * 5 // 8, wide // 2 + 1)).repeat(2, 1)[:, :wide] < 0.55
            page[top : top + len(strokes), left : left + wide][strokes[:, : SIDE - left]] = 0.1
            left += wide + line // 2
    for _ in range(int(rng.integers(1, 4))):
        top, left = rng.integers(0, SIDE - 64, 2)
        high, wide = rng.integers(24, 120, 2)
        page[top : top + high, left : left + wide] = _colour(rng)
    return page


def _patchwork(rng: np.random.Generator) -> Floats:
    """Draw rectangles over rectangles, as on posters, shelves and house fronts."""
    page = np.full((SIDE, SIDE, 3), _colour(rng), np.float32)
    for _ in range(40):
        (top, left), (high, wide) = rng.integers(0, SIDE, 2), rng.integers(6, 90, 2)
        page[top : top + high, left : left + wide] = _colour(rng)
    return _grain(rng, page, 0.02)


def _front(rng: np.random.Generator) -> Floats:
    """Draw windows in a wall."""
    period = SIDE // int(2 ** rng.integers(1, 4))
    place = np.arange(SIDE) % period / period
    low, high = rng.uniform(0.1, 0.3), rng.uniform(0.6, 0.9)
    pane = (place > low) & (place < high)
    bar = np.abs(place - (low + high) / 2) < 0.03
    window = (pane & ~bar)[:, None] & pane
    return _grain(rng, _coloured(rng, window.astype(np.float32)), 0.04)


DRAWN = (
    _clouds,
    _clouds,
    _speckle,
    _spots,
    _wood,
    _brushed,
    _stripes,
    _checks,
    _bricks,
    _bricks,
    _dots,
    _print,
    _patchwork,
    _front,
)
