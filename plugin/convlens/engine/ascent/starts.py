"""Images to start an ascent from where the start noise leaves a unit silent.

Some are the same for all units, others made for a unit from its own gradient.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from convlens.pictures.synthetic import synthetic_images

_COLORED, _FULL, _TEXTURES = 48, 16, 48
# Below 1, so that an ascent from an image that is all a unit could want still has room to rise.
_CONTRAST = 0.75
# Images of more channels have too many corners.
_MAX_CORNERED = 4
# One in so many of the plain images says enough about a spread.
_EVERY = 4
Images = NDArray[np.float32]


@lru_cache(maxsize=1)
def common_starts(
    shape: tuple[int, ...], value_range: tuple[float, float], seed: int
) -> tuple[Images, Images, Images]:
    """Return the images that all units see, in three parts that must not be changed.

    The last ones that were made are kept: layers of near depth climb on images of one size.

    Args:
        shape: (*positions, c).
        value_range: (low, high) of the pixels.
        seed: seed of all random draws.

    Returns:
        A quarter of the `plain_starts`, of every kind; the others; the `constant_starts`.
    """
    plain = plain_starts(shape, value_range, seed)
    few = np.arange(len(plain)) % _EVERY == 0
    parts = plain[few], plain[~few], constant_starts(shape, value_range)
    for part in parts:
        part.setflags(write=False)
    return parts


def plain_starts(
    shape: tuple[int, ...], value_range: tuple[float, float], seed: int
) -> NDArray[np.float32]:
    """Return images of many kinds, the same for all units.

    They are noise of several contrasts about colors of the whole range, noise that fills the range,
    and textures (`synthetic_images`). A unit that is silent on one kind may react to another: to a
    color, to strong contrast, to an edge.

    Args:
        shape: (*positions, c).
        value_range: (low, high) of the pixels.
        seed: seed of all random draws.

    Returns:
        (112, *positions, c) float32, within the range.
    """
    draw = np.random.default_rng([seed, 0xA11])
    low, high = value_range
    ones = (1,) * (len(shape) - 1)
    color = draw.random((_COLORED, *ones, shape[-1]))
    contrast = np.exp(draw.uniform(np.log(0.02), np.log(0.5), (_COLORED, *ones, 1)))
    colored = color + contrast * draw.standard_normal((_COLORED, *shape))
    noise = np.concatenate([colored, draw.random((_FULL, *shape))])
    noise = low + (high - low) * np.clip(noise, 0, 1)
    textures = synthetic_images(shape, value_range, count=_TEXTURES, seed=seed)
    return np.concatenate([noise.astype(np.float32), textures])


def constant_starts(
    shape: tuple[int, ...], value_range: tuple[float, float]
) -> NDArray[np.float32]:
    """Return images of one color, (m, *positions, c): five grays, and near the range's corners.

    A unit that anything inhibits is highest on one of them.

    Args:
        shape: (*positions, c).
        value_range: (low, high) of the pixels.
    """
    low, high = value_range
    channels = shape[-1]
    shares = [np.full(channels, gray) for gray in (0.0, 0.25, 0.5, 0.75, 1.0)]
    if 1 < channels <= _MAX_CORNERED:
        shares += [np.array(c) for c in product((0.0, 1.0), repeat=channels) if len({*c}) > 1]
    colors = (low + high) / 2 + _CONTRAST * (high - low) * (np.stack(shares) - 0.5)
    return np.broadcast_to(
        colors[(slice(None), *(None for _ in shape[:-1]))], (len(colors), *shape)
    ).astype(np.float32)


def tiled_starts(
    gradient: NDArray[np.float32], value_range: tuple[float, float]
) -> NDArray[np.float32]:
    """Return images that repeat the pattern to which a unit's linearized filter responds most.

    With the gradient g of the unit's pre-activation at one position, an image x that is bright
    where g > 0 and dark where g < 0 excites it most at that position, to first order. An
    image of period p that does so at all positions p apart has, in place of g, the sum of g over
    pixels p apart. So a unit fires that needs strong contrast at every pixel, unlike noise's.

    Args:
        gradient: (n, *positions, c) of one position of each unit, with respect to the pixels.
        value_range: (low, high) of the pixels.

    Returns:
        (n, 2, *positions, c) for each unit an image of the period of its receptive field, and one
        of half of it; a pixel without influence has the middle of the range.
    """
    return np.stack([np.stack(_tiles(one, value_range)) for one in gradient])


def _tiles(
    gradient: NDArray[np.float32], value_range: tuple[float, float]
) -> list[NDArray[np.float32]]:
    *sides, c = gradient.shape
    low, high = value_range
    read = np.argwhere(gradient.any(axis=-1))
    if not len(read):
        return [np.full(gradient.shape, (low + high) / 2, np.float32)] * 2
    first, field = read.min(axis=0), np.ptp(read, axis=0) + 1
    images = []
    for share in (1, 2):
        periods = -(-field // share)
        at = np.ix_(
            *((np.arange(n) - f) % p for n, f, p in zip(sides, first, periods, strict=True))
        )
        tile = np.zeros((*periods, c), np.float64)
        np.add.at(tile, at, gradient)
        signs = np.sign(tile)[at]
        contrast = _CONTRAST * (high - low) / 2
        images.append(((low + high) / 2 + signs * contrast).astype(np.float32))
    return images
