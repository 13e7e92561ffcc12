"""Baselines of one backend pass on another."""

from __future__ import annotations

import os

import pytest

from convlens import assert_matches_baseline

from .networks import subjects


def test_baselines_of_the_other_backend_pass_here():
    folder = os.environ.get("CONVLENS_OTHER_BASELINES")
    if folder is None:
        pytest.skip(
            "needs another backend's baselines: python tests/baselines/record_all.py FOLDER there, "
            "then CONVLENS_OTHER_BASELINES=FOLDER here"
        )
    for name, (model, images) in subjects().items():
        found = assert_matches_baseline(model, folder, name, images=images)
        assert len(found.layers) > 5
        assert max(layer.worst_error for layer in found.layers) > 0, "it is the same backend"
