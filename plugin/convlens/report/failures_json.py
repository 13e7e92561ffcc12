"""Render the causes of a run's failures as JSON, for programs that read them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from convlens.report.cause import Cause

FORMAT, VERSION = "convlens-failures", 1


def render_json(causes: Iterable[Cause], *, command: str, finished: bool) -> str:
    """Return a JSON object with one entry for each cause of failures.

    Args:
        causes: the causes.
        command: command line of the run.
        finished: whether the run was not interrupted.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "command": command,
        "finished": finished,
        "failures": [_entry(cause) for cause in causes],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _entry(cause: Cause) -> dict[str, Any]:
    return {
        "item": cause.nodeid,
        "model": cause.model,
        "file": cause.file or None,
        "check": cause.check,
        "layer": cause.layer or None,
        "cause": cause.cause,
        "explanation": cause.explanation or None,
        "numbers": {name: _number(value) for name, value in cause.numbers.items()},
        "followers": list(cause.followers),
        "accept_command": cause.command or None,
        "baseline": {"key": cause.key, "fingerprint": cause.fingerprint} if cause.key else None,
        "pictures": list(cause.pictures),
    }


def _number(value: float) -> float | str:
    """Return a number; infinity and NaN, which JSON does not have, as text."""
    return value if math.isfinite(value) else str(value)
