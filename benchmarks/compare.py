"""Compare a run of the suite with a stored run on the same hardware."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from convlens.benchmarks.measure import Info


class NotComparableError(ValueError):
    """There is no stored run for a comparison; the message says why."""


# A limit judges only where the quartiles of the ratio to it are at most this far apart, as a share
# of its median. NumPy's product with several threads swings more than that, by several times.
MAX_SPREAD = 0.25


@dataclass(frozen=True)
class Slowdown:
    """A time of the new run over the same time of the stored run.

    Attributes:
        factor: new median divided by the stored one; 1.25 is a quarter longer.
        significant: True if the new run is slower and the quartiles of both runs do not overlap.
    """

    factor: float
    significant: bool

    def fails(self, limit: float) -> bool:
        """Return whether the factor exceeds the limit and is larger than the spread."""
        return self.factor > limit and self.significant

    def __str__(self) -> str:
        overlap = "" if self.significant or self.factor <= 1 else ", within the spread"
        return f"{self.factor:.2f} times as long as stored{overlap}"


@dataclass(frozen=True)
class Change:
    """Change of a core's speed.

    Attributes:
        name: name of the case.
        own: slowdown of the core's own time.
        against: the core's limit, such as the bare passes; None for a core without one.
        relative: slowdown of the core's time divided by the limit's in the same run; None without
            a limit.
        spread: distance between the quartiles of the ratio to the limit, as a share of its median,
            in the run where it is wider; 0 without a limit.
    """

    name: str
    own: Slowdown
    against: str | None = None
    relative: Slowdown | None = None
    spread: float = 0.0

    @property
    def limit_judges(self) -> bool:
        """Return whether there is a limit whose time is steady enough to judge the core."""
        return self.relative is not None and self.spread <= MAX_SPREAD

    def fails(self, limit: float) -> bool:
        """Return whether the core is slower than the limit allows, beyond the spread.

        Its own time has to have risen, as a limit that became faster makes no core slower. The time
        relative to the core's limit has to have risen too, as other load on the machine lengthens
        both times.
        """
        relative = self.relative if self.limit_judges else None
        return self.own.fails(limit) and (relative is None or relative.fails(limit))

    def __str__(self) -> str:
        text = f"{self.name}: {self.own}"
        if self.relative is None:
            return text
        text += f"; relative to {self.against}: {self.relative}"
        if self.limit_judges:
            return text
        return (
            f"{text}, which does not count: within a run, that ratio's quartiles are "
            f"{self.spread:.0%} of its median apart (allowed: {MAX_SPREAD:.0%})"
        )


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
    """Return the change of each case that is in both runs, from medians and quartiles."""
    return [
        _change(name, mine, stored[name])
        for name, mine in now.items()
        if name in stored and stored[name]["title"] == mine["title"]
    ]


def _change(name: str, mine: Info, theirs: Info) -> Change:
    own = _slowdown(mine["seconds"][mine["ours"]], theirs["seconds"][theirs["ours"]])
    against = next((r for r in mine["references"] if _has(mine, r) and _has(theirs, r)), None)
    if against is None:
        return Change(name, own)
    new, old = (info["ratios"][info["ours"]][against] for info in (mine, theirs))
    spread = max((ratio["q3"] - ratio["q1"]) / ratio["median"] for ratio in (new, old))
    return Change(name, own, against, _slowdown(new, old), spread)


def _slowdown(new: Mapping[str, float], old: Mapping[str, float]) -> Slowdown:
    return Slowdown(new["median"] / old["median"], new["q1"] > old["q3"])


def _has(info: Info, reference: str) -> bool:
    return reference in info["ratios"].get(info["ours"], {})
