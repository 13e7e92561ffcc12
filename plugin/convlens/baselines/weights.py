"""Small marks of a layer's weights, and what they say of how the weights changed.

A baseline has no weights. It has a few sums of each array, which tell a constant factor and a
shift, and a short hash of each output channel, which tells channels that changed places and, when
it is compared with what a change would have made, kernels that were turned or transposed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.baselines.comparison import join_names

Array = NDArray[Any]
_SUMS, _BLOCK, _ROWS = 8, 4093, 256
# Of larger arrays no hashes of channels are made.
_MAX_SIZE = 2**22
_HEX = 4  # digits of the hash of a channel
_MAX_CHANNELS = 4096
# As many channels that changed are tried pair by pair.
_MAX_TRIED = 8
# Rounding of sums of float32, relative to their size.
_CLOSE = 1e-4
_SAME = 1e-8
_Turn = Callable[[Array], Array]
# What may have been done to a kernel (h, w, …): the same undoes it, or its inverse, which is tried.
_TURNS: Mapping[str, _Turn] = {
    "transposed": lambda k: np.swapaxes(k, 0, 1),
    "rotated by 180° (flipped in both directions)": lambda k: k[::-1, ::-1],
    "flipped upside down": lambda k: k[::-1],
    "flipped from left to right": lambda k: k[:, ::-1],
    "rotated by 90°": lambda k: np.rot90(k, -1),
    "rotated by 270°": lambda k: np.rot90(k, 1),
}


def mark_weights(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Return the marks of a layer's arrays, as JSON.

    Args:
        arrays: name → array, such as 'kernel' and 'bias', in the layer's order.
    """
    return {
        "sums": {name: _sums(array) for name, array in arrays.items()},
        "channels": "".join(_channel_hashes(arrays)),
        "inputs": _hash_inputs(arrays),
    }


def explain_change(before: Mapping[str, Any], arrays: Mapping[str, Array]) -> tuple[str, str]:
    """Return how a layer's weights changed, and which of them, as far as its marks tell.

    Args:
        before: the marks of the layer's weights in the baseline.
        arrays: its weights now.

    Returns:
        What was done to them, such as "the kernel was transposed, of filter 5", or ""; and which
        changed, such as "the kernel alone, filter 5", or "".
    """
    now = mark_weights(arrays)
    old, new = before.get("sums", {}), now["sums"]
    if old.keys() != new.keys() or before == now:
        return "", ""
    text = before.get("channels", "")
    hashes = [text[at : at + _HEX] for at in range(0, len(text), _HEX)]
    which = _name_changed(hashes, old, new, arrays)
    found = _explain_channels(hashes, arrays)
    if not found and before.get("inputs") and before["inputs"] == now["inputs"]:
        found = "the same weights, for input channels in another order (such as RGB and BGR)"
    return found or _explain_sums(old, new, arrays), which


def _name_changed(
    hashes: Sequence[str],
    old: Mapping[str, Sequence[float]],
    new: Mapping[str, Sequence[float]],
    arrays: Mapping[str, Array],
) -> str:
    """Return which arrays and channels changed; "" where all did."""
    parts = []
    names = [name for name in new if not _are_same(old[name], new[name])]
    if 0 < len(names) < len(new):
        parts.append(f"the {join_names(names)} alone")
    now = _channel_hashes(arrays)
    changed = [c for c, mark in enumerate(now) if len(hashes) == len(now) and mark != hashes[c]]
    if 0 < len(changed) <= _MAX_TRIED < len(now) or len(changed) == 1:
        parts.append(f"channel{'s' * (len(changed) > 1)} {join_names(changed)}")
    return ", ".join(parts)


def crossed(before: Mapping[str, str], now: Mapping[str, str], layer: str) -> str:
    """Return a sentence where a layer has the weights of others, or "".

    Args:
        before, now: layer → hash of its weights, in the baseline and now.
        layer: the layer that changed.
    """
    source = next((n for n, mark in before.items() if n != layer and mark == now.get(layer)), None)
    if source is None or layer not in before:
        return ""
    taken = [n for n, mark in now.items() if n != layer and mark == before[layer]]
    if source in taken:
        pairs = [
            (a, b)
            for a, b in combinations([n for n in now if n in before], 2)
            if before[a] != before[b] and now[a] == before[b] and now[b] == before[a]
        ]
        shown = join_names([f"{a} and {b}" for a, b in pairs])
        return f"the weights of {shown} changed places"
    if taken:
        return (
            f"the weights of layers are in another order: {layer!r} has those of {source!r}, and "
            f"{taken[0]!r} has those of {layer!r}"
        )
    return f"{layer!r} has the weights of {source!r}, and its own are gone"


def _explain_channels(old: Sequence[str], arrays: Mapping[str, Array]) -> str:
    new = _channel_hashes(arrays)
    if not new or len(old) != len(new):
        return ""
    changed = [c for c in range(len(new)) if old[c] != new[c]]
    if len(changed) > 1 and Counter(old) == Counter(new):
        return f"the same filters are in another order: {_moves(old, new, changed)}"
    if not changed:
        return ""
    which = "every filter" if len(changed) == len(new) else f"filters {join_names(changed)}"
    which = which if len(changed) > 1 else f"filter {join_names(changed)}"
    for name, array in arrays.items():
        if array.ndim == 4 and min(array.shape[:2]) * max(array.shape[:2]) > 1:
            for how, turn in _TURNS.items():
                turned = turn(array)
                if turned.shape != array.shape or np.array_equal(turned, array):
                    continue
                tried = _channel_hashes({**arrays, name: turned})
                if all(tried[c] == old[c] for c in changed):
                    return f"the {name} was {how}, of {which}"
    return _explain_exchange(old, arrays, changed)


def _explain_exchange(old: Sequence[str], arrays: Mapping[str, Array], changed: list[int]) -> str:
    """Return which channels of a single array changed places, such as two gammas."""
    if not 2 <= len(changed) <= _MAX_TRIED:
        return ""
    c = len(old)
    for name, array in arrays.items():
        for a, b in combinations(changed, 2):
            rows = _by_channel(array, c)
            if rows is None or np.array_equal(rows[a], rows[b]):
                continue
            rows = rows.copy()
            rows[[a, b]] = rows[[b, a]]
            tried = _hash_rows([*_others(arrays, name, c, rows)], c)
            if all(tried[i] == old[i] for i in changed):
                return f"the {name} of channels {a} and {b} changed places"
    return ""


def _explain_sums(
    old: Mapping[str, Sequence[float]],
    new: Mapping[str, Sequence[float]],
    arrays: Mapping[str, Array],
) -> str:
    """Return which arrays changed, and by what factor or shift, where it is one."""
    changed = [name for name in new if not _are_same(old[name], new[name])]
    found = []
    for name in changed:
        before, now = np.array(old[name]), np.array(new[name])
        size = np.linalg.norm(before)
        factor = float(now @ before / size**2) if size else 0.0
        ones = np.array(_sums(np.ones_like(arrays[name], np.float32)))
        shift = float((now - before) @ ones / (ones @ ones))
        scale = max(float(size), float(np.linalg.norm(now)))
        if size and np.linalg.norm(now - factor * before) <= _CLOSE * np.linalg.norm(now - before):
            found.append(f"the {name} was multiplied by {factor:.6g}")
        elif np.linalg.norm(now - before - shift * ones) <= _CLOSE * max(
            float(np.linalg.norm(now - before)), _CLOSE * scale
        ):
            found.append(f"the {name} was shifted by {shift:.6g}")
        else:
            return ""
    return "; ".join(found)


def _are_same(old: Sequence[float], new: Sequence[float]) -> bool:
    size = float(np.linalg.norm(old))
    return float(np.linalg.norm(np.subtract(old, new))) <= _SAME * size


def _sums(array: Array) -> list[float]:
    """Return a few sums of an array with fixed random signs, each linear in the array."""
    flat = array.reshape(-1)
    total = np.zeros(_BLOCK)
    for start in range(0, flat.size, _ROWS * _BLOCK):  # a copy of all is large
        part = flat[start : start + _ROWS * _BLOCK].astype(np.float64)
        rows = np.pad(part, (0, -part.size % _BLOCK)).reshape(-1, _BLOCK)
        total += (1 + np.arange(len(rows)) / _ROWS) @ rows
    draws = np.random.default_rng(0).integers(0, 2, (_BLOCK, _SUMS))
    return [float(f"{value:.9g}") for value in total @ (2.0 * draws - 1)]


def _channel_hashes(arrays: Mapping[str, Array]) -> list[str]:
    """Return a short hash of the weights of each output channel; none where they have no such."""
    vectors = [array.size for array in arrays.values() if array.ndim == 1]
    last = next((array.shape for array in arrays.values() if array.ndim > 1), ())
    if not vectors and len(last) < 2:
        return []
    c = vectors[0] if vectors else last[-1] if last[-1] > 1 else last[-1] * last[-2]
    rows = [_by_channel(array, c) for array in arrays.values()]
    large = c > _MAX_CHANNELS or any(array.size > _MAX_SIZE for array in arrays.values())
    if large or any(each is None for each in rows):
        return []
    return _hash_rows([each for each in rows if each is not None], c)


def _by_channel(array: Array, c: int) -> Array | None:
    """Return weights (c, k): those of each output channel; None where the array has no such."""
    shape = array.shape
    if shape and shape[-1] == c:
        return np.moveaxis(array, -1, 0).reshape(c, -1)
    if len(shape) > 1 and shape[-1] * shape[-2] == c:  # of a depthwise convolution
        return np.moveaxis(array.reshape(*shape[:-2], c), -1, 0).reshape(c, -1)
    if len(shape) > 2 and shape[-2] == c:  # of a transposed convolution
        return np.moveaxis(array, -2, 0).reshape(c, -1)
    return None


def _others(arrays: Mapping[str, Array], name: str, c: int, rows: Array) -> list[Array]:
    found = [rows if n == name else _by_channel(array, c) for n, array in arrays.items()]
    return [each for each in found if each is not None]


def _hash_rows(rows: Sequence[Array], c: int) -> list[str]:
    joined = [np.ascontiguousarray(each) for each in rows]
    found = []
    for channel in range(c):
        digest = hashlib.sha256()
        for each in joined:
            digest.update(each[channel].tobytes())
        found.append(digest.hexdigest()[:_HEX])
    return found


def _hash_inputs(arrays: Mapping[str, Array]) -> str:
    """Return a hash that is the same for input channels in any order; "" without a kernel."""
    kernel = next((array for array in arrays.values() if array.ndim > 1), None)
    if kernel is None or kernel.size > _MAX_SIZE or not 2 <= kernel.shape[-2] <= _MAX_CHANNELS:
        return ""
    rows = np.ascontiguousarray(np.moveaxis(kernel, -2, 0)).reshape(kernel.shape[-2], -1)
    parts = sorted(hashlib.sha256(row.tobytes()).digest() for row in rows)
    rest = [array.tobytes() for array in arrays.values() if array is not kernel]
    return hashlib.sha256(b"".join([*parts, *rest])).hexdigest()[:16]


def _moves(old: Sequence[str], new: Sequence[str], changed: Sequence[int]) -> str:
    """Return the channels that moved, as 'from→to'."""
    places: dict[str, list[int]] = {}
    for c in changed:
        places.setdefault(new[c], []).append(c)
    return join_names([f"{c}→{places[old[c]].pop(0)}" for c in changed])
