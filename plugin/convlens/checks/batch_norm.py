"""Batch normalization: its moving statistics come from data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from convlens.checks._offenders import raise_offenders
from convlens.checks.check import Effort, LayerCheck, Measures
from convlens.engine.model.network import Network
from convlens.lens import Lens


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
    seen = _Seen.of(network, names)
    seen.judge()
    return seen.own


class BatchNorm(LayerCheck):
    """Zero-code check of one batch normalization."""

    name = "batchnorm"
    summary = "the statistics of each batch normalization come from data"
    assertion = staticmethod(assert_batch_norm_trained)

    def layers(self, lens: Lens, effort: Effort) -> tuple[str | None, ...]:
        return batch_norm_layers(lens.network)

    def run(self, lens: Lens, layer: Any, effort: Effort) -> _Seen:
        return _Seen.of(lens.network, (lens.network.find(layer),))

    def verdict(self, seen: _Seen) -> Measures:
        __tracebackhide__ = True
        seen.judge()
        return {}


@dataclass(frozen=True)
class _Seen:
    model: str
    own: dict[str, bool]  # layer → whether it has statistics of its own
    lost: tuple[str, ...]

    @classmethod
    def of(cls, network: Network, names: Sequence[str]) -> _Seen:
        own = {name: _has_statistics(network.layers[name]) for name in names}
        lost = [n for n in names if not own[n] and _was_trained(network.layers[n])]
        return cls(network.name, own, tuple(lost))

    def judge(self) -> None:
        __tracebackhide__ = True
        raise_offenders(
            f"{self.model} has batch normalizations with a trained scale or shift, but statistics "
            "as before training (mean 0, variance 1): load the moving statistics too, or train on:",
            [f"layer {name!r}" for name in self.lost],
        )


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
