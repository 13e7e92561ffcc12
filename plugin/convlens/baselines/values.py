"""Record any value or result for a baseline as arrays and facts, and compare two records."""

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
    MAX_LINES,
    Comparison,
    LayerDifference,
    PicturePair,
    cosine_similarity,
    join_names,
    mismatch,
    norm,
)
from convlens.baselines.explain import differences
from convlens.baselines.provenance import Provenance
from convlens.engine.ascent.objectives import Objective
from convlens.engine.features.similarity import structural_similarity, worst_tile
from convlens.pictures import grid, viridis

MAX_VALUES = 2**19
_PIECES = 4096
_MAX_SHOWN, _SHOWN_SIDE = 16, 128
# Fields of results that hold pixels; they are compared as images.
_PIXELS = ("images", "image", "start", "optimized", "content", "styles", "inputs", "frames")
_PATCHES = ("patches", "reconstructions")
# The first is relative to an array's values, the second to the pixels' range.
_TOLERANCE, _IMAGE_TOLERANCE = 1e-4, 0.02
# Allowed decrease of the structural similarity, in units of the tolerance for a tile.
_SIMILARITY_FACTOR = 10.0
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Values:
    """Record of a value.

    Attributes:
        arrays: path → array; a large array is replaced by statistics (pieces, 3): mean, rms and
            maximum magnitude of each piece.
        facts: path → string, integer, boolean or None.
        shapes: path → shape and data type of the original array.
        ranges: path → (low, high), value range of the pixels; only for images.
        shown: path → picture of the array for the report.
        provenance: versions, device and its settings, as JSON.
    """

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]
    shapes: dict[str, list[Any]]
    ranges: dict[str, tuple[float, float]]
    shown: dict[str, NDArray[np.uint8]]
    provenance: Provenance = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Hash of all values."""
        parts = {path: provenance.hash_arrays([array]) for path, array in self.arrays.items()}
        return provenance.hash_json({"arrays": parts, "facts": self.facts, "shapes": self.shapes})


def record_values(value: Any) -> Values:
    """Return the record of an array, number, picture, result, or mapping or sequence of these.

    Raises:
        TypeError: a value of another type; the message says at which path.
        ValueError: an empty value, or values that are not finite.
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
    """Return a record as arrays and JSON."""
    arrays = {f"value.{path}": array for path, array in values.arrays.items()}
    arrays |= {f"shown.{path}": pixels for path, pixels in values.shown.items()}
    names = ("facts", "shapes", "ranges", "provenance")
    return arrays, {name: getattr(values, name) for name in names}


def from_arrays(arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> Values:
    """Return the record that `to_arrays` converted.

    Raises:
        KeyError, TypeError, ValueError: the arrays and the header are not those of a record.
    """
    parts: dict[str, dict[str, NDArray[Any]]] = {"value": {}, "shown": {}}
    for name, array in arrays.items():
        kind, _, path = name.partition(".")
        parts[kind][path] = array
    for path, array in parts["value"].items():
        shape = header["shapes"][path][0]
        stored = [_PIECES, 3] if math.prod(shape) > MAX_VALUES else shape
        if list(array.shape) != stored:
            raise ValueError(
                f"array {path} has shape {array.shape}, but the header states {stored}"
            )
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
    """Compare a value with its baseline, array by array.

    Args:
        expected, actual: record of the baseline and record of the value.
        key: name of the baseline.
        tol: tolerance. For numbers it applies to the difference relative to the number or to the
            array's rms, whichever is larger (default 1e-4). For images it applies to the rms
            difference of the worst 8×8 tile, in units of the value range (default 0.02), and the
            structural similarity may fall by ten times as much.
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
    if len(details) > MAX_LINES:
        details = [*details[:MAX_LINES], f"… and {len(details) - MAX_LINES} more"]
    if failed:
        agree = [each.layer for each in found if each.passed]
        details += [f"these agree: {join_names(agree)}"] if agree else []
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
    """Yield (path, leaf, is_pixels) for each part of a value that is not nested further."""

    def below(name: Any, part: Any, is_pixels: bool) -> Iterator[tuple[str, Any, bool]]:
        return _leaves(part, f"{path}.{name}" if path else str(name), is_pixels)

    if isinstance(value, Objective):
        yield path, str(value), False
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            part = getattr(value, each.name)
            if each.name in _PATCHES:  # NaN marks the parts of a patch outside the image
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
            f"{type(value).__name__}{where} cannot be stored in a baseline: give numbers, "
            "arrays, pictures, strings, mappings or sequences of these, or a result of convlens"
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
    found.arrays[path] = array if array.size <= MAX_VALUES else _pieces(array)


def _is_images(array: NDArray[Any]) -> bool:
    """Return whether a shape can be (h, w), (h, w, c) or (n, h, w, c) with 1 or 3 channels."""
    return array.ndim == 2 or (array.ndim in (3, 4) and array.shape[-1] in (1, 3))


def _range(array: NDArray[Any]) -> tuple[float, float]:
    """Return the first common value range that includes all pixels, or else their own range."""
    if array.dtype == np.uint8:
        return 0.0, 255.0
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 1.0)
    for usual in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        if usual[0] <= low and high <= usual[1]:
            return usual
    return low, high


def _pieces(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return statistics (pieces, 3) of a large array: mean, rms and maximum magnitude."""
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
    for values, where in (
        (expected, "it is not in the baseline"),
        (actual, "it is only in the baseline"),
    ):
        if path not in values.arrays and path not in values.facts:
            return mismatch(path, where)
    if path in actual.facts or path in expected.facts:
        old, new = (v.facts.get(path, "an array") for v in (expected, actual))
        if old == new and type(old) is type(new):
            return LayerDifference(path, 1.0, 0.0, None, True)
        return mismatch(path, f"its value is {new!r}, but {old!r} in the baseline")
    (old_shape, old_type), (new_shape, new_type) = expected.shapes[path], actual.shapes[path]
    if old_shape != new_shape:
        return mismatch(path, f"its shape is {new_shape}, but {old_shape} in the baseline")
    if old_type != new_type:
        return mismatch(path, f"its type is {new_type}, but {old_type} in the baseline")
    old, new = expected.arrays[path], actual.arrays[path]
    size = norm(old)
    relative = norm(new.astype(np.float64) - old) / (size or _TINY)
    if path in expected.ranges and old.shape == tuple(old_shape):
        worst, passed, note = _compare_images(old, new, expected.ranges[path], tol)
    else:
        worst, passed, note = _compare_numbers(old, new, tol)
    return LayerDifference(
        path, cosine_similarity(old, new), relative, None, passed, worst, note=note
    )


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
    note = f"at {at} it is {b[at]:.6g}, but {a[at]:.6g} in the baseline (tolerance {tol:g})"
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
    passed = worst <= tol and lowest >= 1 - _SIMILARITY_FACTOR * tol
    note = (
        f"the worst 8×8 tile, {where}, differs by {worst:.3g} of the range (tolerance {tol:g}); "
        f"the structural similarity is {lowest:.3g} (minimum {1 - _SIMILARITY_FACTOR * tol:g})"
    )
    return worst, passed, "" if passed else note


def _stack(array: NDArray[Any]) -> NDArray[Any]:
    """Return images as (n, h, w, c)."""
    if array.ndim == 2:
        return array[None, ..., None]
    return array[None] if array.ndim == 3 else array


def _show(array: NDArray[Any], value_range: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Return a picture of limited size: images as they are, other arrays as a heat map."""
    if value_range is not None:
        few = _stack(array)[:_MAX_SHOWN]
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
