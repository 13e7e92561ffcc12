"""Escape invisible and bidirectional characters in untrusted text."""

from __future__ import annotations

import re

# Control characters except tabs and newlines, bidirectional marks, and zero-width characters.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
)


def escape_invisible(text: str) -> str:
    """Return text with invisible and bidirectional characters as \\u escapes."""
    return _INVISIBLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
