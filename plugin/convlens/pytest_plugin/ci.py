"""Tell a job of continuous integration from a run of a person."""

from __future__ import annotations

import os

_NO = ("", "0", "false", "no", "off")


def in_ci() -> bool:
    """Return whether the environment variable CI is set, to anything but 0 or false."""
    return os.environ.get("CI", "").strip().lower() not in _NO


def in_github_actions() -> bool:
    """Return whether this is a job of GitHub Actions, which reads annotations from the output."""
    return os.environ.get("GITHUB_ACTIONS", "").strip().lower() not in _NO
