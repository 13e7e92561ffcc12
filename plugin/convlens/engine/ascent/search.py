"""A search without gradients: it says whether anything is left to climb."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.engine.ascent.objectives import Objective
from convlens.engine.ascent.scores import Scores
from convlens.engine.ascent.starts import common_starts
from convlens.engine.model.network import Network

# Patterns repeat after so many pixels: noise of the image's own size would cancel over the
# positions of a map. A change of either sign is tried, for one of them rises on any slope.
_PERIODS, _CHANGES, _DRAWS = (1, 2, 3, 5, 8, 13), (0.02, 0.1), 4
# So many images are tried before the search for a unit may end.
_TRIED = 16


def highest_without_gradient(
    network: Network,
    objectives: Sequence[Objective],
    images: NDArray[np.float32],
    value_range: tuple[float, float],
    seed: int = 0,
    graph_layers: Sequence[str] | None = None,
    enough: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return the highest value that each objective has on known images and near its own, (n,).

    Known are the images themselves and `common_starts`. Near an image are those
    that differ from it by a faint pattern of a short period.

    Args:
        network: the network.
        objectives: n objectives.
        images: (n, *positions, c) the image of each.
        value_range: (low, high) of the pixels.
        seed: seed of the images.
        graph_layers: layers that share a compiled graph; see `Scores`.
        enough: (n,) the search for an objective ends with a value above this; None to search all.
    """
    shape = images.shape[1:]
    wanted = np.full(len(images), np.inf) if enough is None else enough
    # An image that was not clipped may leave the range.
    limits = min(value_range[0], float(images.min())), max(value_range[1], float(images.max()))
    scores = Scores(network, objectives, graph_layers)
    known = common_starts(shape, value_range, seed)
    tables = [scores.table(known), scores.table([images], common=False)]
    highest = np.concatenate(tables, axis=1).max(axis=1)
    patterns = _patterns(shape, value_range, seed)
    changes = np.stack([patterns, -patterns], axis=1).reshape(-1, *shape)
    for i, image in enumerate(images):
        for first in range(0, len(changes), _TRIED):
            if highest[i] > wanted[i]:
                break
            near = np.clip(image + changes[first : first + _TRIED], *limits)
            highest[i] = max(highest[i], scores.table([near], common=False)[i].max())
    return highest


def _patterns(
    shape: tuple[int, ...], value_range: tuple[float, float], seed: int
) -> NDArray[np.float32]:
    """Return faint patterns of several periods, (m, *positions, c)."""
    draw = np.random.default_rng([seed, 0x5EA])
    *sides, c = shape
    low, high = value_range
    made = []
    for period in _PERIODS:
        for change in _CHANGES:
            tiles = (
                change * (high - low) * draw.standard_normal((_DRAWS, *(period for _ in sides), c))
            )
            at: tuple[Any, ...] = np.ix_(*(np.arange(side) % period for side in sides))
            made.append(tiles[(slice(None), *at)])
    return np.concatenate(made).astype(np.float32)
