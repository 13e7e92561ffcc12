"""A least-recently-used cache with a memory budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LRUCache(Generic[K, V]):
    """Values by key; the least recently used are dropped where all together cost too much.

    The value that was asked for last is always kept.
    """

    def __init__(self, budget: int, cost: Callable[[V], int]) -> None:
        """Keep values whose costs sum up to at most `budget`."""
        self._budget = budget
        self._cost = cost
        self._kept: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return the value kept under a key; make and keep it where there is none."""
        value = self._kept[key] if key in self._kept else make()
        self.put(key, value)
        return value

    def values(self) -> list[V]:
        """Return all values that are kept, the least recently used first."""
        return list(self._kept.values())

    def put(self, key: K, value: V) -> None:
        """Keep a value under a key, in place of any other."""
        self._kept[key] = value
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(map(self._cost, self._kept.values())) > self._budget:
            self._kept.popitem(last=False)
