"""The difference of two tensors as a signal-to-noise ratio, gathered image by image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Ratios are cut to this, as equal tensors have none.
MAX_DECIBELS = 200.0
# The share of the mean square that counts as signal beside the variance: rounding follows values,
# and a layer that hardly varies would have a ratio of rounding alone.
_MEAN_SHARE = 1e-3
# A channel's signal counts as at least this share of the layer's: the rounding of its inputs does
# not shrink with it.
_CHANNEL_FLOOR = 1e-3
# A channel whose noise is within a factor of the others' is as noisy as its layer, however little
# it varies, such as a unit that is nearly silent; its signal counts as the layer's. Where inputs
# hardly vary, a channel's noise is one draw, squared: of c draws the largest is about 4.4 ln c
# times the median. Half as much again is allowed, of the third quartile, as kernels of a depthwise
# convolution differ in size.
_ALIKE, _MIN_ALIKE = 6.6, 10.0
_VALUES_AT_ONCE = 2**16


@dataclass(frozen=True)
class Difference:
    """Difference between a tensor and what it should be.

    Attributes:
        snr: signal-to-noise ratio in dB: the variance about each channel's mean over the squared
            error; 200 for equal tensors, -200 where one is not finite.
        cosine: cosine similarity.
        worst_channel: channel with the lowest ratio.
        channel_snr: its ratio in dB.
        worst_image: number of the image with the largest error.
        image_snr: its ratio in dB.
    """

    snr: float
    cosine: float
    worst_channel: int
    channel_snr: float
    worst_image: int
    image_snr: float

    def __str__(self) -> str:
        return (
            f"signal-to-noise {self.snr:.1f} dB, cosine {self.cosine:.6f}, worst channel "
            f"{self.worst_channel} ({self.channel_snr:.1f} dB), worst image {self.worst_image} "
            f"({self.image_snr:.1f} dB)"
        )


class Tally:
    """Sums by channel over images, from which a `Difference` follows; no tensor is kept."""

    def __init__(self) -> None:
        self._sums: Any = 0.0  # (5, c) after the first image
        self._count = 0
        self._by_image: dict[int, tuple[float, int]] = {}

    def add(self, numbers: Sequence[int], expected: NDArray[Any], actual: NDArray[Any]) -> None:
        """Add the values of some images.

        Args:
            numbers: numbers of these images (n,).
            expected, actual: (n, …, c).
        """
        for i, number in enumerate(numbers):
            squares, values = 0.0, 0
            for rows, errors in _parts(expected[i : i + 1], actual[i : i + 1]):
                got = np.where(np.isfinite(errors), rows + errors, 0.0)
                found = _channel_sums(errors, errors)
                squares, values = squares + float(found.sum()), values + rows.size
                self._count += len(rows)
                self._sums = self._sums + np.stack(
                    [
                        rows.sum(axis=0),
                        _channel_sums(rows, rows),
                        found,
                        _channel_sums(rows, got),
                        _channel_sums(got, got),
                    ]
                )
            self._by_image[number] = squares, values

    def worst_images(self, count: int) -> list[int]:
        """Return the numbers of the images with the largest errors, the largest first."""
        ordered = sorted(self._by_image, key=lambda i: -self._by_image[i][0])
        return ordered[:count]

    @property
    def noise(self) -> NDArray[np.float64]:
        """The mean squared error of each channel (c,)."""
        found: NDArray[np.float64] = self._sums[2] / self._count
        return found

    def difference(self) -> Difference:
        """Return the difference over all images so far."""
        total, squares, _, products, actual = self._sums / self._count
        noise = self.noise
        signal = np.maximum(squares - total**2, 0) + _MEAN_SHARE * squares
        floor = max(float(signal.mean()), np.finfo(np.float64).tiny)
        others = np.quantile(noise[noise > 0], 0.75, method="lower") if (noise > 0).any() else 0.0
        alike = others * max(_MIN_ALIKE, _ALIKE * math.log(len(noise)))
        share = np.where(noise <= alike, 1.0, _CHANNEL_FLOOR)
        # A channel without noise has the largest ratio, also where its signal is huge or zero.
        ratios = np.full(len(noise), 10 ** (MAX_DECIBELS / 10))
        np.divide(np.maximum(signal, share * floor), noise, out=ratios, where=noise > 0)
        worst = int(np.argmin(ratios))
        image = max(self._by_image, key=lambda i: self._by_image[i][0])
        image_squares, size = self._by_image[image]
        norms = math.sqrt(float(squares.sum()) * float(actual.sum()))
        cosine = float(products.sum()) / norms if norms > 0 else float(noise.sum() == 0)
        return Difference(
            decibels(floor, float(noise.mean())),
            min(1.0, cosine),
            worst,
            decibels(float(ratios[worst]), 1.0),
            image,
            decibels(floor, image_squares / size),
        )


def snr(expected: NDArray[Any], actual: NDArray[Any]) -> float:
    """Return the signal-to-noise ratio of two tensors (n, …, c) in dB; see `Difference`."""
    sums: Any = 0.0  # (3, c): of values, of their squares and of squared errors
    for rows, errors in _parts(expected, actual):
        sums = sums + np.stack(
            [rows.sum(axis=0), _channel_sums(rows, rows), _channel_sums(errors, errors)]
        )
    means, squares, noise = sums * sums.shape[1] / expected.size
    every = float(squares.mean())
    signal = max(every - float(np.square(means).mean()), 0.0) + _MEAN_SHARE * every
    tiny = float(np.finfo(np.float64).tiny)
    return decibels(max(signal, tiny), float(noise.mean()))


def decibels(signal: float, noise: float) -> float:
    """Return a ratio in dB, within ±200."""
    if not math.isfinite(noise) or not math.isfinite(signal):
        return -MAX_DECIBELS
    if noise <= 0:
        return MAX_DECIBELS
    if signal <= 0:
        return -MAX_DECIBELS
    found = 10 * (math.log10(signal) - math.log10(noise))
    return max(-MAX_DECIBELS, min(MAX_DECIBELS, found))


def _parts(
    expected: NDArray[Any], actual: NDArray[Any]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield values (n, c) and errors (n, c) of tensors (n, …, c), as many as fit into a cache."""
    channels = expected.shape[-1] if expected.ndim > 1 else 1
    whole, own = (np.reshape(each, (-1, channels)) for each in (expected, actual))
    step = max(1, _VALUES_AT_ONCE // channels)
    for start in range(0, len(whole), step):
        yield _error(whole[start : start + step], own[start : start + step])


def _channel_sums(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of products (n, c) · (n, c) of each channel."""
    found: NDArray[np.float64] = np.einsum("ij,ij->j", a, b)
    return found


def _error(
    expected: NDArray[Any], actual: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what is expected, and the error; infinite where one of both alone is not finite."""
    e, a = np.asarray(expected, np.float64), np.asarray(actual, np.float64)
    finite = np.isfinite(e) & np.isfinite(a)
    if finite.all():
        return e, a - e
    same = (e == a) | (np.isnan(e) & np.isnan(a))
    error = np.where(finite, np.where(finite, a, 0) - np.where(finite, e, 0), np.inf)
    return np.where(finite, e, 0), np.where(same, 0, error)
