"""Notes on pictures and other results that could not be shown; the verdict of the item stands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import format_exception
from typing import Any

import pytest

from convlens.report.text import one_line

NOTE = "convlens.note"
# Errors of code that draws, none of which may end an item. Those of pytest.skip(), pytest.fail()
# and sys.exit() are not subclasses of Exception.
ERRORS = (Exception, SystemExit, pytest.skip.Exception, pytest.fail.Exception)


@contextmanager
def noting(item: pytest.Item, trouble: str, *, traceback: bool = True) -> Iterator[None]:
    """Turn an error in showing an item's results into a note, which the summary lists.

    Args:
        item: the item whose verdict must stand.
        trouble: consequence of an error, such as "the picture 'gram' was not made".
        traceback: whether a failure shows where the error was raised; not for errors of the disk.
    """
    try:
        yield
    except ERRORS as error:
        note(item, f"{trouble}: {one_line(error)}")
        if traceback:
            # Without what it interrupted, which is the verdict.
            lines = format_exception(type(error), error, error.__traceback__, chain=False)
            item.add_report_section("call", "pictures", "".join(lines))


def note(item: pytest.Item, text: str) -> None:
    """Keep a note on an item for the summary, the report and JUnit."""
    item.user_properties.append((NOTE, f"{item.name}: {text}"))


def properties(report: Any) -> list[tuple[str, Any]]:
    """Return the named values of a test's report, without entries that are not pairs."""
    found = getattr(report, "user_properties", None) or ()
    return [(str(p[0]), p[1]) for p in found if isinstance(p, list | tuple) and len(p) == 2]
