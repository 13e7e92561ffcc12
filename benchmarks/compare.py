"""Compare a run of the suite with a stored run on the same hardware."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from convlens.benchmarks.measure import Info


class NotComparableError(ValueError):
    """There is no stored run for a comparison; the message says why."""


@dataclass(frozen=True)
class Change:
    """Change of a core's speed.

    Attributes:
        name: name of the case.
        slowdown: new time divided by the stored time; 1.25 is a quarter longer.
        against: reference that both times are divided by; None for absolute times.
        significant: True if the new run is slower and the quartiles of both runs do not overlap.
    """

    name: str
    slowdown: float
    against: str | None
    significant: bool

    def fails(self, limit: float) -> bool:
        """Return whether the slowdown exceeds the limit and is larger than the spread."""
        return self.slowdown > limit and self.significant

    def __str__(self) -> str:
        relative = f", relative to {self.against}" if self.against else ""
        overlap = "" if self.significant or self.slowdown <= 1 else ", within the spread"
        return f"{self.name}: {self.slowdown:.2f} times as long as stored{relative}{overlap}"


def latest_run(
    runs: Iterable[tuple[Any, Mapping[str, Any]]], hardware: str
) -> tuple[str, dict[str, Info]]:
    """Return the name of the latest stored run on given hardware, and the figures of its cases.

    Args:
        runs: stored runs (name, pytest-benchmark's JSON), from oldest to newest.
        hardware: key from `hardware.hardware_key`.

    Raises:
        NotComparableError: no run is stored, or all stored runs are from other hardware.
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
            f"all stored runs are from other hardware ({', '.join(sorted(known))}), and times are "
            f"comparable only on the same hardware ({hardware}). Store a run on this hardware with "
            "--benchmark-autosave"
        )
    raise NotComparableError(
        "no run of the suite is stored here: store one with --benchmark-autosave, or give the "
        "folder of stored runs with --benchmark-storage"
    )


def compare(now: Mapping[str, Info], stored: Mapping[str, Info]) -> list[Change]:
    """Return the change of each case that is in both runs, from medians and quartiles.

    If a case has a limit, such as the bare passes, its time is divided by that of the limit in the
    same run, so that other load on the machine does not appear as a slower core. Otherwise,
    absolute times are compared.
    """
    changes = []
    for name, mine in now.items():
        theirs = stored.get(name)
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
