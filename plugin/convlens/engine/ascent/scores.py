"""Values of objectives on a batch of images, one objective for each image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.ascent.objectives import Objective, Place, places_of
from convlens.engine.ascent.one_filter import OneFilter
from convlens.engine.model.flatten import Call
from convlens.engine.model.footprint import bytes_an_image
from convlens.engine.model.network import Network
from convlens.engine.model.quick import kept_where, mean_over_positions, quick_calls
from convlens.engine.model.targets import output_of, tensor_of
from convlens.engine.runtime import backend
from convlens.engine.runtime.batches import in_batches
from convlens.engine.runtime.memory import default_budget, parts_within

BATCH = 64
# A forward pass takes half as long for each of 16 images as for one alone, and no less for more.
_TOGETHER = 16


class Scores:
    """The share of each place in each image's objective, (n, places).

    Attributes:
        places: the places that the objectives read.
        layers: the layers of these places.
        ends: those of them that no other one of them depends on.
        weights: for each place, the weights (n, units) of each objective.
        shared: True if further layers share the compiled functions.
        single: for each place, True if every objective reads at most one unit of it.
        may_wake: (n, places) True if a share is the activation of a single unit that falls silent:
            a ReLU's has no gradient while its whole map is 0, and that of a swish may lead away
            from where it is high.
        has_gradient: (places,) True where such a unit has a gradient all the same, as a swish has.
    """

    def __init__(
        self,
        network: Network,
        objectives: Sequence[Objective],
        graph_layers: Sequence[str] | None = None,
    ) -> None:
        """Find the places that objectives read.

        Args:
            network: the network.
            objectives: the objectives.
            graph_layers: layers that the compiled functions compute too, so that the same ones
                serve the objectives of each; the objectives' own layers must be among them. None
                for the objectives' own layers.
        """
        self.network = network
        self.shared = graph_layers is not None
        self.places, self.weights = places_of(network, objectives)
        if graph_layers is not None:
            self._add(graph_layers)
        self.layers = list(dict.fromkeys(place.layer for place in self.places))
        below = {name for layer in self.layers for name in network.below(layer)[:-1]}
        self.ends = [layer for layer in self.layers if layer not in below]
        self.outputs = [tensor_of(network, place.layer) for place in self.places]
        pairs = zip(self.places, self.outputs, strict=True)
        self.before = [self._before_silence(place, output) for place, output in pairs]
        asked = [(w != 0).sum(axis=1) for w in self.weights]
        self.single = tuple(bool((count <= 1).all()) for count in asked)
        self.may_wake = np.stack(
            [
                ((w > 0).sum(axis=1) == 1) & (count == 1) & (before is not None)
                for w, count, before in zip(self.weights, asked, self.before, strict=True)
            ],
            axis=1,
        )
        bounds = [network.relu_bound(place.layer) for place in self.places]
        self.has_gradient = np.array([bound is None for bound in bounds])

    def _add(self, layers: Sequence[str]) -> None:
        """Read the units of further layers too, with a weight of 0, all in the order of layers."""
        own = dict(zip(self.places, self.weights, strict=True))
        count = len(self.weights[0])
        for layer in layers:
            name = output_of(self.network, layer)
            zeros = np.zeros((count, self.network.units(name)), np.float32)
            own.setdefault(Place(name, None), zeros)
        order = {name: i for i, name in enumerate(self.network.outputs)}
        self.places = tuple(sorted(own, key=lambda place: order[place.layer]))
        self.weights = [own[place] for place in self.places]

    def wakes(self, index: NDArray[np.int64]) -> bool:
        """Return whether thresholds are lowered in the ascent of some objectives.

        Objectives of layers that share a graph all get the same answer.
        """
        if self.shared:
            return any(before is not None for before in self.before)
        return bool(self.may_wake[index].any())

    def calls(self) -> list[Call]:
        """Return the calls that compute the places."""
        found = {id(c): c for layer in self.layers for c in self.network.calls(layer)}
        return list(found.values())

    def maps(self, images: Any) -> list[Any]:
        """Return the activations at each place."""
        return self.network.run(images, self.outputs)

    def vectors(self, images: Any) -> list[Any]:
        """Return the activation vectors (n, units) that each place reads."""
        pairs = zip(self.maps(images), self.places, strict=True)
        return [_activation_vectors(ops.mean, maps, place) for maps, place in pairs]

    def peaks(self, images: Any) -> list[Any]:
        """Return the largest pre-activations (n, units) at each place; activations without one."""
        before = [
            output if before is None else before
            for output, before in zip(self.outputs, self.before, strict=True)
        ]
        pairs = zip(self.network.run(images, before), self.places, strict=True)
        return [_activation_vectors(ops.max, maps, place) for maps, place in pairs]

    def filters(self, images: NDArray[np.float32], index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the gradient of some objectives at one position, on an image of each.

        The position is the objective's own, or the middle of its map; the value that of the
        pre-activation, where there is one.

        Args:
            images: (n, h, w, c).
            index: (n,) numbers of the objectives.

        Returns:
            (n, h, w, c).
        """
        weights = [ops.convert_to_tensor(w[index]) for w in self.weights]
        found = self.network.seldom(
            ("filters", self.places), self._filters, ops.convert_to_tensor(images), weights
        )
        return np.asarray(ops.convert_to_numpy(found))

    def _filters(self, images: Any, weights: list[Any]) -> Any:
        before = [
            output if before is None else before
            for output, before in zip(self.outputs, self.before, strict=True)
        ]

        functions = quick_calls(self.calls())

        def total(images: Any) -> Any:
            found = self.network.run(images, before, functions=functions)
            return sum(
                ops.sum(_activation_vectors(ops.mean, maps, _at_one_position(place, maps)) * w, -1)
                for maps, place, w in zip(found, self.places, weights, strict=True)
            )

        value, pullback = backend.vjp(total, images)
        return pullback(ops.ones_like(value))

    def measure(self, images: Any, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the share of each place in some objectives, one image each, (n, places).

        Args:
            images: tensor (n, h, w, c).
            index: (n,) numbers of the objectives.
        """
        vectors = map(ops.convert_to_numpy, self.compiled("vectors")(images))
        pairs = zip(vectors, self.weights, strict=True)
        return np.stack([(v * w[index]).sum(axis=1) for v, w in pairs], axis=1)

    def table(
        self, parts: Sequence[NDArray[np.float32]], common: bool = True
    ) -> NDArray[np.float32]:
        """Return every objective's value on every image, (objectives, n).

        Args:
            parts: (m, h, w, c) each, of n images in all.
            common: True for images that the ascents of other layers see too.
        """
        vectors = self._of_parts("vectors", parts, common)
        total = np.zeros((len(self.weights[0]), sum(map(len, parts))), np.float32)
        for v, weights in zip(vectors, self.weights, strict=True):
            total += weights @ v.T
        return total

    def excitement(
        self,
        parts: Sequence[NDArray[np.float32]],
        index: NDArray[np.int64],
        common: bool = False,
    ) -> NDArray[np.float32]:
        """Return how near each image is to exciting some objectives, (objectives, n).

        This is the objective's value; in the place of a share of a silent unit it has the
        largest pre-activation, so that two images on which a unit is silent can be compared.

        Args:
            parts: (m, h, w, c) each, of n images in all.
            index: (objectives,) numbers of the objectives.
            common: True for images that the ascents of other layers see too.
        """
        vectors = self._of_parts("vectors", parts, common)
        wake = self.may_wake[index]
        peaks = self._of_parts("peaks", parts, common) if wake.any() else vectors
        total = np.zeros((len(index), sum(map(len, parts))), np.float32)
        for place, weights in enumerate(self.weights):
            share, peak = (weights[index] @ v[place].T for v in (vectors, peaks))
            total += np.where(wake[:, place, None] & (share <= 0), peak, share)
        return total

    def _of_parts(
        self, name: Literal["vectors", "peaks"], parts: Sequence[NDArray[np.float32]], common: bool
    ) -> list[NDArray[np.float32]]:
        """Return what a function returns for all images of some parts.

        Each part of common images is computed once for all layers that share a graph.
        """
        run = self._once if common else self._in_batches
        found = [run(name, images) for images in parts if len(images)]
        return [np.concatenate(each) for each in zip(*found, strict=True)]

    def _once(
        self, name: Literal["vectors", "peaks"], images: NDArray[np.float32]
    ) -> list[NDArray[np.float32]]:
        content = hashlib.sha256(images.tobytes()).digest()
        key = ("scores", name, self.places, images.shape, content)
        return self.network.remembered(key, lambda: self._in_batches(name, images))

    def _in_batches(
        self, name: Literal["vectors", "peaks"], images: NDArray[np.float32]
    ) -> list[NDArray[np.float32]]:
        run = self.compiled(name)
        each = bytes_an_image(self.network, self.layers, images.shape[1:])
        devices = backend.distribution_size(self.network.distribution)
        budget = min(default_budget(), _TOGETHER * each)
        found = []
        for part in parts_within(budget, len(images), each, devices=devices):
            results = run(ops.convert_to_tensor(images[part.index]))
            found.append([ops.convert_to_numpy(v)[: part.count] for v in results])
        return [np.concatenate(batches) for batches in zip(*found, strict=True)]

    def to_climb(
        self,
        images: Any,
        weights: list[Any],
        wakes: Any | None,
        reach: Any,
        whole: bool,
        functions: Mapping[int, Callable[[Any], Any]],
    ) -> tuple[Any, Any]:
        """Return the maps at the first place, and the share of each place, (n, places).

        A ReLU unit fires at few positions of noise, and the gradient comes from these alone. So its
        threshold is lowered, where asked, until more positions count; see `_waking_share`. A swish
        rises on both sides of a pit; where asked, it is led up the side where it has no bound.

        Args:
            images: (n, h, w, c).
            weights: for each place, (n, units).
            wakes: (n, places) True for shares that `may_wake`; None if no share may.
            reach: how far the threshold is lowered: to this many standard deviations above the
                mean of the unit's pre-activations; a large number lowers it for silent units only.
            whole: True to return all maps of the first place, not only the map of each image's
                unit.
            functions: functions that compute calls of the network; see `Network.run`.
        """
        narrow = [
            OneFilter.of(self.network, place.layer)
            if single and not whole and place.layer in self.ends
            else None
            for place, single in zip(self.places, self.single, strict=True)
        ]
        wanted: list[Any] = []
        for output, before, one in zip(self.outputs, self.before, narrow, strict=True):
            # Read the pre-activation only if needed: reading it prevents fusing the activation.
            own = [output, output if wakes is None or before is None else before]
            wanted += own if one is None else [one.source, one.source]
        values = self.network.run(images, wanted, functions=functions)
        shares = []
        for i, (place, w, one) in enumerate(zip(self.places, weights, narrow, strict=True)):
            after, before = values[2 * i], values[2 * i + 1]
            if one is not None:
                units = ops.cast(ops.argmax(ops.abs(w), axis=1), "int32")
                before, after = (m[..., None] for m in one(after, units))
                w = ops.sum(w, axis=1, keepdims=True)
            share = _share(after, place, w)
            if wakes is not None and self.before[i] is not None:
                below = _waking_share(before, place, reach, w)
                share = share + ops.where(wakes[:, i], below, 0.0)
            shares.append(share)
        return values[0], ops.stack(shares, axis=1)

    def compiled(self, name: Literal["vectors", "peaks"]) -> Callable[..., Any]:
        """Return `vectors` or `peaks` compiled."""
        return self.network.compiled((name, self.places), lambda: getattr(self, name), batched=1)

    def _before_silence(self, place: Place, output: Any) -> Any:
        """Return the pre-activations of a layer whose units fall silent, else None."""
        before = self.network.preactivations.get(place.layer)
        silent = before is not None and self.network.falls_silent(place.layer)
        return before if silent and before is not output else None


def _waking_share(before: Any, place: Place, reach: Any, weights: Any) -> Any:
    """Return the weighted mean of the negative pre-activations near firing, (n,).

    Near are those above min(0, highest, mean + reach·deviation), over the positions of each map.
    """
    before = ops.cast(before, "float32")
    if place.position is not None:
        before = _activation_vectors(ops.mean, before, place)
    axes = tuple(range(1, len(before.shape) - 1))

    def near(maps: Any) -> Any:
        level = maps
        if axes:
            spread = ops.std(maps, axis=axes, keepdims=True)
            level = ops.mean(maps, axis=axes, keepdims=True) + reach * spread
            level = ops.minimum(level, ops.max(maps, axis=axes, keepdims=True))
        return ops.logical_and(maps >= level, maps < 0)

    return _share(kept_where(near, before), place, weights)


def _activation_vectors(reduce: Callable[..., Any], maps: Any, place: Place) -> Any:
    """Return activation vectors (n, units): at the place's position, or reduced over positions."""
    maps = ops.cast(maps, "float32")
    if place.position is None:
        positions = tuple(range(1, len(maps.shape) - 1))
        return reduce(maps, axis=positions) if positions else maps
    if place.position == "center":
        return maps[(slice(None), *(side // 2 for side in ops.shape(maps)[1:-1]))]
    return maps[(slice(None), *place.position)]


def _share(maps: Any, place: Place, weights: Any) -> Any:
    """Return the share (n,) of a place: its activations, or means over positions, weighted."""
    if len(maps.shape) < 3:
        return ops.sum(ops.cast(maps, "float32") * weights, axis=-1)
    if place.position is not None:
        return ops.sum(_activation_vectors(ops.mean, maps, place) * weights, axis=-1)
    return mean_over_positions(ops.cast(maps, "float32"), weights)


def _at_one_position(place: Place, maps: Any) -> Place:
    """Return a place without a position as one in the middle of its maps."""
    if place.position is not None or len(maps.shape) < 3:
        return place
    return Place(place.layer, "center")


def objective_values(
    network: Network,
    objectives: Sequence[Objective],
    images: NDArray[np.float32],
    graph_layers: Sequence[str] | None = None,
) -> NDArray[np.float32]:
    """Return the value (m,) of objectives on images, as `maximize` measures it, without jitter.

    The value of a unit is the mean of its feature map, or its score before the softmax. Image i
    belongs to objective i; further images to the objectives from the first on again.

    Args:
        network: the network.
        objectives: n objectives.
        images: (m, h, w, c), a multiple of n.
        graph_layers: layers that share a compiled graph; see `Scores`.
    """
    scores = Scores(network, objectives, graph_layers)
    numbers = np.arange(len(images)) % len(objectives)
    parts = [
        scores.measure(ops.convert_to_tensor(images[i : i + BATCH]), numbers[i : i + BATCH])
        for i in range(0, len(images), BATCH)
    ]
    return np.concatenate(parts).sum(axis=1)


def class_scores(network: Network, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the model's class scores before the softmax, (n, classes), computed in batches."""
    target = output_of(network, None)

    def build() -> Callable[..., Any]:
        tensor = tensor_of(network, target)
        return lambda x: [ops.cast(network.run(x, [tensor])[0], "float32")]

    (scores,) = in_batches(network.compiled(("scores", target), build), images, BATCH)
    return scores
