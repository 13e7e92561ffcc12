"""Hidden layers of two trainings beside each other. They judge nothing.

Healthy trainings of one recipe find other units, and a layer that was never trained can be as
similar as one that was; so similarity here is to be looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.compare.retrained.weights import paired_layers
from convlens.engine.model.network import Network
from convlens.engine.runtime.batches import each_batch

# Images of a batch: the similarity is unbiased for any, and steadier for more.
_BATCH, _MAX_IMAGES = 64, 256
_MIN_IMAGES = 8
# A unit has no partner if no unit of the other model has at least this correlation with it.
_PARTNER = 0.5


@dataclass(frozen=True)
class LayerSimilarity:
    """A layer of the new model beside the old model's counterpart.

    Attributes:
        layer: name in the new model.
        old_layer: name in the old model.
        cka: linear centered kernel alignment (Kornblith et al. 2019), 1 for equal features up to a
            rotation and a scale. It is estimated without bias in batches of at most 64 images
            (Nguyen et al. 2021).
        units: number of units.
        lost: numbers of the old model's units without a partner, the least alike first: no unit of
            the new model has a correlation of 0.5 with it over the images.
    """

    layer: str
    old_layer: str
    cka: float
    units: int
    lost: tuple[int, ...]


def compare_hidden(
    new: Network, old: Network, images: NDArray[np.float32]
) -> tuple[LayerSimilarity, ...]:
    """Return the similarity of the layers with kernels, in the order of the network.

    Args:
        new, old: the networks, which take the same images.
        images: images (n, *positions, c); at most 256, evenly spread, are used.
    """
    pairs = [
        (name, other)
        for name, other in paired_layers(new, old)
        if any(len(v.shape) > 1 for v in new.layers[name].weights) and new.reaches(name)
    ]
    if not pairs or len(images) < _MIN_IMAGES:
        return ()
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), _MAX_IMAGES)).astype(int))
    x = images[chosen]
    count = -(-len(x) // _BATCH)
    size = len(x) // count
    x = x[: size * count]
    sums = np.zeros((len(pairs), 3))
    means: list[list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = [[] for _ in pairs]
    sides = [
        _features(network, [pair[i] for pair in pairs]) for i, network in enumerate((new, old))
    ]
    for own, before in zip(*(each_batch(side, x, size) for side in sides), strict=True):
        for i, (a, b) in enumerate(zip(own, before, strict=True)):
            sums[i] += _alignments(a, b)
            means[i].append((_unit_means(a), _unit_means(b)))
    return tuple(
        LayerSimilarity(name, other, _ratio(total), *_partners(parts))
        for (name, other), total, parts in zip(pairs, sums, means, strict=True)
    )


def _features(network: Network, names: Sequence[str]) -> Any:
    tensors = [network.outputs[name] for name in names]
    return network.compiled(
        ("retrained", tuple(names)),
        lambda: lambda batch: [ops.cast(v, "float32") for v in network.run(batch, tensors)],
    )


def _alignments(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return unbiased HSIC of two layers' features, and of each with itself (Song et al. 2012)."""
    k, m = (_products(v) for v in (a, b))
    return np.array([_independence(k, m), _independence(k, k), _independence(m, m)])


def _products(features: NDArray[Any]) -> NDArray[np.float64]:
    rows = features.reshape(len(features), -1)
    rows = rows - rows.mean(axis=0)
    found = (rows @ rows.T).astype(np.float64)
    np.fill_diagonal(found, 0)
    return found


def _independence(k: NDArray[np.float64], m: NDArray[np.float64]) -> float:
    n = len(k)
    shared = float((k * m).sum())
    apart = float(k.sum() * m.sum()) / ((n - 1) * (n - 2))
    mixed = 2 / (n - 2) * float(k.sum(axis=0) @ m.sum(axis=0))
    return (shared + apart - mixed) / (n * (n - 3))


def _ratio(sums: NDArray[np.float64]) -> float:
    shared, own, other = sums
    return float(np.clip(shared / np.sqrt(own * other), 0, 1)) if own > 0 and other > 0 else 0.0


def _unit_means(features: NDArray[Any]) -> NDArray[np.float64]:
    """Return each unit's mean activation on each image (n, units)."""
    axes = tuple(range(1, features.ndim - 1))
    found: NDArray[np.float64] = features.mean(axis=axes, dtype=np.float64)
    return found


def _partners(
    parts: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[int, tuple[int, ...]]:
    """Return the number of the old model's units, and those without a partner."""
    own, before = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    a, b = (v - v.mean(axis=0) for v in (own, before))
    norms = np.outer(np.linalg.norm(b, axis=0), np.linalg.norm(a, axis=0))
    best = np.divide(b.T @ a, norms, out=np.zeros_like(norms), where=norms > 0).max(axis=1)
    live = np.linalg.norm(b, axis=0) > 0
    lost = [int(u) for u in np.argsort(best, kind="stable") if best[u] < _PARTNER and live[u]]
    return len(best), tuple(lost)
