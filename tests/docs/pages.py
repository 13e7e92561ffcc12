"""The pages of the documentation, and the fenced blocks in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/**/*.md")
    for path in ROOT.glob(pattern)
)
_BLOCK = re.compile(
    r"^(?:<!-- run: (?P<state>[\w-]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_NAME = re.compile(r"# ([\w./-]+\.(?:py|ini|toml|ya?ml))\n")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: its page, from the project's folder.
        line: where it begins, from 1.
        language: what stands behind the fence.
        text: what is in it.
        state: what the folder must be in before; named by a comment above the block.
    """

    page: str
    line: int
    language: str
    text: str
    state: str | None

    @property
    def file(self) -> str | None:
        """The name of the file that it is, where a comment in its first line says so."""
        found = _NAME.match(self.text)
        return found[1] if found else None

    @property
    def is_test(self) -> bool:
        return self.language == "python" and re.search(r"^def test_", self.text, re.M) is not None

    @property
    def lines(self) -> list[str]:
        """The commands of a console block."""
        return self.text.strip().splitlines()


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(page: str) -> list[Block]:
    text = text_of(page)
    return [
        Block(
            page,
            text.count("\n", 0, found.start()) + 1,
            found["language"],
            found["text"],
            found["state"],
        )
        for found in _BLOCK.finditer(text)
    ]
