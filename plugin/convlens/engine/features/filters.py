"""Statistics of a layer's filters over images: which are dead, and which are duplicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.engine.runtime.tolerance import as_floats, cosine_tolerance, precision_of


@dataclass(frozen=True)
class FilterStatistics:
    """The activations of one layer's filters over a set of images, summarized.

    Attributes:
        layer: the layer's name.
        low, high: (units,) each unit's smallest and largest activation.
        dead: numbers of the units whose activation never changes.
        duplicates: pairs of unit numbers with their cosine similarity, the most alike first.
    """

    layer: str
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    dead: tuple[int, ...]
    duplicates: tuple[tuple[int, int, float], ...]


def filter_statistics(
    maps: ArrayLike,
    layer: str = "layer",
    *,
    tol: float | None = None,
    precision: str | None = None,
) -> FilterStatistics:
    """Return which filters are dead and which are duplicates, from their feature maps.

    A filter is dead when its activation is the same number at every position of every image. Two
    filters are duplicates when their activations over all images and positions point the same
    way: 1 - cosine ≤ `tol`, so a scaled copy counts too. Dead filters are not compared.

    Args:
        maps: (n, h, w, c) or (n, c) activations.
        layer: what to call the layer.
        tol: by the precision unless given; 1.2e-6 for float32.
        precision: the precision that the maps were computed in; that of their type unless given.

    Raises:
        ValueError: no map, no unit, or values that are not finite.
    """
    array = as_floats(maps)
    if array.ndim < 2 or not array.size:
        raise ValueError(f"layer {layer!r}: maps have shape {array.shape}; (n, …, units) is needed")
    if tol is None:
        tol = cosine_tolerance(precision or precision_of(np.asarray(maps).dtype))
    flat = array.reshape(-1, array.shape[-1]).astype(np.float64)
    if not np.isfinite(flat).all():
        unit = int(np.flatnonzero(~np.isfinite(flat).all(axis=0))[0])
        raise ValueError(f"layer {layer!r}: the activation of unit {unit} is not finite")
    low, high = flat.min(axis=0), flat.max(axis=0)
    dead = low == high
    alive = np.flatnonzero(~dead)
    norms = np.linalg.norm(flat[:, alive], axis=0)
    unit_vectors = flat[:, alive] / norms
    cosine = unit_vectors.T @ unit_vectors
    i, j = np.triu_indices(len(alive), k=1)
    close = np.flatnonzero(1 - cosine[i, j] <= tol)
    close = close[np.argsort(-cosine[i, j][close], kind="stable")]
    pairs = tuple((int(alive[i[k]]), int(alive[j[k]]), float(cosine[i[k], j[k]])) for k in close)
    return FilterStatistics(layer, low, high, tuple(np.flatnonzero(dead).tolist()), pairs)
