"""Values that are not finite: how many, and where the first one is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class NotFinite:
    """The NaN and infinite values among others.

    Attributes:
        size: number of all values.
        count: number of values that are not finite.
        nan: number of NaN among these.
        first: index of the first of these; None if all values are finite.
        unit: the smallest last index of any of these; None if all values are finite.
    """

    size: int = 0
    count: int = 0
    nan: int = 0
    first: tuple[int, ...] | None = None
    unit: int | None = None

    @classmethod
    def of(cls, array: NDArray[Any]) -> NotFinite:
        """Return those of an array."""
        bad = ~np.isfinite(array)
        if not bad.any():
            return cls(array.size)
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        units = bad.reshape(-1, bad.shape[-1] if bad.ndim else 1).any(axis=0)
        count, nan = int(bad.sum()), int(np.isnan(array).sum())
        return cls(array.size, count, nan, first, int(np.flatnonzero(units)[0]))

    def then(self, other: NotFinite, offset: int) -> NotFinite:
        """Return those of two arrays joined along their first axis.

        Args:
            other: those of the second array.
            offset: length of the first array.
        """
        first = self.first
        if first is None and other.first is not None:
            first = (other.first[0] + offset, *other.first[1:])
        units = [u for u in (self.unit, other.unit) if u is not None]
        return NotFinite(
            self.size + other.size,
            self.count + other.count,
            self.nan + other.nan,
            first,
            min(units, default=None),
        )

    def __str__(self) -> str:
        return (
            f"{self.count} of {self.size} values ({self.nan} NaN, {self.count - self.nan} "
            f"infinite), the first at {self.first}"
        )
