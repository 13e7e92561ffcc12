"""Text of others, so that it neither hides nor moves what stands beside it."""

from __future__ import annotations

import re

# Controls but for tabs and line ends, marks that turn the direction of text, and what is no width.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
)


def visible(text: str) -> str:
    """Return text in which characters that are not seen, but act, are written as escapes."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
