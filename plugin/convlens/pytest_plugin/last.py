"""The result for the last model alone: its items run one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from convlens.pytest_plugin.targets import Target

T = TypeVar("T")


class LastResult(Generic[T]):
    """The result, or the error, of what all items of a model share."""

    def __init__(self, compute: Callable[[Target], T]) -> None:
        """Remember nothing yet.

        Args:
            compute: computes the result for a model; it may raise a ValueError.
        """
        self._compute = compute
        self._last: tuple[str, T | ValueError] | None = None

    def of(self, target: Target) -> T:
        """Return the result for a model, computed once while no other model is asked for.

        Raises:
            ValueError: the computation raised one, now or before.
        """
        if self._last is None or self._last[0] != target.spec:
            try:
                self._last = target.spec, self._compute(target)
            except ValueError as error:
                self._last = target.spec, error
        found = self._last[1]
        if isinstance(found, ValueError):
            raise ValueError(str(found))
        return found
