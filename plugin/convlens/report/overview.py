"""The table in which one look finds what failed: models and layers down, properties across."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convlens.report.entry import Entry, Outcome, worst

# Tests that somebody wrote come last, whatever they are about.
TESTS = "tests"


@dataclass(frozen=True)
class Cell:
    """The items of a property in a row: none, one, or several."""

    entries: Sequence[Entry]

    @property
    def outcome(self) -> Outcome | None:
        """The worst of them; a skipped item counts where there is no other."""
        found = [entry.outcome for entry in self.entries]
        return worst([name for name in found if name != "skipped"] or found) if found else None

    @property
    def good(self) -> int:
        """How many of them hold."""
        return sum(entry.outcome == "passed" for entry in self.entries)


@dataclass(frozen=True)
class Row:
    """A layer, with a cell for each property; the layer "" is the model as a whole."""

    layer: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Block:
    """A model: what holds of it in all, and its layers."""

    model: str
    cells: Sequence[Cell]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Overview:
    """The table.

    Attributes:
        properties: the columns.
        blocks: a model each.
    """

    properties: Sequence[str]
    blocks: Sequence[Block]


def overview(entries: Sequence[Entry]) -> Overview:
    """Return the table of a run's items, in their order."""
    names = list(dict.fromkeys(entry.exhibit.property for entry in entries))
    names.sort(key=lambda name: name == TESTS)
    blocks = []
    for model in dict.fromkeys(entry.exhibit.model for entry in entries):
        own = [entry for entry in entries if entry.exhibit.model == model]
        layers = _in_order(own)
        rows = [
            Row(layer, _cells([e for e in own if e.exhibit.layer == layer], names))
            for layer in layers
        ]
        blocks.append(Block(model, _cells(own, names), rows))
    return Overview(names, blocks)


def _in_order(entries: Sequence[Entry]) -> list[str]:
    """Return a model's layers, those of the property with the most layers first, "" last.

    Each property has its layers in the order of the network; one that the longest of them lacks
    comes after the layer that it follows in its own.
    """
    own: dict[str, list[str]] = {}
    for entry in entries:
        own.setdefault(entry.exhibit.property, []).append(entry.exhibit.layer)
    found: list[str] = []
    for layers in sorted(own.values(), key=len, reverse=True):
        at = 0
        for layer in layers:
            if layer in found:
                at = found.index(layer) + 1
            else:
                found.insert(at, layer)
                at += 1
    return sorted(found, key=lambda layer: not layer)


def _cells(entries: Sequence[Entry], properties: Sequence[str]) -> list[Cell]:
    return [Cell([e for e in entries if e.exhibit.property == name]) for name in properties]
