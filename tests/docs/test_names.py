"""Every option, fixture, assertion and item is named in a page that people read."""

from __future__ import annotations

import re

import pytest
from pages import PAGES, ROOT, text_of

import convlens

WRITTEN = "".join(text_of(page) for page in PAGES if page != "CHANGELOG.md")


def named(name: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", WRITTEN) is not None


def test_options(pytestconfig: pytest.Config):
    options = [
        option
        for group in pytestconfig._parser._groups
        if group.name.startswith("convlens")
        for action in group.options
        for option in action.names()
    ]
    assert len(options) > 20
    assert [option for option in options if not named(option)] == []


def test_ini_options(pytestconfig: pytest.Config):
    options = [name for name in pytestconfig._parser._inidict if name.startswith("convlens")]
    assert options
    assert [option for option in options if not named(option)] == []


def test_fixtures(everything_is_loaded, pytester: pytest.Pytester):
    parts = pytester.runpytest("--fixtures", "-q").stdout.str().split("fixtures defined from ")
    ours = "".join(part for part in parts if part.startswith("convlens."))
    fixtures = re.findall(r"^(\w+)(?: \[\w+ scope\])? -- ", ours, re.MULTILINE)
    assert len(fixtures) > 8
    assert [name for name in fixtures if f"`{name}`" not in text_of("docs/own-tests.md")] == []


def test_assertions():
    assertions = [name for name in convlens.__all__ if name.startswith("assert_")]
    page = text_of("docs/own-tests.md")
    assert [name for name in assertions if f"| `{name}` |" not in page] == []


def test_the_item_of_a_model_without_convolutions():
    from convlens.checks.convolutions import Convolutions

    assert f"`{Convolutions.name}`" in text_of("docs/zero-code.md")


def test_defects():
    from convlens.fixtures.defects import DEFECTS

    readme = text_of("README.md")
    assert [name for name in DEFECTS if f"| `{name}`:" not in readme] == []


def test_the_map_of_contributing_is_true():
    page = text_of("CONTRIBUTING.md")
    paths = re.findall(r"`((?:plugin|tests|fixtures|benchmarks|docs|\.ci)/[\w./-]*)`", page)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    folders = [path for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))]
    assert [folder.name for folder in folders if f"tests/{folder.name}" not in page] == []
