"""The distance between two sketches of a layer, in units of the layer's own size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convlens.baselines.comparison import norm
from convlens.engine.features.sketch import LayerSketch

# Minimum size of a channel, relative to its layer: rounding errors scale with the summed products.
_MIN_CHANNEL_SIZE = 0.1
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Distance:
    """The largest differences of a layer, by measure.

    Attributes:
        channels: (c,) the difference of each channel, in units of the channel's size.
        samples: the difference of a sampled activation, in units of the layer's size or its own.
        gram: the difference of the Gram matrices, in units of their size.
    """

    channels: NDArray[np.float64]
    samples: float
    gram: float


def distance(old: LayerSketch, new: LayerSketch) -> Distance:
    """Return the distance between two sketches of the same shape, in units of the first."""
    layer_size = float(np.sqrt(np.mean(old.rms.astype(np.float64) ** 2))) or TINY
    samples = np.abs(new.samples - old.samples) / np.maximum(np.abs(old.samples), layer_size)
    return Distance(
        channel_errors(old, new, channel_sizes(old)),
        float(samples.max(initial=0.0)),
        norm(new.gram - old.gram) / (norm(old.gram) or TINY),
    )


def channel_sizes(sketch: LayerSketch) -> NDArray[np.float64]:
    """Return each channel's size (c,): its rms, but at least a tenth of the layer's rms."""
    rms = sketch.rms.astype(np.float64)
    layer = float(np.sqrt(np.mean(rms**2)))
    return np.maximum(rms, max(_MIN_CHANNEL_SIZE * layer, TINY))


def channel_errors(
    old: LayerSketch, new: LayerSketch, scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the largest difference (c,) of each channel, in units of the channel's size."""
    projected = np.sqrt(np.mean((new.projection.astype(np.float64) - old.projection) ** 2, axis=0))
    measures = [
        projected / scale,
        np.abs(new.mean.astype(np.float64) - old.mean) / scale,
        np.abs(new.rms.astype(np.float64) - old.rms) / scale,
    ]
    if old.high.size:  # a large network's baseline has none
        high = np.abs(new.high.astype(np.float64) - old.high)
        measures.append(high / np.maximum(scale, np.abs(old.high)))
    errors: NDArray[np.float64] = np.max(measures, axis=0)
    return errors


def prediction_errors(old: NDArray[np.float32], new: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the largest difference (c,) of each output, in units of the largest output."""
    before, now = (p.reshape(-1, p.shape[-1]).astype(np.float64) for p in (old, new))
    size = np.maximum(np.abs(before).max(), TINY)
    errors: NDArray[np.float64] = np.abs(now - before).max(axis=0) / size
    return errors
