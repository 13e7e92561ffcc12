"""How much memory work may take, how much it takes, and how it is cut to fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from convlens.engine.runtime import backend

# A larger batch is no faster on a CPU, and leaves less to others.
_CPU_MOST = 4 << 30
_CGROUP = Path("/sys/fs/cgroup")


def default_budget() -> int:
    """Return the bytes that a batch may take: most of what an accelerator has free, less on a CPU.

    On a CPU it is half of what is free, and at most 4 GiB.
    """
    free = backend.free_accelerator_memory()
    if free is not None:
        return int(0.8 * free)
    return max(1, min(_free_memory() // 2, _CPU_MOST))


def _free_memory() -> int:
    """Return the bytes free on this machine, or within the limit of the container."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):  # no control groups, or no limit ("max")
        return free
    return max(0, min(free, limit - used))


@dataclass(frozen=True)
class Part:
    """A part of a batch.

    Attributes:
        index: the numbers of its members; the last may be repeated, so that all parts are alike.
        count: how many of them count.
    """

    index: NDArray[np.int64]
    count: int


def parts_within(
    budget: int, count: int, each: int, *, together: int = 1, devices: int = 1
) -> list[Part]:
    """Cut a batch into parts of one size that fit a memory budget.

    Args:
        budget: bytes, on each device.
        count: how many members the batch has, a multiple of `together`.
        each: the bytes that one takes.
        together: how many neighbors must stay on one device.
        devices: over how many devices a part is spread.
    """
    unit = together * devices
    most = max(1, budget // max(1, each * together)) * unit
    parts = math.ceil(count / most)
    size = math.ceil(math.ceil(count / parts) / unit) * unit
    return [
        Part(np.minimum(np.arange(first, first + size), count - 1), min(size, count - first))
        for first in range(0, count, size)
    ]
