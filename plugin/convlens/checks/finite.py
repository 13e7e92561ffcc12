"""Finite weights and values: no NaN, no infinity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.checks._offenders import raise_offenders
from convlens.checks.check import Effort, LayerCheck, Measures
from convlens.checks.finite_weights import not_finite, weight_values
from convlens.engine.features.not_finite import NotFinite
from convlens.engine.features.survey import Wanted
from convlens.engine.model.network import Network
from convlens.lens import Lens

Arrays = dict[str, NDArray[Any]]


def assert_finite(values: Any, *, name: str | None = None) -> dict[str, int]:
    """Assert that all values are finite: no NaN, no infinity.

    Args:
        values: a Keras model or a `Network` (its weights are examined, layer by layer), a mapping
            of names to arrays, such as the result of `activations`, or one array.
        name: name of the values in the message; the model's name by default.

    Returns:
        name → number of values that were examined, for each weight or array.

    Raises:
        AssertionError: a value is not finite, or there was nothing to examine; the message names
            the layer.
    """
    __tracebackhide__ = True
    arrays = _arrays(values)
    _judge(str(name or getattr(values, "name", "values")), arrays)
    return {key: int(array.size) for key, array in arrays.items()}


class Finite(LayerCheck):
    """Zero-code check of one layer's weights and activations."""

    name = "finite"
    summary = "weights and activations are finite"
    assertion = staticmethod(assert_finite)
    needs_finite_weights = False

    def layers(self, lens: Lens, effort: Effort) -> tuple[str | None, ...]:
        return tuple(name for name, layer in lens.network.layers.items() if layer.weights)

    def run(self, lens: Lens, layer: Any, effort: Effort) -> _Seen:
        weights = _arrays(lens.network.layers[lens.network.find(layer)])
        output = lens.survey(Wanted(finite=(layer,))).not_finite.get(layer)
        return _Seen(f"{lens.name} layer {layer!r}", layer, weights, output)

    def measures(self, seen: _Seen) -> Measures:
        return {"weights": sum(array.size for array in seen.weights.values())}

    def verdict(self, seen: _Seen) -> Measures:
        __tracebackhide__ = True
        _judge(seen.title, seen.weights)
        if seen.output is not None:
            title = f"{seen.title}: the output is not finite:"
            raise_offenders(title, [f"{seen.layer}: {seen.output}"])
        return {}


@dataclass(frozen=True)
class _Seen:
    title: str
    layer: str
    weights: Arrays
    output: NotFinite | None  # the output's values that are not finite; None without any


def _judge(title: str, arrays: Arrays) -> None:
    __tracebackhide__ = True
    if not sum(array.size for array in arrays.values()):
        raise AssertionError(f"{title}: there is nothing to examine")
    raise_offenders(f"{title} is not finite:", not_finite(arrays))


def _arrays(values: Any) -> Arrays:
    if isinstance(values, Mapping):
        return {str(key): np.asarray(value) for key, value in values.items()}
    if isinstance(values, Network):
        values = values.model
    if hasattr(values, "weights"):
        return {weight.path: weight_values(weight) for weight in values.weights}
    return {"values": np.asarray(values)}
