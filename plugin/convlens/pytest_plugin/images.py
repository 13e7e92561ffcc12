"""Read images from a folder, an .npz file or a factory, and fit them to a model's input."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.files.npz import read_npz
from convlens.pytest_plugin.factories import call_factory

Shape = tuple[int | None, ...]
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
FREE_SIZE = 96
# Values of one image, of which dozens are drawn.
LARGEST_IMAGE = 2**24


@dataclass(frozen=True)
class ImageSet:
    """Images to look at a model with.

    Attributes:
        images: (n, h, w, c).
        labels: classes in one of the forms that `class_numbers` takes, or None.
        value_range: (low, high) of the pixels.
        source: where they came from, in words.
        range_given: False if the images were made for a range that nobody stated.
    """

    images: NDArray[Any]
    labels: ArrayLike | None
    value_range: tuple[float, float]
    source: str
    range_given: bool = True


def shipped_digits() -> ImageSet:
    """Return the digits that come with the shipped model."""
    from convlens.fixtures.digits import load_digits

    images, labels = load_digits()
    return ImageSet(images, labels, (0.0, 1.0), f"{len(images)} shipped digits")


def textures(shape: Shape, value_range: tuple[float, float], seed: int) -> ImageSet:
    """Return seeded synthetic textures of a model's input shape."""
    from convlens.pictures.synthetic import synthetic_images

    h, w, c = (FREE_SIZE if s is None else s for s in shape)
    if h * w * c > LARGEST_IMAGE:
        raise ValueError(
            f"the model takes images of {h}×{w}×{c}, too large to draw textures for: give images "
            "with --convlens-images"
        )
    images = synthetic_images((h, w, c), value_range, seed=seed)
    source = f"{len(images)} synthetic textures (seed {seed}); --convlens-images gives real ones"
    return ImageSet(images, None, value_range, source)


def read_images(
    source: str, shape: Shape, value_range: tuple[float, float] | None = None
) -> ImageSet:
    """Return the images that --convlens-images names.

    Args:
        source: a folder of pictures, an .npz, or module:factory.
        shape: (h, w, c) of the model's input; pictures of a folder are resized to it.
        value_range: what pixel values of a picture, 0 to 255, are mapped to; (0, 1) for None.
            Arrays are taken as they are.

    Raises:
        ValueError: there is no such thing, it cannot be read, or it holds no image.
    """
    path = Path(source)
    if os.path.isdir(path):  # which takes what nothing can be called, too
        images = _read_folder(path, shape, value_range or (0.0, 1.0))
        return ImageSet(
            images,
            None,
            value_range or (0.0, 1.0),
            f"{len(images)} from {source}",
            range_given=value_range is not None,
        )
    if path.suffix == ".npz":
        images, labels = _read_npz(path)
    elif ":" in source and not os.path.exists(path):
        result = call_factory(source)
        images, labels = result if isinstance(result, tuple) else (result, None)
        images = np.asarray(images)
    else:
        raise ValueError(
            f"--convlens-images {source}: give a folder of pictures, an .npz file or module:factory"
        )
    if not images.size:
        raise ValueError(f"--convlens-images {source}: it holds no image")
    return ImageSet(
        images, labels, value_range or _range_of(images), f"{len(images)} from {source}"
    )


def _read_folder(
    folder: Path, shape: Shape, value_range: tuple[float, float]
) -> NDArray[np.float32]:
    from PIL import Image, UnidentifiedImageError

    # A pipe by such a name would be waited for.
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise ValueError(f"--convlens-images {folder}: the folder holds no picture")
    h, w, c = (FREE_SIZE if s is None else s for s in shape)
    mode = {1: "L", 3: "RGB"}.get(c)
    if mode is None:
        raise ValueError(
            f"--convlens-images {folder}: pictures have 1 or 3 channels, the model takes {c}; "
            "give an .npz"
        )
    low, high = value_range
    images = np.empty((len(files), h, w, c), np.float32)
    for i, file in enumerate(files):
        try:
            with Image.open(file) as picture:
                small = picture.convert(mode).resize((w, h), Image.Resampling.BILINEAR)
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            raise ValueError(f"--convlens-images: {file} cannot be read ({error})") from None
        pixels = np.asarray(small, np.float32).reshape(h, w, c)
        images[i] = low + (high - low) * pixels / 255
    return images


def _read_npz(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    arrays = read_npz(path)
    key = next((k for k in ("images", "x", "x_test") if k in arrays), None)
    if key is None:
        has = ", ".join(arrays) or "nothing"
        raise ValueError(f"--convlens-images {path}: it has {has}, but no array 'images'")
    label = next((k for k in ("labels", "y", "y_test") if k in arrays), None)
    return arrays[key], None if label is None else arrays[label]


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
