"""What comparing with a baseline found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_LINES = 10


@dataclass(frozen=True)
class LayerDifference:
    """How one layer, or one array of a result, differs from the baseline.

    Attributes:
        layer: its name.
        cosine: of expected and actual activations, all channels together.
        relative_error: the length of their difference over the expected length.
        worst_channel: the channel that differs most; None where the shapes differ.
        passed: whether it agrees.
        worst_error: that channel's difference, in units of its size.
        moved: channels that are now where others were, as (from, to); empty unless nothing but
            their order changed.
        note: what else is known, such as how many channels diverge.
    """

    layer: str
    cosine: float
    relative_error: float
    worst_channel: int | None
    passed: bool
    worst_error: float = 0.0
    moved: tuple[tuple[int, int], ...] = ()
    note: str = ""

    def __str__(self) -> str:
        worst = ""
        if self.worst_channel is not None:
            worst = f", worst channel {self.worst_channel} ({self.worst_error:.3g} of its size)"
        numbers = f"cosine {self.cosine:.7g}, relative error {self.relative_error:.3g}{worst}"
        return "; ".join(part for part in (numbers, self.note) if part)


@dataclass(frozen=True, eq=False)
class PicturePair:
    """What was expected, and what there is.

    Attributes:
        title: what they show.
        expected, actual: (h, w) or (h, w, 3) uint8.
    """

    title: str
    expected: NDArray[np.uint8]
    actual: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Comparison:
    """How what there is compares with a baseline.

    Attributes:
        key: the baseline's unique name within its folder.
        fingerprint: identifies the new behavior; what an accepted change must match. That of a
            network that agrees is "": there is nothing to accept.
        verdict: one sentence.
        passed: whether it agrees.
        first: the first layer, in the graph's order, that diverges; None where all agree.
        layers: every layer that was compared, in the graph's order.
        pictures: expected and actual, for people.
        details: lines for the message: what follows, the provenance, what usually explains it.
    """

    key: str
    fingerprint: str
    verdict: str
    passed: bool
    first: str | None = None
    layers: tuple[LayerDifference, ...] = ()
    pictures: tuple[PicturePair, ...] = ()
    details: tuple[str, ...] = field(default=())

    @property
    def message(self) -> str:
        """The verdict and its details, a line each."""
        return "\n".join([self.verdict, *(f"  {line}" for line in self.details)])

    def of_layer(self, layer: str) -> Comparison:
        """Return the part of it that one layer's test is about.

        That is all of it where the layers could not be compared, as without a baseline.
        """
        own = next((found for found in self.layers if found.layer == layer), None)
        if own is None:
            return self
        pictures = tuple(pair for pair in self.pictures if pair.title == layer)
        if own.passed:
            verdict = f"layer {layer!r} agrees with the baseline: {own}"
            return replace(
                self, verdict=verdict, passed=True, first=None, pictures=pictures, details=()
            )
        if layer == self.first:
            return replace(self, pictures=pictures)
        verdict = f"layer {layer!r} diverges too ({own}); {self.verdict}"
        return replace(self, verdict=verdict, pictures=pictures, details=self.details[-1:])


def listed(names: Sequence[object], most: int = MOST_LINES) -> str:
    """Return names separated by commas, at most `most` of them and then a count."""
    shown = ", ".join(str(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def no_match(layer: str, note: str) -> LayerDifference:
    """Return how a layer differs that cannot be compared number by number."""
    return LayerDifference(layer, 0.0, float("inf"), None, False, float("inf"), note=note)


def length(values: NDArray[Any]) -> float:
    """Return the Euclidean length of an array's values."""
    return float(np.linalg.norm(values.astype(np.float64)))


def cosine_of(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the cosine of the angle between two arrays; 1 for two that are zero."""
    size = length(a) * length(b)
    if not size:
        return float(length(a) == length(b))
    return float(np.clip(np.vdot(a.astype(np.float64), b.astype(np.float64)) / size, -1, 1))
