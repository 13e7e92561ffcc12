"""A folder in which every process of a run leaves what it knows, until the report is made of it.

Nothing in it is needed twice and nothing is read before the run has ended, so that a process may
die at any point and take no other's work with it. What happened is known to the process that will
make the report, and stays in its memory, so that a full disk loses pictures but no outcome.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convlens.files.atomic import write_atomic
from convlens.report.entry import Exhibit, exhibit_from_json


class Spool:
    """A folder of exhibits, pictures and events.

    Attributes:
        folder: where it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._events: list[dict[str, Any]] = []

    def add_event(self, event: dict[str, Any]) -> None:
        """Add what happened: an outcome, or a fact of the run. One process alone has these."""
        self._events.append(event)

    def write_exhibit(self, exhibit: Exhibit) -> None:
        """Write what is known of an item, in place of what was known before.

        Raises:
            OSError: the folder cannot be written to.
        """
        name = f"{_digest(exhibit.nodeid.encode('utf-8', 'surrogatepass'))}.json"
        write_atomic(self.folder / name, json.dumps(asdict(exhibit)).encode(), durable=False)

    def write_picture(self, content: bytes) -> str:
        """Write an encoded picture and return its name; the same picture has the same name.

        Raises:
            OSError: the folder cannot be written to.
        """
        name = f"{_digest(content)}.webp"
        if not (self.folder / name).exists():
            write_atomic(self.folder / name, content, durable=False)
        return name

    def read_picture(self, name: str) -> bytes:
        """Return an encoded picture."""
        return (self.folder / name).read_bytes()

    def exhibits(self) -> dict[str, Exhibit]:
        """Return what is known of each item, by node id."""
        read = [
            exhibit_from_json(json.loads(path.read_text(encoding="utf-8")))
            for path in sorted(self.folder.glob("*.json"))
        ]
        return {exhibit.nodeid: exhibit for exhibit in read}

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what happened, in order."""
        yield from self._events


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
