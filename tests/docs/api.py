"""The reference of the public names, made from the source: the same on every Python."""

from __future__ import annotations

import ast
import functools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from pages import ROOT

import convlens

HEAD = """# Reference

Made from the docstrings by `pytest tests/docs --write-docs`; a test fails where it is out of date.
Shapes are (n, h, w, c): images, rows, columns, channels. Optional arguments have their defaults in
the signature. The docstrings also have examples: `help(convlens.maximize)`.
"""
PACKAGE = ROOT / "plugin" / "convlens"
_SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises|Example):$")
_ENTRY = re.compile(r"(\*{0,2}\w[\w., *]*): (.*)", re.DOTALL)

Definition = ast.FunctionDef | ast.ClassDef


@functools.cache
def reference() -> str:
    """Return the page."""
    parts = [HEAD]
    for title, chosen in _groups():
        parts.append(f"## {title}\n")
        parts += [_entry(_found(name, convlens._MODULE_OF[name])) for name in chosen]
    for module, file in MODULES.items():
        tree = _parsed(file)
        parts += [f"## {module}\n", f"{_plain(ast.get_docstring(tree) or '')}\n"]
        listed = [d for name, d in _definitions(file).items() if not name.startswith("_")]
        parts += [_entry(definition) for definition in listed]
    return "\n".join(parts)


NAMES = tuple(convlens.__all__)
MODULES = {
    "convlens.fixtures.defects": ROOT / "fixtures" / "defects.py",
    "convlens.strategies": PACKAGE / "strategies.py",
}


def _groups() -> Iterator[tuple[str, list[str]]]:
    assertions = [name for name in NAMES if name.startswith("assert_")]
    functions = [name for name in NAMES if name.islower() and name not in assertions]
    yield "Assertions", assertions
    yield "Functions", functions
    yield "Classes and results", [name for name in NAMES if not name.islower()]


@functools.cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _definitions(file: Path) -> dict[str, Definition]:
    return {
        node.name: node
        for node in _parsed(file).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def _found(name: str, module: str) -> Definition:
    """Return where a name is defined: in a module of convlens, or where that has it from."""
    file = PACKAGE / f"{module.replace('.', '/')}.py"
    here = _definitions(file)
    if name in here:
        return here[name]
    (origin,) = (
        str(node.module).removeprefix("convlens.")
        for node in _parsed(file).body
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}
    )
    return _found(name, origin)


def _entry(node: Definition) -> str:
    """Return the part of the page about one name."""
    sections = _sections(ast.get_docstring(node) or "")
    lines = [f"### {node.name}", "", f"`{_signature(node)}`", "", *_described(sections)]
    if isinstance(node, ast.ClassDef):
        lines += _methods(node)
    return "\n".join(lines).rstrip() + "\n"


def _signature(node: Definition) -> str:
    if isinstance(node, ast.FunctionDef):
        return f"{node.name}{_arguments(node)}"
    made = next((n for n in node.body if getattr(n, "name", "") == "__init__"), None)
    if isinstance(made, ast.FunctionDef):
        return f"{node.name}{_arguments(made)}"
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
    shown = (
        ast.unparse(f.target) + (f"={ast.unparse(f.value)}" if f.value else "") for f in fields
    )
    return f"{node.name}({', '.join(shown)})" if fields else node.name


def _arguments(node: ast.FunctionDef) -> str:
    """Return a function's arguments with defaults, without types, which the texts give."""
    given = node.args
    # What a class or hypothesis hands over itself.
    own = {"self", "cls"} | ({"draw"} if given.posonlyargs else set())
    named = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(named) - len(given.defaults)) + list(given.defaults)
    parts = [_argument(a, d) for a, d in zip(named, defaults, strict=True) if a.arg not in own]
    if given.vararg:
        parts.append(f"*{given.vararg.arg}")
    elif given.kwonlyargs:
        parts.append("*")
    parts += [_argument(a, d) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    if given.kwarg:
        parts.append(f"**{given.kwarg.arg}")
    return f"({', '.join(parts)})"


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    return argument.arg + (f"={ast.unparse(default)}" if default is not None else "")


def _sections(docstring: str) -> list[tuple[str, str]]:
    """Return the docstring's parts in order: (title, text), the title empty for plain text."""
    found: list[tuple[str, list[str]]] = [("", [])]
    for line in docstring.splitlines():
        title = _SECTION.match(line)
        if title:
            found.append((title[1], []))
            continue
        if line and not line.startswith(" ") and found[-1][0]:
            found.append(("", []))
        found[-1][1].append(line)
    return [(title, textwrap.dedent("\n".join(lines)).strip("\n")) for title, lines in found]


def _described(sections: list[tuple[str, str]]) -> Iterator[str]:
    for title, text in sections:
        if not text or title == "Example":
            continue
        if not title:
            yield from (text, "")
        elif title in ("Args", "Attributes"):
            yield from _table("argument" if title == "Args" else "attribute", _entries(text))
        elif title == "Raises":
            yield from (*(f"- Raises `{name}`: {what}" for name, what in _entries(text)), "")
        else:
            yield from (f"{title} {_flowed(text)}", "")


def _entries(text: str) -> list[tuple[str, str]]:
    """Return the entries of a section: each begins a line, what follows of it is indented."""
    blocks = re.split(r"\n(?=\S)", text)
    found = [_ENTRY.fullmatch(block) for block in blocks]
    return [(f[1], _flowed(f[2])) for f in found if f]


def _table(head: str, entries: list[tuple[str, str]]) -> list[str]:
    rows = [f"| {_code(name)} | {text.replace('|', chr(92) + '|')} |" for name, text in entries]
    return [f"| {head} | |", "|---|---|", *rows, ""]


def _code(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split(", "))


def _methods(node: ast.ClassDef) -> Iterator[str]:
    listed = [n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
    if not listed:
        return
    yield from ("| method | |", "|---|---|")
    for method in listed:
        is_property = any("property" in ast.unparse(d) for d in method.decorator_list)
        shown = method.name + ("" if is_property else _arguments(method))
        summary = _flowed((ast.get_docstring(method) or "").split("\n\n")[0])
        yield f"| `{shown}` | {summary.replace('|', chr(92) + '|')} |"


def _plain(docstring: str) -> str:
    return "\n\n".join(text for title, text in _sections(docstring) if not title and text)


def _flowed(text: str) -> str:
    return " ".join(text.split())
