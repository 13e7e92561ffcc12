"""The site describes every public name once, and nothing that does not exist."""

from __future__ import annotations

import ast
import os
from collections import Counter

import pytest
from directives import Directive, definition_of, directives, public_names
from pages import ROOT, text_of
from written import check_written

import convlens

INDEX = "docs/reference/index.md"
# Modules of their own, which are described whole.
MODULES = {"fixtures.defects", "convlens.strategies"}


def test_the_public_names_are_those_of_the_stub():
    assert sorted(public_names()) == sorted(convlens.__all__)


def test_every_public_name_is_in_one_directive(pytestconfig: pytest.Config):
    if pytestconfig.getoption("--write-docs"):
        follow_moved_names()
    count = Counter(d.target for d in directives() if d.target not in MODULES)
    wrong = {target: count[target] for target in public_names().values() if count[target] != 1}
    assert wrong == {}, "pytest tests/docs --write-docs follows names that moved to another module"


def follow_moved_names() -> None:
    """Write the directives of public names anew, with the modules that define them now."""
    for directive in directives():
        target = public_names().get(directive.name)
        if target is not None and directive.target not in MODULES | {target}:
            page = ROOT / directive.page
            text = page.read_text(encoding="utf-8")
            moved = text.replace(f"::: {directive.target}\n", f"::: {target}\n")
            page.write_text(moved, encoding="utf-8")


@pytest.mark.parametrize("directive", directives(), ids=lambda d: d.target)
def test_a_directive_names_something_with_a_docstring(directive: Directive):
    node = definition_of(directive.target)
    assert node is not None, f"{directive.page}: there is no {directive.target}"
    assert ast.get_docstring(node), f"{directive.target} has no docstring"


def test_whole_modules_are_described():
    assert {d.target for d in directives()} >= MODULES


@pytest.mark.parametrize("name", public_names())
def test_a_public_name_is_described(name):
    node = definition_of(public_names()[name])
    assert isinstance(node, ast.FunctionDef | ast.ClassDef), f"{name} is not where the stub says"
    described = ast.get_docstring(node) or ""
    if name.startswith("assert_"):
        assert "AssertionError: " in described
    if isinstance(node, ast.FunctionDef):
        assert "Args:" in described, f"{name}'s arguments are not described"


def test_the_list_of_names_is_up_to_date(pytestconfig: pytest.Config):
    write = pytestconfig.getoption("--write-docs")
    check_written(INDEX, "names", list_of_names(), write)
    assert text_of(INDEX).startswith("# ")


def list_of_names() -> str:
    """Return the table of all public names, each with a link to its description."""
    pages = {d.target: d.page for d in directives()}
    folder = (ROOT / INDEX).parent
    rows = [
        f"| [`{name}`]({os.path.relpath(ROOT / pages[target], folder)}#{target}) "
        f"| {summary_of(target)} |"
        for name, target in sorted(public_names().items(), key=lambda pair: pair[0].lower())
    ]
    return "\n".join(["| name | |", "|---|---|", *rows])


def summary_of(target: str) -> str:
    """Return the first line of a definition's docstring."""
    node = definition_of(target)
    assert node is not None
    return (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
