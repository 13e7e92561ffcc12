"""Results of a comparison with a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

MAX_LINES = 10


@dataclass(frozen=True)
class LayerDifference:
    """Difference between one layer, or one array of a result, and its baseline.

    Attributes:
        layer: name of the layer or array.
        cosine: cosine similarity of expected and actual activations, over all channels.
        relative_error: norm of the difference divided by the norm of the expected activations.
        worst_channel: index of the channel that differs most; None if the shapes differ.
        passed: True if it agrees with the baseline.
        worst_error: difference of the worst channel, in units of that channel's size.
        moved: permuted channels as pairs (old index, new index); empty unless a permutation is the
            only change.
        note: additional findings, such as the number of channels that diverge.
    """

    layer: str
    cosine: float
    relative_error: float
    worst_channel: int | None
    passed: bool
    worst_error: float = 0.0
    moved: tuple[tuple[int, int], ...] = ()
    note: str = ""

    def __str__(self) -> str:
        worst = ""
        if self.worst_channel is not None:
            worst = f", worst channel {self.worst_channel} ({self.worst_error:.3g} of its size)"
        numbers = f"cosine {self.cosine:.7g}, relative error {self.relative_error:.3g}{worst}"
        return "; ".join(part for part in (numbers, self.note) if part)


class Pair(Protocol):
    """An expected and an actual picture with their difference."""

    @property
    def title(self) -> str:
        """The title."""

    @property
    def layer(self) -> str:
        """Name of the layer or array that the pictures are of."""

    @property
    def note(self) -> str:
        """The meaning of the colors; "" for the usual one."""

    @property
    def expected(self) -> NDArray[np.uint8]:
        """(h, w) or (h, w, 3) the baseline."""

    @property
    def actual(self) -> NDArray[np.uint8]:
        """(h, w) or (h, w, 3) the new value."""

    @property
    def difference(self) -> NDArray[np.uint8] | None:
        """(h, w, 3) the difference in colors of its own; None for that of the two pictures."""

    @property
    def nbytes(self) -> int:
        """Bytes that are kept in memory."""


@dataclass(frozen=True, eq=False)
class PicturePair:
    """A `Pair` that is drawn.

    Attributes:
        title: title of the pair.
        expected, actual: pictures (h, w) or (h, w, 3), uint8.
        layer: name of the layer or array.
        difference: picture (h, w, 3), uint8, of the difference in a color scale of its own; None
            for the difference of the two pictures.
        note: the meaning of the colors.
    """

    title: str
    expected: NDArray[np.uint8]
    actual: NDArray[np.uint8]
    layer: str
    difference: NDArray[np.uint8] | None = None
    note: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of all pictures."""
        third = 0 if self.difference is None else self.difference.nbytes
        return self.expected.nbytes + self.actual.nbytes + third


@dataclass(frozen=True, eq=False)
class Comparison:
    """Result of a comparison with a baseline.

    Attributes:
        key: name of the baseline, unique within its folder.
        fingerprint: hash of the new behavior; an accepted change must have the same hash. It is
            "" for a network that agrees, because there is nothing to accept.
        verdict: summary in one sentence.
        passed: True if everything agrees.
        first: name of the first layer in graph order that diverges; None if all agree.
        layers: differences of all compared layers, in graph order.
        pictures: pairs of expected and actual pictures of what differs.
        details: further lines of the message: other layers, provenance.
        explanation: what usually explains such a difference; "" where nothing differs.
        baseline: path of the file that was compared with; "" if none could be.
        update: the value of --convlens-update that accepts what was found.
        recorded: names of the layers or values that a baseline recorded now has otherwise.
        former: name of a baseline that is missing here under this name, and has exactly the same
            weights; "" if there is none.
        own: difference of the one layer that this is about; None for a whole value.
    """

    key: str
    fingerprint: str
    verdict: str
    passed: bool
    first: str | None = None
    layers: tuple[LayerDifference, ...] = ()
    pictures: tuple[Pair, ...] = ()
    details: tuple[str, ...] = field(default=())
    explanation: str = ""
    baseline: str = ""
    update: Literal["failed", "missing"] = "failed"
    recorded: tuple[str, ...] = ()
    former: str = ""
    own: LayerDifference | None = None

    @property
    def message(self) -> str:
        """The verdict, its details, the likely cause and how to accept it, one per line."""
        lines = [*self.details]
        if self.explanation:
            lines.append(f"likely cause: {self.explanation}")
        if self.baseline and not self.passed:
            lines.append(f"{self.baseline}: accept it with --convlens-update={self.update}")
        return "\n".join([self.verdict, *(f"  {line}" for line in lines)])

    def of_layer(self, layer: str) -> Comparison:
        """Return the result for one layer.

        If the layers could not be compared, for example because there is no baseline, this is the
        whole comparison.
        """
        own = next((found for found in self.layers if found.layer == layer), None)
        if own is None:
            return self
        pictures = tuple(pair for pair in self.pictures if pair.layer == layer)
        if own.passed:
            return replace(
                self,
                verdict=f"layer {layer!r} agrees with the baseline: {own}",
                passed=True,
                first=None,
                pictures=pictures,
                details=(),
                explanation="",
                own=own,
            )
        if layer == self.first:
            return replace(self, pictures=pictures, own=own)
        verdict = f"layer {layer!r} diverges too ({own}); {self.verdict}"
        return replace(self, verdict=verdict, pictures=pictures, details=(), own=own)

    def as_follower(self, leader: str) -> Comparison:
        """Return a failed comparison in one line, for a layer whose cause another layer tells.

        Args:
            leader: name of the item that is reported in full.
        """
        cause = f"diverges after {self.first}" if self.first else f"fails as {leader} does"
        return replace(self, verdict=cause, details=(), explanation="", baseline="")


def join_names(names: Sequence[object], max_count: int = MAX_LINES) -> str:
    """Return at most `max_count` names separated by commas, and the number of the others."""
    shown = ", ".join(str(name) for name in names[:max_count])
    return shown if len(names) <= max_count else f"{shown} and {len(names) - max_count} more"


def mismatch(layer: str, note: str) -> LayerDifference:
    """Return the difference of a layer whose numbers cannot be compared."""
    return LayerDifference(layer, 0.0, float("inf"), None, False, float("inf"), note=note)


def norm(values: NDArray[Any]) -> float:
    """Return the Euclidean norm of all values of an array."""
    return float(np.linalg.norm(values.astype(np.float64)))


def cosine_similarity(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the cosine similarity of two arrays; 1 if both are zero."""
    size = norm(a) * norm(b)
    if not size:
        return float(norm(a) == norm(b))
    return float(np.clip(np.vdot(a.astype(np.float64), b.astype(np.float64)) / size, -1, 1))
