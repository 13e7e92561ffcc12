"""Dead filters: filters whose activation never changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
from numpy.typing import ArrayLike

from convlens.checks._filters import layer_statistics
from convlens.checks._offenders import listed, raise_offenders
from convlens.checks.check import Column, Effort, Figures, LayerCheck, Measures
from convlens.drawings import draw_activations
from convlens.engine.features.filters import FilterStatistics
from convlens.engine.model.network import Network
from convlens.lens import Lens


def assert_no_dead_filters(
    model: keras.Model | Network,
    images: ArrayLike,
    layers: str | Iterable[str] | None = None,
    *,
    allowed: int = 0,
) -> dict[str, FilterStatistics]:
    """Assert that every filter's activation changes over the images.

    Args:
        model: a Keras model or a `Network`.
        images: (n, h, w, c) in the model's own range.
        layers: names; None for every convolution.
        allowed: number of dead filters that each layer may have.

    Returns:
        layer → its `FilterStatistics`.

    Raises:
        AssertionError: a layer has more dead filters than allowed; the message names them.
        ValueError: an unknown layer, images of a wrong shape, a model without convolutions.
    """
    __tracebackhide__ = True
    network = Network.of(model)
    seen = _Seen.of(network, images, layers)
    seen.judge(allowed)
    return dict(seen.layers)


class Dead(LayerCheck):
    """Zero-code check of one layer's filters."""

    name = "dead"
    summary = "every filter fires on some image"
    assertion = staticmethod(assert_no_dead_filters)
    columns = (Column("units", "{units}"), Column("dead", "{dead}"))

    def run(self, lens: Lens, layer: Any, effort: Effort) -> _Seen:
        __tracebackhide__ = True
        return _Seen.of(lens.network, lens.images, layer)

    def measures(self, seen: _Seen) -> Measures:
        (found,) = seen.layers.values()
        return {"units": len(found.high), "dead": len(found.dead)}

    def verdict(self, seen: _Seen) -> Measures:
        __tracebackhide__ = True
        seen.judge(allowed=0)
        return {}

    def figures(self, lens: Lens, layer: Any, seen: Any) -> Figures:
        return {"activations": lambda: draw_activations(lens, layer)}


@dataclass(frozen=True)
class _Seen:
    model: str
    images: int
    layers: Mapping[str, FilterStatistics]

    @classmethod
    def of(cls, network: Network, images: ArrayLike, layers: str | Iterable[str] | None) -> _Seen:
        __tracebackhide__ = True
        x = network.check_images(images)
        return cls(network.name, len(x), layer_statistics(network, x, layers))

    def judge(self, allowed: int) -> None:
        __tracebackhide__ = True
        raise_offenders(
            f"{self.model} has filters that never fire on {self.images} images "
            f"(allowed in a layer: {allowed}):",
            [
                f"layer {name!r}: {len(s.dead)} of {len(s.high)} are dead, units "
                f"{listed(s.dead)} (always {s.high[list(s.dead)].max():g})"
                for name, s in self.layers.items()
                if len(s.dead) > allowed
            ],
        )
