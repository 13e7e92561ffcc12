"""A folder in which all processes of a run store their results for the report.

The files are read only after the run has ended, and no process depends on the files of another.
Therefore a process may crash at any point without loss of the others' results. The outcomes are
kept in the memory of the process that writes the report, so that a full disk can cost pictures but
no outcomes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convlens.files.atomic import write_atomic
from convlens.report.entry import Exhibit, LayerComparison, exhibit_from_json
from convlens.report.text import one_line


class Spool:
    """A folder of exhibits, pictures and events.

    Attributes:
        folder: path of the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._events: list[dict[str, Any]] = []

    def add_event(self, event: dict[str, Any]) -> None:
        """Add an outcome or a fact of the run, in the process that writes the report."""
        self._events.append(event)

    def write_exhibit(self, exhibit: Exhibit) -> None:
        """Write the description and figures of an item; replace an earlier version.

        Raises:
            OSError: the folder cannot be written to.
        """
        name = f"{_digest(exhibit.nodeid.encode('utf-8', 'surrogatepass'))}.json"
        content = json.dumps(asdict(exhibit), default=str)  # a check of others may have any layer
        write_atomic(self.folder / name, content.encode(), durable=False)

    def write_picture(self, content: bytes) -> str:
        """Write an encoded picture and return its name; equal pictures have equal names.

        Raises:
            OSError: the folder cannot be written to.
        """
        name = f"{_digest(content)}.webp"
        if not (self.folder / name).exists():
            write_atomic(self.folder / name, content, durable=False)
        return name

    def write_table(self, layers: Sequence[LayerComparison]) -> str:
        """Write the table of a comparison's layers and return its name; equal ones are one file.

        All items of a model compare the same layers, so that a table in each of their files would
        take the square of the number of layers.

        Raises:
            OSError: the folder cannot be written to.
        """
        content = json.dumps([asdict(layer) for layer in layers]).encode()
        name = f"{_digest(content)}.table"
        if not (self.folder / name).exists():
            write_atomic(self.folder / name, content, durable=False)
        return name

    def read_table(self, name: str) -> list[LayerComparison]:
        """Return the layers of a table.

        Raises:
            OSError, ValueError: the file is missing or cannot be read.
        """
        content = json.loads((self.folder / name).read_text(encoding="utf-8"))
        return [LayerComparison(**part) for part in content]

    def read_picture(self, name: str) -> bytes:
        """Return an encoded picture."""
        return (self.folder / name).read_bytes()

    def picture_size(self, name: str) -> int:
        """Return the number of bytes of an encoded picture; 0 for one that is lost."""
        path = self.folder / name
        return path.stat().st_size if path.is_file() else 0

    def exhibits(self, on_problem: Callable[[str], object] | None = None) -> dict[str, Exhibit]:
        """Return node id → exhibit.

        Args:
            on_problem: called with one line for each file that cannot be read, which is left out.
        """
        read = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                read.append(exhibit_from_json(json.loads(path.read_text(encoding="utf-8"))))
            except Exception as error:  # one item's file must not cost the others
                if on_problem is not None:
                    on_problem(f"{path.name} cannot be read: {one_line(error)}")
        return {exhibit.nodeid: exhibit for exhibit in read}

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield all events in order."""
        yield from self._events


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
