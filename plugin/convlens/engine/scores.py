"""The values of objectives on a batch of images, one objective an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.network import Network
from convlens.engine.objectives import Objective, Place, places_of
from convlens.engine.targets import output_of, tensor_of

BATCH = 64


class Scores:
    """What each place gives to each image's objective, (n, places).

    Attributes:
        places: where the objectives read.
        layers: in which layers these are.
        weights: for each place, the weights (n, units) of each objective.
        may_wake: (n, places) whether a part is one ReLU unit's activation, which has no gradient
            where it is silent over its whole map.
    """

    def __init__(self, network: Network, objectives: Sequence[Objective]) -> None:
        self.network = network
        self.places, self.weights = places_of(network, objectives)
        self.layers = list(dict.fromkeys(place.layer for place in self.places))
        self.outputs = [tensor_of(network, place.layer) for place in self.places]
        self.before = [
            self._before_relu(p, t) for p, t in zip(self.places, self.outputs, strict=True)
        ]
        self.may_wake = np.stack(
            [
                ((w > 0).sum(axis=1) == 1) & ((w != 0).sum(axis=1) == 1) & (before is not None)
                for w, before in zip(self.weights, self.before, strict=True)
            ],
            axis=1,
        )

    def maps(self, images: Any) -> list[Any]:
        """Return the activations at each place."""
        return self.network.run(images, self.outputs)

    def measure(self, images: Any, weights: list[Any]) -> Any:
        """Return what each place gives to each objective, (n, places)."""
        return self.shares(self.maps(images), weights)

    def shares(self, maps: list[Any], weights: list[Any]) -> Any:
        """Return what maps give to each objective, (n, places)."""
        parts = [
            ops.sum(_at(ops.mean, m, place) * w, axis=-1)
            for m, place, w in zip(maps, self.places, weights, strict=True)
        ]
        return ops.stack(parts, axis=1)

    def awakened(self, images: Any, weights: list[Any], silent: Any) -> tuple[list[Any], Any]:
        """Return the maps, and the shares with those of silent units replaced.

        Of a unit that was silent and still is, the strongest value before the ReLU stands for its
        activation.
        """
        inner = [b for b in self.before if b is not None]
        values = self.network.run(images, [*self.outputs, *inner])
        maps, rest = values[: len(self.outputs)], iter(values[len(self.outputs) :])
        shares = self.shares(maps, weights)
        peaks = [
            ops.zeros_like(shares[:, i])
            if before is None
            else ops.sum(_at(ops.max, next(rest), place) * w, axis=-1)
            for i, (place, before, w) in enumerate(
                zip(self.places, self.before, weights, strict=True)
            )
        ]
        peak = ops.stack(peaks, axis=1)
        asleep = ops.logical_and(silent, peak <= 0)
        return maps, ops.where(asleep, peak, shares)

    def compiled(self) -> Callable[..., Any]:
        """Return `measure` compiled: (images, weights) → (n, places)."""
        key = ("measure", self.places)
        return self.network.compiled(key, lambda: self.measure, batched=2)

    def _before_relu(self, place: Place, output: Any) -> Any:
        before = self.network.preactivations.get(place.layer)
        relu = self.network.activation_name(place.layer) in ("relu", "relu6")
        return before if relu and before is not output else None


def _at(reduce: Callable[..., Any], maps: Any, place: Place) -> Any:
    """Return maps' vectors (n, units), at the place's position or reduced over all positions."""
    maps = ops.cast(maps, "float32")
    if place.position is None:
        positions = tuple(range(1, len(maps.shape) - 1))
        return reduce(maps, axis=positions) if positions else maps
    if place.position == "center":
        shape = ops.shape(maps)
        return maps[:, shape[1] // 2, shape[2] // 2]
    row, column = place.position
    return maps[:, row, column]


def objective_values(
    network: Network, objectives: Sequence[Objective], images: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the value (n,) that `maximize` raises, of objective i on image i.

    For a unit it is the mean of its feature map, or its value before the softmax; no jitter.
    """
    scores = Scores(network, objectives)
    measure = scores.compiled()
    parts = [
        measure(
            ops.convert_to_tensor(images[i : i + BATCH]),
            [ops.convert_to_tensor(w[i : i + BATCH]) for w in scores.weights],
        )
        for i in range(0, len(images), BATCH)
    ]
    return np.concatenate([ops.convert_to_numpy(part).sum(axis=1) for part in parts])


def class_scores(network: Network, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scores (n, classes) before the softmax of the model's output."""
    target = output_of(network, None)

    def build() -> Callable[..., Any]:
        tensor = tensor_of(network, target)
        return lambda x: network.run(x, [tensor])[0]

    scores = network.compiled(("scores", target), build)(ops.convert_to_tensor(images))
    return ops.convert_to_numpy(scores).astype(np.float32)
