"""Filters that never fire, and filters that say the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.checks._offenders import raise_offenders
from convlens.checks.finite import assert_finite_weights
from convlens.engine.features.activations import activations, check_layers
from convlens.engine.model.network import Network


@dataclass(frozen=True)
class FilterStatistics:
    """What the filters of one layer do over a set of images.

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
    maps: ArrayLike, layer: str = "layer", *, tol: float | None = None
) -> FilterStatistics:
    """Return which filters are dead and which are duplicates, from their feature maps.

    A filter is dead when its activation is the same number at every position of every image. Two
    filters are duplicates when their activations over all images and positions point the same
    way: 1 - cosine ≤ `tol`, so a scaled copy counts too. Dead filters are not compared.

    Args:
        maps: (n, h, w, c) or (n, c) activations.
        layer: what to call the layer.
        tol: 1e-6 for float32 unless given, and in proportion to the precision of other types.

    Raises:
        ValueError: no map, no unit, or values that are not finite.
    """
    array = np.asarray(maps)
    if array.ndim < 2 or not array.size:
        raise ValueError(f"layer {layer!r}: maps have shape {array.shape}; (n, …, units) is needed")
    if tol is None:
        tol = 10 * float(np.finfo(array.dtype if array.dtype.kind == "f" else "f8").eps)
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


def assert_no_dead_filters(
    model: keras.Model | Network,
    images: ArrayLike,
    layers: str | Iterable[str] | None = None,
    *,
    allowed: int = 0,
) -> dict[str, FilterStatistics]:
    """Assert that every filter's activation changes over the images.

    Args:
        model: a Keras model or a `Network`.
        images: (n, h, w, c) in the model's own range.
        layers: names; None for every convolution.
        allowed: how many dead filters each layer may have.

    Returns:
        layer → its `FilterStatistics`.

    Raises:
        AssertionError: a layer has more dead filters than allowed; it names them.
        ValueError: an unknown layer, images of a wrong shape, a model without convolutions.
    """
    __tracebackhide__ = True
    network = Network.of(model)
    found = _statistics(network, images, layers)
    offenders = [
        f"layer {name!r}: {len(s.dead)} of {len(s.high)} are dead, units "
        f"{_some(s.dead)} (always {s.high[list(s.dead)].max():g})"
        for name, s in found.items()
        if len(s.dead) > allowed
    ]
    raise_offenders(
        f"{network.name} has filters that never fire on {len(np.asarray(images))} images "
        f"(allowed in a layer: {allowed}):",
        offenders,
    )
    return found


def assert_no_duplicate_filters(
    model: keras.Model | Network,
    images: ArrayLike,
    layers: str | Iterable[str] | None = None,
    *,
    tol: float | None = None,
) -> dict[str, FilterStatistics]:
    """Assert that no two filters of a layer give the same feature maps, up to a scale.

    Args:
        model: a Keras model or a `Network`.
        images: (n, h, w, c) in the model's own range.
        layers: names; None for every convolution.
        tol: how near 1 the cosine of two filters' activations must be, see `filter_statistics`.

    Returns:
        layer → its `FilterStatistics`.

    Raises:
        AssertionError: two filters are duplicates, or a layer has nothing but dead filters.
        ValueError: an unknown layer, images of a wrong shape, a model without convolutions.
    """
    __tracebackhide__ = True
    network = Network.of(model)
    found = _statistics(network, images, layers, tol=tol)
    offenders = []
    for name, s in found.items():
        if len(s.dead) == len(s.high):
            offenders.append(f"layer {name!r}: all {len(s.high)} filters are dead")
        offenders += [
            f"layer {name!r}: units {i} and {j}, cosine {cosine:.8f}"
            for i, j, cosine in s.duplicates
        ]
    raise_offenders(f"{network.name} has filters that say the same:", offenders)
    return found


def _statistics(
    network: Network,
    images: ArrayLike,
    layers: str | Iterable[str] | None,
    **options: Any,
) -> dict[str, FilterStatistics]:
    __tracebackhide__ = True
    assert_finite_weights(network)
    names = check_layers(network, layers)
    maps = activations(network, images, names)
    for name, values in maps.items():
        if not np.isfinite(values).all():
            unit = int(np.flatnonzero(~np.isfinite(values).reshape(-1, values.shape[-1]).all(0))[0])
            raise AssertionError(
                f"{network.name} layer {name!r}: the activation of unit {unit} is not finite"
            )
    return {name: filter_statistics(values, name, **options) for name, values in maps.items()}


def _some(numbers: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    return shown if len(numbers) <= 10 else f"{shown} … and {len(numbers) - 10} more"
