"""The check of a model's baseline, one layer at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from convlens.baselines.check import assert_matches_baseline
from convlens.baselines.comparison import Comparison
from convlens.checks.check import Effort, LayerCheck, Measures
from convlens.engine.features.sketch import compared_entries
from convlens.lens import Lens


class Unchanged(LayerCheck):
    """Zero-code check, where baselines were asked for."""

    name = "baseline"
    summary = "each layer does what its baseline says"
    assertion = staticmethod(assert_matches_baseline)
    needs_finite_weights = False  # the comparison examines them once for all layers

    def __init__(self, compare: Callable[[Lens, str], Comparison]) -> None:
        """Take the function that compares one layer with its baseline."""
        self._compare = compare

    def layers(self, lens: Lens, effort: Effort) -> tuple[str | None, ...]:
        """Return the images, the layers in the network's order, and the outputs beside them."""
        return compared_entries(lens.network)

    def run(self, lens: Lens, layer: Any, effort: Effort) -> Comparison:
        __tracebackhide__ = True
        return self._compare(lens, layer)

    def measures(self, seen: Comparison) -> Measures:
        """Return the numbers of the layer's difference; none where it cannot be compared."""
        own = seen.own
        if own is None or not np.isfinite(own.worst_error):
            return {}
        found: dict[str, float | int] = {
            "cosine": own.cosine,
            "relative_error": own.relative_error,
            "worst_error": own.worst_error,
        }
        if own.worst_channel is not None:
            found["worst_channel"] = own.worst_channel
        return found

    def verdict(self, seen: Comparison) -> Measures:
        __tracebackhide__ = True
        if not seen.passed:
            raise AssertionError(seen.message)
        return {}
