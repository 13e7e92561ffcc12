"""Convolutions whose gradient with respect to their input is computed as another convolution.

The gradient of a convolution with stride 1 is the convolution of the upstream gradient with the
kernel flipped in both directions and its channels exchanged. TensorFlow's own gradient on a CPU
multiplies image by image, and takes two to four times as long on the small maps of deep layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import ops

from convlens.engine.model.flatten import Call, runs_as_keras
from convlens.engine.runtime import backend

Function = Callable[[Any], Any]


def quick_convolutions(calls: Iterable[Call]) -> dict[int, Function]:
    """Return functions that compute some calls with a quicker gradient, by the call's id.

    The flipped kernels are computed here, so that a loop that calls the functions need not.

    Args:
        calls: calls of a network; those that are no plain convolutions with stride 1 are left out,
            and all where the backend's own gradient is quick.
    """
    if not backend.gradients_are_slow():
        return {}
    return {id(call): _quick(call.op) for call in calls if _is_plain(call.op)}


def _is_plain(op: Any) -> bool:
    if type(op) not in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D) or not runs_as_keras(op):
        return False
    deep = type(op) is keras.layers.DepthwiseConv2D
    odd = all(side % 2 for side in op.kernel_size)
    return (
        op.strides == (1, 1)
        and op.dilation_rate == (1, 1)
        and odd
        and (op.padding == "same" or op.kernel_size == (1, 1))
        and (op.depth_multiplier == 1 if deep else op.groups == 1)
        and op.compute_dtype == "float32"
        and getattr(op, "quantization_mode", None) is None
        and not getattr(op, "lora_enabled", False)
    )


def _quick(op: Any) -> Function:
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

    product = backend.with_pullback(lambda x: same(x, kernel), lambda dy: same(dy, flipped))

    def compute(x: Any) -> Any:
        y = product(ops.cast(x, "float32"))
        return y if bias is None else y + bias

    return compute
