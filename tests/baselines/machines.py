"""Machines that compute otherwise, simulated by other products in Keras's backend.

The products of TensorFlow (convolutions, matrix products, sums of products by indices) are
replaced in a context. Networks must be built, or opened, and compiled within it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import keras
from keras.src import backend as keras_backend

_CONVOLUTIONS = ("conv", "depthwise_conv", "separable_conv", "conv_transpose")
_PRODUCTS = ("matmul", "dot", "tensordot", "einsum")


def to_tf32(x: Any) -> Any:
    """Return a tensor with its numbers rounded to nearest, ties to even, with 10 explicit bits."""
    import tensorflow as tf

    bits = tf.bitcast(tf.cast(x, tf.float32), tf.int32)
    odd = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, 13), 1)
    bits = tf.bitwise.bitwise_and(bits + 0xFFF + odd, ~0x1FFF)
    return tf.cast(tf.bitcast(bits, tf.float32), x.dtype)


def to_bfloat16(x: Any) -> Any:
    """Return a tensor with its numbers rounded to bfloat16."""
    import tensorflow as tf

    return tf.cast(tf.cast(x, tf.bfloat16), x.dtype)


@contextmanager
def rounding(convert: Callable[[Any], Any]) -> Iterator[None]:
    """Round the factors of all products by `convert`."""

    def rounded(value: Any) -> Any:
        if isinstance(value, keras.Variable):
            value = value.value
        if keras.ops.is_tensor(value) and "float" in keras.backend.standardize_dtype(value.dtype):
            return convert(keras.ops.convert_to_tensor(value))
        return value

    def wrap(product: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return product(*map(rounded, args), **{k: rounded(v) for k, v in kwargs.items()})

        return call

    with _replaced(wrap):
        yield


@contextmanager
def another_order(parts: int = 3) -> Iterator[None]:
    """Sum the products in another order: by parts of the channels, the last one first."""
    ops = keras.ops

    def split_conv(product: Callable[..., Any]) -> Callable[..., Any]:
        def call(inputs: Any, kernel: Any, *args: Any, **kwargs: Any) -> Any:
            kernel = ops.convert_to_tensor(kernel)
            if inputs.shape[-1] != kernel.shape[-2] or inputs.shape[-1] < parts:
                return product(inputs, kernel, *args, **kwargs)
            step = -(-inputs.shape[-1] // parts)
            total = None
            for i in reversed(range(0, inputs.shape[-1], step)):
                some = product(
                    inputs[..., i : i + step], kernel[..., i : i + step, :], *args, **kwargs
                )
                total = some if total is None else total + some
            return total

        return call

    def split_matmul(product: Callable[..., Any]) -> Callable[..., Any]:
        def call(a: Any, b: Any) -> Any:
            a, b = ops.convert_to_tensor(a), ops.convert_to_tensor(b)
            if len(b.shape) != 2:
                return product(a, b)
            step = -(-b.shape[0] // parts)
            total = None
            for i in reversed(range(0, b.shape[0], step)):
                some = product(a[..., i : i + step], b[i : i + step])
                total = some if total is None else total + some
            return total

        return call

    nn, numpy = keras_backend.nn, keras_backend.numpy
    with (
        mock.patch.object(nn, "conv", split_conv(nn.conv)),
        mock.patch.object(numpy, "matmul", split_matmul(numpy.matmul)),
    ):
        yield


@contextmanager
def _replaced(wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        for module, names in (
            (keras_backend.nn, _CONVOLUTIONS),
            (keras_backend.numpy, _PRODUCTS),
        ):
            for name in names:
                stack.enter_context(mock.patch.object(module, name, wrap(getattr(module, name))))
        yield


def xla() -> Any:
    from convlens.engine.runtime import backend

    return backend.with_xla()


MACHINES: dict[str, Callable[[], Any]] = {
    "this one": nullcontext,
    "TF32": lambda: rounding(to_tf32),
    "bfloat16": lambda: rounding(to_bfloat16),
    "another order": another_order,
    "XLA": xla,
}
