"""Run a compiled function over images in batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.runtime import backend

_MAX_BATCH = 64


def in_batches(
    function: Callable[..., Any], images: NDArray[np.float32], size: int
) -> list[NDArray[Any]]:
    """Return the results of `function` for all images, computed in batches.

    Args:
        function: a compiled function from images to a list of tensors, each with the images as
            first axis.
        images: (n, h, w, c).
        size: number of images in a batch.
    """
    found: list[NDArray[Any]] = []
    for i, part in enumerate(each_batch(function, images, size)):
        if i == 0:
            # A single batch needs no copy, except for JAX's arrays, which are read-only.
            if size >= len(images):
                return [v if v.flags.writeable else v.copy() for v in part]
            found = [np.empty((len(images), *v.shape[1:]), v.dtype) for v in part]
        for whole, v in zip(found, part, strict=True):
            whole[i * size : (i + 1) * size] = v
    return found


def each_batch(
    function: Callable[..., Any], images: NDArray[np.float32], size: int
) -> Iterator[list[NDArray[Any]]]:
    """Yield the results of `function` for one batch of images after the other.

    Args:
        function: a compiled function from images to a list of tensors.
        images: (n, h, w, c).
        size: number of images in a batch.
    """
    for i in range(0, len(images), size):
        yield [backend.to_numpy(v) for v in function(ops.convert_to_tensor(images[i : i + size]))]


def equal_batches(
    images: NDArray[np.float32], max_size: int
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Yield batches of one size, so that one graph serves all, with their numbers of new images.

    The last batch is filled up with the first images if need be.
    """
    size = even_size(len(images), max_size)
    for start in range(0, len(images), size):
        part = images[start : start + size]
        yield np.concatenate([part, images[: size - len(part)]]), len(part)


def even_size(count: int, max_size: int) -> int:
    """Return a size of batches that share `count` images as evenly as can be.

    It divides the count if a number above half of `max_size` does.
    """
    most = min(max_size, count)
    divisors = (size for size in range(most, most // 2, -1) if count % size == 0)
    return next(divisors, math.ceil(count / math.ceil(count / most)))


def batch_within(budget: int, tensors: Iterable[Any], images: NDArray[np.float32]) -> int:
    """Return the number of images whose values of symbolic tensors fit a budget of bytes, 1 to 64.

    A network that takes images of any size has maps about as large as its images.
    """
    positions = math.prod(images.shape[1:-1])
    values = sum(
        math.prod(t.shape[1:]) if None not in t.shape[1:] else positions * t.shape[-1]
        for t in tensors
    )
    return max(1, min(_MAX_BATCH, budget // max(1, 4 * values)))
