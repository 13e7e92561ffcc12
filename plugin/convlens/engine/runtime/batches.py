"""Run a compiled function over images in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.runtime import backend


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
