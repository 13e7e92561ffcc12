"""Invisible and bidirectional characters are shown as escapes."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, strategies as st

from convlens.report.text import escape_invisible


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("plain, größer, 漢字, مرحبا, 👩", "plain, größer, 漢字, مرحبا, 👩"),
        ("two\n\tlines", "two\n\tlines"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("\u2066x\u2069\u200f\ufeff\x1b", r"\u2066x\u2069\u200f\ufeff\u001b"),
    ],
)
def test_only_invisible_characters_are_escaped(given_text, shown):
    assert escape_invisible(given_text) == shown


@given(st.text())
def test_escaped_text_has_no_bidirectional_controls(text):
    controls = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert not controls & {unicodedata.bidirectional(c) for c in escape_invisible(text)}
