"""Set a run of the suite against a stored one of the same hardware."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from convlens.benchmarks.measure import Info


class NotComparableError(ValueError):
    """There is no stored run that this one may be compared with; the message says why."""


@dataclass(frozen=True)
class Change:
    """How a core's speed changed.

    Attributes:
        name: of the case.
        slowdown: now over then: 1.25 takes a quarter longer.
        against: what both times are set in proportion to; None for the times themselves.
        apart: whether the quartiles of now and then do not overlap, now being the slower.
    """

    name: str
    slowdown: float
    against: str | None
    apart: bool

    def fails(self, limit: float) -> bool:
        """Return whether the core is slower than the limit allows, beyond the spread."""
        return self.slowdown > limit and self.apart

    def __str__(self) -> str:
        of = f" of the time of {self.against}" if self.against else ""
        overlap = "" if self.apart or self.slowdown <= 1 else ", within the spread"
        return (
            f"{self.name}: {self.slowdown:.2f} times as long as then{of and ', both'}{of}{overlap}"
        )


def latest_of(
    runs: Iterable[tuple[Any, Mapping[str, Any]]], hardware: str
) -> tuple[str, dict[str, Info]]:
    """Return the name of the latest stored run of some hardware, and its cases' figures.

    Args:
        runs: (name, pytest-benchmark's JSON), the oldest first.
        hardware: the key of `hardware.hardware_key`.

    Raises:
        NotComparableError: no run is stored, or those that are come from other hardware.
    """
    known: dict[str, tuple[str, dict[str, Info]]] = {}
    for name, run in runs:
        own = run.get("machine_info", {}).get("convlens", {})
        figures = {
            info["case"]: info
            for info in (bench.get("extra_info", {}) for bench in run.get("benchmarks", ()))
            if "case" in info
        }
        if "hardware" in own and figures:
            known[own["hardware"]] = (str(name), figures)
    if hardware in known:
        return known[hardware]
    if known:
        raise NotComparableError(
            f"the stored runs are of other hardware, with which times are not to be compared: this "
            f"is {hardware}, they are of {', '.join(sorted(known))}. Store one of this hardware "
            "with --benchmark-autosave"
        )
    raise NotComparableError(
        "no run of the suite is stored here: store one with --benchmark-autosave, or name its "
        "folder with --benchmark-storage"
    )


def compare(now: Mapping[str, Info], then: Mapping[str, Info]) -> list[Change]:
    """Return how each case that both runs have changed, from medians and quartiles.

    Where a case has a limit, such as the bare passes, its ratio to the limit in the same run is
    what is compared, so that a machine that is busy does not look like a slower core; else, the
    seconds.
    """
    changes = []
    for name, mine in now.items():
        theirs = then.get(name)
        if theirs is None or theirs["title"] != mine["title"]:
            continue
        against = next((r for r in mine["references"] if _has(mine, r) and _has(theirs, r)), None)
        new, old = _spread(mine, against), _spread(theirs, against)
        changes.append(Change(name, new["median"] / old["median"], against, new["q1"] > old["q3"]))
    return changes


def _has(info: Info, reference: str) -> bool:
    return reference in info["ratios"].get(info["ours"], {})


def _spread(info: Info, against: str | None) -> dict[str, float]:
    ours = info["ours"]
    found: dict[str, float] = (
        info["seconds"][ours] if against is None else info["ratios"][ours][against]
    )
    return found
