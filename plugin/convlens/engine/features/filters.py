"""Statistics of a layer's filters over images: which are dead, and which are duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.engine.features.accumulate import ChannelAccumulator
from convlens.engine.runtime.tolerance import (
    as_floats,
    cosine_tolerance,
    precision_of,
    unit_roundoff,
)

# A filter that varies by no more than this share of the layer's most varying filter is dead: the
# next layer's sums in float32 round it away.
DEAD_SHARE = 1e-7
# No weight of a later layer can raise a change of this size.
_NOTHING = 1e-30
# A change of this share of a unit's own size is rounding: some steps of float32, in which the sums
# are taken, and one step of a coarser type, to which they are rounded.
_ROUNDING = 1e-6
# Smallest correlation of duplicates. Maps that hardly vary, such as those of a sigmoid about 1/2,
# point the same way to the rounding of a coarse type, whatever they show.
_LIKENESS = 0.95
_BATCH = 64
# Pairs of unit numbers with their cosine, the closest first.
Duplicates = tuple[tuple[int, int, float], ...]


@dataclass(frozen=True)
class FilterStatistics:
    """The activations of one layer's filters over a set of images, summarized.

    Attributes:
        layer: the layer's name.
        low, high: (units,) each unit's smallest and largest activation, behind the activation
            that `behind` names.
        dead: numbers of the units whose activation does not vary from image to image.
        duplicates: pairs of unit numbers with their cosine similarity, the most alike first.
        spread: (units,) each unit's largest change from image to image at one position; with a
            single image from position to position.
        fires: (units,) the share of images and positions at which each unit is above 0.
        behind: the name of the activation that alone reads the layer and behind which dead units
            were looked for, such as "its ReLU 'relu_3'"; None for the layer's own output.
    """

    layer: str
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    dead: tuple[int, ...]
    duplicates: Duplicates
    spread: NDArray[np.float64]
    fires: NDArray[np.float64]
    behind: str | None = None


@dataclass(frozen=True)
class Judged:
    """The activations by which one layer's filters are judged dead or alive, over images.

    Attributes:
        layer: the layer's name.
        maps: the activations: the layer's own, or those of the activation behind it.
        behind: the description of that activation; None for the layer's own output.
        dtype: the type in which they are stored.
        differ: whether two of the images differ.
    """

    layer: str
    maps: ChannelAccumulator
    behind: str | None
    dtype: str
    differ: bool

    @cached_property
    def spread(self) -> NDArray[np.float64]:
        """Each unit's largest change (units,), from image to image if the images differ."""
        return self.maps.spread if self.differ else self.maps.high - self.maps.low

    @cached_property
    def dead(self) -> NDArray[np.bool_]:
        """True for each unit (units,) that does not vary; see `filter_statistics`."""
        return hardly_varies(self.maps, self.spread, float(self.spread.max()), self.dtype)

    def statistics(self, duplicates: Duplicates) -> FilterStatistics:
        """Return the layer's statistics, given its pairs of duplicates."""
        return FilterStatistics(
            self.layer,
            self.maps.low,
            self.maps.high,
            tuple(np.flatnonzero(self.dead).tolist()),
            duplicates,
            self.spread,
            self.maps.fires,
            self.behind,
        )


def hardly_varies(
    maps: ChannelAccumulator, spread: NDArray[np.float64], largest: float, dtype: str
) -> NDArray[np.bool_]:
    """Return whether each unit (units,) is dead; see `filter_statistics` for the rule.

    Args:
        maps: the units' activations.
        spread: (units,) each unit's largest change.
        largest: the change of the layer's most varying unit.
        dtype: the type in which the activations are stored.
    """
    size = np.maximum(np.abs(maps.low), np.abs(maps.high))
    rounding = max(_ROUNDING, 2 * unit_roundoff(precision_of(dtype))) * size
    return spread <= np.maximum(max(DEAD_SHARE * largest, _NOTHING), rounding)


def filter_statistics(
    maps: ArrayLike,
    layer: str = "layer",
    *,
    tol: float | None = None,
    precision: str | None = None,
) -> FilterStatistics:
    """Return which filters are dead and which are duplicates, from their feature maps.

    A filter is dead when its activation does not vary from image to image, at any position, by
    more than 10⁻⁷ of the most varying filter's change, or than 10⁻⁶ of its own size (one rounding
    step in half precision).
    Differences between positions do not count, because padding makes them too; they count only for
    a single image. Two filters are duplicates when their activations over all images and positions
    point the same way, 1 - cosine ≤ `tol`, so a scaled copy counts too, and vary together, with a
    correlation of 0.95 or more. Dead filters are not compared.

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
    found = ChannelAccumulator(products=True)
    for start in range(0, len(array), _BATCH):
        found.add(array[start : start + _BATCH].astype(np.float64))
    if found.not_finite is not None:
        raise ValueError(
            f"layer {layer!r}: the activation of unit {found.not_finite} is not finite"
        )
    dtype = np.asarray(maps).dtype
    computed = precision or precision_of(dtype)
    judged = Judged(layer, found, None, str(dtype), len(array) > 1)
    alive = np.flatnonzero(~judged.dead)
    tol = cosine_tolerance(computed) if tol is None else tol
    return judged.statistics(duplicates_among(found.of_channels(alive), alive, tol))


def images_differ(x: NDArray[np.float32]) -> bool:
    """Return whether two of the images (n, h, w, c) differ."""
    return any(not np.array_equal(x[0], other) for other in x[1:])


def duplicates_among(found: ChannelAccumulator, units: NDArray[np.int64], tol: float) -> Duplicates:
    """Return the pairs of units that are duplicates, with their cosine, the closest first.

    Args:
        found: the activations of these units alone, with products in float64.
        units: numbers of the units.
        tol: largest 1 - cosine of duplicates.

    Raises:
        ValueError: products were not gathered.
    """
    if found.products is None:
        raise ValueError("products were not gathered")
    loud = np.flatnonzero(np.diagonal(found.products) > 0)
    chosen = np.ix_(loud, loud)
    cosines, likeness = (_cosines(each[chosen]) for each in (found.products, found.covariances))
    i, j = np.nonzero(np.triu((1 - cosines <= tol) & (likeness >= _LIKENESS), k=1))
    pairs = zip(units[loud[i]], units[loud[j]], cosines[i, j], strict=True)
    return tuple(sorted(((int(a), int(b), float(v)) for a, b, v in pairs), key=lambda p: -p[2]))


def _cosines(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosines (c, c) of vectors, from their products; 0 for a vector of zeros."""
    norms = np.sqrt(np.maximum(np.diagonal(products), 0))
    sizes = np.outer(norms, norms)
    return np.divide(products, sizes, out=np.zeros_like(products), where=sizes > 0)
