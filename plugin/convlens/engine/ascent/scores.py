"""Values of objectives on a batch of images, one objective for each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.ascent.objectives import Objective, Place, places_of
from convlens.engine.ascent.one_filter import OneFilter
from convlens.engine.model.network import Network
from convlens.engine.model.targets import output_of, tensor_of
from convlens.engine.runtime.batches import in_batches

BATCH = 64


class Scores:
    """The share of each place in each image's objective, (n, places).

    Attributes:
        places: the places that the objectives read.
        layers: the layers of these places.
        weights: for each place, the weights (n, units) of each objective.
        single: for each place, True if every objective reads at most one unit of it.
        may_wake: (n, places) True if a share is the activation of a single ReLU unit, which has no
            gradient while its whole map is 0.
    """

    def __init__(self, network: Network, objectives: Sequence[Objective]) -> None:
        self.network = network
        self.places, self.weights = places_of(network, objectives)
        self.layers = list(dict.fromkeys(place.layer for place in self.places))
        self.outputs = [tensor_of(network, place.layer) for place in self.places]
        pairs = zip(self.places, self.outputs, strict=True)
        self.before = [self._before_relu(place, output) for place, output in pairs]
        asked = [(w != 0).sum(axis=1) for w in self.weights]
        self.single = tuple(bool((count <= 1).all()) for count in asked)
        self.may_wake = np.stack(
            [
                ((w > 0).sum(axis=1) == 1) & (count == 1) & (before is not None)
                for w, count, before in zip(self.weights, asked, self.before, strict=True)
            ],
            axis=1,
        )

    def maps(self, images: Any) -> list[Any]:
        """Return the activations at each place."""
        return self.network.run(images, self.outputs)

    def measure(self, images: Any, weights: list[Any]) -> Any:
        """Return the share of each place in each objective, (n, places)."""
        maps = self.maps(images)
        return ops.stack(
            [_share(*part) for part in zip(maps, self.places, weights, strict=True)], 1
        )

    def to_climb(
        self, images: Any, weights: list[Any], silent: Any | None, whole: bool
    ) -> tuple[Any, Any]:
        """Return the maps at the first place, and the share of each place, (n, places).

        The share of a unit that was silent and still is silent is its largest pre-activation.

        Args:
            images: (n, h, w, c).
            weights: for each place, (n, units).
            silent: (n, places) True for silent shares; None if no share is silent.
            whole: True to return all maps of the first place, not only the map of each image's
                unit.
        """
        narrow = [
            None if whole or not single else OneFilter.of(self.network, place.layer)
            for place, single in zip(self.places, self.single, strict=True)
        ]
        wanted: list[Any] = []
        for output, before, one in zip(self.outputs, self.before, narrow, strict=True):
            # Read the pre-activation only if needed: reading it prevents fusing the activation.
            own = [output, output if silent is None or before is None else before]
            wanted += own if one is None else [one.source, one.source]
        values = self.network.run(images, wanted)
        shares, peaks = [], []
        for i, (place, w, one) in enumerate(zip(self.places, weights, narrow, strict=True)):
            after, before = values[2 * i], values[2 * i + 1]
            if one is not None:
                units = ops.cast(ops.argmax(ops.abs(w), axis=1), "int32")
                before, after = (m[..., None] for m in one(after, units))
                w = ops.sum(w, axis=1, keepdims=True)
            shares.append(_share(after, place, w))
            if silent is not None:
                peaks.append(_share(before, place, w, ops.max))
        share = ops.stack(shares, axis=1)
        if silent is not None:
            peak = ops.stack(peaks, axis=1)
            share = ops.where(ops.logical_and(silent, peak <= 0), peak, share)
        return values[0], share

    def compiled(self) -> Callable[..., Any]:
        """Return `measure` compiled: (images, weights) → (n, places)."""
        key = ("measure", self.places)
        return self.network.compiled(key, lambda: self.measure, batched=2)

    def _before_relu(self, place: Place, output: Any) -> Any:
        before = self.network.preactivations.get(place.layer)
        relu = self.network.activation_name(place.layer) in ("relu", "relu6")
        return before if relu and before is not output else None


def _share(maps: Any, place: Place, weights: Any, reduce: Callable[..., Any] = ops.mean) -> Any:
    """Return the share of a place in each objective, (n,)."""
    return ops.sum(_activation_vectors(reduce, maps, place) * weights, axis=-1)


def _activation_vectors(reduce: Callable[..., Any], maps: Any, place: Place) -> Any:
    """Return activation vectors (n, units): at the place's position, or reduced over positions."""
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
    """Return the value (n,) of objective i on image i, as `maximize` measures it, without jitter.

    The value of a unit is the mean of its feature map, or its score before the softmax.
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
    """Return the model's class scores before the softmax, (n, classes), computed in batches."""
    target = output_of(network, None)

    def build() -> Callable[..., Any]:
        tensor = tensor_of(network, target)
        return lambda x: [ops.cast(network.run(x, [tensor])[0], "float32")]

    (scores,) = in_batches(network.compiled(("scores", target), build), images, BATCH)
    return scores
