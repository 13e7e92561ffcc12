"""The text beside a baseline: a line for each layer or part, so that a diff names what changed.

It is made for people and for `git diff`; a comparison never reads it. The numbers of a layer that
agrees are hashed on the grid of the text that is replaced, so that recording a baseline again, on
another machine too, leaves the layer's line as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from convlens.baselines.fingerprint import fingerprint, rounded
from convlens.baselines.record import Record
from convlens.baselines.tree import ARRAYS, name_of
from convlens.baselines.values import Node, Values
from convlens.engine.features.sketch import LayerSketch
from convlens.engine.runtime.tolerance import activation_tolerance

_COLUMNS = ("name", "type", "shape", "weights", "outputs", "mean", "rms")
_WIDTHS = (32, 20, 16, 8, 16, 10, 10)
_NONE = "-"
# Numbers that are hashed of each of a layer's measures.
_HASHED = 8
_DIGITS = 8
_HASH = re.compile(r"[0-9a-f]{16}")
_MAX_FACT = 60


def describe(key: str, observed: Record | Values, before: str = "") -> str:
    """Return the text of a baseline.

    Args:
        key: name of the baseline.
        observed: what is recorded.
        before: the text that is replaced, "" if there is none.
    """
    known = dict(_read(before))
    is_network = isinstance(observed, Record)
    rows = _layers(observed, known) if isinstance(observed, Record) else _values(observed, known)
    head = f"# {_printable(key)}: {'a line a layer' if is_network else 'a line a value'}"
    return "\n".join([head, _line(_COLUMNS), *(_line(row) for row in rows), ""])


def changed_lines(before: str, now: str) -> list[str]:
    """Return the names of the layers or values whose lines differ between two texts."""
    old, new = dict(_read(before)), dict(_read(now))
    return [name for name in {**new, **old} if old.get(name) != new.get(name)]


def _layers(record: Record, known: dict[str, list[str]]) -> Iterator[list[str]]:
    weights = record.provenance["weights"]
    for name, sketch in record.layers.items():
        shown = _printable(name)
        like = known.get(shown, [_NONE] * len(_COLUMNS))
        mark = _hash_sketch(sketch, like[4])
        size = float(np.sqrt(np.mean(sketch.rms.astype(np.float64) ** 2)))
        numbers = [f"{float(sketch.mean.mean()):.3g}", f"{size:.3g}"]
        yield [
            shown,
            sketch.kind,
            "x".join(map(str, sketch.shape)) or _NONE,
            weights.get(name, _NONE)[:_DIGITS],
            mark,
            # The third digit may be rounded either way.
            *(like[5:] if mark == like[4] else numbers),
        ]


def _hash_sketch(sketch: LayerSketch, like: str) -> str:
    tol = activation_tolerance(sketch.dtype)
    numbers = [rounded(values, tol, _HASHED) for values in (sketch.projection[:1], sketch.rms)]
    return fingerprint([sketch.kind, sketch.shape], numbers, _grid(like))


def _grid(like: str) -> str:
    """Return a hash of a text, whose grid is used; an empty text for what is no hash."""
    return like if _HASH.fullmatch(like) else ""


def _values(values: Values, known: dict[str, list[str]]) -> Iterator[list[str]]:
    for path, node in values.nodes.items():
        if node.kind in ARRAYS or node.kind == "fact":
            name = _printable(name_of(path))
            yield _value(name, node, known.get(name, [_NONE] * len(_COLUMNS)))


def _value(name: str, node: Node, like: Sequence[str]) -> list[str]:
    if node.kind == "fact":
        text = _printable(repr(node.fact)).replace(" ", "_")
        return [name, "fact", _NONE, _NONE, text[:_MAX_FACT], _NONE, _NONE]
    mark = Values({(): node}).fingerprint_like(_grid(like[4]))
    shape = "x".join(map(str, node.shape)) or "1"
    numbers = [_NONE, _NONE]
    flat = node.parts.get("whole", np.zeros(0)).reshape(-1).astype(np.float64)
    if flat.size:
        numbers = [f"{float(v):.3g}" for v in (flat.mean(), np.sqrt(np.mean(flat**2)))]
    same = mark == like[4]
    return [name, node.dtype, shape, _NONE, mark, *(like[5:] if same else numbers)]


def _line(row: Sequence[str]) -> str:
    """Return columns of fixed widths, so that a long name moves nothing in other lines."""
    return "  ".join(cell.ljust(width) for cell, width in zip(row, _WIDTHS, strict=True)).rstrip()


def _read(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the columns of each line of a text; lines of others are passed over."""
    for line in text.splitlines():
        row = line.rsplit(maxsplit=len(_COLUMNS) - 1)
        if len(row) == len(_COLUMNS) and not line.startswith("#") and tuple(row) != _COLUMNS:
            yield row[0].rstrip(), [row[0].rstrip(), *row[1:]]


def _printable(text: str) -> str:
    """Return text in one line that neither hides characters nor moves those beside it."""
    return "".join(
        c if c.isprintable() and not "\ud800" <= c <= "\udfff" else f"\\u{ord(c):04x}" for c in text
    )
