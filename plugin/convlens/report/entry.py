"""What a report says of an item. Plain data: nothing here knows pytest, Keras or NumPy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal[
    "crashed", "failed", "error", "unfinished", "xpassed", "passed", "xfailed", "skipped"
]
# From what must be seen first to what may be seen last.
OUTCOMES: tuple[Outcome, ...] = (
    *("crashed", "failed", "error", "unfinished"),
    *("xpassed", "passed", "xfailed", "skipped"),
)
BAD: frozenset[Outcome] = frozenset(("crashed", "failed", "error", "unfinished"))


@dataclass(frozen=True)
class Picture:
    """An image in a file of the spool.

    Attributes:
        file: its name there.
        width, height: in pixels, as it is shown at its own size.
        label: what it is, in a word.
    """

    file: str
    width: int
    height: int
    label: str


@dataclass(frozen=True)
class Gallery:
    """Images with a label each.

    Attributes:
        title, note: text above them.
        pictures: those that are kept.
        count: how many there were.
        together: how many that follow each other belong together.
        scale: for colors that stand for values, the darkest's and the brightest's; else None.
    """

    title: str
    note: str
    pictures: Sequence[Picture]
    count: int
    together: int = 1
    scale: tuple[float, float] | None = None


@dataclass(frozen=True)
class Lines:
    """Curves over one axis: `series` holds (name, values) with a value for each of `x`."""

    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    series: Sequence[tuple[str, Sequence[float]]]


@dataclass(frozen=True)
class LayerComparison:
    """A layer against its baseline."""

    layer: str
    cosine: float | None
    relative_error: float | None
    worst_channel: int | None
    passed: bool


@dataclass(frozen=True)
class Pair:
    """An expected and an actual picture, and where they differ, or why that cannot be shown."""

    title: str
    expected: Picture
    actual: Picture
    difference: Picture | None
    note: str


@dataclass(frozen=True)
class Comparison:
    """A value against its baseline.

    Attributes:
        key, fingerprint: the baseline's name and what was seen instead, for a list of what is
            accepted.
        verdict: in a sentence.
        passed: whether it is as it was.
        first: the first layer that differs.
        layers, pictures: in the order of the network.
    """

    key: str
    fingerprint: str
    verdict: str
    passed: bool
    first: str | None
    layers: Sequence[LayerComparison]
    pictures: Sequence[Pair]

    @property
    def id(self) -> str:
        """A name for a page's element and its address."""
        return short_id("c", f"{self.key}\n{self.fingerprint}")


@dataclass(frozen=True)
class Exhibit:
    """What the process that ran an item knows of it.

    Attributes:
        nodeid: pytest's name for it.
        model, layer: what it looked at; "" for a layer that is the model as a whole.
        property: what of it; "tests" for a test that somebody wrote.
        title: the item in a word or two.
        claim: what holds if it passes, in a sentence.
        order: its place among all items.
        galleries, curves, comparisons: what was seen.
        remarks: sentences on what could not be shown.
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
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Entry:
    """An item with what became of it.

    Attributes:
        exhibit: what was seen.
        outcome: one of `OUTCOMES`.
        verdict: in a sentence.
        message: what pytest says of a failure, "" where nothing failed.
        numbers: name → value.
        seconds: how long it took.
        worker: which process ran it, "" for the only one.
    """

    exhibit: Exhibit
    outcome: Outcome
    verdict: str
    message: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    worker: str = ""

    @property
    def id(self) -> str:
        """A name for a page's element and its address."""
        return short_id("i", self.exhibit.nodeid)


def exhibit_from_json(data: dict[str, Any]) -> Exhibit:
    """Return an exhibit that `dataclasses.asdict` and JSON have taken apart."""
    return Exhibit(
        **{
            **data,
            "galleries": [_gallery(part) for part in data["galleries"]],
            "curves": [Lines(**part) for part in data["curves"]],
            "comparisons": [_comparison(part) for part in data["comparisons"]],
        }
    )


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome that must be seen first."""
    return min(outcomes, key=OUTCOMES.index)


def short_id(prefix: str, name: str) -> str:
    """Return an identifier that is safe in HTML and in an address."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{prefix}-{digest[:12]}"


def _gallery(data: dict[str, Any]) -> Gallery:
    return Gallery(**{**data, "pictures": [Picture(**part) for part in data["pictures"]]})


def _comparison(data: dict[str, Any]) -> Comparison:
    return Comparison(
        **{
            **data,
            "layers": [LayerComparison(**part) for part in data["layers"]],
            "pictures": [_pair(part) for part in data["pictures"]],
        }
    )


def _pair(data: dict[str, Any]) -> Pair:
    pictures = {
        name: None if data[name] is None else Picture(**data[name])
        for name in ("expected", "actual", "difference")
    }
    return Pair(**{**data, **pictures})
