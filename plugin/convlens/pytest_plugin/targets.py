"""What a user may name as the model under test."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

SHIPPED = ("mnist_cnn",)


@dataclass(frozen=True)
class Target:
    """A model that was named.

    Attributes:
        spec: the words that named it.
        kind: 'shipped', 'file' or 'factory'.
        only: the items to run, None for all.
    """

    spec: str
    kind: Literal["shipped", "file", "factory"]
    only: frozenset[str] | None = None


def parse_target(spec: str) -> Target:
    """Return what a --convlens value names.

    Raises:
        pytest.UsageError: a missing file, or no name that convlens knows.
    """
    if spec in SHIPPED:
        return Target(spec, "shipped")
    path = Path(spec)
    if path.is_file():
        return Target(spec, "file")
    if path.suffix or "/" in spec or "\\" in spec:
        what = "is a folder" if path.is_dir() else "does not exist"
        raise pytest.UsageError(f"--convlens {spec}: the file {what}")
    module, _, function = spec.partition(":")
    if module and function.isidentifier():
        return Target(spec, "factory")
    near = difflib.get_close_matches(spec, SHIPPED, n=1, cutoff=0.3)
    offer = f"did you mean {near[0]}? " if near else ""
    raise pytest.UsageError(
        f"--convlens {spec}: there is no such model; {offer}"
        f"Give a .keras file, a shipped model ({', '.join(SHIPPED)}) or module:factory"
    )
