"""A contest: the same work by several contestants, with checks of their results."""

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
    """Work of one run of convlens.

    Attributes:
        images: number of images that are made or read.
        steps: number of steps for each image; None for work without steps.
        gflop: 10⁹ floating-point operations in the network's products; None if not counted.
    """

    images: int
    steps: int | None = None
    gflop: float | None = None


@dataclass(frozen=True)
class Series:
    """Sizes of a contest that runs the same work at several sizes.

    Attributes:
        label: name of the size, such as 'units'.
        sizes: contestant → size.
    """

    label: str
    sizes: Mapping[str, int]


@dataclass(frozen=True)
class Contest:
    """The same work by several contestants.

    Attributes:
        title: description of the work.
        contestants: name → function that does the work once.
        ours: name of the contestant that is benchmarked.
        references: contestants for the ratios of times; the theoretical limit comes first.
        work: work of one run of `ours`.
        slow: contestants that take part only in the first rounds and do not warm up.
        guests: contestants that leave the contest if their result is invalid, with a note: code of
            other projects that may not support the network.
        checks: contestant → function that raises if the result is invalid, so that no time is
            compared with that of a contestant that does no work.
        setting: settings of the contest.
        series: sizes of the contestants, if they differ only in size.
        processes: True if each run is a separate process, which cannot be warmed up and whose
            memory is not measured.
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
            RuntimeError: the result is invalid; the message names the contestant.
        """
        if name not in self.checks:
            return
        try:
            self.checks[name](result)
        except (RuntimeError, AssertionError) as error:
            raise RuntimeError(f"{name}: {error}") from error


def check_risen(before: NDArray[Any], after: NDArray[Any]) -> None:
    """Raise RuntimeError unless most units' activations rose."""
    if not np.median(after - before) > 0:
        raise RuntimeError("the activations did not rise")


def check_finite(*arrays: Any) -> None:
    """Raise RuntimeError unless all values are finite."""
    for array in arrays:
        if not np.isfinite(np.asarray(array, np.float32)).all():
            raise RuntimeError("the result is not finite")


def check_nonzero(array: Any) -> None:
    """Raise RuntimeError unless all values are finite and some are not zero."""
    check_finite(array)
    if not np.any(array):
        raise RuntimeError("the result is zero everywhere")
