"""Read images from a folder, an .npz file or a factory, and fit them to a model's input."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.files.npz import read_npz
from convlens.pictures.photographs import read_resized
from convlens.pytest_plugin.factories import call_factory
from convlens.pytest_plugin.picture_folder import find_pictures
from convlens.pytest_plugin.saved_dataset import is_saved_dataset, read_saved_dataset
from convlens.report.encode import evenly_spaced

Shape = tuple[int | None, ...]
FREE_SIZE = 96
# The most pictures that are read of a folder, and the most values that they may have together: half
# a gibibyte. Of a larger folder evenly spaced pictures are read.
MAX_PICTURES, MAX_VALUES = 512, 2**27
# Number of axes of a series (t, c).
_SERIES = 2
# Values of one image, of which dozens are drawn.
LARGEST_IMAGE = 2**24
# Names of the arrays of an .npz file; the first that is there counts.
_IMAGES, _LABELS = ("images", "x", "x_test"), ("labels", "y", "y_test")


@dataclass(frozen=True)
class ImageSet:
    """Images to look at a model with.

    Attributes:
        images: (n, *positions, c).
        labels: classes in one of the forms that `class_numbers` takes, or None.
        value_range: (low, high) of the pixels.
        source: where they came from, in words.
        range_given: False if the images were made for a range that nobody stated.
        classes: names of the classes, where folders name them.
        synthetic: True for textures that stand in for images that nobody gave.
    """

    images: NDArray[Any]
    labels: ArrayLike | None
    value_range: tuple[float, float]
    source: str
    range_given: bool = True
    classes: tuple[str, ...] = ()
    synthetic: bool = False


def assumed_range(shape: Shape) -> tuple[float, float]:
    """Return the range that is assumed where nobody stated one.

    Pixels lie in 0–1; the values of a series, such as a sound, lie about 0.
    """
    return (-1.0, 1.0) if len(shape) == _SERIES else (0.0, 1.0)


def shipped_digits() -> ImageSet:
    """Return the digits that come with the shipped model."""
    from convlens.fixtures.digits import load_digits

    images, labels = load_digits()
    return ImageSet(images, labels, (0.0, 1.0), f"{len(images)} shipped digits")


def textures(shape: Shape, value_range: tuple[float, float], seed: int) -> ImageSet:
    """Return seeded synthetic textures of a model's input shape."""
    from convlens.pictures.synthetic import synthetic_images

    size = tuple(FREE_SIZE if s is None else s for s in shape)
    if math.prod(size) > LARGEST_IMAGE:
        raise ValueError(
            f"the model takes images of {'×'.join(map(str, size))}, too large to draw textures "
            "for: give images with --convlens-images"
        )
    images = synthetic_images(size, value_range, seed=seed)
    source = f"{len(images)} synthetic textures (seed {seed}); --convlens-images gives real ones"
    return ImageSet(images, None, value_range, source, synthetic=True)


def read_images(
    source: str,
    shape: Shape,
    value_range: tuple[float, float] | None = None,
    name: str | None = None,
) -> ImageSet:
    """Return the images that --convlens-images names.

    Args:
        source: a folder of pictures, a folder with one folder of pictures for each class, a data
            set that tf.data saved, an .npz, or module:factory.
        shape: shape of the model's input for one image; pictures of a folder are resized to it.
        value_range: what pixel values of a picture, 0 to 255, are mapped to; (0, 1) for None.
            Arrays are taken as they are.
        name: name of the model's input, which may name the array of an .npz.

    Raises:
        ValueError: there is no such thing, it cannot be read, or it holds no image.
    """
    path = Path(source)
    if os.path.isdir(path):  # which takes what nothing can be called, too
        if is_saved_dataset(path):
            return _read_dataset(path, shape, value_range)
        return _read_folder(path, shape, value_range)
    if path.suffix == ".npz":
        images, labels = _read_npz(path, name)
    elif ":" in source and not os.path.exists(path):
        result = call_factory(source)
        images, labels = result if isinstance(result, tuple) else (result, None)
        images = np.asarray(images)
    else:
        raise ValueError(
            f"--convlens-images {source}: give a folder of pictures, a saved tf.data.Dataset, an "
            ".npz file or module:factory"
        )
    if not images.size:
        raise ValueError(f"--convlens-images {source}: it holds no image")
    return ImageSet(
        images, labels, value_range or _range_of(images), f"{len(images)} from {source}"
    )


def _read_dataset(folder: Path, shape: Shape, value_range: tuple[float, float] | None) -> ImageSet:
    """Return the first images of a data set that tf.data saved."""
    count = max(1, min(MAX_PICTURES, MAX_VALUES // _values(shape)))
    try:
        images, labels, more = read_saved_dataset(folder, shape, count)
    except ValueError as error:
        raise ValueError(f"--convlens-images: {error}") from None
    words = f"{'the first ' if more else ''}{len(images)} from {folder}"
    return ImageSet(images, labels, value_range or _range_of(images), words)


def _values(shape: Shape) -> int:
    return math.prod(FREE_SIZE if side is None else side for side in shape)


def _read_folder(folder: Path, shape: Shape, value_range: tuple[float, float] | None) -> ImageSet:
    """Return the images of a folder, labeled by the folders of classes that it may have."""
    found = find_pictures(folder)
    if len(shape) != 3:
        raise ValueError(
            f"--convlens-images {folder}: the model takes inputs of shape {shape}, not pictures "
            "(h, w, c); give an .npz"
        )
    h, w, c = (FREE_SIZE if s is None else s for s in shape)
    if c not in (1, 3):
        raise ValueError(
            f"--convlens-images {folder}: pictures have 1 or 3 channels, the model takes {c}; "
            "give an .npz"
        )
    count = max(1, min(MAX_PICTURES, MAX_VALUES // (h * w * c)))
    kept = evenly_spaced(len(found.files), count)
    low, high = taken = value_range or (0.0, 1.0)
    images = np.empty((len(kept), h, w, c), np.float32)
    for i, number in enumerate(kept):
        try:
            pixels = read_resized(found.files[number], (h, w), c)
        except ValueError as error:
            raise ValueError(f"--convlens-images: {error}") from None
        images[i] = low + (high - low) * pixels
    labels = None if found.labels is None else np.array(found.labels)[kept]
    return ImageSet(
        images,
        labels,
        taken,
        found.describe(len(kept)),
        range_given=value_range is not None,
        classes=tuple(found.classes),
    )


def _read_npz(path: Path, name: str | None) -> tuple[NDArray[Any], NDArray[Any] | None]:
    arrays = read_npz(path)
    key = next((k for k in (*_IMAGES, name) if k in arrays), None)
    if key is None:
        has = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
        raise ValueError(
            f"--convlens-images {path}: it has {has}, but no array of images, which must be named "
            f"{_either(_IMAGES)} (and labels {_either(_LABELS)})"
        )
    label = next((k for k in _LABELS if k in arrays), None)
    return arrays[key], None if label is None else arrays[label]


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"


def _range_of(images: NDArray[Any]) -> tuple[float, float]:
    """Return the usual range that holds all values: [0, 1], [-1, 1] or [0, 255], else their own."""
    low, high = float(np.min(images)), float(np.max(images))
    for usual in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        if usual[0] <= low and high <= usual[1]:
            return usual
    return low, high


def rescaled(given: ImageSet, value_range: tuple[float, float], model: str) -> ImageSet:
    """Return images in the range of a model that preprocesses RGB images itself.

    Raises:
        ValueError: images whose values are neither in 0–1, 0–255 nor the model's own range, such
            as images that were preprocessed before.
    """
    if given.value_range == value_range:
        return given
    if given.value_range not in ((0.0, 1.0), (0.0, 255.0)):
        low, high = given.value_range
        raise ValueError(
            f"{model} preprocesses its images itself and takes RGB in 0–255 or 0–1, but the values "
            f"given range from {low:g} to {high:g}: give the images before any preprocessing"
        )
    low, high = value_range
    images = low + (high - low) * np.asarray(given.images, np.float32) / given.value_range[1]
    return replace(given, images=images, value_range=value_range)


def as_image_set(given: Any) -> ImageSet:
    """Return what a `convlens_images` fixture gave as an `ImageSet`: one, an array, or a pair."""
    if isinstance(given, ImageSet):
        return given
    images, labels = given if isinstance(given, tuple) else (given, None)
    images = np.asarray(images)
    return ImageSet(images, labels, _range_of(images), f"{len(images)} given by convlens_images")
