"""The suite: ``pytest --pyargs convlens.benchmarks``, or ``pytest benchmarks`` in a checkout."""

from __future__ import annotations

from typing import Any

import pytest

from convlens.benchmarks.suite import ALONE, register

# Peers may warn of what they use; that is no failure of what is timed.
pytestmark = pytest.mark.filterwarnings("default")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each case."""
    suite = register(metafunc.config)
    if suite is None:
        metafunc.parametrize("case", [None], ids=["-"])
        return
    found = suite.cases()
    metafunc.parametrize("case", found, ids=[case.name for case in found])


def test_core(case: Any, benchmark: Any, pytestconfig: pytest.Config) -> None:
    """Time a core beside its limit and its peers; each must give a working result."""
    suite = register(pytestconfig)
    if suite is None:
        pytest.fail(ALONE, pytrace=False)
    suite.run(case, benchmark)
