"""What a spool holds, joined: each item with what was seen and what became of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from convlens.report.entry import BAD, OUTCOMES, Entry, Exhibit, Outcome, worst
from convlens.report.spool import Spool

_PREFIX = "convlens."
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_LONGEST = 20_000


@dataclass(frozen=True)
class OtherFailure:
    """A failure that is no item of convlens: of a test that does not use it, or of collection."""

    nodeid: str
    outcome: Outcome
    message: str


@dataclass(frozen=True)
class Run:
    """All that a report says.

    Attributes:
        entries: the items that used convlens, in the order in which they were collected.
        others: how many tests that do not use convlens had each outcome.
        failures: those of them that failed.
        facts: what, and what it was: when the run began, which versions it had.
        finished: whether the run came to its end.
    """

    entries: list[Entry]
    others: dict[Outcome, int]
    failures: list[OtherFailure]
    facts: dict[str, str]
    finished: bool

    @property
    def counts(self) -> dict[Outcome, int]:
        """How many of all items had each outcome, without those that none had."""
        found = [entry.outcome for entry in self.entries]
        both = {name: found.count(name) + self.others.get(name, 0) for name in OUTCOMES}
        return {name: count for name, count in both.items() if count}

    @property
    def bad(self) -> int:
        """How many items failed, crashed or did not end."""
        return sum(count for name, count in self.counts.items() if name in BAD)

    @property
    def headline(self) -> str:
        """The run in a few words."""
        total = sum(self.counts.values())
        if not total:
            return "Nothing was run"
        if self.bad:
            return f"{self.bad} of {_plural(total, 'item')} failed"
        skipped = self.counts.get("skipped", 0)
        if skipped == total:
            return "All were skipped"
        return f"All {_plural(total - skipped, 'item')} passed"


@dataclass
class _Fate:
    """What the reports on an item's phases add up to."""

    outcomes: list[Outcome] = field(default_factory=list)
    message: str = ""
    reason: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    worker: str = ""
    ended: bool = False

    @property
    def outcome(self) -> Outcome:
        if not self.ended and not any(name in BAD for name in self.outcomes):
            return "unfinished"
        return worst(self.outcomes)

    def add(self, event: dict[str, Any]) -> None:
        found: Outcome = event["outcome"]
        if event["when"] == "call" or found != "passed":
            self.outcomes.append(found)
        if found in BAD:
            self.message = "\n\n".join(filter(None, [self.message, clean(event["message"])]))
        if event["reason"] and not self.reason:
            self.reason = clean(event["reason"])
        self.numbers.update(event["numbers"])
        self.seconds += event["seconds"]
        self.worker = event["worker"]
        self.ended = self.ended or event["when"] == "teardown"


def assemble(spool: Spool) -> Run:
    """Return what a spool holds."""
    fates: dict[str, _Fate] = {}
    facts: dict[str, str] = {}
    finished = False
    for event in spool.events():
        if event["kind"] == "facts":
            facts.update(event["facts"])
        elif event["kind"] == "finished":
            finished = True
        else:
            fates.setdefault(event["nodeid"], _Fate()).add(event)
    exhibits = spool.exhibits()
    entries = [_entry(exhibit, fates.pop(name, _Fate())) for name, exhibit in exhibits.items()]
    entries.sort(key=lambda entry: (entry.exhibit.order, entry.exhibit.nodeid))
    failures = [
        OtherFailure(nodeid, fate.outcome, fate.message)
        for nodeid, fate in fates.items()
        if fate.outcome in BAD
    ]
    others = _count(fate.outcome for fate in fates.values())
    return Run(entries, others, failures, facts, finished)


def clean(text: str) -> str:
    """Return text without colors of a terminal and characters that a page cannot show."""
    shown = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", _ESCAPES.sub("", text))
    shown = shown.encode("utf-8", "replace").decode("utf-8")
    if len(shown) <= _LONGEST:
        return shown
    return f"{shown[:_LONGEST]}\n… and {len(shown) - _LONGEST} characters more"


def _entry(exhibit: Exhibit, fate: _Fate) -> Entry:
    numbers = {
        name.removeprefix(_PREFIX): value
        for name, value in fate.numbers.items()
        if name not in (f"{_PREFIX}model", f"{_PREFIX}layer")
    }
    return Entry(
        exhibit,
        fate.outcome,
        _verdict(exhibit, fate),
        fate.message,
        numbers,
        fate.seconds,
        fate.worker,
    )


def _verdict(exhibit: Exhibit, fate: _Fate) -> str:
    """Return what became of an item in a sentence."""
    match fate.outcome:
        case "passed":
            return _sentence(exhibit.claim)
        case "skipped":
            return _sentence(f"skipped: {fate.reason}" if fate.reason else "skipped")
        case "xfailed":
            return _sentence(f"failed, as expected: {fate.reason or 'no reason is given'}")
        case "xpassed":
            return _sentence(
                f"passed, though it was expected to fail: {fate.reason or 'no reason'}"
            )
        case "unfinished":
            return "The run ended while this was under way."
        case "crashed":
            return _sentence(fate.message.partition("\n")[0])
    broken = next((c for c in exhibit.comparisons if not c.passed), None)
    return _sentence(broken.verdict if broken else fate.reason or fate.message.partition("\n")[0])


def _sentence(text: str) -> str:
    """Return a line of text with a full stop, and a capital letter if it begins with a word."""
    line = text.strip().partition("\n")[0].rstrip(" :.;,")
    if line.partition(" ")[0].rstrip(":,").isalpha():
        line = f"{line[:1].upper()}{line[1:]}"
    return line and f"{line}."


def _count(outcomes: Iterable[Outcome]) -> dict[Outcome, int]:
    found = list(outcomes)
    return {name: found.count(name) for name in OUTCOMES if name in found}


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
