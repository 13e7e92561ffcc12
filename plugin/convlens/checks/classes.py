"""Class images that the network itself recognizes."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from convlens.checks._offenders import raise_offenders
from convlens.checks.finite import assert_finite, assert_finite_weights
from convlens.engine.ascent.maximize import Maximization
from convlens.engine.ascent.scores import class_scores
from convlens.engine.model.network import Network


def assert_class_images_recognized(
    model: keras.Model | Network, result: Maximization, *, margin: float = 1.0
) -> NDArray[np.float32]:
    """Assert that each class image is classified as its class, before the softmax, by a margin.

    Probabilities differ by 1 at the most, so a margin of 1 that must be exceeded also catches a
    softmax that was left in.

    Args:
        model: the model, or its `Network`.
        result: what `maximize` returned for the model's output.
        margin: what the class's score must exceed the best other one by, in units of the score
            before the softmax.

    Returns:
        (n,) the margins.

    Raises:
        AssertionError: a class image has another class, or too small a margin, or no class image
            was given.
        ValueError: a result of another layer than the model's output.
    """
    __tracebackhide__ = True
    network = Network.of(model)
    assert_finite_weights(network)
    if result.layer != network.output_layer:
        raise ValueError(
            f"class images are those of {network.output_layer!r}, the output of {network.name}, "
            f"not of {result.layer!r}"
        )
    if not len(result.units):
        raise AssertionError(f"{network.name}: no class image was given")
    assert_finite({"images": result.images}, name=f"{network.name}: the ascent of the classes")
    scores = class_scores(network, result.images)
    if scores.shape[1] < 2:
        raise ValueError(f"{network.name} has one output; a margin needs two classes or more")
    own = scores[np.arange(len(scores)), result.units]
    others = scores.copy()
    others[np.arange(len(scores)), result.units] = -np.inf
    best = others.argmax(axis=1)
    margins = (own - others.max(axis=1)).astype(np.float32)
    wrong = np.flatnonzero(~(margins > margin))
    offenders = [
        f"class {result.units[i]}: its image scores {own[i]:.4g}, class {best[i]} "
        f"{others[i, best[i]]:.4g} (margin {margins[i]:.4g})"
        for i in wrong[np.argsort(margins[wrong])]
    ]
    raise_offenders(
        f"{network.name} does not recognize {len(wrong)} of {len(margins)} of its class images "
        f"(margin {margin:g}):",
        offenders,
    )
    return margins
