"""The classes that a model answers for images, with their probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.compare.function import FunctionModel
from convlens.compare.keras_model import KerasModel
from convlens.compare.runtime import Runtime
from convlens.engine.model.classes import class_layer
from convlens.engine.model.shapes import Shape

# Rounding of probabilities in half precision.
_SLACK = 1e-2


@dataclass(frozen=True)
class Answers:
    """Answers of a model for images.

    Attributes:
        model: the model's name.
        probabilities: (n, classes) in 0 to 1. Those of a single output are two columns.
    """

    model: str
    probabilities: NDArray[np.float64]

    @cached_property
    def classes(self) -> NDArray[np.int64]:
        """The most probable class of each image (n,)."""
        return self.probabilities.argmax(axis=1)

    @property
    def count(self) -> int:
        """The number of classes."""
        return int(self.probabilities.shape[1])

    @property
    def confidence(self) -> float:
        """The mean probability of the answers."""
        return float(self.probabilities.max(axis=1).mean())


def answers_of(model: Runtime, images: NDArray[Any], name: str) -> Answers:
    """Return a model's answers.

    Args:
        model: the model.
        images: images (n, h, w, c) in its range.
        name: the model's name.

    Raises:
        ValueError: its outputs have no vector of classes, or are not finite.
    """
    outputs = model.outputs(images)
    values = np.asarray(outputs[_class_output(model, outputs, name)], np.float64)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name} gives outputs that are not finite: its items 'finite' say in which layer that "
            "begins"
        )
    probable = bool(values.min() >= -_SLACK and values.max() <= 1 + _SLACK)
    if values.shape[1] == 1 and not probable:
        raise ValueError(
            f"{name} has a single output from {values.min():g} to {values.max():g}, which is no "
            "probability (a regression): only answers of classes can be compared"
        )
    values = np.clip(values, 0, 1) if probable else _softmax(values)
    return Answers(name, np.hstack([1 - values, values]) if values.shape[1] == 1 else values)


def check_shapes(new: Runtime, old: Runtime, names: tuple[str, str]) -> None:
    """Check that two models take the same images.

    Raises:
        ValueError: they take images of other sizes; the message is one sentence.
    """
    if isinstance(new, FunctionModel) or isinstance(old, FunctionModel):
        return
    shapes = new.input_shape, old.input_shape
    fits = len(shapes[0]) == len(shapes[1]) and all(
        a is None or b is None or a == b for a, b in zip(*shapes, strict=True)
    )
    if not fits:
        raise ValueError(
            f"{names[0]} takes images of {_in_words(shapes[0])} and {names[1]} of "
            f"{_in_words(shapes[1])}: give a function that resizes the images for {names[1]}, as "
            "module:factory"
        )


def check_classes(new: Answers, old: Answers) -> None:
    """Check that two models answer the same number of classes.

    Raises:
        ValueError: they do not; the message says which outputs can be compared.
    """
    if new.count != old.count:
        raise ValueError(
            f"{new.model} has {new.count} classes and {old.model} {old.count}: at most the outputs "
            f"0 to {min(new.count, old.count) - 1} can be compared; give functions that return "
            "these outputs of both, as module:factory"
        )


def _class_output(model: Runtime, outputs: list[Any], name: str) -> int:
    """Return the number of the output that is the vector of classes.

    Raises:
        ValueError: there is none, or several may be it.
    """
    if isinstance(model, KerasModel):
        network = model.network
        try:
            return network.output_layers.index(class_layer(network))
        except ValueError as error:
            reason = str(error).replace(network.name, name, 1)
            raise ValueError(f"{reason}: only answers of classes can be compared") from None
    if len(outputs) != 1 or outputs[0].ndim != 2:
        shapes = ", ".join(str(("n", *v.shape[1:])).replace("'", "") for v in outputs)
        raise ValueError(
            f"{name} has outputs of shape {shapes}, but one of shape (n, classes) is needed: give "
            "a function that returns it, as module:factory"
        )
    return 0


def _softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    found: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return found


def _in_words(shape: Shape) -> str:
    return "×".join("any" if side is None else str(side) for side in shape)
