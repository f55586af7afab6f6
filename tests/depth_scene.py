"""A depth map and an image to upsample it under."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = tuple[NDArray[Any], NDArray[np.uint8]]


def scene(low: tuple[int, int], size: tuple[int, int]) -> Arrays:
    """A float32 depth map between 1 and 3, no two values equal, and an image."""
    rng = np.random.default_rng(0)
    return 1 + 2 * rng.random(low, dtype=np.float32), rng.integers(0, 256, (*size, 3), dtype=np.uint8)
