"""Texts of others: escape invisible and bidirectional characters, and shorten errors."""

from __future__ import annotations

import re

# Control characters except tabs and newlines, bidirectional marks, and zero-width characters.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
)


def escape_invisible(text: str) -> str:
    """Return text with invisible and bidirectional characters as \\u escapes."""
    return _INVISIBLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(error: BaseException) -> str:
    """Return an error's message in one line, or its type where it has none."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # an error of others, which cannot even be printed
        text = ""
    return text or type(error).__name__
