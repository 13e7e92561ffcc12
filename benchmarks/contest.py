"""What is timed against what: one piece of work, done by several, and checks of what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.benchmarks.subjects import Setting
from convlens.benchmarks.timing import Run

Check = Callable[[Any], None]


@dataclass(frozen=True)
class Work:
    """What one run of ours does.

    Attributes:
        images: how many it makes or looks at.
        steps: how many steps each takes; None for work without.
        gflop: 10⁹ operations of the network's own products; None where they are not counted.
    """

    images: int
    steps: int | None = None
    gflop: float | None = None


@dataclass(frozen=True)
class Series:
    """A contest of one contestant at several sizes.

    Attributes:
        label: what grows, such as 'units'.
        sizes: contestant → its size.
    """

    label: str
    sizes: Mapping[str, int]


@dataclass(frozen=True)
class Contest:
    """One piece of work, done by several.

    Attributes:
        title: what is done.
        contestants: name → a function that does it once.
        ours: the contestant that the benchmark is about.
        references: the contestants that the others are set in proportion to, the limit first.
        work: what one run of ours does.
        slow: those that take part in the first rounds alone, and do not warm up.
        guests: those that leave the contest, with what they failed in, where their result is no
            working one: other projects' code, on networks that it was not written for.
        checks: contestant → a function of its result that raises where that is no working result:
            who does nothing is not to be beaten.
        setting: how it is run.
        series: the contestants' sizes, where they differ in size alone.
        processes: whether each run is a process of its own, which cannot be warmed up, and whose
            memory is not this one's.
    """

    title: str
    contestants: Mapping[str, Run]
    ours: str
    references: tuple[str, ...]
    work: Work
    slow: tuple[str, ...] = ()
    guests: tuple[str, ...] = ()
    checks: Mapping[str, Check] = field(default_factory=dict)
    setting: Setting = field(default_factory=Setting)
    series: Series | None = None
    processes: bool = False

    def check(self, name: str, result: Any) -> None:
        """Check a contestant's result.

        Raises:
            RuntimeError: it is no working result; the message names the contestant.
        """
        if name not in self.checks:
            return
        try:
            self.checks[name](result)
        except (RuntimeError, AssertionError) as error:
            raise RuntimeError(f"{name}: {error}") from error


def risen(before: NDArray[Any], after: NDArray[Any]) -> None:
    """Raise RuntimeError unless most units' activations rose."""
    if not np.median(after - before) > 0:
        raise RuntimeError("the activations did not rise: this contestant does no work")


def finite(*arrays: Any) -> None:
    """Raise RuntimeError unless all values are finite."""
    for array in arrays:
        if not np.isfinite(np.asarray(array, np.float32)).all():
            raise RuntimeError("the result is not finite")


def some(array: Any) -> None:
    """Raise RuntimeError unless all values are finite and some are not zero."""
    finite(array)
    if not np.any(array):
        raise RuntimeError("the result is zero everywhere")
