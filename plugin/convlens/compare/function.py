"""Any function of images as one of two models side by side: its outputs alone are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convlens.compare.runtime import BATCH, Arithmetic, Step, Values
from convlens.engine.runtime import backend


class FunctionModel:
    """A function of images (n, h, w, c) that returns its outputs, each (n, …); see `Runtime`."""

    channels_first = False
    arithmetic: Arithmetic = "float32"
    steps: Mapping[str, Step] = {}
    output_names: tuple[str, ...] = ()
    sources: Mapping[str, tuple[str, ...]] = {}
    notes: tuple[str, ...] = ()

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        self.title = f"the function {getattr(function, '__name__', type(function).__name__)}"
        self.input_shape: tuple[int | None, ...] = (None, None, 3)

    def hold(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Do nothing: a function of images alone holds the rest itself."""

    def outputs(self, images: NDArray[Any]) -> list[Values]:
        """Return what the function returns, for at most 32 images at a time.

        Raises:
            ValueError: an output without the images as its first axis.
        """
        parts = [
            self._outputs(images[start : start + BATCH]) for start in range(0, len(images), BATCH)
        ]
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    def _outputs(self, images: NDArray[Any]) -> list[Values]:
        found = [
            np.asarray(backend.to_numpy(v), np.float32)
            for v in keras.tree.flatten(self._function(images))
        ]
        for value in found:
            if value.ndim < 2 or len(value) != len(images):
                raise ValueError(
                    f"{self.title} returned shape {value.shape} for {len(images)} images: the "
                    "first axis must be the images, followed by one axis or more"
                )
        return found

    def tensors(self, images: NDArray[Any]) -> dict[str, Values]:
        """Return nothing: a function shows no tensors."""
        return {}
