"""The inputs of a converted model: the one that takes the images, and values for the others."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from convlens.compare.runtime import BATCH

Shape = tuple[int | None, ...]


class Feeds:
    """The inputs of a converted model, in its order.

    Converters rename inputs, as ``serving_default_image:0`` for ``image``; the input for a held
    value is the one whose name has the value's as a part, else the only one of its shape.
    """

    def __init__(self, title: str, inputs: Mapping[str, tuple[Shape, Any]]) -> None:
        """Note the inputs.

        Args:
            title: name of the model for messages.
            inputs: name → shape without the batch's axis, and type.

        Raises:
            ValueError: no input, or one that does not fit in half of the free memory.
        """
        if not inputs:
            raise ValueError(f"{title} has no input: a model takes images")
        for name, (shape, kind) in inputs.items():
            size = math.prod(side or 1 for side in shape) * np.dtype(kind).itemsize
            if size > psutil.virtual_memory().available // 2:
                raise ValueError(
                    f"{title} is not safe to run: its input {name!r} of shape {shape} takes "
                    f"{size} bytes, more than half of the free memory"
                )
        self._title = title
        self._inputs = dict(inputs)
        self._held: dict[str, NDArray[Any]] = {}

    def hold(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Hold the inputs that do not take the images.

        Args:
            values: name of an input as the other model has it → value without the batch's axis.

        Raises:
            ValueError: there is no input for a value, or several without a name in common.
        """
        for name, value in values.items():
            free = [own for own in self._inputs if own not in self._held]
            fitting = [own for own in free if _fits(self._inputs[own][0], value.shape)]
            named = [own for own in fitting if _is_named(own, name)]
            if len(named or fitting) != 1:
                raise ValueError(
                    f"{self._title} has no single input for {name!r} of shape {value.shape}; its "
                    f"inputs are {self._listed()}"
                )
            own = (named or fitting)[0]
            self._held[own] = np.asarray(value, self._inputs[own][1])

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the inputs."""
        return tuple(self._inputs)

    @property
    def image(self) -> str:
        """The name of the input that takes the images.

        Raises:
            ValueError: several inputs have no held value.
        """
        free = [name for name in self._inputs if name not in self._held]
        if len(free) != 1:
            raise ValueError(
                f"{self._title} has {len(self._inputs)} inputs ({self._listed()}): the images go "
                "to one of them, and the Keras model on the other side must have the others, too, "
                "whose values are held; some exporters turn constants into inputs"
            )
        return free[0]

    @property
    def image_shape(self) -> Shape:
        """The shape of an image; with several inputs, the first of the most axes."""
        free = [name for name in self._inputs if name not in self._held]
        return max((self._inputs[name][0] for name in free), key=len)

    def batches(
        self, images: NDArray[Any], size: int | None
    ) -> Iterator[tuple[list[NDArray[Any]], int]]:
        """Yield the values of all inputs for batches of images, and how many images are in each.

        Args:
            images: images (n, …) as the model takes them.
            size: fixed number of images in a batch; None for any number, of which at most 32 are
                given. The last image fills the last batch up.
        """
        image = self.image
        count = size or min(BATCH, len(images))
        for start in range(0, len(images), count):
            part = np.asarray(images[start : start + count], self._inputs[image][1])
            filled = np.concatenate([part, *[part[-1:]] * (count - len(part))])
            yield (
                [
                    filled if name == image else np.repeat(self._held[name][None], count, axis=0)
                    for name in self._inputs
                ],
                len(part),
            )

    def _listed(self) -> str:
        return ", ".join(f"{name!r} {shape}" for name, (shape, _) in self._inputs.items())


def _fits(shape: Shape, given: tuple[int, ...]) -> bool:
    return len(shape) == len(given) and all(
        side in (None, own) for side, own in zip(shape, given, strict=True)
    )


def _is_named(own: str, name: str) -> bool:
    """Return whether an input is named after another, as ``serving_default_image:0`` after it."""
    return re.search(rf"(^|[^A-Za-z0-9]){re.escape(name)}($|[^A-Za-z0-9])", own) is not None
