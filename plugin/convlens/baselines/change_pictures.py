"""Pictures of what changed in a layer: the channels that differ most, before, now, and apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convlens.baselines.comparison import PicturePair, join_names
from convlens.baselines.distance import channel_errors, channel_sizes
from convlens.baselines.maps import ChannelMaps
from convlens.engine.features.sketch import LayerSketch
from convlens.pictures import Pixels, viridis
from convlens.pictures.sheet import FAINT, INK, PAPER, font

MAX_SHOWN = 8
_COLUMNS, _CELL, _GAP, _LABEL = 4, 84, 8, 16
_CHART_WIDTH, _NUMBERS, _ERRORS, _BAR, _ROW_GAP = 300, 44, 62, 6, 8
_STATISTICS = (
    ("mean", (31, 119, 180)),
    ("rms", (214, 98, 20)),
    ("largest", (44, 140, 60)),
    ("random sum", (120, 120, 120)),
)


def maps_pair(layer: str, found: Sequence[ChannelMaps], count: int) -> PicturePair:
    """Return the maps of the channels that differ most.

    Args:
        layer: name of the layer.
        found: the maps, of up to eight channels.
        count: number of channels that differ.
    """
    scales = [_limits(each) for each in found]
    changes = [
        np.abs(each.actual - each.expected) / (high - low)
        for each, (low, high) in zip(found, scales, strict=True)
    ]
    largest = max(float(change.max()) for change in changes)
    levels = {
        "expected": [
            _gray(each.expected, limits) for each, limits in zip(found, scales, strict=True)
        ],
        "actual": [_gray(each.actual, limits) for each, limits in zip(found, scales, strict=True)],
        "difference": [viridis(np.round(c / largest * 255).astype(np.uint8)) for c in changes],
    }
    numbers = [str(each.channel) for each in found]
    pages = {name: _numbered(tiles, numbers) for name, tiles in levels.items()}
    which = f"channel {numbers[0]}" if len(numbers) == 1 else f"channels {', '.join(numbers)}"
    of = f", of {count} that differ" if count > len(found) else ""
    return PicturePair(
        f"{layer}: maps of {which}",
        pages["expected"],
        pages["actual"],
        layer=layer,
        difference=pages["difference"],
        note=f"First image{of}. Expected and actual have one scale for each channel. In the "
        f"difference yellow is {100 * largest:.3g} % of a channel's range, dark purple is 0.",
    )


def _limits(each: ChannelMaps) -> tuple[float, float]:
    """Return the common scale of a channel's two maps; they differ, so that it is not empty."""
    both = np.stack([each.expected, each.actual])
    return float(both.min()), float(both.max())


def _gray(values: NDArray[np.float32], limits: tuple[float, float]) -> Pixels:
    low, high = limits
    return np.repeat(
        np.round((values - low) / (high - low) * 255).astype(np.uint8)[..., None], 3, 2
    )


def _numbered(tiles: Sequence[Pixels], numbers: Sequence[str]) -> Pixels:
    """Return maps side by side, enlarged without smoothing, with its number above each."""
    h, w = tiles[0].shape[:2]
    factor = max(1, _CELL // max(h, w))
    h, w = max(h * factor, 1), max(w * factor, 28)
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    size = (columns * (w + _GAP) + _GAP, rows * (_LABEL + h + _GAP))
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    for i, (tile, number) in enumerate(zip(tiles, numbers, strict=True)):
        x, y = _GAP + i % columns * (w + _GAP), i // columns * (_LABEL + h + _GAP)
        draw.text((x, y), number, INK, font(13))
        enlarged = Image.fromarray(tile).resize(
            (tile.shape[1] * factor, tile.shape[0] * factor), Image.Resampling.NEAREST
        )
        page.paste(enlarged, (x, y + _LABEL))
    return np.asarray(page)


@dataclass(frozen=True, eq=False)
class StatisticsPair:
    """Bars of the statistics of the channels that differ most, drawn when they are asked for.

    The comparison of a deep network has one for each layer that diverges, so only numbers are kept.

    Attributes:
        layer: name of the layer.
        channels: numbers of up to eight channels, that which differs most first.
        count: number of channels that differ, and of all.
        expected_values, actual_values: (k, s) the statistics.
        errors: (k,) difference of each channel, in units of its size.
        sizes: (k,) each channel's size.
    """

    layer: str
    channels: tuple[int, ...]
    count: tuple[int, int]
    expected_values: NDArray[np.float64]
    actual_values: NDArray[np.float64]
    errors: NDArray[np.float64]
    sizes: NDArray[np.float64]

    @staticmethod
    def of(
        layer: str, old: LayerSketch, new: LayerSketch, differ: Sequence[int], count: int
    ) -> StatisticsPair:
        """Return the pair for two sketches with the same detail.

        Args:
            layer: name of the layer.
            old, new: its sketches.
            differ: channels, that which differs most first.
            count: number of channels that differ.
        """
        chosen = tuple(differ[:MAX_SHOWN])
        sizes = channel_sizes(old)
        errors = channel_errors(old, new, sizes)
        own = [*chosen]
        return StatisticsPair(
            layer,
            chosen,
            (count, len(errors)),
            _statistics(old)[own],
            _statistics(new)[own],
            errors[own],
            sizes[own],
        )

    @property
    def title(self) -> str:
        """The layer and the channels."""
        which = join_names(self.channels, MAX_SHOWN)
        return f"{self.layer}: channel{'s' if len(self.channels) > 1 else ''} {which} in numbers"

    @property
    def note(self) -> str:
        """The number of channels that differ, and the meaning of the bars."""
        return (
            f"{self.count[0]} of {self.count[1]} channels diverge. Over all images; expected and "
            "actual have one scale for each channel. The bars of the difference have a scale of "
            "their own; the number is the difference in units of the channel's size. A random sum "
            "is of the map's values, each times a random factor: it changes where they only move."
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return self.expected_values.nbytes * 3

    @property
    def expected(self) -> Pixels:
        """(h, w, 3) the bars of the baseline."""
        return self._bars(self.expected_values, self._scale, [""] * len(self.channels))

    @property
    def actual(self) -> Pixels:
        """(h, w, 3) the bars of now."""
        return self._bars(self.actual_values, self._scale, [""] * len(self.channels))

    @property
    def difference(self) -> Pixels:
        """(h, w, 3) the bars of the difference."""
        change = (self.actual_values - self.expected_values) / self.sizes[:, None]
        limits = np.full(len(change), np.abs(change).max() or 1.0)
        return self._bars(change, limits, [f"{error:.3g}" for error in self.errors])

    @cached_property
    def _scale(self) -> NDArray[np.float64]:
        both = np.abs(np.concatenate([self.expected_values, self.actual_values], axis=1))
        scale: NDArray[np.float64] = both.max(axis=1)
        return np.where(scale > 0, scale, 1.0)

    def _bars(
        self, values: NDArray[np.float64], limits: NDArray[np.float64], texts: Sequence[str]
    ) -> Pixels:
        """Return a row of horizontal bars for each channel, to both sides of 0."""
        kinds = _STATISTICS if values.shape[1] == len(_STATISTICS) else _WITHOUT_HIGH
        row = len(kinds) * _BAR + _ROW_GAP
        page = Image.new("RGB", (_CHART_WIDTH, 24 + len(values) * row), PAPER)
        draw = ImageDraw.Draw(page)
        at = float(_NUMBERS)
        for name, color in kinds:
            draw.text((at, 2), name, color, font(13))
            at += font(13).getlength(name) + 14
        half = (_CHART_WIDTH - _NUMBERS - (_ERRORS if any(texts) else 4)) / 2
        middle = _NUMBERS + half
        draw.line([(middle, 22), (middle, page.height)], (200, 200, 200))
        for i, (own, limit) in enumerate(zip(values, limits, strict=True)):
            top = 24 + i * row
            draw.text((2, top + row // 2 - 10), str(self.channels[i]), INK, font(13))
            for j, (_, color) in enumerate(kinds):
                end = middle + half * float(own[j]) / float(limit)
                left, right = sorted((middle, end))
                y = top + j * _BAR
                draw.rectangle([left, y, max(right, left + 1), y + _BAR - 2], color)
            if texts[i]:
                at = _CHART_WIDTH - 4
                draw.text((at, top + row // 2 - 10), texts[i], FAINT, font(13), anchor="ra")
        return np.asarray(page)


_WITHOUT_HIGH = tuple(each for each in _STATISTICS if each[0] != "largest")


def _statistics(sketch: LayerSketch) -> NDArray[np.float64]:
    """Return each channel's mean, rms, largest value if it is kept, and a projection (c, s)."""
    high = [sketch.high] if sketch.high.size else []
    parts = [sketch.mean, sketch.rms, *high, sketch.projection[0]]
    return np.stack(parts, axis=1).astype(np.float64)
