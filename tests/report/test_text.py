"""Characters that are not seen, but act, are written out."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, strategies as st

from convlens.report.text import visible


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("plain, größer, 漢字, مرحبا, 👩", "plain, größer, 漢字, مرحبا, 👩"),
        ("two\n\tlines", "two\n\tlines"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("\u2066x\u2069\u200f\ufeff\x1b", r"\u2066x\u2069\u200f\ufeff\u001b"),
    ],
)
def test_text_is_shown_as_it_is_but_for_such_characters(given_text, shown):
    assert visible(given_text) == shown


@given(st.text())
def test_nothing_that_is_shown_turns_the_direction_of_text(text):
    turns = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert not turns & {unicodedata.bidirectional(c) for c in visible(text)}
