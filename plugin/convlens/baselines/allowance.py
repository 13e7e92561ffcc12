"""The differences that rounding explains: by a rule, or measured on the network itself.

The rule is `activation_tolerance`. But a deep network, or one that takes nearly equal numbers from
each other, amplifies rounding far more than another. Where the rule is exceeded and a coarser
precision may be the cause, the network is run again with the factors of all its products rounded
to that precision; see `Coarse`. The change of each channel is the noise that this precision makes
in this network, and a few times as much is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from convlens.baselines.distance import distance, prediction_errors
from convlens.baselines.record import Record
from convlens.engine.features.sketch import LayerSketch
from convlens.engine.model.network import INPUT
from convlens.engine.runtime.tolerance import (
    Rounding,
    activation_tolerance,
    coarsest,
    significant_bits,
    unit_roundoff,
)

# Rounding at each of these scales is one sample of the noise. A fourth sample exceeded the largest
# of three by up to 3.7 times, channel by channel, in six small networks. The largest of three is
# smaller than a share s of the usual noise with a probability of s³, so that the largest excess
# grows with the cube root of the number of channels: 6.5 times in the 93,000 of ResNet50.
_SCALES = (1.0, 1.37, 1.19)
_FACTOR, _FEW_CHANNELS = 5.0, 20_000
# Three samples say little of a channel: one that a ReLU silences is 0 in all of them, and fires in
# a fourth. So the layer's mean variance counts as one more sample of each (Smyth 2004), without
# the largest, which are those of a few channels.
_LARGEST = 0.95
# Samples and Gram matrices vary more than channels do; so do the few predictions.
_LOOSE = 4.0
# A change of a layer by a factor follows its values; rounding does not. In a layer of few channels
# it may, by chance, but never as closely as a factor does.
_MAX_LIKENESS, _MIN_CHANNELS, _SURE_LIKENESS = 0.9, 4, 0.999


@dataclass(frozen=True)
class Allowance:
    """The largest differences of a layer that count as rounding.

    Attributes:
        channels: one number, or one for each channel (c,), in units of the channel's size.
        samples, gram: as in `Distance`.
    """

    channels: NDArray[np.float64] | float
    samples: float
    gram: float

    @staticmethod
    def of(tol: float) -> Allowance:
        """Return the allowance of a tolerance for channels."""
        return Allowance(tol, _LOOSE * tol, _LOOSE * tol)

    @property
    def smallest(self) -> float:
        """The tolerance of the channel that is allowed least."""
        return float(np.min(self.channels))


@dataclass(frozen=True)
class Allowances:
    """The allowances of a network: of each layer, and of its predictions.

    Attributes:
        layers: layer → allowance, by the names of the actual record.
        predictions: in units of the largest prediction.
        precision: the precision whose rounding they allow.
    """

    layers: Mapping[str, Allowance] = field(default_factory=dict)
    predictions: float = 0.0
    precision: str = "float32"


def rule_of(expected: Record, actual: Record, old: str, name: str, tol: float | None) -> Allowance:
    """Return the allowance for a pair of layers by their precision and depth, or that of `tol`."""
    if tol is not None:
        return Allowance.of(tol)
    return Allowance.of(activation_tolerance(_joined(expected, actual, old, name)))


def by_rule(
    expected: Record, actual: Record, pairs: list[tuple[str, str]], tol: float | None
) -> Allowances:
    """Return the allowances by the precision and depth of each layer, or those of `tol`."""
    layers = {name: rule_of(expected, actual, old, name, tol) for old, name in pairs}
    if tol is not None:
        return Allowances(layers, _LOOSE * tol)
    largest = max((each.smallest for each in layers.values()), default=0.0)
    return Allowances(
        layers,
        _LOOSE * max(largest, activation_tolerance("float32")),
        coarsest(_joined(expected, actual, *pair).precision for pair in pairs),
    )


def _joined(expected: Record, actual: Record, old: str, name: str) -> Rounding:
    return Rounding.join([expected.rounding(old), actual.rounding(name)])


def measured(actual: Record, precision: str, rule: Allowances) -> Allowances:
    """Return the allowances for another precision, measured on the network.

    Args:
        actual: the record of a network that can be run again.
        precision: the coarser precision.
        rule: smallest allowances.
    """
    if actual.rerun is None:
        raise ValueError("a record that was read from a file cannot be run again")
    bits, unit = significant_bits(precision), unit_roundoff(precision)
    channels = sum(len(actual.layers[name].rms) for name in rule.layers)
    factor = _FACTOR * max(1.0, channels / _FEW_CHANNELS) ** (1 / 3)
    runs = [actual.rerun(bits, scale) for scale in _SCALES]
    layers = {
        name: _widest(allowed, actual.layers[name], [run[0][name] for run in runs], unit, factor)
        for name, allowed in rule.layers.items()
    }
    noise = max(
        prediction_errors(output, run[1][name]).max()
        for run in runs
        for name, output in actual.outputs.items()
    )
    predictions = max(rule.predictions, _LOOSE * max(_FACTOR * float(noise) / 2, unit))
    return Allowances(layers, predictions, precision)


def _widest(
    rule: Allowance, plain: LayerSketch, rounded: list[LayerSketch], unit: float, factor: float
) -> Allowance:
    found = [distance(plain, each) for each in rounded]
    # The sketch itself is a product: it is rounded even where the layer is not.
    channels = np.maximum(_noise([each.channels for each in found]), unit)
    samples, gram = (max(getattr(d, n) for d in found) for n in ("samples", "gram"))
    return Allowance(
        np.maximum(rule.channels, factor * channels),
        max(rule.samples, factor * max(samples, unit)),
        max(rule.gram, factor * max(gram, unit)),
    )


def _noise(samples: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the standard deviation of each channel's noise, moderated by the layer's, (c,)."""
    squares = np.square(samples)
    own = squares.mean(axis=0)
    usual = np.minimum(own, np.quantile(own, _LARGEST)).mean()
    noise: NDArray[np.float64] = np.sqrt((squares.sum(axis=0) + usual) / (len(samples) + 1))
    return noise


def known_precision(expected: Record, actual: Record) -> str:
    """Return the coarsest precision in which either record was computed, as far as is known."""
    return coarsest(
        record.rounding(name).precision for record in (expected, actual) for name in record.layers
    )


def same_images(expected: Record, actual: Record) -> bool:
    """Return whether two records have the same images, to the bit."""
    return bool(expected.source.get("images") == actual.source.get("images"))


def unchanged_layers(
    expected: Record, actual: Record, fact: Literal["weights", "settings"]
) -> set[str]:
    """Return the layers of the actual record before the first whose weights or settings changed.

    The input is among them. Layers are compared in their order, whatever their names.
    """
    order = list(actual.provenance["settings"])
    before, now = (list(each.provenance.get(fact, {}).items()) for each in (expected, actual))
    if len(before) != len(now):
        return {INPUT}
    changed = [new for (_, old), (new, own) in zip(before, now, strict=True) if old != own]
    return {INPUT, *(order[: order.index(changed[0])] if changed else order)}


def follows_values(old: LayerSketch, new: LayerSketch) -> bool:
    """Return whether a layer changed by a factor, as rounding does not change it."""
    change = (new.projection - old.projection).astype(np.float64)
    values = old.projection.astype(np.float64)
    share = (change * values).sum(axis=0)
    count = share.sum() ** 2 / max(float((share**2).sum()), np.finfo(np.float64).tiny)
    size = np.linalg.norm(change) * np.linalg.norm(values)
    likeness = abs(share.sum()) / max(float(size), np.finfo(np.float64).tiny)
    return bool(likeness > (_MAX_LIKENESS if count >= _MIN_CHANNELS else _SURE_LIKENESS))


def is_finer_than(precision: str, other: str) -> bool:
    """Return whether a precision rounds less than another."""
    return unit_roundoff(precision) < unit_roundoff(other)
