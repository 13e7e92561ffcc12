"""Keep less of a large network, so that a baseline stays a small file in version control.

A small network's sketches are stored whole. Of a larger one fewer projections, samples and pixels
are kept for each layer, by its shapes alone, so that every machine keeps the same. The mean, the
root mean square and one projection of each channel are always there: any of them shows a change of
the channel. Numbers are rounded to 19 significant bits, a tenth of the smallest tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convlens.engine.features.sketch import LayerSketch

# Bytes of a file: of a small network, or of any network and for each of its layers.
_SMALL_BYTES, _BASE_BYTES, _LAYER_BYTES = 100_000, 40_000, 4_000
# Bytes that a number or a pixel takes, after compression.
_NUMBER_BYTES, _SHOWN_BYTES, _MIXED_BYTES = 2.9, 0.8, 1.9
_MARK_BYTES = 2.0  # of each channel's weights; see `weights`
_MANTISSA_BITS = 18
# Values of each output.
_MAX_OUTPUT = 2**14


@dataclass(frozen=True)
class Detail:
    """Largest numbers of what is kept of a layer.

    Attributes:
        projections: of each channel.
        high: whether the largest value of each channel is kept.
        gram: columns of the Gram matrix's projection.
        samples: sampled activations.
        shown: feature maps for pictures.
        mixed: sums of all feature maps.
        side: side of maps, in pixels.
    """

    projections: int
    high: bool
    gram: int
    samples: int
    shown: int
    mixed: int
    side: int


_DETAILS = (
    Detail(8, True, 4, 4096, 32, 8, 48),
    Detail(8, True, 4, 1024, 32, 8, 28),
    Detail(8, True, 4, 1024, 16, 8, 24),
    Detail(4, True, 2, 512, 8, 6, 24),
    Detail(2, True, 1, 256, 6, 4, 24),
    Detail(2, True, 1, 128, 4, 4, 20),
    Detail(1, True, 1, 128, 4, 4, 16),
    Detail(1, False, 0, 64, 3, 4, 16),
    Detail(1, False, 0, 64, 2, 3, 14),
    Detail(1, False, 0, 32, 2, 3, 12),
)


def choose_detail(sketches: Iterable[LayerSketch]) -> Detail:
    """Return the most detail with which a network's file is as small as it should be."""
    layers = list(sketches)
    budget: float = max(_SMALL_BYTES, _BASE_BYTES + _LAYER_BYTES * len(layers))
    budget -= sum(_MARK_BYTES * len(one.mean) for one in layers)
    fitting = (d for d in _DETAILS if sum(_bytes_of(one, d) for one in layers) <= budget)
    return next(fitting, _DETAILS[-1])


def compacted(sketch: LayerSketch, detail: Detail) -> LayerSketch:
    """Return a sketch with less detail."""
    numbers = shown_channels(sketch)
    kept = _evenly_spaced(len(numbers), detail.shown)
    return replace(
        sketch,
        projection=sketch.projection[: detail.projections],
        high=sketch.high if detail.high else sketch.high[:0],
        gram=sketch.gram[:, : detail.gram],
        samples=_spread(sketch.samples, detail.samples),
        shown=_reduced(sketch.shown, kept, detail.side),
        channels=tuple(numbers[i] for i in kept),
        mixed=_reduced(sketch.mixed, np.arange(detail.mixed), detail.side),
    )


def _reduced(
    maps: NDArray[np.float32] | None, kept: NDArray[np.int64], side: int
) -> NDArray[np.float32] | None:
    if maps is None:
        return None
    step = step_to(side, maps.shape[1:])
    return maps[kept[kept < len(maps)], ::step, ::step]


def shown_channels(sketch: LayerSketch) -> tuple[int, ...]:
    """Return the channels of the feature maps in a sketch."""
    return sketch.channels or tuple(range(0 if sketch.shown is None else len(sketch.shown)))


def step_to(side: int, sides: Sequence[int]) -> int:
    """Return the step with which maps of given sides have at most `side` pixels in a row.

    The result is the same for the side that is left: a map that was reduced tells its step.
    """
    return max(1, math.ceil(max(sides) / side))


def aligned(old: LayerSketch, new: LayerSketch) -> tuple[LayerSketch, LayerSketch]:
    """Return two sketches of a layer with the detail that both have, without maps."""
    if old.shape != new.shape:
        return old, new
    detail = Detail(
        min(len(old.projection), len(new.projection)),
        bool(old.high.size and new.high.size),
        min(old.gram.shape[1], new.gram.shape[1]),
        min(len(old.samples), len(new.samples)),
        shown=0,
        mixed=0,
        side=1,
    )
    return compacted(old, detail), compacted(new, detail)


def compact_output(output: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an output (m, …, c) for fewer images and, where one is large, at fewer positions."""
    values = output[0].size
    if values <= _MAX_OUTPUT:
        return output[: max(1, _MAX_OUTPUT // values)]
    c = output.shape[-1]
    positions = output[:1].reshape(1, -1, c)
    return positions[:, _evenly_spaced(positions.shape[1], max(1, _MAX_OUTPUT // c))]


def pack(arrays: Iterable[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """Return arrays as one of bytes (4, n), rounded: equal bytes of all numbers are together.

    So the exponents, which are alike, are compressed well.
    """
    parts = [np.zeros(0, np.float32), *(array.reshape(-1) for array in arrays)]
    flat = np.concatenate(parts).astype("<f4")
    bits = flat.view("<u4").astype(np.uint64)
    dropped = 23 - _MANTISSA_BITS
    up = (bits + (1 << (dropped - 1))) >> dropped << dropped
    # Next to the largest number there is none to round up to.
    rounded = np.where(up & 0x7F800000 == 0x7F800000, bits >> dropped << dropped, up)
    return np.ascontiguousarray(rounded.astype("<u4").view(np.uint8).reshape(-1, 4).T)


def unpack(planes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the numbers (n,) that `pack` stored.

    Raises:
        ValueError: an array of another type or shape.
    """
    if planes.dtype != np.uint8 or planes.ndim != 2 or len(planes) != 4:
        raise ValueError(
            f"numbers are stored as bytes (4, n), not as {planes.dtype} {planes.shape}"
        )
    found = np.ascontiguousarray(planes.T).reshape(-1).view("<f4")
    return found.astype(np.float32)


def _bytes_of(sketch: LayerSketch, detail: Detail) -> float:
    """Return about how many bytes of a file a layer takes."""
    numbers = len(sketch.mean) * (2 + detail.projections + detail.high + detail.gram)
    numbers += min(len(sketch.samples), detail.samples)
    shown = _pixels_of(sketch.shown, detail.shown, detail.side)
    mixed = _pixels_of(sketch.mixed, detail.mixed, detail.side)
    return _NUMBER_BYTES * numbers + _SHOWN_BYTES * shown + _MIXED_BYTES * mixed


def _pixels_of(maps: NDArray[np.float32] | None, count: int, side: int) -> int:
    if maps is None:
        return 0
    step = step_to(side, maps.shape[1:])
    return min(len(maps), count) * math.prod(math.ceil(s / step) for s in maps.shape[1:])


def _spread(values: NDArray[np.float32], limit: int) -> NDArray[np.float32]:
    return values[_evenly_spaced(len(values), limit)]


def _evenly_spaced(count: int, limit: int) -> NDArray[np.int64]:
    """Return at most `limit` evenly spaced numbers below `count`."""
    return np.arange(count) if count <= limit else np.linspace(0, count - 1, limit).astype(np.int64)
