"""Statistics of a layer's filters over images: which are dead, and which are duplicates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from convlens.engine.features.accumulate import ChannelAccumulator
from convlens.engine.model.activation import Activation, activation_behind
from convlens.engine.model.network import Network
from convlens.engine.runtime.batches import each_batch
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
_BATCH, _BATCH_VALUES = 64, 2**23


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
    duplicates: tuple[tuple[int, int, float], ...]
    spread: NDArray[np.float64]
    fires: NDArray[np.float64]
    behind: str | None = None


@dataclass(frozen=True)
class FilterSurvey:
    """One layer's activations over images, gathered batch by batch.

    Attributes:
        layer: the layer's name.
        own: the layer's own output, with products.
        judged: the output of the activation behind it; `own` where there is none.
        behind: that activation.
        precision: the precision in which `own` was computed.
        dtype: the type in which `judged` is stored.
        differ: whether two of the images differ.
    """

    layer: str
    own: ChannelAccumulator
    judged: ChannelAccumulator
    behind: Activation | None
    precision: str
    dtype: str
    differ: bool

    @property
    def not_finite(self) -> int | None:
        """The first unit with NaN or infinite activations; None if all are finite."""
        own = self.own.not_finite
        return self.judged.not_finite if own is None else own

    def statistics(self, tol: float | None = None) -> FilterStatistics:
        """Return which filters are dead and which are duplicates; see `filter_statistics`."""
        low, high = self.judged.low, self.judged.high
        spread = self.judged.spread if self.differ else high - low
        rounding = max(_ROUNDING, 2 * unit_roundoff(precision_of(self.dtype))) * np.maximum(
            np.abs(low), np.abs(high)
        )
        dead = spread <= np.maximum(max(DEAD_SHARE * spread.max(), _NOTHING), rounding)
        products = self.own.products
        if products is None:
            raise ValueError(f"layer {self.layer!r}: its products were not gathered")
        if tol is None:
            tol = cosine_tolerance(self.precision)
        return FilterStatistics(
            self.layer,
            low,
            high,
            tuple(np.flatnonzero(dead).tolist()),
            _duplicates(products, self.own.covariances, ~dead & (np.diagonal(products) > 0), tol),
            spread,
            self.judged.fires,
            None if self.behind is None else str(self.behind),
        )


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
    survey = FilterSurvey(layer, found, found, None, computed, str(dtype), len(array) > 1)
    return survey.statistics(tol)


def survey_filters(
    network: Network, x: NDArray[np.float32], layers: Sequence[str]
) -> dict[str, FilterSurvey]:
    """Return layer → what its filters do over images, from one pass in batches.

    Args:
        network: the network.
        x: (n, h, w, c), checked by `Network.check_images`.
        layers: names of layers.
    """
    behind = {name: activation_behind(network, name) for name in layers}
    tensors: dict[int, Any] = {}
    for name, activation in behind.items():
        for tensor in (network.outputs[name], *([activation.tensor] if activation else [])):
            tensors[id(tensor)] = tensor

    def build() -> Callable[..., Any]:
        wanted = list(tensors.values())
        return lambda batch: [ops.cast(v, "float32") for v in network.run(batch, wanted)]

    key = (
        "filters",
        *((name, activation and activation.name) for name, activation in behind.items()),
    )
    forward = network.compiled(key, build)
    own = {id(network.outputs[name]) for name in layers}
    found = {key: ChannelAccumulator(products=key in own) for key in tensors}
    for maps in each_batch(forward, x, _batch_size(network, x, tensors.values())):
        for accumulator, values in zip(found.values(), maps, strict=True):
            accumulator.add(values)
    differ = images_differ(x)
    surveys = {}
    for name, activation in behind.items():
        output = network.outputs[name]
        judged = output if activation is None else activation.tensor
        surveys[name] = FilterSurvey(
            name,
            found[id(output)],
            found[id(judged)],
            activation,
            network.rounding(name).precision,
            str(judged.dtype),
            differ,
        )
    return surveys


def images_differ(x: NDArray[np.float32]) -> bool:
    """Return whether two of the images (n, h, w, c) differ."""
    return any(not np.array_equal(x[0], other) for other in x[1:])


def _batch_size(network: Network, x: NDArray[np.float32], tensors: Any) -> int:
    """Return the number of images whose activations are held at a time."""
    # A network of any size has maps about as large as its images.
    positions = math.prod(x.shape[1:-1])
    values = sum(
        math.prod(t.shape[1:]) if None not in t.shape[1:] else positions * t.shape[-1]
        for t in tensors
    )
    return max(1, min(_BATCH, _BATCH_VALUES // values))


def _duplicates(
    products: NDArray[np.float64],
    covariances: NDArray[np.float64],
    compared: NDArray[np.bool_],
    tol: float,
) -> tuple[tuple[int, int, float], ...]:
    """Return the pairs of units that point the same way, with their cosine, the closest first."""
    alive = np.flatnonzero(compared)
    cosine, likeness = (_cosines(each[np.ix_(alive, alive)]) for each in (products, covariances))
    i, j = np.triu_indices(len(alive), k=1)
    close = np.flatnonzero((1 - cosine[i, j] <= tol) & (likeness[i, j] >= _LIKENESS))
    close = close[np.argsort(-cosine[i, j][close], kind="stable")]
    return tuple((int(alive[i[k]]), int(alive[j[k]]), float(cosine[i[k], j[k]])) for k in close)


def _cosines(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosines (c, c) of vectors, from their products; 0 for a vector of zeros."""
    norms = np.sqrt(np.maximum(np.diagonal(products), 0))
    sizes = np.outer(norms, norms)
    return np.divide(products, sizes, out=np.zeros_like(products), where=sizes > 0)
