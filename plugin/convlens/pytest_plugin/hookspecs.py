"""The hooks of convlens: for conftests and other plugins, and between its own parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from convlens.baselines.compare import Comparison
    from convlens.checks.check import Check
    from convlens.pictures import Figure


@pytest.hookspec
def pytest_convlens_checks(config: pytest.Config) -> Sequence[Check]:
    """Return checks that every model gets besides the built-in ones.

    Implement it in a conftest.py or a plugin. Each check is an instance of a subclass of
    `convlens.LayerCheck` or `convlens.ModelCheck`, with a name of its own.
    """
    raise NotImplementedError


@pytest.hookspec
def pytest_convlens_figures(item: pytest.Item, figures: Mapping[str, Figure]) -> None:
    """Take the figures of an item, by name, after its verdict is known."""


@pytest.hookspec
def pytest_convlens_compared(item: pytest.Item, comparison: Comparison) -> None:
    """Take the comparison of an item with its baseline, before it is judged."""
