"""The same results on another backend."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import numpy as np
import pytest


def test_results_are_those_of_the_other_backend():
    path = os.environ.get("CONVLENS_OTHER_BACKEND")
    if path is None:
        pytest.skip(
            "needs another backend's results: python tests/engine/results.py FILE there, then "
            "CONVLENS_OTHER_BACKEND=FILE here"
        )
    mine = runpy.run_path(str(Path(__file__).with_name("results.py")))["results"]()
    with np.load(path) as file:
        theirs = dict(file)
    assert mine.keys() == theirs.keys()
    wrong = []
    for name, value in theirs.items():
        # Twelve steps through switches and ReLUs magnify what rounding leaves.
        tolerance = 2e-3 if name.endswith("images") else 1e-4
        error = np.abs(mine[name] - value).max() / np.abs(value).max()
        if not error <= tolerance:
            wrong.append(f"{name}: {error:.2g} of the largest value, {tolerance:g} allowed")
    assert not wrong, "\n".join(wrong)
