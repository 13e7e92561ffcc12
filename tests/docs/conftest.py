"""Fixtures and items for the blocks of the documentation."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from folder import prepare


@pytest.fixture
def user_folder(
    everything_is_loaded: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """Return a pytester whose folder is as the pages take it for granted."""
    import hypothesis

    from convlens.fixtures.digits import load_digits
    from convlens.fixtures.mnist_cnn import mnist_cnn_path

    prepare(pytester.path, mnist_cnn_path(), *load_digits())
    commands = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", commands + os.pathsep + os.environ["PATH"])
    monkeypatch.setenv("CONVLENS_WEIGHTS", str(pytester.path / "weights"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "step-summary.md"))
    before = hypothesis.settings.get_current_profile_name()
    hypothesis.settings.register_profile("docs", max_examples=3, deadline=None)
    hypothesis.settings.load_profile("docs")
    yield pytester
    hypothesis.settings.load_profile(before)
