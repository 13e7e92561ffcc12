"""Progress callbacks, and a progress bar that appears only on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from tqdm import tqdm

Progress = Callable[[int, int], None]


class ItemProgress(Protocol):
    """A callback for the progress of a test item, optionally with its current losses."""

    def __call__(
        self, done: int, total: int, losses: Mapping[str, float] | None = None, /
    ) -> None: ...


@contextmanager
def progress_to(given: Progress | None, title: str, unit: str) -> Iterator[Progress]:
    """Provide a progress callback (done, total): the given one, or else that of a new bar."""
    if given is not None:
        yield given
        return
    with progress_bar(title, unit) as show:
        yield show


@contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Callable[..., None]]:
    """Show a progress bar on standard error; provide its callback (done, total[, note]).

    The bar also shows the remaining time. It appears only if standard error is a terminal, so that
    logs stay clean.
    """
    with tqdm(desc=title, unit=unit, disable=None, leave=False) as bar:

        def show(done: int, total: int, note: str = "") -> None:
            bar.total = total
            if note:
                bar.set_postfix_str(note, refresh=False)
            bar.update(done - bar.n)

        yield show
