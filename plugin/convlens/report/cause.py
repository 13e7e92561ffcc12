"""Causes of failed comparisons: what changed, what usually explains it, and how to accept it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cause:
    """A failure that tells why, and the failures of other layers that follow from it.

    Attributes:
        nodeid: node id of the item that fails in full.
        model: name of the model's file, or the node id of a user's test.
        layer: first layer that diverges, or that the item is about; "" for a whole model or value.
        check: name of the property, such as "baseline".
        cause: what differs, in one sentence.
        explanation: what usually explains it; "" if that is not known.
        command: command line that accepts the change; "" where there is nothing to accept.
        followers: layers whose items fail only because of this one, in the order of the network.
        numbers: name → measured value of the item.
        update: value of --convlens-update in the command; "" without a command.
        key, fingerprint: name of the baseline and hash of the change, for --convlens-accept.
        file: path of the model's or the test's file; "" for a model without one.
        pictures: paths of the pictures that were written of the item.
    """

    nodeid: str
    model: str
    layer: str
    check: str
    cause: str
    explanation: str = ""
    command: str = ""
    followers: Sequence[str] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)
    update: str = ""
    key: str = ""
    fingerprint: str = ""
    file: str = ""
    pictures: Sequence[str] = ()

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The texts that every output shows of a cause, each with its title."""
        titled = [
            ("cause", self.cause),
            ("usually", self.explanation),
            ("to record it" if self.update == "missing" else "to accept it", self.command),
        ]
        return [(title, text) for title, text in titled if text]

    @property
    def following(self) -> str:
        """The followers in a few words, such as "b … z: 37 follow"; "" if there are none."""
        if not self.followers:
            return ""
        first, last = self.followers[0], self.followers[-1]
        span = first if first == last else f"{first} … {last}"
        return f"{span}: {len(self.followers)} follow"
