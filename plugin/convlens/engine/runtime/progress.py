"""A progress bar for people: on a terminal, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from tqdm import tqdm

Progress = Callable[[int, int], None]


class ItemProgress(Protocol):
    """Takes reports of how far an item is, with the losses of one that descends them."""

    def __call__(
        self, done: int, total: int, losses: Mapping[str, float] | None = None, /
    ) -> None: ...


@contextmanager
def progress_to(given: Progress | None, title: str, unit: str) -> Iterator[Progress]:
    """Give what takes reports of (done, in all): the given function, else a bar."""
    if given is not None:
        yield given
        return
    with progress_bar(title, unit) as show:
        yield show


@contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Callable[..., None]]:
    """Give what shows (done, in all, and a note if there is one) on standard error.

    The bar, which says how much time is left, shows only where standard error is a terminal, so
    logs stay clean.
    """
    with tqdm(desc=title, unit=unit, disable=None, leave=False) as bar:

        def show(done: int, total: int, note: str = "") -> None:
            bar.total = total
            if note:
                bar.set_postfix_str(note, refresh=False)
            bar.update(done - bar.n)

        yield show
