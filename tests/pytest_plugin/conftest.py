"""Load everything heavy before the first test."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _everything_is_loaded(everything_is_loaded):
    """Every test here may run pytest in this process."""
