"""The suite: ``pytest --pyargs convlens.benchmarks``, or ``pytest benchmarks`` in a checkout."""

from __future__ import annotations

from typing import Any

import pytest

from convlens.benchmarks.suite import ALONE, register

# Warnings from other tools are not failures.
pytestmark = pytest.mark.filterwarnings("default")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Create one test per case."""
    suite = register(metafunc.config)
    if suite is None:
        metafunc.parametrize("case", [None], ids=["-"])
        return
    found = suite.cases()
    metafunc.parametrize("case", found, ids=[case.name for case in found])


def test_core(case: Any, benchmark: Any, pytestconfig: pytest.Config) -> None:
    """Time a core, its limit and other tools; each result must be valid."""
    suite = register(pytestconfig)
    if suite is None:
        pytest.fail(ALONE, pytrace=False)
    suite.run(case, benchmark)
