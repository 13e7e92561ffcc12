"""Record values and results for a baseline as trees of arrays and facts, and compare them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.baselines import provenance, tiles
from convlens.baselines.array_pictures import array_pair, image_pair, plane_pair
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
from convlens.baselines.fingerprint import fingerprint, grouped, rounded
from convlens.baselines.provenance import Provenance
from convlens.baselines.store import Name
from convlens.baselines.tree import ARRAYS, CONTAINERS, Kind, Part, Path, name_of, walk
from convlens.engine.features.similarity import TILE, structural_similarity, worst_tile
from convlens.pictures import grid, viridis

# Arrays with more values than this are stored as a sketch.
MAX_VALUES = 2**19
_WHOLE = "whole"
_MAX_SHOWN, _SHOWN_SIDE = 16, 128
# The first is relative to an array's values, the second to the pixels' range.
_TOLERANCE, _IMAGE_TOLERANCE = 1e-4, 0.02
# Allowed decrease of the structural similarity, in units of the tolerance for a tile.
_SIMILARITY_FACTOR = 10.0
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class Node:
    """One node of the tree of a recorded value.

    Attributes:
        kind: 'mapping', 'sequence', 'result', 'fact', 'numbers' or 'pixels'.
        fact: the value of a fact: a string, integer, boolean, None, or nested lists of strings; of
            a container the number of its parts.
        shape, dtype: of the original array.
        value_range: (low, high) of pixels.
        parts: 'whole', the array itself, or the arrays of its sketch (`tiles`).
        shown: a picture of the array for the report.
    """

    kind: Kind
    fact: Any = None
    shape: tuple[int, ...] = ()
    dtype: str = ""
    value_range: tuple[float, float] | None = None
    parts: dict[str, NDArray[Any]] = field(default_factory=dict)
    shown: NDArray[np.uint8] | None = None

    def __str__(self) -> str:
        if self.kind == "fact":
            return repr(self.fact)
        return repr("an array" if self.kind in ARRAYS else f"a {self.kind}")


@dataclass(frozen=True, eq=False)
class Values:
    """Record of a value.

    Attributes:
        nodes: path → node; containers come before their parts.
        provenance: versions, device and its settings, as JSON.
    """

    nodes: dict[Path, Node]
    provenance: Provenance = field(default_factory=dict)

    @property
    def subtitle(self) -> str:
        """A summary of the contents."""
        arrays = sum(node.kind in ARRAYS for node in self.nodes.values())
        facts = sum(node.kind == "fact" for node in self.nodes.values())
        return f"{arrays} arrays, {facts} facts"

    @property
    def shown(self) -> dict[str, NDArray[np.uint8]]:
        """Path → picture of the array, for the report."""
        return {
            name_of(path): node.shown for path, node in self.nodes.items() if node.shown is not None
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all values, rounded to the tolerance."""
        return self.fingerprint_like("")

    def fingerprint_like(self, other: str) -> str:
        """Return the fingerprint that equals `other` if the values differ by rounding alone."""
        facts, numbers = [], []
        arrays = sum(node.kind in ARRAYS for node in self.nodes.values())
        for path, node in self.nodes.items():
            exact = node.kind not in ARRAYS or np.dtype(node.dtype).kind in "biu"
            is_pixels = node.kind == "pixels"
            digests = [
                provenance.hash_arrays([node.parts[name]])
                for name in (_WHOLE, "digests")
                if exact and not is_pixels and name in node.parts
            ]
            facts.append([path, node.kind, node.fact, node.shape, node.dtype, digests])
            if node.kind in ARRAYS and not digests:
                numbers.append(_marks(node, max(2, 32 // arrays)))
        return fingerprint(facts, numbers, other)


def record_values(value: Any) -> Values:
    """Return the record of an array, number, picture, result, or mapping or sequence of these.

    Raises:
        TypeError: a value of another type; the message says at which path.
        ValueError: an empty value, or values that are not finite.
    """
    nodes = {part.path: _node(part) for part in walk(value)}
    if nodes[()].kind in CONTAINERS and len(nodes) == 1:
        raise ValueError("there is nothing to compare: the value is empty")
    return Values(nodes, {"environment": provenance.environment()})


def _node(part: Part) -> Node:
    if part.kind not in ARRAYS:
        return Node(part.kind, part.value)
    array: NDArray[Any] = part.value
    value_range = _range(array) if part.kind == "pixels" else None
    shown = None
    if array.ndim >= 2 and array.size and array.dtype.kind in "uf":
        shown = _show(array, value_range)
    if array.size <= MAX_VALUES:
        parts = {_WHOLE: array}
    elif part.kind == "pixels":
        parts = tiles.sketch_pixels(_stack(array))
    else:
        parts = tiles.sketch_numbers(array)
    return Node(part.kind, None, array.shape, str(array.dtype), value_range, parts, shown)


def _marks(node: Node, limit: int) -> NDArray[np.float64]:
    """Return a few numbers in units of the tolerance that change if the array changes."""
    if node.kind == "pixels":
        low, high = node.value_range or (0.0, 1.0)
        names = [_WHOLE] if _WHOLE in node.parts else ["means", "projections"]
        values = np.concatenate([node.parts[name].astype(np.float64).reshape(-1) for name in names])
        return grouped(values / ((high - low) or 1.0), limit) / _IMAGE_TOLERANCE
    values = node.parts[_WHOLE if _WHOLE in node.parts else "projections"]
    found: NDArray[np.float64] = rounded(values, _TOLERANCE, limit)
    return found


def to_arrays(values: Values) -> tuple[dict[Name, NDArray[Any]], dict[str, Any]]:
    """Return a record as arrays and JSON."""
    arrays: dict[Name, NDArray[Any]] = {}
    described = []
    for number, (path, node) in enumerate(values.nodes.items()):
        entry: dict[str, Any] = {"path": path, "kind": node.kind}
        if node.kind in ARRAYS:
            arrays |= {(number, name): part for name, part in node.parts.items()}
            entry |= {"shape": node.shape, "dtype": node.dtype, "range": node.value_range}
        else:
            entry["fact"] = node.fact
        if node.shown is not None:
            arrays[number, "shown"] = node.shown
        described.append(entry)
    return arrays, {"nodes": described, "provenance": values.provenance}


def from_arrays(arrays: Mapping[Name, NDArray[Any]], header: Mapping[str, Any]) -> Values:
    """Return the record that `to_arrays` converted.

    Raises:
        KeyError, TypeError, ValueError: the arrays and the header are not those of a record.
    """
    parts: dict[int, dict[str, NDArray[Any]]] = {}
    for key, array in arrays.items():
        if isinstance(key, str) or len(key) != 2:
            raise ValueError(f"it has an array {key!r}")
        parts.setdefault(int(key[0]), {})[str(key[1])] = array
    nodes = {}
    for number, entry in enumerate(header["nodes"]):
        path = tuple(map(str, entry["path"]))
        nodes[path] = _stored_node(entry, parts.get(number, {}), name_of(path))
    if () not in nodes:
        raise ValueError("it has no value")
    return Values(nodes, dict(header["provenance"]))


def _stored_node(entry: Mapping[str, Any], parts: dict[str, NDArray[Any]], name: str) -> Node:
    kind: Kind = entry["kind"]
    if kind in CONTAINERS or kind == "fact":
        return Node(kind, entry["fact"])
    if kind not in ARRAYS:
        raise ValueError(f"{name} is of an unknown kind, {kind!r}")
    shape = tuple(int(side) for side in entry["shape"])
    shown = parts.pop("shown", None)
    dtype = np.dtype(entry["dtype"])
    stated = _part_shapes(kind, shape, dtype)
    if parts.keys() != stated.keys():
        raise ValueError(f"array {name} has the parts {sorted(parts)}, not {sorted(stated)}")
    for part, array in parts.items():
        if array.shape != stated[part]:
            raise ValueError(
                f"array {name} has shape {array.shape}, but the header states {list(stated[part])}"
            )
        if part == _WHOLE and array.dtype != dtype:
            raise ValueError(f"array {name} is {array.dtype}, but the header states {dtype}")
    value_range = None
    if kind == "pixels":
        value_range = (float(entry["range"][0]), float(entry["range"][1]))
    return Node(kind, None, shape, str(entry["dtype"]), value_range, parts, shown)


def _part_shapes(
    kind: Kind, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a node's arrays, by part."""
    count = math.prod(shape)
    if count <= MAX_VALUES:
        return {_WHOLE: shape}
    if kind == "pixels":
        return tiles.pixel_shapes(_stacked(shape))
    return tiles.number_shapes(count, exact=dtype.kind in "biu")


def compare_values(
    expected: Values, actual: Values, *, key: str, tol: float | None = None
) -> Comparison:
    """Compare a value with its baseline, part by part.

    Args:
        expected, actual: record of the baseline and record of the value.
        key: name of the baseline.
        tol: tolerance. For numbers it applies to the difference relative to the number or to the
            array's rms, whichever is larger (default 1e-4). For images it applies to the rms
            difference of the worst 8×8 tile, in units of the value range (default 0.02), and the
            structural similarity may fall by ten times as much.
    """
    found = _compare_trees(expected.nodes, actual.nodes, tol)
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
        layers=tuple(found),
        pictures=tuple(_pictures(expected, actual, {each.layer for each in failed})),
        details=tuple(details),
    )


def _pictures(expected: Values, actual: Values, failed: set[str]) -> Iterator[PicturePair]:
    """Yield pictures of the arrays that differ."""
    for path, new in actual.nodes.items():
        name, old = name_of(path), expected.nodes.get(path)
        if name not in failed or old is None or not {old.kind, new.kind} <= set(ARRAYS):
            continue
        if (old.shape, old.dtype, old.kind) == (new.shape, new.dtype, new.kind):
            pair = _pair(name, old, new)
            if pair is not None:
                yield pair


def _pair(name: str, old: Node, new: Node) -> PicturePair | None:
    """Return a picture of two arrays of one shape and type; of large ones that of their sketch."""
    if _WHOLE in old.parts:
        before, now = old.parts[_WHOLE], new.parts[_WHOLE]
        if old.kind == "numbers":
            return array_pair(name, before, now)
        first, second = (_stack(array).astype(np.float64) for array in (before, now))
        number = int(np.abs(second - first).max(axis=(1, 2, 3)).argmax())
        return image_pair(name, first, second, number)
    if old.kind == "numbers":
        errors = tiles.compare_numbers(old.parts, new.parts, math.prod(old.shape))
        planes = [_in_rows(each.parts["rms"]) for each in (old, new)]
        noun = f"run of {tiles.tile_size(math.prod(old.shape))} values, its root mean square"
        return plane_pair(name, planes, _in_rows(errors), noun)
    errors, _similarity = tiles.compare_pixels(old.parts, new.parts, old.value_range or (0.0, 1.0))
    number = int(errors.max(axis=(1, 2)).argmax())
    means = [each.parts["means"][number].astype(np.float64) for each in (old, new)]
    noun = "tile of 8 by 8 pixels, its mean"
    return plane_pair(f"{name}, image {number}", means, errors[number], noun, layer=name)


def _in_rows(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return values (n,) in rows of 64; the last row is filled with the last value."""
    rows = math.ceil(len(values) / 64)
    flat = np.asarray(values, np.float64)
    return np.pad(flat, (0, 64 * rows - len(flat)), "edge").reshape(rows, 64)


def _compare_trees(
    expected: Mapping[Path, Node], actual: Mapping[Path, Node], tol: float | None
) -> list[LayerDifference]:
    """Return the differences of all facts, arrays and empty containers.

    The parts of a container that differs as a whole are not listed.
    """
    found, different = [], set[Path]()
    for path in dict.fromkeys([*actual, *expected]):
        if any(path[:depth] in different for depth in range(len(path))):
            continue
        old, new = expected.get(path), actual.get(path)
        difference = _compare_nodes(name_of(path), old, new, tol)
        if difference is None:
            continue
        found.append(difference)
        if old is None or new is None or old.kind != new.kind:
            different.add(path)
    return found


def _compare_nodes(
    name: str, old: Node | None, new: Node | None, tol: float | None
) -> LayerDifference | None:
    """Return the difference of two nodes; None of containers whose parts are compared."""
    if old is None:
        return mismatch(name, "it is not in the baseline")
    if new is None:
        return mismatch(name, "it is only in the baseline")
    if old.kind in ARRAYS and new.kind in ARRAYS:
        return _compare_arrays(name, old, new, tol)
    same = old.kind == new.kind
    if same and old.kind in CONTAINERS and (old.fact or new.fact):
        return None
    if same and old.fact == new.fact and type(old.fact) is type(new.fact):
        return LayerDifference(name, 1.0, 0.0, None, True)
    return mismatch(name, f"its value is {new}, but {old} in the baseline")


def _compare_arrays(name: str, old: Node, new: Node, tol: float | None) -> LayerDifference:
    if old.shape != new.shape:
        note = f"its shape is {list(new.shape)}, but {list(old.shape)} in the baseline"
        return mismatch(name, note)
    if old.dtype != new.dtype:
        return mismatch(name, f"its type is {new.dtype}, but {old.dtype} in the baseline")
    whole = _WHOLE in old.parts
    if old.kind == new.kind == "pixels":
        compare = _compare_images if whole else _compare_large_images
    else:
        compare = _compare_numbers if whole else _compare_large_numbers
    worst, passed, note = compare(old, new, tol)
    vectors = [_vector(node) for node in (old, new)]
    relative = norm(vectors[1] - vectors[0]) / (norm(vectors[0]) or _TINY)
    cosine = cosine_similarity(*vectors)
    return LayerDifference(name, cosine, relative, None, passed, worst, note=note)


def _vector(node: Node) -> NDArray[np.float64]:
    """Return an array's values, or projections whose lengths and angles are like theirs."""
    names = [_WHOLE] if _WHOLE in node.parts else ["projections"]
    if "means" in node.parts:
        names = ["means", "projections"]
    return np.concatenate([node.parts[name].astype(np.float64).reshape(-1) for name in names])


def _compare_numbers(old: Node, new: Node, tol: float | None) -> tuple[float, bool, str]:
    a, b = old.parts[_WHOLE], new.parts[_WHOLE]
    if not a.size:
        return 0.0, True, ""
    if a.dtype.kind in "biu" and tol is None:
        different = np.argwhere(a != b)
        if not len(different):
            return 0.0, True, ""
        at = tuple(int(i) for i in different[0])
        return float("inf"), False, f"{len(different)} of {a.size} differ, the first at {at}"
    tol = _TOLERANCE if tol is None else tol
    a, b = a.astype(np.float64), b.astype(np.float64)
    scale = np.maximum(np.abs(a), np.sqrt(np.mean(a**2)) or _TINY)
    errors = np.abs(b - a) / scale
    at = tuple(int(i) for i in np.unravel_index(int(errors.argmax()), errors.shape))
    worst = float(errors.max())
    note = f"at {at} it is {b[at]:.6g}, but {a[at]:.6g} in the baseline (tolerance {tol:g})"
    return worst, worst <= tol, "" if worst <= tol else note


def _compare_large_numbers(old: Node, new: Node, tol: float | None) -> tuple[float, bool, str]:
    count = math.prod(old.shape)
    size = tiles.tile_size(count)

    def places(tile: int) -> str:
        ends = (tile * size, min(count, (tile + 1) * size) - 1)
        first, last = (tuple(map(int, np.unravel_index(end, old.shape))) for end in ends)
        return f"the values from {first} to {last}"

    if "digests" in old.parts and tol is None:
        different = tiles.compare_digests(old.parts, new.parts)
        if not different.size:
            return 0.0, True, ""
        note = f"{different.size} runs of {size} values differ, first {places(int(different[0]))}"
        return float("inf"), False, note
    tol = _TOLERANCE if tol is None else tol
    errors = tiles.compare_numbers(old.parts, new.parts, count)
    at = int(errors.argmax())
    worst = float(errors[at])
    note = (
        f"{int((~(errors <= tol)).sum())} of {errors.size} runs of {size} values differ, most "
        f"{places(at)} (by {worst:.3g} of their size, tolerance {tol:g})"
    )
    return worst, worst <= tol, "" if worst <= tol else note


def _compare_images(old: Node, new: Node, tol: float | None) -> tuple[float, bool, str]:
    low, high = old.value_range or (0.0, 1.0)
    worst, lowest, where = 0.0, 1.0, (0, 0, 0)
    pairs = zip(_stack(old.parts[_WHOLE]), _stack(new.parts[_WHOLE]), strict=True)
    for number, pair in enumerate(pairs):
        if not pair[0].size:
            continue
        a, b = ((image.astype(np.float64) - low) / (high - low or 1.0) for image in pair)
        error, (row, column) = worst_tile(a, b)
        lowest = min(lowest, float(structural_similarity(a, b).min()))
        if not error <= worst:
            worst, where = error, (number, row, column)
    return _judge_images(worst, lowest, where, tol)


def _compare_large_images(old: Node, new: Node, tol: float | None) -> tuple[float, bool, str]:
    errors, similarity = tiles.compare_pixels(old.parts, new.parts, old.value_range or (0.0, 1.0))
    number, row, column = (int(i) for i in np.unravel_index(int(errors.argmax()), errors.shape))
    where = (number, row * TILE + TILE // 2, column * TILE + TILE // 2)
    return _judge_images(float(errors.max()), float(similarity.min()), where, tol)


def _judge_images(
    worst: float, lowest: float, where: tuple[int, int, int], tol: float | None
) -> tuple[float, bool, str]:
    tol = _IMAGE_TOLERANCE if tol is None else tol
    number, row, column = where
    passed = worst <= tol and lowest >= 1 - _SIMILARITY_FACTOR * tol
    note = (
        f"the worst 8×8 tile, around row {row}, column {column} of image {number}, differs by "
        f"{worst:.3g} of the range (tolerance {tol:g}); the structural similarity is {lowest:.3g} "
        f"(minimum {1 - _SIMILARITY_FACTOR * tol:g})"
    )
    return worst, passed, "" if passed else note


def _range(array: NDArray[Any]) -> tuple[float, float]:
    """Return the first common value range that includes all pixels, or else their own range."""
    if array.dtype in (np.uint8, np.uint16):
        return 0.0, float(np.iinfo(array.dtype).max)
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 1.0)
    for usual in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0.0, 65535.0)):
        if usual[0] <= low and high <= usual[1]:
            return usual
    return low, high


def _stack(array: NDArray[Any]) -> NDArray[Any]:
    """Return images as (n, h, w, c)."""
    return array.reshape(_stacked(array.shape))


def _stacked(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape (n, h, w, c) of images (h, w), (h, w, c) or (n, h, w, c)."""
    if len(shape) == 2:
        return (1, *shape, 1)
    return (1, *shape) if len(shape) == 3 else shape


def _show(array: NDArray[Any], value_range: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Return a picture of limited size: images as they are, other arrays as a heat map."""
    if value_range is not None:
        few = _stack(array)[:_MAX_SHOWN]
        few = few[..., :3] if few.shape[-1] > 2 else few[..., :1]  # without alpha
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
