"""A hook of mkdocs: pages of the site whose text is kept outside docs/, beside the code.

Links in docs/ lead to files of the repository; on the site they are changed to these pages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
CAUGHT = "What it catches"
# A file of the repository → its page on the site.
OUTSIDE = {
    "README.md": "what-it-catches.md",
    "benchmarks/README.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
_LINK = re.compile(r"(?<=\]\()(?P<file>(?:[\w.-]+/)*[\w.-]+)(?P<anchor>#[\w-]+)?(?=\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    for source, page in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if source == "README.md":
            text = f"---\nhide: [toc]\n---\n{section(text, CAUGHT)}"  # room for the table
        files.append(File.generated(config, page, content=_relinked(text, ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead links out of docs/ to the pages on the site."""
    if page.file.src_uri in OUTSIDE.values():
        return markdown
    folder = (ROOT / "docs" / page.file.src_uri).parent
    up = "../" * page.file.src_uri.count("/")

    def to_page(link: Path) -> str | None:
        found = OUTSIDE.get(_within_root(link))
        return up + found if found else None

    return _replaced(markdown, folder, to_page)


def section(text: str, heading: str) -> str:
    """Return a section of a page, its heading as the page's title."""
    found = re.search(rf"^## {re.escape(heading)}$.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"the README has no section {heading!r}")
    return found[0].removeprefix("#")


def _relinked(text: str, source: Path) -> str:
    """Return the text of a file outside docs/ with links as from the top of docs/."""

    def to_page(link: Path) -> str | None:
        inside = _within_root(link)
        if inside in OUTSIDE:
            return OUTSIDE[inside]
        return inside.removeprefix("docs/") if inside.startswith("docs/") else None

    return _replaced(text, source.parent, to_page)


def _replaced(text: str, folder: Path, to_page: Callable[[Path], str | None]) -> str:
    def one(found: re.Match[str]) -> str:
        page = to_page(folder / found["file"])
        return found[0] if page is None else page + (found["anchor"] or "")

    return _LINK.sub(one, text)


def _within_root(path: Path) -> str:
    return path.resolve().relative_to(ROOT).as_posix()
