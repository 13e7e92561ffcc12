"""Compare the engine's results on two backends."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

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
        errors = _errors(mine[name], value, name)
        # Twelve steps through switches and ReLUs magnify what rounding leaves.
        tolerance = 2e-3 if name.endswith("images") else 1e-4
        if name.startswith("ascent fourier"):
            # The optimizer of the Fourier basis gives each frequency a step of one size, however
            # small its gradient. Where rounding turns one switch, that image goes another way: 3 of
            # 16 did, by up to 4 %, and the others differed by 2e-6. So it is most that must agree.
            assert len(errors) == 16
            tolerance = 1e-5
            errors = np.array([np.median(errors), errors.max() * tolerance / 0.2])
        if not errors.max() <= tolerance:
            wrong.append(f"{name}: {errors.max():.2g} of the largest, {tolerance:g} allowed")
    assert not wrong, "\n".join(wrong)


def _errors(mine: Any, theirs: Any, name: str) -> Any:
    """Return the largest difference of each unit's values, relative to the largest value."""
    error = np.abs(mine - theirs) / np.abs(theirs).max()
    if name.endswith("trace"):
        return error.max(axis=0)
    return error.reshape(len(error), -1).max(axis=1)
