"""What is recorded of any value or result: its arrays and its facts; and how two compare."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.baselines import provenance
from convlens.baselines.comparison import (
    MOST_LINES,
    Comparison,
    LayerDifference,
    PicturePair,
    cosine_of,
    length,
    listed,
    no_match,
)
from convlens.baselines.explain import differences
from convlens.baselines.provenance import Provenance
from convlens.engine.ascent.objectives import Objective
from convlens.engine.features.similarity import structural_similarity, worst_tile
from convlens.pictures import grid, viridis

MOST_VALUES = 2**19
_PIECES = 4096
_MOST_SHOWN, _SHOWN_SIDE = 16, 128
# Fields of results that hold pixels, which are compared as images.
_PIXELS = ("images", "image", "start", "optimized", "content", "styles", "inputs", "frames")
_PATCHES = ("patches", "reconstructions")
# Relative to an array's values, and of the pixels' range.
_TOLERANCE, _IMAGE_TOLERANCE = 1e-4, 0.02
# Structural similarity may fall by this many times the tolerance of a tile.
_SIMILARITY = 10.0
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Values:
    """A value taken apart.

    Attributes:
        arrays: path → array; of one that is too large, (pieces, 3) each piece's mean, rms and
            largest magnitude.
        facts: path → a word, a whole number, a truth value or None.
        shapes: path → the shape and type of the array as it was given.
        ranges: path → (low, high) of the pixels, of those that are images.
        shown: path → pixels for people.
        provenance: JSON: the versions, the device and its settings.
    """

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]
    shapes: dict[str, list[Any]]
    ranges: dict[str, tuple[float, float]]
    shown: dict[str, NDArray[np.uint8]]
    provenance: Provenance = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """A hash of all values."""
        parts = {path: provenance.hash_arrays([array]) for path, array in self.arrays.items()}
        return provenance.hash_json({"arrays": parts, "facts": self.facts, "shapes": self.shapes})


def record_values(value: Any) -> Values:
    """Take a value apart: an array, a number, a picture, a mapping or sequence of these, a result.

    Raises:
        TypeError: a value of another kind; the message says where.
        ValueError: nothing to compare, or values that are not finite.
    """
    found = Values({}, {}, {}, {}, {}, {"environment": provenance.environment()})
    for path, leaf, pixels in _leaves(value, "", False):
        if leaf is None or isinstance(leaf, str | bool | int):
            found.facts[path or "value"] = leaf
        else:
            _add(found, path or "value", leaf, pixels)
    if not found.arrays and not found.facts:
        raise ValueError("there is nothing to compare: the value is empty")
    return found


def to_arrays(values: Values) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return values as arrays and JSON."""
    arrays = {f"value.{path}": array for path, array in values.arrays.items()}
    arrays |= {f"shown.{path}": pixels for path, pixels in values.shown.items()}
    names = ("facts", "shapes", "ranges", "provenance")
    return arrays, {name: getattr(values, name) for name in names}


def from_arrays(arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> Values:
    """Return the values that `to_arrays` took apart.

    Raises:
        KeyError, TypeError, ValueError: it is no such thing.
    """
    parts: dict[str, dict[str, NDArray[Any]]] = {"value": {}, "shown": {}}
    for name, array in arrays.items():
        kind, _, path = name.partition(".")
        parts[kind][path] = array
    for path, array in parts["value"].items():
        shape = header["shapes"][path][0]
        stored = [_PIECES, 3] if math.prod(shape) > MOST_VALUES else shape
        if list(array.shape) != stored:
            raise ValueError(f"array {path} has shape {array.shape}, where {stored} is stated")
    ranges = {path: (float(low), float(high)) for path, (low, high) in header["ranges"].items()}
    return Values(
        parts["value"],
        dict(header["facts"]),
        dict(header["shapes"]),
        ranges,
        parts["shown"],
        dict(header["provenance"]),
    )


def compare_values(
    expected: Values, actual: Values, *, key: str, tol: float | None = None
) -> Comparison:
    """Return how a value differs from its baseline, array by array.

    Args:
        expected, actual: the values taken apart.
        key: the baseline's name.
        tol: the largest difference: of numbers relative to each, or to the array's rms where that
            is more (1e-4 unless given); of images the rms of the worst 8×8 pixels in units of
            their range (0.02), with the structural similarity, which may fall by ten times that.
    """
    paths = list(dict.fromkeys([*actual.shapes, *expected.shapes, *actual.facts, *expected.facts]))
    found = tuple(_compare(path, expected, actual, tol) for path in paths)
    failed = [each for each in found if not each.passed]
    first = failed[0] if failed else None
    if first is None:
        verdict = f"all {len(found)} values agree with the baseline."
    else:
        verdict = f"{first.layer!r} differs from the baseline: {first}."
    details = [f"{each.layer}: {each}" for each in failed[1:]]
    if len(details) > MOST_LINES:
        details = [*details[:MOST_LINES], f"… and {len(details) - MOST_LINES} more"]
    if failed:
        agree = [each.layer for each in found if each.passed]
        details += [f"these agree: {listed(agree)}"] if agree else []
        differ = differences(expected.provenance, actual.provenance)
        details.append(f"differs in provenance: {'; '.join(differ) or 'nothing'}")
    return Comparison(
        key=key,
        fingerprint=actual.fingerprint,
        verdict=verdict,
        passed=not failed,
        first=None if first is None else first.layer,
        layers=found,
        pictures=tuple(
            PicturePair(path, expected.shown[path], pixels)
            for path, pixels in actual.shown.items()
            if path in expected.shown
        ),
        details=tuple(details),
    )


def _leaves(value: Any, path: str, pixels: bool) -> Iterator[tuple[str, Any, bool]]:
    """Yield (path, leaf, whether it holds pixels) of all that a value is made of."""

    def below(name: Any, part: Any, is_pixels: bool) -> Iterator[tuple[str, Any, bool]]:
        return _leaves(part, f"{path}.{name}" if path else str(name), is_pixels)

    if isinstance(value, Objective):
        yield path, str(value), False
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            part = getattr(value, each.name)
            if each.name in _PATCHES:  # what lies outside the image is NaN there
                yield from below(f"{each.name}_outside", np.isnan(part), False)
                part = np.nan_to_num(part)
            yield from below(each.name, part, each.name in _PIXELS + _PATCHES)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from below(name, part, pixels)
    elif isinstance(value, list | tuple) and not _is_numbers(value):
        for number, part in enumerate(value):
            yield from below(number, part, pixels)
    elif isinstance(value, Image.Image):
        yield path, np.asarray(value.convert("L" if value.mode in ("1", "L") else "RGB")), True
    elif value is None or isinstance(value, str | bool | int):
        yield path, value, False
    else:
        yield path, _as_array(value, path), pixels


def _is_numbers(value: Any) -> bool:
    return bool(value) and all(
        isinstance(v, float | int) and not isinstance(v, bool) for v in value
    )


def _as_array(value: Any, path: str) -> NDArray[Any]:
    where = f" at {path}" if path else ""
    array = np.asarray(value)
    if array.dtype.kind not in "biufU" or (array.dtype.kind == "U" and not array.size):
        raise TypeError(
            f"{type(value).__name__}{where} cannot be kept in a baseline: give numbers, arrays, "
            "pictures, words, mappings or sequences of these, or a result of convlens"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"a baseline needs finite values: there is NaN or infinity{where}")
    return array


def _add(found: Values, path: str, array: NDArray[Any], pixels: bool) -> None:
    if array.dtype.kind == "U":
        found.facts[path] = array.tolist()
        return
    found.shapes[path] = [list(array.shape), str(array.dtype)]
    pixels = pixels or (array.dtype == np.uint8 and _is_images(array))
    if pixels and _is_images(array):
        found.ranges[path] = _range(array)
    if array.ndim >= 2 and array.size and array.dtype.kind in "uf":
        found.shown[path] = _show(array, found.ranges.get(path))
    found.arrays[path] = array if array.size <= MOST_VALUES else _pieces(array)


def _is_images(array: NDArray[Any]) -> bool:
    """Return whether an array can be (h, w), (h, w, c) or (n, h, w, c) with c of 1 or 3."""
    return array.ndim == 2 or (array.ndim in (3, 4) and array.shape[-1] in (1, 3))


def _range(array: NDArray[Any]) -> tuple[float, float]:
    """Return the usual range that holds all pixels, else their own."""
    if array.dtype == np.uint8:
        return 0.0, 255.0
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 1.0)
    for usual in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        if usual[0] <= low and high <= usual[1]:
            return usual
    return low, high


def _pieces(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return (pieces, 3) the mean, rms and largest magnitude of parts of an array too large."""
    flat = array.reshape(-1).astype(np.float64)
    edges = np.linspace(0, flat.size, _PIECES + 1).astype(np.int64)[:-1]
    count = np.diff([*edges, flat.size])
    rows = [
        np.add.reduceat(flat, edges) / count,
        np.sqrt(np.add.reduceat(flat**2, edges) / count),
        np.maximum.reduceat(np.abs(flat), edges),
    ]
    return np.stack(rows, axis=1).astype(np.float32)


def _compare(path: str, expected: Values, actual: Values, tol: float | None) -> LayerDifference:
    for values, where in ((expected, "it is new"), (actual, "it is in the baseline only")):
        if path not in values.arrays and path not in values.facts:
            return no_match(path, where)
    if path in actual.facts or path in expected.facts:
        old, new = (v.facts.get(path, "an array") for v in (expected, actual))
        if old == new and type(old) is type(new):
            return LayerDifference(path, 1.0, 0.0, None, True)
        return no_match(path, f"it is {new!r}, in the baseline {old!r}")
    (old_shape, old_type), (new_shape, new_type) = expected.shapes[path], actual.shapes[path]
    if old_shape != new_shape:
        return no_match(path, f"its shape is {new_shape}, in the baseline {old_shape}")
    if old_type != new_type:
        return no_match(path, f"it is {new_type}, in the baseline {old_type}")
    old, new = expected.arrays[path], actual.arrays[path]
    size = length(old)
    relative = length(new.astype(np.float64) - old) / (size or _TINY)
    if path in expected.ranges and old.shape == tuple(old_shape):
        worst, passed, note = _compare_images(old, new, expected.ranges[path], tol)
    else:
        worst, passed, note = _compare_numbers(old, new, tol)
    return LayerDifference(path, cosine_of(old, new), relative, None, passed, worst, note=note)


def _compare_numbers(
    old: NDArray[Any], new: NDArray[Any], tol: float | None
) -> tuple[float, bool, str]:
    if not old.size:
        return 0.0, True, ""
    if old.dtype.kind in "biu" and tol is None:
        different = np.argwhere(old != new)
        if not len(different):
            return 0.0, True, ""
        at = tuple(int(i) for i in different[0])
        return float("inf"), False, f"{len(different)} of {old.size} differ, the first at {at}"
    tol = _TOLERANCE if tol is None else tol
    a, b = old.astype(np.float64), new.astype(np.float64)
    scale = np.maximum(np.abs(a), np.sqrt(np.mean(a**2)) or _TINY)
    errors = np.abs(b - a) / scale
    at = tuple(int(i) for i in np.unravel_index(int(errors.argmax()), errors.shape))
    worst = float(errors.max())
    note = f"at {at} it is {b[at]:.6g}, in the baseline {a[at]:.6g} (tolerance {tol:g})"
    return worst, worst <= tol, "" if worst <= tol else note


def _compare_images(
    old: NDArray[Any], new: NDArray[Any], value_range: tuple[float, float], tol: float | None
) -> tuple[float, bool, str]:
    if not old.size:
        return 0.0, True, ""
    tol = _IMAGE_TOLERANCE if tol is None else tol
    low, high = value_range
    worst, lowest, where = 0.0, 1.0, ""
    for number, pair in enumerate(zip(_stack(old), _stack(new), strict=True)):
        a, b = ((image.astype(np.float64) - low) / (high - low or 1.0) for image in pair)
        error, (row, column) = worst_tile(a, b)
        lowest = min(lowest, float(structural_similarity(a, b).min()))
        if error > worst:
            worst, where = error, f"around row {row}, column {column} of image {number}"
    passed = worst <= tol and lowest >= 1 - _SIMILARITY * tol
    note = (
        f"the worst 8×8 pixels, {where}, differ by {worst:.3g} of the range (tolerance {tol:g}), "
        f"structural similarity is {lowest:.3g} at the least ({1 - _SIMILARITY * tol:g} is needed)"
    )
    return worst, passed, "" if passed else note


def _stack(array: NDArray[Any]) -> NDArray[Any]:
    """Return images as (n, h, w, c)."""
    if array.ndim == 2:
        return array[None, ..., None]
    return array[None] if array.ndim == 3 else array


def _show(array: NDArray[Any], value_range: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Return an array as pixels of a bounded size: images as they are, numbers as a heat map."""
    if value_range is not None:
        few = _stack(array)[:_MOST_SHOWN]
    else:
        few = array.reshape(-1, array.shape[-1])[None, : 2 * _SHOWN_SIDE, : 2 * _SHOWN_SIDE, None]
    side = _SHOWN_SIDE if value_range is not None else 2 * _SHOWN_SIDE
    step = max(1, math.ceil(max(few.shape[1:3]) / side))
    few = few[:, ::step, ::step].astype(np.float64)
    low, high = value_range or (float(few.min()), float(few.max()))
    levels = np.round(np.clip((few - low) / (high - low or 1.0), 0, 1) * 255).astype(np.uint8)
    if value_range is None:
        return viridis(levels[0, ..., 0])
    tiles = grid(levels, columns=4)
    return tiles[..., 0] if tiles.shape[-1] == 1 else tiles
