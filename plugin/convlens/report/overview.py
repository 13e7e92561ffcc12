"""The overview table: models and layers as rows, properties as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convlens.report.entry import Entry, Outcome, worst

# Column of the user's tests; it comes last.
TESTS = "tests"


@dataclass(frozen=True)
class Cell:
    """All items of one property in one row."""

    entries: Sequence[Entry]

    @property
    def outcome(self) -> Outcome | None:
        """Worst outcome of the items; skipped items count only if all are skipped."""
        found = [entry.outcome for entry in self.entries]
        return worst([name for name in found if name != "skipped"] or found) if found else None

    @property
    def good(self) -> int:
        """Number of items that passed."""
        return sum(entry.outcome == "passed" for entry in self.entries)


@dataclass(frozen=True)
class Row:
    """A layer with one cell per property; the layer "" stands for the whole model."""

    layer: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Block:
    """A model: one cell per property for all its items, and a row for each layer."""

    model: str
    cells: Sequence[Cell]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Overview:
    """The overview table.

    Attributes:
        properties: names of the columns.
        blocks: one block per model.
    """

    properties: Sequence[str]
    blocks: Sequence[Block]


def overview(entries: Sequence[Entry]) -> Overview:
    """Return the table for the items of a run, in their order."""
    names = list(dict.fromkeys(entry.exhibit.property for entry in entries))
    names.sort(key=lambda name: name == TESTS)
    blocks = []
    for model in dict.fromkeys(entry.exhibit.model for entry in entries):
        own = [entry for entry in entries if entry.exhibit.model == model]
        layers = _merge_layer_orders(own)
        rows = [
            Row(layer, _cells([e for e in own if e.exhibit.layer == layer], names))
            for layer in layers
        ]
        blocks.append(Block(model, _cells(own, names), rows))
    return Overview(names, blocks)


def _merge_layer_orders(entries: Sequence[Entry]) -> list[str]:
    """Return a model's layers in network order, merged from all properties; "" comes last.

    Each property has its layers in network order. The longest list is the basis. A layer that it
    lacks is inserted after its predecessor in the list of another property.
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
