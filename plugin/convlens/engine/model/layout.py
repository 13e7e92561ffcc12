"""Layouts of images: channels first, and images that a model's first layer puts into shape.

A channels-first model is read with all maps as (n, *positions, c). Keras's own layers are set to
that layout, which changes nothing of what they compute; every other operation gets its arguments
with their axes moved back, and its results are moved again. So the kernels for channels-first
convolutions, which TensorFlow lacks on CPUs, are not needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

# Keras's layers that compute each number alone, or the same for all axes.
_ALIKE = (
    *(keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU, keras.layers.Dropout),
    *(keras.layers.Add, keras.layers.Subtract, keras.layers.Multiply, keras.layers.Average),
    *(keras.layers.Maximum, keras.layers.Minimum, keras.layers.Identity),
    *(keras.layers.GaussianNoise, keras.layers.GaussianDropout),
)
_ALIKE_FUNCTIONS = tuple(
    getattr(keras.activations, name)
    for name in ("relu", "relu6", "elu", "gelu", "silu", "selu", "sigmoid", "softplus", "tanh")
)


def is_channels_first(op: Any) -> bool:
    """Return whether an operation is set to channels-first maps."""
    return getattr(op, "data_format", None) == "channels_first"


def channels_last(op: Any) -> dict[str, Any] | None:
    """Return the attributes with which one of Keras's layers computes the same, channels last.

    Returns:
        None for a layer that cannot be set so.
    """
    if isinstance(op, keras.layers.BatchNormalization | keras.layers.Concatenate):
        return {"axis": -1, "_input_spec": None} if op.axis == 1 else None
    flattens = isinstance(op, keras.layers.Flatten)
    if is_channels_first(op) and not flattens:
        return {"data_format": "channels_last", "_input_spec": None}
    return None


def is_alike(op: Any) -> bool:
    """Return whether an operation computes the same whatever the order of the axes."""
    if isinstance(op, keras.layers.Activation):
        op = op.activation
    return type(op) in _ALIKE or any(op is function for function in _ALIKE_FUNCTIONS)


def last_shape(shape: Sequence[Any]) -> tuple[Any, ...]:
    """Return a shape (n, c, *positions) as (n, *positions, c)."""
    return (shape[0], *shape[2:], shape[1])


def to_last(x: Any) -> Any:
    """Return a tensor (n, c, *positions) as (n, *positions, c)."""
    return ops.moveaxis(x, 1, -1)


def to_first(x: Any) -> Any:
    """Return a tensor (n, *positions, c) as (n, c, *positions)."""
    return ops.moveaxis(x, -1, 1)


@dataclass(frozen=True, eq=False)
class InLayout:
    """An operation of channels-first tensors, for arguments and results that are channels last.

    Attributes:
        op: the user's own layer or operation.
        apply: computes it: (op, args, kwargs, training) → results.
        moved: for each leaf among the arguments, whether it is a map whose axes were moved.
        rank: number of axes of the results whose axes are moved; 0 for none.
    """

    op: Any
    apply: Callable[[Any, Any, Any, bool], Any]
    moved: tuple[bool, ...]
    rank: int

    @property
    def variables(self) -> list[Any]:
        """The layer's variables."""
        return list(getattr(self.op, "variables", []))

    def compute(self, args: Any, kwargs: Any, training: bool) -> list[Any]:
        """Return the results for channels-last arguments."""
        leaves = keras.tree.flatten((args, kwargs))
        own = [to_first(x) if m else x for x, m in zip(leaves, self.moved, strict=True)]
        args, kwargs = keras.tree.pack_sequence_as((args, kwargs), own)
        found = keras.tree.flatten(self.apply(self.op, args, kwargs, training))
        return [to_last(y) if len(y.shape) == self.rank else y for y in found]

    def symbolic(self, results: Sequence[Any]) -> list[Any]:
        """Return new symbolic results, given those of the operation itself."""
        shapes = [last_shape(y.shape) if len(y.shape) == self.rank else y.shape for y in results]
        return [
            keras.KerasTensor(tuple(shape), dtype=y.dtype)
            for shape, y in zip(shapes, results, strict=True)
        ]

    def own_symbols(self, args: Any, kwargs: Any) -> Any:
        """Return symbolic arguments with the axes of the user's model."""
        leaves = keras.tree.flatten((args, kwargs))
        own = [
            keras.KerasTensor((x.shape[0], x.shape[-1], *x.shape[1:-1]), dtype=x.dtype) if m else x
            for x, m in zip(leaves, self.moved, strict=True)
        ]
        return keras.tree.pack_sequence_as((args, kwargs), own)


@dataclass(frozen=True)
class Shaped:
    """Give each image of a batch a shape, such as (28, 28) for (28, 28, 1).

    Attributes:
        shape: the shape of one image.
    """

    shape: tuple[int, ...]

    def __call__(self, x: Any) -> Any:
        return ops.reshape(x, (-1, *self.shape))

    def symbol(self, x: Any) -> Any:
        """Return the symbolic result for a symbolic tensor.

        Raises:
            ValueError: the tensor has another number of values.
        """
        if math.prod(x.shape[1:]) != math.prod(self.shape):
            raise ValueError(f"images of shape {x.shape[1:]} do not have the shape {self.shape}")
        return keras.KerasTensor((x.shape[0], *self.shape), dtype=x.dtype)


@dataclass(frozen=True)
class Front:
    """The layout in which a model takes its images.

    Attributes:
        shape: shape of one image as convlens has it; None where the model's own is kept.
        first: whether the model takes its images channels first.
        anywhere: whether any layer is channels first.
    """

    shape: tuple[int, ...] | None = None
    first: bool = False
    anywhere: bool = False

    @property
    def is_plain(self) -> bool:
        """True if the model is read as it is."""
        return self.shape is None and not self.anywhere


def front_of(image: Any, calls: Sequence[Any]) -> Front:
    """Return the layout of a model's images, given the calls of the model as it is.

    Args:
        image: the symbolic tensor of the images.
        calls: all calls of the model, in order.
    """
    anywhere = any(is_channels_first(call.op) and call.op.built for call in calls)
    reached = {id(image)}
    for call in calls:
        if not any(id(t) in reached for t in call.inputs):
            continue
        (made,) = call.outputs[:1]
        if hasattr(call.op, "data_format") and not isinstance(call.op, keras.layers.Flatten):
            return Front(None, is_channels_first(call.op), anywhere)
        if tuple(made.shape) == tuple(image.shape):
            reached.add(id(made))
            continue
        own, shape = tuple(image.shape[1:]), tuple(made.shape[1:])
        adds = shape == (*own, 1) or len(own) == 1 < len(shape) <= 4
        if isinstance(call.op, keras.layers.Reshape) and adds and None not in (*own, *shape):
            return Front(shape, False, anywhere)
        break
    return Front(None, False, anywhere)
