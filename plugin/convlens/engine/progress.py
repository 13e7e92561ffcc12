"""A progress bar for people: on a terminal, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

Progress = Callable[[int, int], None]


@contextmanager
def progress_to(given: Progress | None, title: str, unit: str) -> Iterator[Progress]:
    """Give what takes reports of (done, in all): the given function, else a bar on standard error.

    The bar shows only where standard error is a terminal, so logs stay clean.
    """
    if given is not None:
        yield given
        return
    with tqdm(desc=title, unit=unit, disable=None, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
