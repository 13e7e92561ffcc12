"""What an ascent climbs: the activation of each image's unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.network import Network


class Objective:
    """Each image's unit's activation, (n,)."""

    def __init__(self, network: Network, layer: str) -> None:
        self.network = network
        output = network.outputs[layer]
        before = network.preactivations.get(layer)
        activation = network.activation_name(layer)
        if activation in ("softmax", "sigmoid") and layer == network.output_layer:
            output, before = before, None
        self.tensors = [output, before]
        # Only a ReLU can be silent over a whole map.
        self.can_be_silent = before is not None and activation in ("relu", "relu6")

    def measure(self, images: Any, pick: Any) -> Any:
        """Return the activation itself: the mean over positions."""
        return _of_unit(ops.mean, self.network.run(images, self.tensors[:1])[0], pick)

    def to_climb(self, images: Any, pick: Any, silent: Any | None) -> Any:
        """Return what is climbed: the activation.

        Of a unit that was silent and still is, the strongest value before the ReLU is climbed.
        """
        if silent is None:
            return self.measure(images, pick)
        maps, before = self.network.run(images, self.tensors)
        peak = _of_unit(ops.max, before, pick)
        mean = _of_unit(ops.mean, maps, pick)
        return ops.where(ops.logical_and(silent, peak <= 0), peak, mean)


def _of_unit(reduce: Callable[..., Any], maps: Any, pick: Any) -> Any:
    """Return each image's own unit's map, reduced over its positions, (n,)."""
    maps = ops.cast(maps, "float32")
    positions = tuple(range(1, len(maps.shape) - 1))
    reduced = reduce(maps, axis=positions) if positions else maps
    return ops.sum(reduced * pick, axis=-1)


def mean_activation(
    network: Network, layer: str, units: NDArray[np.int64], images: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the activation (n,) that `maximize` raises, of unit i on image i.

    The mean of the unit's feature map, or its value before the softmax; no jitter.
    """
    pick = np.eye(network.units(layer), dtype=np.float32)[units]
    of_unit = measure(network, layer)
    parts = [
        ops.convert_to_numpy(
            of_unit(
                ops.convert_to_tensor(images[i : i + 64]), ops.convert_to_tensor(pick[i : i + 64])
            )
        )
        for i in range(0, len(images), 64)
    ]
    return np.concatenate(parts)


def class_scores(network: Network, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scores (n, classes) before the softmax of the model's output."""
    target = output_of(network, None)

    def build() -> Callable[..., Any]:
        tensor = Objective(network, target).tensors[0]
        return lambda x: network.run(x, [tensor])[0]

    scores = network.compiled(("scores", target), build)(ops.convert_to_tensor(images))
    return ops.convert_to_numpy(scores).astype(np.float32)


def measure(network: Network, layer: str) -> Callable[..., Any]:
    """Return the compiled function from images and units' one-hot rows to activations (n,)."""
    return network.compiled(("measure", layer), lambda: Objective(network, layer).measure)


def output_of(network: Network, layer: str | None) -> str:
    """Return the layer's name, for None that of the model's classes.

    Raises:
        ValueError: an unknown layer, or a model without a vector of classes.
    """
    if layer is not None:
        return network.find(layer)
    output = network.output_layer
    if output is None or len(network.outputs[output].shape) != 2:
        raise ValueError(f"{network.name} has no vector of classes as its output: name a layer")
    return output
