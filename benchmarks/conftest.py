"""Register the suite in a run that collects this folder."""

from __future__ import annotations

import pytest

from convlens.benchmarks.suite import register


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the suite before pytest-benchmark looks at the machine."""
    register(config)
