"""The overview table: models and layers as rows, properties as columns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from convlens.report.entry import BAD, Entry, Status, worst

# Column of the user's tests; it comes last.
TESTS = "tests"
# At least as many successive rows are folded into one.
_MIN_PASSED, _MIN_FOLLOWING = 4, 2
# Up to so many models, a model without failures shows the rows of up to so many layers.
_FEW_MODELS, _FEW_ROWS = 3, 40


@dataclass(frozen=True)
class Cell:
    """All items of one property in one row."""

    entries: Sequence[Entry]

    @property
    def status(self) -> Status | None:
        """Worst status of the items; skipped items count only if all are skipped."""
        found = [entry.status for entry in self.entries]
        return worst([name for name in found if name != "skipped"] or found) if found else None

    @property
    def good(self) -> int:
        """Number of items that passed."""
        return sum(entry.outcome == "passed" for entry in self.entries)

    @property
    def bad(self) -> int:
        """Number of items that failed for a cause of their own."""
        return sum(entry.status in BAD for entry in self.entries)

    @property
    def following(self) -> int:
        """Number of items that fail only because another one does."""
        return sum(entry.status == "follow" for entry in self.entries)

    @property
    def count(self) -> str:
        """The failures where there are any, else the number of items that passed."""
        if not (self.bad or self.following):
            return f"{self.good}/{len(self.entries)}"
        more = f"+{self.following}" if self.following else ""
        return " ".join(filter(None, [str(self.bad) if self.bad else "", more]))

    @property
    def summary(self) -> str:
        """The counts in words."""
        counts = [(self.bad, "failed"), (self.following, "follow"), (self.good, "passed")]
        words = ", ".join(f"{count} {what}" for count, what in counts if count)
        return f"{words or 'none passed'} of {len(self.entries)}"


@dataclass(frozen=True)
class Row:
    """A layer with one cell per property; the layer "" stands for the whole model."""

    layer: str
    cells: Sequence[Cell]

    @property
    def kind(self) -> str:
        """The row's part in the table: "bad", "follow" or "passed"."""
        found = {cell.status for cell in self.cells}
        if found & BAD:
            return "bad"
        return "follow" if "follow" in found else "passed"


@dataclass(frozen=True)
class Group:
    """Successive rows of one kind, shown one by one or folded into one row.

    Attributes:
        kind: the kind of its rows.
        rows: the rows.
        folded: True for rows that one row stands for.
    """

    kind: str
    rows: Sequence[Row]
    folded: bool

    @property
    def title(self) -> str:
        """The rows in a few words, such as "b … z: 37 follow"."""
        names = [row.layer or "whole model" for row in self.rows]
        word = "follow" if self.kind == "follow" else "passed"
        return f"{names[0]} … {names[-1]}: {len(names)} {word}"


@dataclass(frozen=True)
class Block:
    """A model: one cell per property for all its items, and its layers.

    Attributes:
        model: its name.
        cells: one cell per property.
        groups: rows of its layers, in order; rows that tell nothing new are folded.
        folded: True if it shows no rows until it is opened.
    """

    model: str
    cells: Sequence[Cell]
    groups: Sequence[Group]
    folded: bool = False

    @property
    def rows(self) -> list[Row]:
        """All rows, folded or not."""
        return [row for group in self.groups for row in group.rows]

    @property
    def is_bad(self) -> bool:
        """True if an item failed."""
        return any(cell.bad or cell.following for cell in self.cells)


@dataclass(frozen=True)
class Overview:
    """The overview table.

    Attributes:
        properties: names of the columns.
        blocks: one block per model; those with failures come first.
    """

    properties: Sequence[str]
    blocks: Sequence[Block]


def overview(entries: Sequence[Entry]) -> Overview:
    """Return the table for the items of a run, in their order."""
    names = list(dict.fromkeys(entry.exhibit.property for entry in entries))
    names.sort(key=lambda name: name == TESTS)
    by_model: dict[str, list[Entry]] = {}
    for entry in entries:
        by_model.setdefault(entry.exhibit.model, []).append(entry)
    few = len(by_model) <= _FEW_MODELS
    blocks = [_block(model, own, names, few) for model, own in by_model.items()]
    return Overview(names, sorted(blocks, key=lambda block: not block.is_bad))


def _block(model: str, entries: Sequence[Entry], names: Sequence[str], few: bool) -> Block:
    by_layer: dict[str, list[Entry]] = {}
    for entry in entries:
        by_layer.setdefault(entry.exhibit.layer, []).append(entry)
    rows = [Row(layer, _cells(by_layer[layer], names)) for layer in _merge_layer_orders(entries)]
    cells = _cells(entries, names)
    if any(cell.bad or cell.following for cell in cells):
        return Block(model, cells, _fold(rows))
    return Block(
        model,
        cells,
        [Group("passed", rows, folded=False)],
        folded=not few or len(rows) > _FEW_ROWS,
    )


def _fold(rows: Sequence[Row]) -> list[Group]:
    """Return the rows in groups of one kind; long groups without a cause are folded."""
    min_count = {"passed": _MIN_PASSED, "follow": _MIN_FOLLOWING}
    groups = []
    for kind, found in itertools.groupby(rows, lambda row: row.kind):
        own = list(found)
        groups.append(Group(kind, own, folded=len(own) >= min_count.get(kind, len(own) + 1)))
    return groups


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
