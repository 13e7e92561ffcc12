"""The noise of integer models: what is found over what their steps explain.

A rounded value is off by a uniform error, whose variance is the step's square over 12. The steps of
a layer's output and of its weights add up to the noise that it must have; a layer with much more
has a fault. (Widrow & Kollár 2008, Quantization Noise.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.compare.rounding import ExplainedNoise
from convlens.compare.runtime import Values
from convlens.compare.tflite import TFLiteModel
from convlens.compare.walk import Row

# Largest ratios of healthy networks: 2.1 of a layer and 16 of a channel, of 1,704 layers.
MAX_RATIO, MAX_CHANNEL_RATIO = 3.0, 20.0
# Where inputs hardly vary, a channel's noise is one draw, squared. The largest of c draws is about
# 2 ln c times their mean, and is above this many ln c in one of c^1.2 layers.
_DRAWS = 4.4
# The noise of float32 arithmetic, as a share of the mean square.
_FLOAT_NOISE = 1e-10


@dataclass(frozen=True)
class Noise:
    """The noise of an integer layer.

    Attributes:
        ratio: noise found over noise explained; about 1, or less.
        worst_channel: channel with the largest ratio.
        channel_ratio: its ratio.
        saturated: share of values at the ends of the tensor's range.
        by_weights: share of the explained noise that the weights' steps make.
        channels: number of channels.
    """

    ratio: float
    worst_channel: int
    channel_ratio: float
    saturated: float
    by_weights: float
    channels: int

    @property
    def max_channel_ratio(self) -> float:
        """The largest ratio of a channel without a fault; many channels have a larger one."""
        return max(MAX_CHANNEL_RATIO, _DRAWS * math.log(self.channels))

    @property
    def passed(self) -> bool:
        """True if the steps explain the noise."""
        return self.ratio <= MAX_RATIO and self.channel_ratio <= self.max_channel_ratio

    def __str__(self) -> str:
        return (
            f"noise {self.ratio:.3g} times what its steps explain (limit {MAX_RATIO:g}), worst "
            f"channel {self.worst_channel} ({self.channel_ratio:.3g} times, limit "
            f"{self.max_channel_ratio:.3g}), {self.saturated:.1%} of its values at an end of their "
            "range"
        )


class NoiseTally:
    """Sums of found and explained noise by channel, over images."""

    def __init__(self, row: Row, model: TFLiteModel, known: frozenset[str]) -> None:
        """Prepare the sums of a layer.

        Args:
            row: the layer and its counterpart.
            model: the integer model.
            known: the tensors that are counterparts of layers.
        """
        self._step = model.steps.get(row.pair.tensor)
        self._explained = ExplainedNoise(model, row.pair.tensor, known - {row.pair.tensor})
        self._sums: NDArray[np.float64] | None = None
        self._seen = 0
        self._saturated = 0

    def add(self, expected: NDArray[Any], actual: NDArray[Any], held: Mapping[str, Values]) -> None:
        """Add the values of some images.

        Args:
            expected, actual: (n, …, c).
            held: all tensors of the other model.
        """
        error = (np.asarray(actual, np.float64) - expected) ** 2
        weights, steps = self._explained.variance(held).reshape(2, *expected.shape)
        floor = _FLOAT_NOISE * float(np.mean(np.square(expected, dtype=np.float64)))
        free = np.ones(error.shape, bool)
        if self._step is not None:
            half = float(self._step.scale.max()) / 2
            low, high = self._step.low + half, self._step.high - half
            # A value at an end of the range is no fault where it should be there, or beyond.
            free = (actual > low) & (actual < high) | (expected > low) & (expected < high)
        rows = [
            np.where(free, each, 0).reshape(-1, error.shape[-1]).sum(axis=0)
            for each in (error, weights, steps + floor)
        ]
        sums = np.stack(rows)
        self._sums = sums if self._sums is None else self._sums + sums
        self._seen += free.size
        self._saturated += int(free.size - free.sum())

    def noise(self) -> Noise:
        """Return the noise over all images so far."""
        assert self._sums is not None
        found, weights, rounding = self._sums
        explained = np.maximum(weights + rounding, np.finfo(np.float64).tiny)
        ratios = found / explained
        ratios = np.where(np.isfinite(ratios), ratios, np.inf)
        worst = int(np.argmax(ratios))
        total = float(explained.sum())
        return Noise(
            float(found.sum()) / total,
            worst,
            float(ratios[worst]),
            self._saturated / max(self._seen, 1),
            float(weights.sum()) / total,
            len(ratios),
        )


def known_tensors(rows: Sequence[Row]) -> frozenset[str]:
    """Return the tensors that are counterparts of layers."""
    return frozenset(row.pair.tensor for row in rows)
