"""The memory budget of a batch, and the split of a batch into parts that fit it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from convlens.engine.runtime import backend

# On a CPU a larger batch is not faster, and leaves less memory to other processes.
_MAX_CPU_BUDGET = 4 << 30
_CGROUP = Path("/sys/fs/cgroup")


def default_budget() -> int:
    """Return the default memory budget of a batch, in bytes.

    It is 80 % of an accelerator's free memory; on a CPU half of the free memory, at most 4 GiB.
    """
    free = backend.free_accelerator_memory()
    if free is not None:
        return int(0.8 * free)
    return max(1, min(_free_memory() // 2, _MAX_CPU_BUDGET))


def _free_memory() -> int:
    """Return the free memory of this machine, or of the container if it has a limit, in bytes."""
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
        index: indices of the part's members. The last part may repeat its last member as padding,
            so that all parts have the same size.
        count: number of members without the padding.
    """

    index: NDArray[np.int64]
    count: int


def parts_within(
    budget: int, count: int, each: int, *, together: int = 1, devices: int = 1
) -> list[Part]:
    """Split a batch into parts of equal size that fit a memory budget.

    Args:
        budget: bytes on each device.
        count: number of members of the batch, a multiple of `together`.
        each: bytes for one member.
        together: number of consecutive members that must stay on one device.
        devices: number of devices that share a part.
    """
    unit = together * devices
    max_size = max(1, budget // max(1, each * together)) * unit
    parts = math.ceil(count / max_size)
    size = math.ceil(math.ceil(count / parts) / unit) * unit
    return [
        Part(np.minimum(np.arange(first, first + size), count - 1), min(size, count - first))
        for first in range(0, count, size)
    ]
