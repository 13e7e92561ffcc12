"""Figures of two models side by side: the table of layers, and the first that differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.compare.sameness import Evidence, LayerSameness, Sameness
from convlens.pictures import Curves, ExpectedActual, Figure, Pairs, Pixels, Table, viridis

# The ratio in dB of a full bar: of rounding in float32.
_FULL = 140.0


def figures_of(found: Sameness, *, cause: bool) -> Mapping[str, Callable[[], Figure]]:
    """Return the figures of a comparison, by name.

    Args:
        found: the comparison.
        cause: whether the item tells the cause: then the first layer that differs is shown.
    """
    made: dict[str, Callable[[], Figure]] = {}
    evidence = found.evidence
    if cause and evidence is not None:
        made["differences"] = lambda: differences(evidence)
    if found.layers:
        made["layers"] = lambda: table_of(found)
    return made


def table_of(found: Sameness) -> Table:
    """Return a row for each group of layers, with a bar of its ratio, or share of the error."""
    ranked = bool(found.ranking)
    noisy = any(layer.noise is not None for layer in found.layers)
    columns = ["layers", "signal-to-noise", "cosine", "worst channel"]
    columns += ["noise found / explained"] * noisy + ["share of the outputs' error"] * ranked
    of = "share of the outputs' error" if ranked else "signal-to-noise"
    largest = max((max(layer.share or 0, 0) for layer in found.layers), default=0) or 1
    return Table(
        f"{found.new} beside {found.reference}, layer by layer; bars: {of}",
        columns,
        [list(_cells(layer, noisy=noisy, ranked=ranked)) for layer in found.layers],
        [
            max(layer.share or 0, 0) / largest
            if ranked
            else float(np.clip(layer.difference.snr / _FULL, 0, 1))
            for layer in found.layers
        ],
        [not layer.passed for layer in found.layers],
    )


def _cells(layer: LayerSameness, *, noisy: bool, ranked: bool) -> Iterator[str]:
    shown = layer.difference
    yield layer.title
    yield f"{shown.snr:.1f} dB"
    yield f"{shown.cosine:.6f}"
    yield f"{shown.worst_channel} ({shown.channel_snr:.1f} dB)"
    if noisy:
        yield "–" if layer.noise is None else f"{layer.noise.ratio:.3g}"
    if ranked:
        yield "–" if layer.share is None else f"{layer.share:.1%}"


def differences(shown: Evidence) -> Figure:
    """Return the maps of the channel that differs most, or all units of a dense layer."""
    expected, actual = (np.nan_to_num(v) for v in (shown.expected, shown.actual))
    if expected.ndim != 3:
        first = expected.reshape(len(expected), -1)[0], actual.reshape(len(actual), -1)[0]
        return Curves(
            dict(zip(("expected", "actual"), map(list, first), strict=True)),
            range(first[0].size),
            f"{shown.layer}, image {shown.numbers[0]}",
            "unit",
            "value",
        )
    pairs = [
        _pair(f"channel {shown.channel}, image {number}", e, a)
        for number, e, a in zip(shown.numbers, expected, actual, strict=True)
    ]
    return Pairs(pairs, f"{shown.layer}: the images with the largest errors")


def _pair(title: str, expected: NDArray[Any], actual: NDArray[Any]) -> ExpectedActual:
    low = float(min(expected.min(), actual.min()))
    high = float(max(expected.max(), actual.max()))
    apart = np.abs(actual - expected)
    most = float(apart.max())
    return ExpectedActual(
        title,
        _colors(expected, low, high),
        _colors(actual, low, high),
        _colors(apart, 0.0, most),
        f"Yellow is {high:.3g} and dark purple {low:.3g}; in the difference {most:.3g} and 0.",
    )


def _colors(values: NDArray[Any], low: float, high: float) -> Pixels:
    return viridis(np.round((values - low) / ((high - low) or 1) * 255).astype(np.uint8))
