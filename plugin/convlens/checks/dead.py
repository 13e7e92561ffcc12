"""Dead filters: filters whose activation does not vary from image to image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.checks._filters import layer_statistics
from convlens.checks._offenders import listed, raise_offenders
from convlens.checks._waking import Suspects, judged_statistics
from convlens.checks.check import Column, Effort, Figures, LayerCheck, Measures
from convlens.drawings import draw_activations
from convlens.engine.features.filters import FilterStatistics, images_differ
from convlens.engine.model.network import Network
from convlens.lens import Lens

_TOO_FEW = "at least two images that differ are needed to tell whether a filter varies"
# With this share of a layer's filters dead, the images' range is suspected.
_MANY = 0.25
_OTHER_RANGE = 0.0, 255.0


def assert_no_dead_filters(
    model: keras.Model | Network,
    images: ArrayLike,
    layers: str | Iterable[str] | None = None,
    *,
    allowed: int = 0,
) -> dict[str, FilterStatistics]:
    """Assert that every filter's activation varies over the images.

    A filter is judged by its layer's output; where an activation alone reads that, directly or
    through operations that keep channels apart, such as a batch normalization, by the output of the
    activation. See `filter_statistics` for what counts as varying.

    Args:
        model: a Keras model or a `Network`.
        images: (n, h, w, c) in the model's own range; two of them must differ.
        layers: names; None for every convolution that the images reach.
        allowed: number of dead filters that each layer may have.

    Returns:
        layer → its `FilterStatistics`.

    Raises:
        AssertionError: a layer has more dead filters than allowed; the message names them.
        ValueError: an unknown layer, or one that the images do not reach, images of a wrong shape,
            no two images that differ, a model without convolutions.
    """
    __tracebackhide__ = True
    network = Network.of(model)
    x = network.check_images(images)
    if not images_differ(x):
        raise ValueError(f"{network.name}: {_TOO_FEW}")
    seen = _Seen.of(network, x, layer_statistics(network, x, layers))
    seen.judge(allowed)
    return dict(seen.layers)


class Dead(LayerCheck):
    """Zero-code check of one layer's filters."""

    name = "dead"
    summary = "every filter fires on some image"
    assertion = staticmethod(assert_no_dead_filters)
    columns = (Column("units", "{units}"), Column("dead", "{dead}"))

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        reason = super().reason_to_skip(lens, layer)
        return reason if reason or images_differ(lens.images) else _TOO_FEW

    def run(self, lens: Lens, layer: Any, effort: Effort) -> _Seen:
        __tracebackhide__ = True
        seen = _Seen.of_lens(lens, layer, effort)
        if lens.range_given or not (seen.dead and seen.is_mostly_dead):
            return seen
        (low, high), (first, last) = lens.value_range, _OTHER_RANGE
        other = lens.once(_Seen, lambda: _in_other_range(lens))
        dead = _Seen.of_lens(other, layer, effort).dead
        return replace(
            seen,
            hint=(
                f"no range was given, so {low:g} to {high:g} was assumed: with --convlens-range "
                f"{first:g},{last:g}, {dead} of {seen.units} are dead"
            ),
        )

    def measures(self, seen: _Seen) -> Measures:
        return {"units": seen.units, "dead": seen.dead}

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
    hint: str  # what the range of the images may have to do with it
    suspects: Mapping[str, Suspects]  # of layers with filters that synthetic images leave still

    @classmethod
    def of(
        cls, network: Network, x: NDArray[np.float32], layers: Mapping[str, FilterStatistics]
    ) -> _Seen:
        hint = (
            f"the images range from {x.min():g} to {x.max():g}: is that the range that the model "
            "was trained on?"
        )
        return cls(network.name, len(x), layers, hint, {})

    @classmethod
    def of_lens(cls, lens: Lens, layer: str, effort: Effort) -> _Seen:
        """Return what a lens's images show, and those made for filters that they leave still."""
        __tracebackhide__ = True
        layers, suspects = judged_statistics(lens, layer, effort)
        return replace(cls.of(lens.network, lens.images, layers), suspects=suspects)

    @property
    def units(self) -> int:
        return sum(len(s.high) for s in self.layers.values())

    @property
    def dead(self) -> int:
        return sum(len(s.dead) for s in self.layers.values())

    @property
    def is_mostly_dead(self) -> bool:
        """True if so many filters of a layer are still that the images may be at fault."""
        return any(self._still(name) > _MANY * len(s.high) for name, s in self.layers.items())

    def _still(self, layer: str) -> int:
        """Return how many filters of a layer do not vary over the images."""
        suspects = self.suspects.get(layer)
        return len(self.layers[layer].dead) if suspects is None else suspects.count

    def judge(self, allowed: int) -> None:
        __tracebackhide__ = True
        offenders = [
            f"layer {name!r}: {len(s.dead)} of {len(s.high)} are dead"
            f"{f' behind {s.behind}' if s.behind else ''}, units {listed(s.dead)} ({_always(s)})"
            f"{self._untried(name)}"
            for name, s in self.layers.items()
            if len(s.dead) > allowed
        ]
        made = ", nor on images made to excite them" if self.suspects else ""
        raise_offenders(
            f"{self.model} has filters that never fire on {self.images} images{made} "
            f"(allowed in a layer: {allowed}):",
            offenders,
            self.hint if self.is_mostly_dead else "",
        )

    def _untried(self, layer: str) -> str:
        """Say for how many still filters of a layer no image was made; "" for none."""
        count = self.suspects[layer].untried if layer in self.suspects else 0
        return f"; {count} more fire on none of the {self.images} images" if count else ""


def _in_other_range(lens: Lens) -> Lens:
    """Return a lens with the images in the other usual range, shared if the lens is."""
    (low, high), (first, last) = lens.value_range, _OTHER_RANGE
    x = first + (last - first) * (lens.images - low) / (high - low)
    other = Lens(
        lens.network,
        x.astype(np.float32),
        value_range=_OTHER_RANGE,
        synthetic=lens.synthetic,
    )
    if lens.is_shared:
        other.share()
    return other


def _always(s: FilterStatistics) -> str:
    """Describe the values of the dead units."""
    dead = list(s.dead)
    low, high = s.low[dead].min(), s.high[dead].max()
    if low == high:
        return f"always {high:g}"
    return f"{low:g} to {high:g}, the same for all images"
