"""Batch normalizations whose statistics come from data."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from convlens.checks._offenders import raise_offenders
from convlens.engine.model.network import Network


def assert_batch_norm_trained(
    model: keras.Model | Network, layer: str | None = None
) -> dict[str, bool]:
    """Assert that no batch normalization lost the statistics that it was trained with.

    One whose scale or shift was trained, but whose moving mean is 0 and moving variance 1 in every
    channel, as before the first batch, was reset, or loaded without them. One that was never
    trained, or whose numbers were folded into a convolution, has neither, and passes.

    Args:
        model: a Keras model or a `Network`.
        layer: the name of one; None for all.

    Returns:
        layer → whether it has statistics of its own.

    Raises:
        AssertionError: statistics are lost, naming the layers.
        ValueError: an unknown layer, or one that is no batch normalization; none at all.
    """
    __tracebackhide__ = True
    network = Network.of(model)
    names = batch_norm_layers(network) if layer is None else (network.find(layer),)
    if not names or not isinstance(network.layers[names[0]], keras.layers.BatchNormalization):
        raise ValueError(f"{layer or network.name!r} is, or has, no batch normalization")
    own = {name: _has_statistics(network.layers[name]) for name in names}
    raise_offenders(
        f"{network.name} has batch normalizations with a trained scale or shift, but statistics as "
        "before training (mean 0, variance 1): load the moving statistics too, or train on:",
        [
            f"layer {name!r}"
            for name in names
            if not own[name] and _was_trained(network.layers[name])
        ],
    )
    return own


def batch_norm_layers(network: Network) -> tuple[str, ...]:
    """Return the names of the batch normalizations, in the order of the network."""
    return tuple(
        name
        for name, layer in network.layers.items()
        if isinstance(layer, keras.layers.BatchNormalization)
    )


def _has_statistics(layer: Any) -> bool:
    return not (_all(layer.moving_mean, 0) and _all(layer.moving_variance, 1))


def _was_trained(layer: Any) -> bool:
    scaled = layer.gamma is not None and not _all(layer.gamma, 1)
    return scaled or (layer.beta is not None and not _all(layer.beta, 0))


def _all(weight: Any, value: float) -> bool:
    return bool((np.asarray(keras.ops.convert_to_numpy(weight.value)) == value).all())
