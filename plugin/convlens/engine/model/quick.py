"""Calls whose values and gradients are computed with fewer and quicker operations than Keras's.

The gradient of a convolution with stride 1 is the convolution of the upstream gradient with the
kernel flipped in both directions and its channels exchanged. TensorFlow's own gradient on a CPU
multiplies image by image, and takes two to four times as long on the small maps of deep layers.

The gradient of a dense layer is its kernel times the upstream gradients, one of each image in a
column. TensorFlow multiplies the other way around, by the transposed kernel, and takes ten times as
long for a few images of VGG's first dense layer.

A batch normalization in inference mode is a product and a sum of each channel. As Keras computes
it, with its gradient, it takes TensorFlow fifty operations; tracing these takes longer than the
steps of an ascent through a deep network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from convlens.engine.model.flatten import Call, runs_as_keras
from convlens.engine.runtime import backend

Function = Callable[[Any], Any]
_GLOBAL_AVERAGES = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
)


def quick_calls(calls: Iterable[Call]) -> dict[int, Function]:
    """Return functions that compute some calls quickly, by the call's id.

    They give the calls' values to rounding. What does not depend on the images, such as the flipped
    kernels, is computed here, so that a loop that calls the functions need not.

    Args:
        calls: calls of a network; those without such a function are left out, and all where the
            backend's own gradient is quick.
    """
    if not backend.gradients_are_slow():
        return {}
    found = {id(call): _quick(call) for call in calls}
    return {key: function for key, function in found.items() if function is not None}


def mean_over_positions(maps: Any, weights: Any | None = None, keepdims: bool = False) -> Any:
    """Return the mean of each channel over all positions of maps (n, *positions, c).

    Args:
        maps: the maps.
        weights: (n, c) weights of the channels of each member; None for the channels themselves.
        keepdims: keep the axes of the positions, with one position each; not with weights.

    Returns:
        (n, c), or with weights the sum (n,) over the channels.
    """
    positions = tuple(maps.shape[1:-1])
    axes, ones = tuple(range(1, len(positions) + 1)), (1,) * len(positions)

    def compute(maps: Any) -> Any:
        means = ops.mean(maps, axis=axes, keepdims=keepdims)
        return means if weights is None else ops.sum(means * weights, axis=-1)

    if not backend.gradients_are_slow() or None in positions:
        return compute(maps)
    share = np.full((1, *positions, 1), 1 / math.prod(positions), np.float32)

    def pullback(dy: Any) -> Any:
        each = dy if weights is None else dy[:, None] * weights
        return ops.reshape(each, (-1, *ones, maps.shape[-1])) * share

    return backend.with_pullback(lambda maps: (compute(maps), pullback))(maps)


def kept_where(keep: Callable[[Any], Any], maps: Any) -> Any:
    """Return maps with 0 in place of values that are not kept.

    Args:
        keep: function of the maps that says which values are kept; no gradient passes through it.
        maps: the maps.
    """
    if not backend.gradients_are_slow():
        return ops.where(keep(ops.stop_gradient(maps)), maps, 0.0)

    def compute(maps: Any) -> Any:
        kept = keep(maps)
        return ops.where(kept, maps, 0.0), lambda dy: ops.where(kept, dy, 0.0)

    return backend.with_pullback(compute)(maps)


def _quick(call: Call) -> Function | None:
    """Return a function that computes a call, or None where Keras's own is to be used."""
    op = call.op
    if op is keras.activations.silu:
        return _silu
    if not isinstance(op, keras.layers.Layer) or not runs_as_keras(op):
        return None
    if len(call.inputs) != 1 or op.compute_dtype != "float32":
        return None
    rank = len(call.inputs[0].shape)
    if rank == 2 and type(op) is keras.layers.Dense and _is_unchanged(op):
        return _dense(op)
    if rank < 4:  # a series may have a mask, which Keras's layers pass on
        return None
    if isinstance(op, keras.layers.Activation) and op.activation is keras.activations.silu:
        return _silu
    if type(op) is keras.layers.BatchNormalization and op.axis in (
        -1,
        len(call.inputs[0].shape) - 1,
    ):
        return _batch_normalization(op)
    if type(op) is keras.layers.Dropout:
        return lambda x: x
    if type(op) in _GLOBAL_AVERAGES and op.data_format == "channels_last":
        return lambda x: mean_over_positions(x, keepdims=op.keepdims)
    return _convolution(op) if _is_plain(op) else None


def _is_plain(op: Any) -> bool:
    if type(op) not in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D):
        return False
    deep = type(op) is keras.layers.DepthwiseConv2D
    odd = all(side % 2 for side in op.kernel_size)
    return (
        op.strides == (1, 1)
        and op.dilation_rate == (1, 1)
        and odd
        and (op.padding == "same" or op.kernel_size == (1, 1))
        and (op.depth_multiplier == 1 if deep else op.groups == 1)
        and _is_unchanged(op)
    )


def _is_unchanged(op: Any) -> bool:
    """Return whether a layer's kernel is its variable, without quantization or LoRA."""
    quantized = getattr(op, "quantization_mode", None) is not None
    return not (quantized or getattr(op, "lora_enabled", False))


def _dense(op: Any) -> Function:
    kernel = ops.stop_gradient(op.kernel)
    bias = ops.stop_gradient(op.bias) if op.use_bias else None

    def compute(x: Any) -> Any:
        y = ops.matmul(x, kernel)

        def pullback(dy: Any) -> Any:
            return ops.transpose(ops.matmul(kernel, ops.transpose(dy)))

        return y if bias is None else y + bias, pullback

    product = backend.with_pullback(compute)
    return lambda x: product(ops.cast(x, "float32"))


def _convolution(op: Any) -> Function:
    deep = type(op) is keras.layers.DepthwiseConv2D
    convolve = ops.depthwise_conv if deep else ops.conv
    # A tensor, which TensorFlow does not take for the variable itself.
    kernel = ops.stop_gradient(op.kernel)
    flipped = ops.flip(kernel, axis=(0, 1))
    if not deep:
        flipped = ops.transpose(flipped, (0, 1, 3, 2))
    bias = ops.stop_gradient(op.bias) if op.use_bias else None

    def same(x: Any, kernel: Any) -> Any:
        return convolve(x, kernel, strides=1, padding="same", data_format="channels_last")

    def compute(x: Any) -> Any:
        y = same(x, kernel)
        return y if bias is None else y + bias, lambda dy: same(dy, flipped)

    product = backend.with_pullback(compute)
    return lambda x: product(ops.cast(x, "float32"))


def _batch_normalization(op: Any) -> Function:
    scale = ops.rsqrt(op.moving_variance + op.epsilon)
    if op.scale:
        scale = scale * op.gamma
    offset = -op.moving_mean * scale
    if op.center:
        offset = offset + op.beta
    scale, offset = ops.stop_gradient(scale), ops.stop_gradient(offset)
    compute = backend.with_pullback(lambda x: (x * scale + offset, lambda dy: dy * scale))
    return lambda x: compute(ops.cast(x, "float32"))


def _silu(x: Any) -> Any:
    def compute(x: Any) -> Any:
        share = ops.sigmoid(x)
        y = x * share
        return y, lambda dy: dy * (share + y * (1 - share))

    return backend.with_pullback(compute)(x)
