"""Duplicate filters: filters of one layer that give the same feature maps, up to a scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
from numpy.typing import ArrayLike

from convlens.checks._filters import layer_statistics, lens_statistics
from convlens.checks._offenders import raise_offenders
from convlens.checks._waking import judged_statistics
from convlens.checks.check import Effort, LayerCheck, Measures
from convlens.engine.features.filters import FilterStatistics
from convlens.engine.model.network import Network
from convlens.lens import Lens

Found = Mapping[str, FilterStatistics]


def assert_no_duplicate_filters(
    model: keras.Model | Network,
    images: ArrayLike,
    layers: str | Iterable[str] | None = None,
    *,
    tol: float | None = None,
) -> dict[str, FilterStatistics]:
    """Assert that no two filters of a layer give the same feature maps, up to a scale.

    Args:
        model: a Keras model or a `Network`.
        images: (n, h, w, c) in the model's own range.
        layers: names; None for every convolution.
        tol: largest 1 - cosine of two filters' activations that counts as the same; see
            `filter_statistics`.

    Returns:
        layer → its `FilterStatistics`.

    Raises:
        AssertionError: two filters are duplicates, or all filters of a layer are dead.
        ValueError: an unknown layer, images of a wrong shape, a model without convolutions.
    """
    __tracebackhide__ = True
    network = Network.of(model)
    found = layer_statistics(network, images, layers, tol=tol)
    _judge(network.name, found)
    return found


class Duplicates(LayerCheck):
    """Zero-code check of one layer's filters."""

    name = "duplicates"
    summary = "no two filters give the same feature maps"
    assertion = staticmethod(assert_no_duplicate_filters)

    def run(self, lens: Lens, layer: Any, effort: Effort) -> tuple[str, Found]:
        __tracebackhide__ = True
        found = lens_statistics(lens, layer)
        if _all_dead(found[layer]):
            found, _ = judged_statistics(lens, layer, effort)
        return lens.name, found

    def measures(self, seen: tuple[str, Found]) -> Measures:
        return {"duplicates": sum(len(found.duplicates) for found in seen[1].values())}

    def verdict(self, seen: tuple[str, Found]) -> Measures:
        __tracebackhide__ = True
        _judge(*seen)
        return {}


def _judge(model: str, found: Found) -> None:
    __tracebackhide__ = True
    offenders = []
    for name, s in found.items():
        if _all_dead(s):
            offenders.append(f"layer {name!r}: all {len(s.high)} filters are dead")
        offenders += [
            f"layer {name!r}: units {i} and {j}, cosine {cosine:.8f}"
            for i, j, cosine in s.duplicates
        ]
    raise_offenders(f"{model} has filters that say the same:", offenders)


def _all_dead(found: FilterStatistics) -> bool:
    return len(found.dead) == len(found.high)
