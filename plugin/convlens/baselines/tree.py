"""Take a value apart into a tree of containers, facts and arrays."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.engine.ascent.objectives import Objective

Kind = Literal["mapping", "sequence", "result", "fact", "numbers", "pixels"]
CONTAINERS = ("mapping", "sequence", "result")
ARRAYS = ("numbers", "pixels")
# The steps from the whole value to a part; each is written so that different keys differ: `3` is a
# number, `"3"` a text.
Path = tuple[str, ...]

# Fields of results that hold pixels; they are compared as images.
_PIXELS = ("images", "image", "start", "optimized", "content", "styles", "inputs", "frames")
_PATCHES = ("patches", "reconstructions")
_PLAIN_KEY = re.compile(r"[^\W\d][\w /-]*")
_WORDS = ("None", "True", "False", "nan", "inf")  # numbers and constants that look like a text


@dataclass(frozen=True, eq=False)
class Part:
    """One node of the tree.

    Attributes:
        path: the steps to it.
        kind: 'mapping', 'sequence' and 'result' have parts of their own.
        value: the fact or the array; the number of parts of a container.
    """

    path: Path
    kind: Kind
    value: Any


def name_of(path: Path) -> str:
    """Return a path as text, such as ``layers."a.b".0``; different paths have different texts."""
    return ".".join(path) or "value"


def walk(value: Any) -> Iterator[Part]:
    """Yield the parts of a value, each container before its own parts.

    Raises:
        TypeError: a part or a key of a type that cannot be stored; the message says at which path.
        ValueError: two keys that are written in the same way, or values that are not finite.
    """
    return _walk(value, (), False)


def _walk(value: Any, path: Path, pixels: bool) -> Iterator[Part]:
    if isinstance(value, Objective):
        yield Part(path, "fact", str(value))
    elif is_dataclass(value) and not isinstance(value, type):
        yield Part(path, "result", len(fields(value)))
        for each in fields(value):
            own = getattr(value, each.name)
            if each.name in _PATCHES:  # NaN marks the parts of a patch outside the image
                yield from _walk(np.isnan(own), (*path, f"{each.name}_outside"), False)
                own = np.nan_to_num(own)
            yield from _walk(own, (*path, each.name), each.name in _PIXELS + _PATCHES)
    elif isinstance(value, Mapping):
        yield Part(path, "mapping", len(value))
        seen = set()
        for key, own in value.items():
            step = _step(key, path)
            if step in seen:
                raise ValueError(f"two keys of the mapping{_at(path)} are both written {step}")
            seen.add(step)
            yield from _walk(own, (*path, step), pixels)
    elif isinstance(value, list | tuple) and not _is_numbers(value):
        yield Part(path, "sequence", len(value))
        for number, own in enumerate(value):
            yield from _walk(own, (*path, str(number)), pixels)
    elif isinstance(value, Image.Image):
        yield Part(path, "pixels", _pixels_of(value))
    elif value is None or isinstance(value, str | bool | int):
        yield Part(path, "fact", value)
    else:
        yield _array_part(value, path, pixels)


def _step(key: Any, path: Path) -> str:
    """Return a mapping's key as a step of a path."""
    if isinstance(key, np.generic):
        key = key.item()
    if isinstance(key, str):
        plain = _PLAIN_KEY.fullmatch(key) and key not in _WORDS
        return str(key) if plain else json.dumps(key)
    if key is None or type(key) in (bool, int, float):
        return repr(key)
    if repr(key) == object.__repr__(key):  # which has an address that changes
        raise TypeError(
            f"a key of type {type(key).__name__}{_at(path)} cannot be stored in a baseline: give "
            "texts or numbers as keys"
        )
    return f"<{key!r}>"


def _at(path: Path) -> str:
    return f" at {name_of(path)}" if path else ""


def _is_numbers(value: Sequence[Any]) -> bool:
    return bool(value) and all(
        isinstance(v, float | int) and not isinstance(v, bool) for v in value
    )


def _pixels_of(picture: Image.Image) -> NDArray[Any]:
    """Return a picture's pixels: gray or color, with alpha where the picture has it."""
    mode = picture.mode
    if mode in ("I", "F") or mode.startswith("I;"):
        return np.asarray(picture)
    if mode in ("1", "L"):
        return np.asarray(picture.convert("L"))
    alpha = picture.has_transparency_data
    return np.asarray(picture.convert("RGBA" if alpha else "RGB"))


def _array_part(value: Any, path: Path, pixels: bool) -> Part:
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":  # NumPy can neither compare it nor store it
        array = array.astype(np.float32)
    if array.dtype.kind not in "biufU" or (array.dtype.kind == "U" and not array.size):
        raise TypeError(
            f"{type(value).__name__}{_at(path)} cannot be stored in a baseline: give numbers, "
            "arrays, pictures, strings, mappings or sequences of these, or a result of convlens"
        )
    if array.dtype.kind == "U":
        return Part(path, "fact", array.tolist())
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"a baseline needs finite values: there is NaN or infinity{_at(path)}")
    is_picture = _is_images(array, (1, 2, 3, 4) if pixels else (1, 3))
    if is_picture and (pixels or array.dtype == np.uint8):
        return Part(path, "pixels", array)
    return Part(path, "numbers", array)


def _is_images(array: NDArray[Any], channels: tuple[int, ...]) -> bool:
    """Return whether a shape can be (h, w), (h, w, c) or (n, h, w, c)."""
    return array.ndim == 2 or (array.ndim in (3, 4) and array.shape[-1] in channels)
