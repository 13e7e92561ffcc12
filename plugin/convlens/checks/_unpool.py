"""Max-pooling and max-unpooling written out in NumPy, to hold the engine's against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Windows:
    """The windows of a max-pool.

    Attributes:
        size: of a window along each side, (rows, columns).
        strides: between windows along each side.
        padding: 'valid' or 'same'.
    """

    size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str

    @property
    def apart(self) -> bool:
        """True if no two windows share a position and none lies between windows."""
        return self.size == self.strides

    def pool(self, features: NDArray[Any], positions: tuple[int, ...]) -> NDArray[Any]:
        """Return the maximum of each window of features (n, *positions, c)."""
        padded, _ = self._padded(features, positions)
        return reduce(np.maximum, self._each(padded, positions))

    def unpool(self, features: NDArray[Any], signal: NDArray[Any]) -> NDArray[Any]:
        """Put each value of a signal where its window had its maximum; collisions add up.

        Args:
            features: (n, *positions, c) what was pooled on the way up.
            signal: (n, *windows, c) what comes down.

        Returns:
            (n, *positions, c): zero but at the switches; of equal values the first in row-major
            order is one.
        """
        positions = signal.shape[1:-1]
        padded, inside = self._padded(features, positions)
        highest = np.full(signal.shape, -np.inf, features.dtype)
        switch = np.zeros(signal.shape, np.int32)
        for number, part in enumerate(self._each(padded, positions)):
            above = part > highest
            switch[above] = number
            np.maximum(highest, part, out=highest)
        found = np.zeros(padded.shape, signal.dtype)
        for number, part in enumerate(self._each(found, positions)):
            part += np.where(switch == number, signal, 0)
        return found[inside]

    def _each(self, padded: NDArray[Any], positions: tuple[int, ...]) -> Iterator[NDArray[Any]]:
        """Yield, for each place in a window, the values there of all windows."""
        for place in np.ndindex(*self.size):
            sides = zip(place, positions, self.strides, strict=True)
            yield padded[(slice(None), *(slice(i, i + (n - 1) * s + 1, s) for i, n, s in sides))]

    def _padded(
        self, features: NDArray[Any], positions: tuple[int, ...]
    ) -> tuple[NDArray[Any], tuple[slice, ...]]:
        """Return features with padding to whole windows, and their place in it."""
        before, after, inside = [], [], []
        for axis in range(len(positions)):
            length = features.shape[1 + axis]
            missing = max((positions[axis] - 1) * self.strides[axis] + self.size[axis] - length, 0)
            first = missing // 2 if self.padding == "same" else 0
            before.append(first)
            after.append(missing - first)
            inside.append(slice(first, first + length))
        width = [(0, 0), *zip(before, after, strict=True), (0, 0)]
        padded = np.pad(features, width, constant_values=-np.inf)
        return padded, (slice(None), *inside)
