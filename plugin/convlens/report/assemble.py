"""Combine the contents of a spool: each item with its figures and its outcome."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from convlens.report.cause import Cause
from convlens.report.entry import (
    BAD,
    OUTCOMES,
    STATUSES,
    Entry,
    Exhibit,
    LayerComparison,
    Outcome,
    Status,
    worst,
)
from convlens.report.spool import Spool
from convlens.report.text import one_line

_PREFIX = "convlens."
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_MAX_CHARACTERS = 20_000


@dataclass(frozen=True)
class OtherFailure:
    """A failure outside convlens: a failed test that does not use it, or a collection error."""

    nodeid: str
    outcome: Outcome
    message: str


@dataclass(frozen=True)
class Run:
    """All contents of a report.

    Attributes:
        entries: items that used convlens, in the order of collection.
        others: outcome → number of tests that do not use convlens.
        failures: failed tests that do not use convlens.
        facts: name → value, such as the start time of the run and the versions.
        finished: True if the run was not interrupted.
        causes: causes of the failures, in the order of the reports.
        tables: name → the layers of a comparison.
    """

    entries: list[Entry]
    others: dict[Outcome, int]
    failures: list[OtherFailure]
    facts: dict[str, str]
    finished: bool
    causes: Sequence[Cause] = ()
    tables: Mapping[str, Sequence[LayerComparison]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[Status, int]:
        """Number of all items with each status; statuses without items are left out."""
        found: list[Status] = [entry.status for entry in self.entries]
        others: Mapping[Any, int] = self.others
        both = {name: found.count(name) + others.get(name, 0) for name in STATUSES}
        return {name: count for name, count in both.items() if count}

    @property
    def bad(self) -> int:
        """Number of items that failed, crashed or did not finish, without those that follow."""
        return sum(count for name, count in self.counts.items() if name in BAD)

    @property
    def failed(self) -> bool:
        """True if an item failed, for whatever cause."""
        return bool(self.bad or self.counts.get("follow"))

    @property
    def headline(self) -> str:
        """Summary of the run in a few words."""
        total = sum(self.counts.values())
        if not total:
            return "No tests were run"
        follow = self.counts.get("follow", 0)
        if self.failed:
            words = f"{self.bad} of {_plural(total, 'item')} failed"
            return f"{words}, and {follow} follow" if follow else words
        skipped = self.counts.get("skipped", 0)
        if skipped == total:
            return "All items were skipped"
        return f"All {_plural(total - skipped, 'item')} passed"


@dataclass
class _Result:
    """Result of an item, combined from the reports on its phases."""

    outcomes: list[Outcome] = field(default_factory=list)
    message: str = ""
    reason: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    seconds: float = 0.0
    worker: str = ""
    follows: str = ""
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
        self.notes.update(dict.fromkeys(event["notes"]))  # each phase has those of the last
        self.seconds += event["seconds"]
        self.worker = event["worker"]
        self.follows = event["follows"] or self.follows
        self.ended = self.ended or event["when"] == "teardown"


def assemble(spool: Spool, on_problem: Callable[[str], object] | None = None) -> Run:
    """Return the run that is stored in a spool.

    Args:
        spool: the spool.
        on_problem: called with one line for each item or table that is left out, as it cannot be
            read.
    """
    results: dict[str, _Result] = {}
    facts: dict[str, str] = {}
    causes: Sequence[Cause] = ()
    finished = False
    for event in spool.events():
        if event["kind"] == "facts":
            facts.update(event["facts"])
        elif event["kind"] == "causes":
            causes = event["causes"]
        elif event["kind"] == "finished":
            finished = True
        else:
            results.setdefault(event["nodeid"], _Result()).add(event)
    exhibits = spool.exhibits(on_problem)
    entries = [_entry(exhibit, results.pop(name, _Result())) for name, exhibit in exhibits.items()]
    entries.sort(key=lambda entry: (entry.exhibit.order, entry.exhibit.nodeid))
    failures = [
        OtherFailure(nodeid, result.outcome, result.message)
        for nodeid, result in results.items()
        if result.outcome in BAD
    ]
    others = _count(result.outcome for result in results.values())
    tables = _tables(spool, entries, on_problem)
    return Run(entries, others, failures, facts, finished, causes, tables)


def clean(text: str) -> str:
    """Return text without terminal colors and characters that a page cannot show, shortened."""
    shown = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", _ESCAPES.sub("", text))
    shown = shown.encode("utf-8", "replace").decode("utf-8")
    if len(shown) <= _MAX_CHARACTERS:
        return shown
    return f"{shown[:_MAX_CHARACTERS]}\n… and {len(shown) - _MAX_CHARACTERS} more characters"


def _tables(
    spool: Spool, entries: Iterable[Entry], on_problem: Callable[[str], object] | None
) -> dict[str, list[LayerComparison]]:
    """Return name → layers of the tables that the comparisons of items name."""
    names = {part.table for entry in entries for part in entry.exhibit.comparisons if part.table}
    found = {}
    for name in sorted(names):
        try:
            found[name] = spool.read_table(name)
        except Exception as error:  # a table must not cost the page
            if on_problem is not None:
                on_problem(f"a table of layers cannot be read: {one_line(error)}")
    return found


def _entry(exhibit: Exhibit, result: _Result) -> Entry:
    numbers = {
        name.removeprefix(_PREFIX): value
        for name, value in result.numbers.items()
        if name not in (f"{_PREFIX}model", f"{_PREFIX}layer")
    }
    return Entry(
        exhibit,
        result.outcome,
        _verdict(exhibit, result),
        result.message,
        numbers,
        result.seconds,
        result.worker,
        list(result.notes),
        result.follows,
    )


def _verdict(exhibit: Exhibit, result: _Result) -> str:
    """Return the result of an item in one sentence."""
    match result.outcome:
        case "passed":
            return _sentence(exhibit.claim)
        case "skipped":
            return _sentence(f"skipped: {result.reason}" if result.reason else "skipped")
        case "xfailed":
            return _sentence(f"failed, as expected: {result.reason or 'no reason is given'}")
        case "xpassed":
            return _sentence(
                f"passed, but was expected to fail: {result.reason or 'no reason is given'}"
            )
        case "unfinished":
            return "The run ended before this item finished."
        case "crashed":
            return _sentence(result.message.partition("\n")[0])
    if result.follows:
        return _sentence(result.message.partition("\n")[0])
    broken = next((c for c in exhibit.comparisons if not c.passed), None)
    return _sentence(
        broken.verdict if broken else result.reason or result.message.partition("\n")[0]
    )


def _sentence(text: str) -> str:
    """Return the first line as a sentence: with a period and, before a word, a capital letter."""
    line = text.strip().partition("\n")[0].rstrip(" :.;,")
    if line.partition(" ")[0].rstrip(":,").isalpha():
        line = f"{line[:1].upper()}{line[1:]}"
    return line and f"{line}."


def _count(outcomes: Iterable[Outcome]) -> dict[Outcome, int]:
    found = list(outcomes)
    return {name: found.count(name) for name in OUTCOMES if name in found}


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
