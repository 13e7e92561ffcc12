"""Cards: for each changed baseline the cause, its pictures, and what accepting it records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convlens.report.assemble import Run
from convlens.report.cause import Cause
from convlens.report.entry import Comparison, Entry, LayerComparison, short_id


@dataclass(frozen=True)
class Acceptance:
    """The effect of accepting a change, for a person who is about to do so.

    Attributes:
        sentence: what is recorded anew.
        with_it: layers that diverge too and are accepted with the first one.
    """

    sentence: str
    with_it: Sequence[str] = ()


@dataclass(frozen=True)
class Card:
    """A cause with the item that it is the failure of.

    Attributes:
        cause: the cause.
        entry: the item; None if it left nothing in the report but its outcome.
        comparison: the comparison with the baseline; None if there was none.
        channels: the channels that diverge, in words; "" if that is not known.
        layers: all compared layers, in the order of the network.
        acceptance: the effect of accepting the change.
    """

    cause: Cause
    entry: Entry | None
    comparison: Comparison | None
    channels: str
    layers: Sequence[LayerComparison]
    acceptance: Acceptance

    @property
    def id(self) -> str:
        """Identifier of the HTML element, also used in links."""
        return short_id("w", f"{self.cause.nodeid}\n{self.cause.key}")


def cards(run: Run) -> list[Card]:
    """Return a card for each cause that is a changed or missing baseline, in order."""
    by_nodeid = {entry.exhibit.nodeid: entry for entry in run.entries}
    return [_card(run, cause, by_nodeid.get(cause.nodeid)) for cause in run.causes if cause.key]


def acceptance(first: str | None, layers: Sequence[LayerComparison], update: str) -> Acceptance:
    """Return the effect of accepting a change.

    Args:
        first: first layer that diverges; None for a value without layers.
        layers: all compared layers.
        update: "missing" if there is no baseline yet.
    """
    if update == "missing":
        return Acceptance("Accepting records a first baseline of everything as it is now.")
    if not layers:
        return Acceptance("Accepting records this value anew, as it is now.")
    with_it = [layer.layer for layer in layers if not layer.passed and layer.layer != first]
    agree = sum(layer.passed for layer in layers)
    parts = f"{first!r}" if first else "the network"
    if with_it:
        parts += f", and {_plural(len(with_it), 'layer')} behind it that the change reaches"
    if agree:
        parts += f" ({_plural(agree, 'other')} agree with the baseline)"
    return Acceptance(f"Accepting records the whole model anew, as it is now: {parts}.", with_it)


def _card(run: Run, cause: Cause, entry: Entry | None) -> Card:
    compared = entry.exhibit.comparisons if entry is not None else []
    same = [one for one in compared if (one.key, one.fingerprint) == (cause.key, cause.fingerprint)]
    comparison = same[-1] if same else None
    layers = run.tables.get(comparison.table, []) if comparison is not None else []
    own = next((layer for layer in layers if layer.layer == cause.layer), None)
    first = comparison.first if comparison is not None else cause.layer or None
    effect = acceptance(first, layers, cause.update)
    return Card(cause, entry, comparison, _channels(own), layers, effect)


def _channels(own: LayerComparison | None) -> str:
    if own is None:
        return ""
    worst = "" if own.worst_channel is None else f"the worst is channel {own.worst_channel}"
    return "; ".join(filter(None, [own.note, worst]))


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
