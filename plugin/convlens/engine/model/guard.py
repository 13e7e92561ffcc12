"""Compare the flat reading of a model with the model itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.model.flatten import SCOPE, Flat, Graph
from convlens.engine.runtime import backend, tolerance


class Reading(Protocol):
    """A model that was read: what is needed of a `Network`."""

    name: str
    model: Any
    outputs: dict[str, Any]
    variables: backend.Variables

    @property
    def input_shape(self) -> tuple[int | None, ...]: ...

    @property
    def result(self) -> Any: ...

    @property
    def is_channels_first(self) -> bool: ...

    def run(self, images: Any, wanted: list[Any], /) -> list[Any]: ...

    def inputs_for(self, images: Any) -> list[Any]: ...

    def rounding(self, layer: str, /) -> tolerance.Rounding: ...


# A model that is misread differs by more.
_MIN_TOLERANCE = 1e-3
# Sizes to try for a network that takes images of any size.
_SIZES = (64, 128, 224, 299)


def check_reading(network: Reading, flat: Flat, sample: NDArray[np.float32] | None) -> bool:
    """Compare what `network` computes with what `model.predict` computes.

    Args:
        network: the network.
        flat: the network's calls.
        sample: (n, *positions, c) a few images; None for noise.

    Returns:
        Whether they were compared: not if no image was given and none could be made up, because
        the network takes images of any size, but of none of a few usual sizes.

    Raises:
        ValueError: they differ by more than rounding; the message names the first layer that does.
            A model whose own answers differ from call to call is not compared: see
            `assert_repeatable`.
    """
    images = sample if sample is not None else _noise(network)
    if images is None:
        return False
    comparison = _Comparison(network, flat, images)
    if comparison.whole() <= comparison.allowed:
        return True
    if comparison.model_differs_from_itself():
        return True
    layer, difference = comparison.first_difference()
    raise ValueError(
        f"{network.name}: {layer} computes something else in convlens than in model.predict: the "
        f"values differ by {difference:.3g} of the largest one (tolerance {comparison.allowed:g}). "
        "Convlens cannot examine this model: build the layer from Keras's layers and operations, "
        "and report the model as a fault of convlens"
    )


class _Comparison:
    """A model and its flat reading, on the same images."""

    def __init__(self, network: Reading, flat: Flat, images: NDArray[np.float32]) -> None:
        self.network, self.flat, self.model = network, flat, network.model
        if "float" not in flat.image.dtype:
            images = np.rint(images)  # predict() would drop the fractions
        self.images = ops.convert_to_tensor(images)
        self.inputs = network.inputs_for(self.images)
        rounding = _rounding_of(network)
        self.allowed = max(_MIN_TOLERANCE, tolerance.activation_tolerance(rounding))

    def whole(self) -> float:
        """Return the largest difference of the model's outputs."""
        self.expected = self.of_model()
        return _largest(self.expected, self.of_reading(self.flat.results))

    def model_differs_from_itself(self) -> bool:
        """Return whether the model gives the same images other outputs each time."""
        return _largest(self.expected, self.of_model()) > self.allowed

    def first_difference(self) -> tuple[str, float]:
        """Return the first layer that differs, and by how much."""
        graph, inputs, found = self.flat.graphs[0], self.inputs, ("the model", self.whole())
        if graph.model is not self.model:  # code of the user's own, which keeps no graph
            return found
        while True:
            node = self.first_node(graph, inputs)
            if node is None:
                return found
            op, symbols, difference = node
            found = (f"layer {graph.prefix + op.name!r}", difference)
            inner = next((g for g in self.flat.graphs if _is_run_of(g, op, symbols)), None)
            if inner is None or inner.is_traced or any(t is None for t in inner.inputs):
                return found
            graph, inputs = inner, self.run(partial(self.reading, inner.inputs))

    def first_node(self, graph: Graph, inputs: list[Any]) -> tuple[Any, list[Any], float] | None:
        """Return the first node of a model whose outputs differ: operation, outputs, difference."""
        outputs = [t for _, made, _ in graph.nodes for t in made]
        symbols = [t for _, _, read in graph.nodes for t in read]
        part = keras.Model(list(graph.model.inputs), outputs, name="part")
        expected = self.run(lambda: keras.tree.flatten(part(inputs, training=False)), self.network)
        differences = [
            _difference(a, b)
            for a, b in zip(
                self.in_layout(expected, symbols), self.of_reading(symbols), strict=True
            )
        ]
        for op, _, read in graph.nodes:
            largest = max(differences[: len(read)])
            del differences[: len(read)]
            if largest > self.allowed:
                return op, read, largest
        return None

    def of_model(self) -> list[NDArray[np.float64]]:
        given = _arguments(self.model, self.inputs)
        found = self.run(
            lambda: keras.tree.flatten(self.model(*given, training=False)), self.network
        )
        return self.in_layout(found, self.flat.results)

    def in_layout(self, own: list[Any], symbols: list[Any]) -> list[NDArray[np.float64]]:
        """Return values of the model with their axes as those of symbols of the reading."""
        pairs = zip(_arrays(own), symbols, strict=True)
        return [np.moveaxis(x, 1, -1) if id(t) in self.flat.moved else x for x, t in pairs]

    def of_reading(self, symbols: list[Any]) -> list[NDArray[np.float64]]:
        return _arrays(self.run(lambda: self.reading(symbols)))

    def reading(self, symbols: list[Any]) -> list[Any]:
        return self.network.run(self.images, symbols)

    def run(self, function: Callable[[], list[Any]], own: Reading | None = None) -> list[Any]:
        """Return a function's values; `own` is given if it runs the user's model as it is.

        TensorFlow has no kernels for channels-first convolutions on CPUs, but its compiler does
        without them.
        """
        with keras.name_scope(SCOPE):
            if own is not None and own.is_channels_first:
                with backend.with_xla():
                    return list(backend.compile(function, self.network.variables)())
            found: list[Any] = backend.once(function, self.network.variables)
        return found


def _arguments(model: Any, inputs: list[Any]) -> list[Any]:
    """Return the arguments of a model's call for its inputs, in the structure that it takes."""
    if not getattr(model, "inputs", None):
        return inputs  # a subclassed model
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return [keras.tree.pack_sequence_as(structure, inputs)]


def _noise(network: Reading) -> NDArray[np.float32] | None:
    """Return two images of noise, for models of the ranges 0–1 and 0–255."""
    *sides, c = network.input_shape
    for size in _SIZES:
        shape = (2, *(side or size for side in sides), c or 3)
        if None in sides:
            try:
                backend.shapes(lambda x: network.run(x, [network.result]), shape)
            except ValueError:
                continue  # a window larger than a map, or sizes that do not fit together
        # In 16 bits large values could overflow in the one and not in the other.
        high = 1 if tolerance.is_coarse(_rounding_of(network).precision) else 255
        noise = np.random.default_rng(0).random(shape, dtype=np.float32)
        noise[1] *= high
        return noise
    return None


def _rounding_of(network: Reading) -> tolerance.Rounding:
    """Return the rounding behind all layers' outputs taken together."""
    return tolerance.Rounding.join(network.rounding(name) for name in network.outputs)


def _is_run_of(graph: Graph, op: Any, symbols: list[Any]) -> bool:
    """Return whether a graph is the call of the nested model `op` that made some outputs."""
    return graph.model is op and any(t is symbols[0] for _, _, read in graph.nodes for t in read)


def _arrays(tensors: list[Any]) -> list[NDArray[np.float64]]:
    return [ops.convert_to_numpy(t).astype(np.float64) for t in tensors]


def _largest(expected: list[NDArray[np.float64]], found: list[NDArray[np.float64]]) -> float:
    return max(_difference(a, b) for a, b in zip(expected, found, strict=True))


def _difference(expected: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """Return the largest difference, of each image's largest value; values not finite must agree.

    NaN and infinities of any sign count as the same.
    """
    if expected.shape != found.shape:
        return np.inf
    finite = np.isfinite(expected)
    if (finite != np.isfinite(found)).any():
        return np.inf
    a, b = (np.where(finite, v, 0).reshape(len(v), -1) for v in (expected, found))
    size = np.abs(a).max(axis=1, initial=0)
    apart = np.abs(a - b).max(axis=1, initial=0)
    return float((apart / np.where(size > 0, size, 1)).max(initial=0))
