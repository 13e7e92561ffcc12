"""Batch normalization: its moving statistics come from data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convlens.checks._offenders import raise_offenders
from convlens.checks.check import Effort, LayerCheck, Measures
from convlens.engine.model.network import Network
from convlens.engine.runtime import backend
from convlens.lens import Lens


def assert_batch_norm_trained(
    model: keras.Model | Network, layer: str | None = None
) -> dict[str, bool]:
    """Assert that no batch normalization lost the statistics that it was trained with.

    One whose scale or shift was trained, but whose moving mean and variance are as the layer's
    initializers give them (0 and 1 by default), was reset, or loaded without them. One that was
    never trained, whatever its initializers, or whose numbers were folded into a convolution, has
    neither, and passes.

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

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        return None  # its weights are judged, which need no images

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
    lost: dict[str, tuple[float, float]]  # layer → the largest moving mean and variance

    @classmethod
    def of(cls, network: Network, names: Sequence[str]) -> _Seen:
        own = {name: _has_statistics(network.layers[name]) for name in names}
        lost = [n for n in names if not own[n] and _was_trained(network.layers[n])]
        return cls(network.name, own, {name: _statistics(network.layers[name]) for name in lost})

    def judge(self) -> None:
        __tracebackhide__ = True
        raise_offenders(
            f"{self.model} has batch normalizations with a trained scale or shift, but statistics "
            "as before training: load the moving statistics too, or train on:",
            [f"layer {name!r} (mean {m:g}, variance {v:g})" for name, (m, v) in self.lost.items()],
        )


def batch_norm_layers(network: Network) -> tuple[str, ...]:
    """Return the names of the batch normalizations, in the order of the network."""
    return tuple(
        name
        for name, layer in network.layers.items()
        if isinstance(layer, keras.layers.BatchNormalization)
    )


def _has_statistics(layer: Any) -> bool:
    pairs = (
        (layer.moving_mean, layer.moving_mean_initializer),
        (layer.moving_variance, layer.moving_variance_initializer),
    )
    return not all(_is_initial(weight, initializer) for weight, initializer in pairs)


def _statistics(layer: Any) -> tuple[float, float]:
    mean, variance = (_values(weight) for weight in (layer.moving_mean, layer.moving_variance))
    return float(mean.max()), float(variance.max())


def _was_trained(layer: Any) -> bool:
    """Return whether the scale or the shift is neither the initializer's nor without effect."""
    pairs = ((layer.gamma, layer.gamma_initializer, 1), (layer.beta, layer.beta_initializer, 0))
    return any(
        weight is not None
        and not (_values(weight) == neutral).all()
        and _is_initial(weight, initializer) is False
        for weight, initializer, neutral in pairs
    )


def _is_initial(weight: Any, initializer: Any) -> bool | None:
    """Return whether a weight is as its initializer gives it; None if that cannot be known.

    An initializer without a seed of its own draws other numbers in each process.
    """
    first, again = (
        _numbers(draw(weight.shape, dtype=weight.dtype))
        for draw in (initializer, _made_again(initializer))
    )
    if (_values(weight) == first).all():
        return True
    return None if (first != again).any() else False


def _made_again(initializer: Any) -> Any:
    """Return an initializer as it would be in another process; a plain function is the same."""
    if isinstance(initializer, keras.initializers.Initializer):
        return type(initializer).from_config(initializer.get_config())
    return initializer


def _values(weight: Any) -> NDArray[np.float32]:
    return _numbers(weight.value)


def _numbers(tensor: Any) -> NDArray[np.float32]:
    return np.asarray(backend.to_numpy(tensor), np.float32)
