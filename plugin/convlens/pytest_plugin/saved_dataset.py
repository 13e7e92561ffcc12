"""Read images from a data set that was saved by `tf.data.Dataset.save`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SPEC = "dataset_spec.pb"
_MAX_SPEC_BYTES = 2**20
_IMAGE_KEYS, _LABEL_KEYS = ("image", "images", "x"), ("label", "labels", "y")
_COMPRESSIONS = (None, "GZIP")


class _NoImagesError(ValueError):
    """The elements of a data set are not images."""


def is_saved_dataset(folder: Path) -> bool:
    """Return whether a folder was written by `tf.data.Dataset.save`."""
    return (folder / _SPEC).is_file()


def read_saved_dataset(
    folder: Path, shape: tuple[int | None, ...], max_images: int
) -> tuple[NDArray[Any], NDArray[Any] | None, bool]:
    """Return the first images of a saved data set, their labels, and whether there are more.

    An element is an image, a pair (image, label), a mapping with such keys, or a batch of these.
    TensorFlow reads the arrays; no element may be of another kind than numbers.

    Args:
        folder: the data set.
        shape: (h, w, c) of the model's input.
        max_images: largest number of images that are read.

    Raises:
        ValueError: TensorFlow is missing, the folder cannot be read, or holds no images.
    """
    try:
        import tensorflow as tf
    except ImportError:
        raise ValueError(f"{folder} is a data set of tf.data: pip install tensorflow") from None
    if (folder / _SPEC).stat().st_size > _MAX_SPEC_BYTES:
        raise ValueError(f"{folder}: its {_SPEC} is larger than {_MAX_SPEC_BYTES} bytes")
    problem = ""
    for compression in _COMPRESSIONS:
        try:
            data = tf.data.Dataset.load(
                str(folder),
                compression=compression,
                reader_func=lambda shards: shards.interleave(lambda s: s, cycle_length=1),
            )
            labeled = _parts(data.element_spec)[1] is not None
            data = _pairs(tf, data, len(shape))
            found = list(data.take(max_images + 1).as_numpy_iterator())
            break
        except _NoImagesError as error:
            raise ValueError(f"{folder}: {error}") from None
        except Exception as error:  # a damaged folder raises errors of nearly every type
            problem = problem or " ".join(str(error).split())[:200]
    else:
        raise ValueError(f"{folder} cannot be read as a data set of tf.data ({problem})")
    if not found:
        raise ValueError(f"{folder}: the data set holds no image")
    images, labels = zip(*found[:max_images], strict=True)
    if len({image.shape for image in images}) > 1:
        raise ValueError(f"{folder}: its images have several sizes: resize them to one")
    return np.stack(images), np.stack(labels) if labeled else None, len(found) > max_images


def _pairs(tf: Any, data: Any, axes: int) -> Any:
    """Return a data set of pairs (image, label), the label 0 for images without one.

    Raises:
        _NoImagesError: its elements are not images.
    """
    spec = data.element_spec
    image, label = _parts(spec)
    for part in (image, *((label,) if label is not None else ())):
        if not (
            isinstance(part, tf.TensorSpec) and (part.dtype.is_floating or part.dtype.is_integer)
        ):
            raise _NoImagesError(
                f"the elements of the data set are {spec}: save it with elements (image, label) of "
                "numbers"
            )
    is_batch = image.shape.rank == axes + 1
    if not (is_batch or image.shape.rank == axes):
        raise _NoImagesError(
            f"the data set has images of shape {image.shape}, and the model takes {axes} axes"
        )

    def pair(*element: Any) -> Any:
        one, number = _parts(element if len(element) > 1 else element[0])
        if number is None:  # an empty label would crash TensorFlow's unbatch
            number = tf.zeros(tf.shape(one)[:1] if is_batch else ())
        return one, number

    pairs = data.map(pair)
    return pairs.unbatch() if is_batch else pairs


def _parts(element: Any) -> tuple[Any, Any]:
    """Return the image and the label of an element; None for no label."""
    if isinstance(element, Mapping):
        image = next((element[key] for key in _IMAGE_KEYS if key in element), None)
        return image, next((element[key] for key in _LABEL_KEYS if key in element), None)
    if isinstance(element, tuple):
        return element[0], element[1] if len(element) > 1 else None
    return element, None
