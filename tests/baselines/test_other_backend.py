"""Baselines recorded on one backend pass on another."""

from __future__ import annotations

import os

import pytest

from convlens import assert_matches_baseline

from .networks import subjects


def test_baselines_from_another_backend_pass():
    folder = os.environ.get("CONVLENS_OTHER_BASELINES")
    if folder is None:
        pytest.skip(
            "needs baselines from another backend: run python tests/baselines/record_all.py FOLDER "
            "on that backend, then set CONVLENS_OTHER_BASELINES=FOLDER on this one"
        )
    for name, (model, images) in subjects().items():
        found = assert_matches_baseline(model, folder, name, images=images)
        assert len(found.layers) > 5
        assert max(layer.worst_error for layer in found.layers) > 0, "both backends are the same"
