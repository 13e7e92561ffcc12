"""Values for the inputs of a model that do not take the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.files.npz import read_npz
from convlens.pictures.synthetic import synthetic_images

_IMAGE_AXES = 4


@dataclass(frozen=True)
class HeldInputs:
    """Values at which the inputs are held that do not take the images.

    Attributes:
        values: input → its value, without the batch's axis; empty for a model with one input.
        words: what is held, and at what, in words; '' for nothing.
        image: name of the input that takes the images; None where it is unknown.
        rows: input → (n, …) its rows, for the inputs that have some.
    """

    values: Mapping[str, NDArray[Any]]
    words: str = ""
    image: str | None = None
    rows: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def rows_of(self, count: int) -> dict[str, NDArray[Any]]:
        """Return the rows of all held inputs, for a number of images.

        Raises:
            ValueError: an input has no rows, or another number; the message is the reason.
        """
        for name in self.values:
            if name not in self.rows:
                raise ValueError(f"{self.words}, and not at what belongs to each image")
            found = len(self.rows[name])
            if found != count:
                raise ValueError(
                    f"input {name!r} has {found} rows for {count} images: give one an image"
                )
        return dict(self.rows)


def hold_inputs(
    model: Any, source: str | None, value_range: tuple[float, float], seed: int
) -> HeldInputs:
    """Choose the input that takes the images, the first of the most axes, and hold the others.

    An input is held at the mean of its rows in an `.npz`, at its first row if it takes images or
    whole numbers. Without rows it is held at 0, and an input of images at a synthetic texture.

    Args:
        model: a Keras model.
        source: the value of --convlens-images.
        value_range: (low, high) of the pixels.
        seed: seed of the textures.

    Raises:
        ValueError: the `.npz` cannot be read, or has rows of a wrong shape or number.
    """
    inputs = {t.name: t for t in getattr(model, "inputs", None) or ()}
    if not inputs:
        return HeldInputs({})
    main = max(inputs, key=lambda name: len(inputs[name].shape))
    if len(inputs) == 1:
        return HeldInputs({}, image=main)
    rows = read_npz(Path(source)) if source and Path(source).suffix == ".npz" else {}
    values, words = {}, []
    for name in inputs:
        if name != main:
            shape, dtype = tuple(inputs[name].shape[1:]), str(inputs[name].dtype)
            value, said = _value(name, shape, dtype, rows.get(name), value_range, seed)
            values[name] = value
            words.append(f"input {name!r} is held at {said}")
    own = {name: rows[name] for name in values if name in rows}
    return HeldInputs(values, "; ".join(words), main, own)


def _value(
    name: str,
    shape: tuple[int | None, ...],
    dtype: str,
    rows: NDArray[Any] | None,
    value_range: tuple[float, float],
    seed: int,
) -> tuple[NDArray[Any], str]:
    """Return the value of one input, and what it is, in words."""
    is_image = len(shape) == _IMAGE_AXES - 1
    if rows is not None:
        _check_rows(name, rows, shape)
        if is_image or "float" not in dtype:
            return rows[0], "its first row"
        return rows.mean(axis=0, dtype=np.float64).astype(np.float32), "the mean of its rows"
    if None in shape:
        raise ValueError(
            f"the model's input {name!r} has no fixed shape {shape}: give its rows as an array "
            f"{name!r} in the .npz of --convlens-images"
        )
    hint = f"(an array {name!r} in the .npz of --convlens-images gives its rows)"
    fixed = tuple(side for side in shape if side is not None)
    if is_image:
        h, w, c = fixed
        return synthetic_images((h, w, c), value_range, seed=seed)[0], f"a texture {hint}"
    return np.zeros(fixed, np.dtype(dtype) if "float" not in dtype else np.float32), f"0 {hint}"


def _check_rows(name: str, rows: NDArray[Any], shape: tuple[int | None, ...]) -> None:
    fits = rows.ndim == len(shape) + 1 and all(
        want in (None, has) for want, has in zip(shape, rows.shape[1:], strict=True)
    )
    if not (fits and len(rows) and rows.dtype.kind in "biuf" and np.isfinite(rows).all()):
        want = ", ".join(["n", *("any" if s is None else str(s) for s in shape)])
        raise ValueError(
            f"--convlens-images: the array {name!r} must have finite rows of shape ({want}), one "
            f"an image, not {rows.dtype} {rows.shape}"
        )
