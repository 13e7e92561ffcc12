"""Run a compiled function over images, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray


def in_batches(
    function: Callable[..., Any], images: NDArray[np.float32], size: int
) -> list[NDArray[Any]]:
    """Return what `function`, from images to a list of tensors, gives for all images.

    Args:
        function: compiled; each of its results has the images as its first axis.
        images: (n, h, w, c).
        size: how many images go through at a time.
    """
    parts = [
        [ops.convert_to_numpy(v) for v in function(ops.convert_to_tensor(images[i : i + size]))]
        for i in range(0, len(images), size)
    ]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
