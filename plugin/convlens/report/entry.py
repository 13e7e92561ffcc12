"""Data of a report: plain classes, independent of pytest, Keras and NumPy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Outcome = Literal[
    "crashed", "failed", "error", "unfinished", "xpassed", "passed", "xfailed", "skipped"
]
# In descending order of importance.
OUTCOMES: tuple[Outcome, ...] = (
    *("crashed", "failed", "error", "unfinished"),
    *("xpassed", "passed", "xfailed", "skipped"),
)
BAD: frozenset[str] = frozenset(("crashed", "failed", "error", "unfinished"))
# An outcome, or "follow" for an item that fails only because another one does.
Status = Outcome | Literal["follow"]
STATUSES: tuple[Status, ...] = (
    *("crashed", "failed", "error", "unfinished", "follow"),
    *("xpassed", "passed", "xfailed", "skipped"),
)

_S = TypeVar("_S", Outcome, Status)


@dataclass(frozen=True)
class Picture:
    """An image in a file of the spool.

    Attributes:
        file: name of the file.
        width, height: displayed size in pixels.
        label: short caption.
    """

    file: str
    width: int
    height: int
    label: str


@dataclass(frozen=True)
class Gallery:
    """A set of labeled images.

    Attributes:
        title, note: text above the images.
        pictures: images that are stored.
        count: number of images before the reduction to the stored ones.
        together: number of successive images that form a group.
        scale: values of the darkest and the brightest color, if colors stand for values; or None.
    """

    title: str
    note: str
    pictures: Sequence[Picture]
    count: int
    together: int = 1
    scale: tuple[float, float] | None = None


@dataclass(frozen=True)
class Lines:
    """Curves over a common x axis; `series` has (name, values) with one value per entry of `x`."""

    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    series: Sequence[tuple[str, Sequence[float]]]


@dataclass(frozen=True)
class LayerComparison:
    """Comparison of a layer with its baseline; the note has further findings in words."""

    layer: str
    cosine: float | None
    relative_error: float | None
    worst_channel: int | None
    passed: bool
    note: str = ""


@dataclass(frozen=True)
class Pair:
    """An expected and an actual picture with their difference; the note explains it."""

    title: str
    expected: Picture
    actual: Picture
    difference: Picture | None
    note: str


@dataclass(frozen=True)
class Rows:
    """A table; `bars` has a length in 0 to 1 for each row, and `marked` the rows with a fault."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    bars: Sequence[float]
    marked: Sequence[bool]


@dataclass(frozen=True)
class Comparison:
    """Comparison of a value with its baseline.

    Attributes:
        key: name of the baseline.
        fingerprint: hash of the new value, for the list of accepted changes.
        verdict: summary in one sentence.
        passed: True if the value agrees with the baseline.
        first: name of the first layer that differs.
        table: name of the table of all compared layers in the spool, which the items of a model
            share; "" if there are no layers.
        pictures: pairs of pictures, in the order of the network.
    """

    key: str
    fingerprint: str
    verdict: str
    passed: bool
    first: str | None
    table: str
    pictures: Sequence[Pair]

    @property
    def id(self) -> str:
        """Identifier of the HTML element, also used in links."""
        return short_id("c", f"{self.key}\n{self.fingerprint}")


@dataclass(frozen=True)
class Exhibit:
    """An item's description and figures, from the process that ran it.

    Attributes:
        nodeid: pytest's node id of the item.
        model: model that the item checks.
        layer: layer that the item checks; "" for the whole model.
        property: checked property; "tests" for a user's test.
        title: short name of the item.
        claim: statement that holds if the item passes.
        order: position among all items.
        galleries, curves, comparisons, pairs, tables: figures of the item.
    """

    nodeid: str
    model: str
    layer: str
    property: str
    title: str
    claim: str
    order: int = 0
    galleries: list[Gallery] = field(default_factory=list)
    curves: list[Lines] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    tables: list[Rows] = field(default_factory=list)


@dataclass(frozen=True)
class Entry:
    """An item with its result.

    Attributes:
        exhibit: description and figures.
        outcome: one of `OUTCOMES`.
        verdict: summary in one sentence.
        message: pytest's message for a failure; "" if nothing failed.
        numbers: name → measured value.
        seconds: duration.
        worker: name of the process that ran the item; "" if there is only one process.
        notes: explanations of figures that could not be made.
        follows: layer whose failure is the cause of this one; "" if it has a cause of its own.
    """

    exhibit: Exhibit
    outcome: Outcome
    verdict: str
    message: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    worker: str = ""
    notes: Sequence[str] = ()
    follows: str = ""

    @property
    def id(self) -> str:
        """Identifier of the HTML element, also used in links."""
        return short_id("i", self.exhibit.nodeid)

    @property
    def status(self) -> Status:
        """The outcome; "follow" for a failure that another item is the cause of."""
        return "follow" if self.follows and self.outcome in BAD else self.outcome


def exhibit_from_json(data: dict[str, Any]) -> Exhibit:
    """Return the exhibit for a dictionary from `dataclasses.asdict` and JSON."""
    return Exhibit(
        **{
            **data,
            "galleries": [_gallery(part) for part in data["galleries"]],
            "curves": [Lines(**part) for part in data["curves"]],
            "comparisons": [_comparison(part) for part in data["comparisons"]],
            "pairs": [_pair(part) for part in data["pairs"]],
            "tables": [Rows(**part) for part in data["tables"]],
        }
    )


def worst(statuses: Sequence[_S]) -> _S:
    """Return the most important outcome or status, the first in the order of `STATUSES`."""
    return min(statuses, key=STATUSES.index)


def short_id(prefix: str, name: str) -> str:
    """Return an identifier that is safe in HTML and in a URL."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{prefix}-{digest[:12]}"


def _gallery(data: dict[str, Any]) -> Gallery:
    return Gallery(**{**data, "pictures": [Picture(**part) for part in data["pictures"]]})


def _comparison(data: dict[str, Any]) -> Comparison:
    return Comparison(**{**data, "pictures": [_pair(part) for part in data["pictures"]]})


def _pair(data: dict[str, Any]) -> Pair:
    pictures = {
        name: None if data[name] is None else Picture(**data[name])
        for name in ("expected", "actual", "difference")
    }
    return Pair(**{**data, **pictures})
