"""Images to start an ascent from where the start noise leaves a unit silent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convlens.pictures.synthetic import synthetic_images

_COLORED, _FULL, _TEXTURES = 48, 16, 48


def plain_starts(
    shape: tuple[int, int, int], value_range: tuple[float, float], seed: int
) -> NDArray[np.float32]:
    """Return images of many kinds, the same for all units.

    They are noise of several contrasts about colors of the whole range, noise that fills the range,
    and textures (`synthetic_images`). A unit that is silent on one kind may react to another: to a
    color, to strong contrast, to an edge.

    Args:
        shape: (h, w, c).
        value_range: (low, high) of the pixels.
        seed: seed of all random draws.

    Returns:
        (112, h, w, c) float32, within the range.
    """
    draw = np.random.default_rng([seed, 0xA11])
    low, high = value_range
    color = draw.random((_COLORED, 1, 1, shape[2]))
    contrast = np.exp(draw.uniform(np.log(0.02), np.log(0.5), (_COLORED, 1, 1, 1)))
    colored = color + contrast * draw.standard_normal((_COLORED, *shape))
    noise = np.concatenate([colored, draw.random((_FULL, *shape))])
    noise = low + (high - low) * np.clip(noise, 0, 1)
    textures = synthetic_images(shape, value_range, count=_TEXTURES, seed=seed)
    return np.concatenate([noise.astype(np.float32), textures])
