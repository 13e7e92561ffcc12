"""The list of accepted changes that the report exports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

FORMAT, VERSION = "convlens-accept", 1
_LARGEST = 4 * 2**20
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")


def read_accepted(path: Path) -> dict[str, str]:
    """Return key → fingerprint of a list of accepted changes.

    Raises:
        pytest.UsageError: the file is missing, too large, or not such a list.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is not a regular file")
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it is larger than {_LARGEST} bytes")
        return _entries(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise pytest.UsageError(
            f"--convlens-accept {path} cannot be read as a list of accepted changes ({reason}): "
            "export it anew from the report"
        ) from None


def _entries(content: Any) -> dict[str, str]:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT!r}")
    if content.get("version") != VERSION or isinstance(content["version"], bool):
        raise ValueError(f"its version is not {VERSION}")
    if content.keys() != {"format", "version", "accept"} or type(content["accept"]) is not list:
        raise ValueError("it has other entries than format, version and the list accept")
    accepted: dict[str, str] = {}
    for number, entry in enumerate(content["accept"]):
        if not isinstance(entry, dict) or entry.keys() != {"key", "fingerprint"}:
            raise ValueError(f"entry {number} is not a key and a fingerprint")
        key, fingerprint = entry["key"], entry["fingerprint"]
        if not isinstance(key, str) or not key:
            raise ValueError(f"the key of entry {number} is not a text")
        if not isinstance(fingerprint, str) or not _FINGERPRINT.fullmatch(fingerprint):
            raise ValueError(f"the fingerprint of entry {number} is not 16 digits of 0-9 and a-f")
        if accepted.setdefault(key, fingerprint) != fingerprint:
            raise ValueError(f"entry {number} accepts another change of {key!r} than one before")
    return accepted
