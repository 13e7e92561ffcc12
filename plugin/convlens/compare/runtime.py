"""The interface of a model that runs: its outputs, and every tensor that it computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

# Kinds of arithmetic, each with limits of its own; see `limits`.
Arithmetic = Literal["float32", "float16", "bfloat16", "dynamic range", "int8"]
Values = NDArray[np.float32]
# Images that run at a time where a model takes any number, as in Keras's `predict`.
BATCH = 32


@dataclass(frozen=True)
class Step:
    """The steps of a quantized tensor.

    Attributes:
        scale: size of a step, one number, or one for each channel (c,).
        low, high: smallest and largest value that the tensor can hold.
    """

    scale: NDArray[np.float64]
    low: float
    high: float


class Runtime(Protocol):
    """A model with the program that runs it.

    Attributes:
        title: the program and its version, such as "ai-edge-litert 2.3.0".
        arithmetic: the coarsest arithmetic of the model.
        input_shape: shape of an image, with None where any size is taken.
        channels_first: whether tensors may have their channels before their positions.
        steps: the steps of quantized tensors, by name.
        output_names: the tensors of the outputs, in the model's order.
        sources: name of a tensor → names of the tensors of numbers that its operation takes, in the
            order of computation; empty where no graph is known.
        notes: findings on how the model is called, each a sentence.
    """

    title: str
    arithmetic: Arithmetic
    input_shape: tuple[int | None, ...]
    channels_first: bool
    steps: Mapping[str, Step]
    output_names: tuple[str, ...]
    sources: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]

    def hold(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Hold the inputs that do not take the images at values, by name, without a batch's axis.

        Raises:
            ValueError: there is no such input.
        """
        ...

    def outputs(self, images: NDArray[Any]) -> list[Values]:
        """Return the outputs, each (n, …), for images (n, h, w, c)."""
        ...

    def tensors(self, images: NDArray[Any]) -> dict[str, Values]:
        """Return all tensors (n, …) that depend on the images, in the order of computation."""
        ...
