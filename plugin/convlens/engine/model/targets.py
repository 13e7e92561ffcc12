"""Choose the layer and the classes that an engine function examines by default."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.engine.model.classes import class_layer
from convlens.engine.model.network import Network


def output_of(network: Network, layer: str | None) -> str:
    """Return the layer's name; None means the layer of the model's classes, or its only vector.

    Raises:
        ValueError: an unknown layer, or a model without a vector of classes.
    """
    if layer is not None:
        return network.find(layer)
    only = network.output_layer
    if len(network.results) == 1 and only is not None and len(network.outputs[only].shape) == 2:
        return only  # of a regression too: its numbers can be examined like scores
    try:
        return class_layer(network)
    except ValueError as error:
        raise ValueError(f"{error}: give the name of a layer") from None


def tensor_of(network: Network, layer: str) -> Any:
    """Return a layer's symbolic output; for one of the model's outputs, before its softmax."""
    squashed = network.activation_name(layer) in ("softmax", "sigmoid")
    if squashed and layer in network.output_layers and layer in network.preactivations:
        return network.preactivations[layer]
    return network.outputs[layer]


def classes_to_follow(
    network: Network, given: ArrayLike | None, probabilities: NDArray[Any]
) -> NDArray[np.int64]:
    """Return the class to follow in each image, (n,): the given classes, else the predicted ones.

    Raises:
        ValueError: a class out of range, or not one class for each image.
    """
    if given is None:
        return probabilities.argmax(axis=1)
    classes = np.atleast_1d(np.asarray(given))
    network.check_units(output_of(network, None), classes.tolist())
    if classes.shape != (len(probabilities),):
        raise ValueError(
            f"classes must have shape ({len(probabilities)},), one class for each image, "
            f"not {classes.shape}"
        )
    return classes.astype(np.int64)
