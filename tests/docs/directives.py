"""The public names, and the mkdocstrings directives in which the pages describe them."""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path

from pages import PAGES, ROOT, text_of

_DIRECTIVE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
# Folders in which mkdocs.yml looks for modules.
_SOURCES = (ROOT / "plugin", ROOT)

Definition = ast.FunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Directive:
    """A line ``::: module.name`` of a page.

    Attributes:
        page: the page, from the project's folder.
        target: the dotted name.
    """

    page: str
    target: str

    @property
    def name(self) -> str:
        """The last part of the dotted name."""
        return self.target.rpartition(".")[2]


def directives() -> list[Directive]:
    """Return the directives of all pages."""
    return [Directive(page, t) for page in PAGES for t in _DIRECTIVE.findall(text_of(page))]


@functools.cache
def public_names() -> dict[str, str]:
    """Return each public name with the dotted name of its definition, from `__init__.pyi`."""
    stub = _parsed(ROOT / "plugin" / "convlens" / "__init__.pyi")
    return {
        alias.name: f"convlens.{node.module}.{alias.name}"
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def definition_of(target: str) -> Definition | ast.Module | None:
    """Return the module, class or function of that dotted name, or None.

    A name that its module has from another one is followed there.
    """
    if (file := _file_of(target)) is not None:
        return _parsed(file)
    module, _, name = target.rpartition(".")
    file = _file_of(module)
    for node in _parsed(file).body if file is not None else []:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return definition_of(f"{node.module}.{name}")
    return None


def _file_of(module: str) -> Path | None:
    path = Path(*module.split(".")).with_suffix(".py") if module else Path()
    return next((folder / path for folder in _SOURCES if (folder / path).is_file()), None)


@functools.cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))
