"""The reference is that of this source, and says of each name what is to be known."""

from __future__ import annotations

import pytest
from api import NAMES, reference
from pages import ROOT

PAGE = ROOT / "docs" / "api.md"


def test_the_reference_is_up_to_date(pytestconfig: pytest.Config):
    made = reference()
    if pytestconfig.getoption("--write-docs"):
        PAGE.write_text(made, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == made, "run `pytest tests/docs --write-docs`"


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_described(name):
    (part,) = (p for p in reference().split("\n### ") if p.startswith(f"{name}\n"))
    assert len(part.splitlines()) > 4, f"{name} has no docstring"
    if name.startswith("assert_"):
        assert "Raises `AssertionError`" in part
    if name.islower() and f"`{name}()`" not in part:
        assert "| argument | |" in part, f"{name}'s arguments are not described"
