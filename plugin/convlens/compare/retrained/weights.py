"""Layers whose weights a training left at their initialization, or that were pruned."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.special import kolmogorov, ndtr

from convlens.engine.model.network import Network
from convlens.engine.runtime import backend

# A layer counts as pruned from this share of weights that are exactly 0; trained ones are not.
_PRUNED, _NOT_PRUNED = 0.1, 0.01
# Fewer weights than this follow any distribution.
_MIN_WEIGHTS = 50
# A training that moves weights by a twentieth of their range takes a dozen of so many out of the
# range: a uniform one has many weights near its ends, a normal one few.
_ENOUGH, _ENOUGH_NORMAL = 500, 5000
_SIGNIFICANCE = 1e-3


@dataclass(frozen=True)
class LayerFinding:
    """A layer that lost its training.

    Attributes:
        layer: its name in the new model.
        finding: what is wrong with its weights, in words.
    """

    layer: str
    finding: str


def compare_weights(new: Network, old: Network) -> tuple[LayerFinding, ...]:
    """Return the layers of the new model that lost their training, in the order of the network.

    A layer counts only where the old model's counterpart was trained, and not pruned.
    """
    found = []
    for name, other in paired_layers(new, old):
        own, before = _weights(new.layers[name]), _weights(old.layers[other])
        if not own or own.keys() != before.keys():
            continue
        pruned = _zeros(own), _zeros(before)
        if pruned[0] >= _PRUNED and pruned[1] < _NOT_PRUNED:
            text = f"{pruned[0]:.0%} of its weights are exactly 0 (before {pruned[1]:.0%}): pruned"
            found.append(LayerFinding(name, text))
        elif _is_initial(new.layers[name], own) and not _is_initial(old.layers[other], before):
            text = "its weights are as at initialization (before: trained): it was not trained"
            found.append(LayerFinding(name, text))
    return tuple(found)


def paired_layers(new: Network, old: Network) -> Iterator[tuple[str, str]]:
    """Yield the names of the new model's layers with weights beside those of the old one's.

    Networks with the same layers are paired in order, for Keras numbers them anew; others by name.
    Counterparts have weights of the same shapes.
    """
    sides = [
        {name: shapes for name in network.outputs if (shapes := _shapes(network, name))}
        for network in (new, old)
    ]
    if list(sides[0].values()) == list(sides[1].values()):
        yield from zip(*sides, strict=True)
        return
    for name, shapes in sides[0].items():
        if sides[1].get(name) == shapes:
            yield name, name


def _shapes(network: Network, name: str) -> tuple[tuple[int, ...], ...]:
    layer = network.layers.get(name)
    return tuple(tuple(v.shape) for v in getattr(layer, "weights", ()))


def _weights(layer: Any) -> dict[str, NDArray[np.float64]]:
    return {
        v.name: np.asarray(backend.to_numpy(v.value), np.float64) for v in layer.trainable_weights
    } | {
        v.name: np.asarray(backend.to_numpy(v.value), np.float64)
        for v in layer.non_trainable_weights
        if "float" in str(v.dtype) and "moving" not in v.name
    }


def _zeros(weights: Mapping[str, NDArray[np.float64]]) -> float:
    """Return the share of a layer's kernels that is exactly 0, 0 for a layer without kernels."""
    kernels = [w for w in weights.values() if w.ndim > 1]
    size = sum(w.size for w in kernels)
    return sum(int((w == 0).sum()) for w in kernels) / size if size >= _MIN_WEIGHTS else 0.0


def _is_initial(layer: Any, weights: Mapping[str, NDArray[np.float64]]) -> bool:
    """Return whether a layer's weights can be those that its initializers drew.

    No large kernel is trained and stays within its initializer's distribution. Small ones can, so
    biases and the like must be as at initialization beside them.
    """
    known = {name: _drawn_by(_initializer(layer, name), w) for name, w in weights.items()}
    kernels = [name for name, w in weights.items() if w.ndim > 1]
    if any(known[name] is False for name in kernels):
        return False
    evidence = sum(
        weights[name].size / _enough(_initializer(layer, name)) for name in kernels if known[name]
    )
    constants = [known[name] for name in weights.keys() - set(kernels)]
    return evidence >= 1 or (any(constants) and all(found is not False for found in constants))


def _enough(initializer: Any) -> int:
    """Return a number of weights of which training takes some out of an initializer's range."""
    return _ENOUGH if initializer.distribution == "uniform" else _ENOUGH_NORMAL


def _initializer(layer: Any, variable: str) -> Any:
    for stem in (variable, variable.removesuffix("_kernel")):
        found = getattr(layer, f"{stem}_initializer", None)
        if found is not None:
            return found
    return None


def _drawn_by(initializer: Any, value: NDArray[np.float64]) -> bool | None:
    """Return whether an initializer can have drawn an array; None where nobody can tell."""
    kinds = keras.initializers
    if isinstance(initializer, kinds.Zeros | kinds.Ones):
        return bool((value == (0 if isinstance(initializer, kinds.Zeros) else 1)).all())
    if value.size < _MIN_WEIGHTS:
        return None
    if isinstance(initializer, kinds.VarianceScaling):
        return _scaled_to(initializer, value)
    return None


def _scaled_to(initializer: Any, value: NDArray[np.float64]) -> bool:
    """Return whether an array can come from a `VarianceScaling`, such as Glorot's and He's."""
    positions = math.prod(value.shape[:-2])
    ends = (
        positions * value.shape[-2] if value.ndim > 1 else value.size,
        positions * value.shape[-1],
    )
    fan = {"fan_in": ends[0], "fan_out": ends[1]}.get(initializer.mode, sum(ends) / 2)
    variance = initializer.scale / max(1.0, fan)
    flat = value.ravel()
    if initializer.distribution == "uniform":
        edge = math.sqrt(3 * variance)
        scaled, low, high = (flat / edge + 1) / 2, 0.0, 1.0
    else:
        # A normal distribution that is cut at two deviations keeps this deviation.
        cut = initializer.distribution == "truncated_normal"
        deviation = math.sqrt(variance) / (0.87962566103423978 if cut else 1)
        edge = 2 * deviation if cut else math.inf
        scaled = ndtr(flat / deviation)
        low, high = (float(ndtr(-2.0)), float(ndtr(2.0))) if cut else (0.0, 1.0)
    if np.abs(flat).max() > edge * (1 + 1e-6):
        return False
    share = np.sort(np.clip((scaled - low) / (high - low), 0, 1))
    steps = np.arange(1, len(share) + 1) / len(share)
    distance = max(float((steps - share).max()), float((share - steps).max()) + 1 / len(share))
    return bool(kolmogorov(math.sqrt(len(share)) * distance) > _SIGNIFICANCE)
