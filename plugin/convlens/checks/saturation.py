"""A softmax that still tells more from less."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.checks.finite import assert_finite_weights
from convlens.engine.ascent.scores import class_scores
from convlens.engine.features.activations import activations
from convlens.engine.model.network import INPUT, Network

# A margin of this leaves every other class a probability below float32's smallest normal number.
LARGEST_MARGIN = -float(np.log(np.finfo(np.float32).tiny))

_FEW = 8


def assert_not_saturated(
    model: keras.Model | Network, images: ArrayLike, *, margin: float = LARGEST_MARGIN
) -> NDArray[np.float64]:
    """Assert that the scores before the softmax are not so far apart that it rounds to 0 and 1.

    What it catches: weights or pixels that are many times too large, such as images in 0–255 for a
    network trained on 0–1. The message names the layer whose output grows most over its input.

    Args:
        model: a Keras model or a `Network` with a vector of classes as its output.
        images: (n, h, w, c) in the model's own range.
        margin: how far the best score must exceed the second, for more than half of the images,
            for the softmax to count as saturated; -log(float32's smallest normal number) = 87.3
            by default.

    Returns:
        (n,) the margins.

    Raises:
        AssertionError: the softmax saturates for most images; a weight is not finite.
        ValueError: images of a wrong shape, or an output that is no vector of two or more classes.
    """
    __tracebackhide__ = True
    network = Network.of(model)
    assert_finite_weights(network)
    x = network.check_images(images)
    scores = class_scores(network, x).astype(np.float64)
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(f"{network.name} has no two classes to tell apart")
    first, second = np.sort(scores, axis=1)[:, :-3:-1].T
    margins = first - second
    median = float(np.median(margins))
    if median <= margin:
        return margins
    layer, factor = _steepest(network, x[:_FEW], scores[:_FEW])
    raise AssertionError(
        f"{network.name}: the softmax is saturated for most of {len(margins)} images: the best "
        f"score exceeds the second by {median:.4g} in the median (limit {margin:.4g}), so the "
        f"probabilities are 0 or 1 and their gradients 0. The values grow most in layer "
        f"{layer!r}, to {factor:.3g} times its input's size: are its weights, or the pixels, too "
        "large?"
    )


def _steepest(
    network: Network, x: NDArray[np.float32], scores: NDArray[np.float64]
) -> tuple[str, float]:
    """Return the layer with weights whose output's rms is the largest multiple of its input's."""
    maps = activations(network, x, tuple(network.outputs))
    seen = {name: _rms(values) for name, values in maps.items()}
    # The softmax hides how large the output layer's values are.
    seen |= {INPUT: _rms(x), network.output_layer or "": _rms(scores)}
    growth = {
        name: seen[name] / max(*(seen[source] for source in network.sources(name)), 1e-30)
        for name, layer in network.layers.items()
        if layer.weights
    }
    layer = max(growth, key=lambda name: growth[name])
    return layer, growth[layer]


def _rms(values: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
