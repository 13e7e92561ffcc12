"""Saturation: a softmax whose scores lie so far apart that it rounds to 0 and 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.checks._classes import ClassesCheck, lens_scores
from convlens.checks.check import Effort, Measures
from convlens.checks.finite_weights import assert_finite_weights
from convlens.engine.ascent.scores import class_scores
from convlens.engine.features.sizes import layer_sizes
from convlens.engine.model.network import INPUT, Network
from convlens.engine.model.targets import output_of
from convlens.lens import Lens

# A margin of this leaves every other class a probability below float32's smallest normal number.
LARGEST_MARGIN = -float(np.log(np.finfo(np.float32).tiny))

_FEW = 8


def assert_not_saturated(
    model: keras.Model | Network, images: ArrayLike, *, margin: float = LARGEST_MARGIN
) -> NDArray[np.float64]:
    """Assert that the scores before the softmax are not so far apart that it rounds to 0 and 1.

    This catches weights or pixels that are many times too large, such as images in 0–255 for a
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
    seen = _Seen.of(network, x, class_scores(network, x), margin)
    seen.judge()
    return seen.margins


class Saturation(ClassesCheck):
    """Zero-code check, where there is a softmax."""

    name = "saturation"
    summary = "the softmax is not so sure that it rounds to 0 and 1"
    assertion = staticmethod(assert_not_saturated)

    def layers(self, lens: Lens, effort: Effort) -> tuple[str | None, ...]:
        names = (name for name in lens.network.output_layers if name is not None)
        squashed = any(lens.network.activation_name(name) == "softmax" for name in names)
        return super().layers(lens, effort) if squashed else ()

    def run(self, lens: Lens, layer: Any, effort: Effort) -> _Seen:
        return _Seen.of(lens.network, lens.images, lens_scores(lens), LARGEST_MARGIN)

    def measures(self, seen: _Seen) -> Measures:
        return {"score_margin_median": seen.median}

    def verdict(self, seen: _Seen) -> Measures:
        __tracebackhide__ = True
        seen.judge()
        return {}


@dataclass(frozen=True)
class _Seen:
    model: str
    margins: NDArray[np.float64]
    limit: float
    steepest: tuple[str, float] | None  # layer and growth; None where nothing saturates

    @classmethod
    def of(
        cls,
        network: Network,
        x: NDArray[np.float32],
        given: NDArray[np.float32],
        limit: float,
    ) -> _Seen:
        scores = given.astype(np.float64)
        if scores.ndim != 2 or scores.shape[1] < 2:
            raise ValueError(f"{network.name} has no two classes to tell apart")
        first, second = np.sort(scores, axis=1)[:, :-3:-1].T
        margins = first - second
        healthy = float(np.median(margins)) <= limit
        few = x[:_FEW], scores[:_FEW]
        return cls(network.name, margins, limit, None if healthy else _steepest(network, *few))

    @property
    def median(self) -> float:
        return float(np.median(self.margins))

    def judge(self) -> None:
        __tracebackhide__ = True
        if self.steepest is None:
            return
        layer, factor = self.steepest
        raise AssertionError(
            f"{self.model}: the softmax is saturated for most of {len(self.margins)} images: the "
            f"best score exceeds the second by {self.median:.4g} in the median (limit "
            f"{self.limit:.4g}), so the probabilities are 0 or 1 and their gradients 0. The values "
            f"grow most in layer {layer!r}, to {factor:.3g} times its input's size: are its "
            "weights, or the pixels, too large?"
        )


def _steepest(
    network: Network, x: NDArray[np.float32], scores: NDArray[np.float64]
) -> tuple[str, float]:
    """Return the layer with weights whose output's rms is the largest multiple of its input's."""
    seen = layer_sizes(network, x)
    # The softmax hides how large the output layer's values are.
    seen |= {INPUT: _rms(x), output_of(network, None): _rms(scores)}
    growth = {
        name: seen[name] / max(*(seen[source] for source in network.sources(name)), 1e-30)
        for name, layer in network.layers.items()
        if layer.weights
    }
    layer = max(growth, key=lambda name: growth[name])
    return layer, growth[layer]


def _rms(values: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
