"""Nonlinearities, and the three backward passes of a ReLU: deconvnet, guided and gradient."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

Method = Literal["deconvnet", "guided", "gradient"]
METHODS = ("deconvnet", "guided", "gradient")

_LAYERS = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ELU,
    keras.layers.Softmax,
)


def is_nonlinearity(op: Any) -> bool:
    """Return whether `op` is an activation layer, whose input is a pre-activation."""
    return isinstance(op, _LAYERS)


def is_relu(op: Any) -> bool:
    """Return whether `op` is a ReLU or ReLU6, as a layer, an activation or an operation."""
    if isinstance(op, keras.layers.ReLU):
        return not op.negative_slope and not op.threshold
    if isinstance(op, keras.layers.Activation):
        return op.activation in (keras.activations.relu, keras.activations.relu6)
    # `keras.ops.relu` in a functional graph is an operation of a class that is not public.
    return type(op).__module__.startswith("keras.") and type(op).__name__ in ("Relu", "Relu6")


def rectified(op: Any, x: Any, method: Method) -> Any:
    """Apply a ReLU with the backward pass of a method.

    Args:
        op: the ReLU.
        x: input of the ReLU.
        method: 'deconvnet' passes ReLU(signal) whatever the sign of `x` (Zeiler & Fergus 2014,
            §2.1: the signal going down passes the same non-linearity as the features going up);
            'guided' passes ReLU(signal) only where the ReLU passed `x` (Springenberg et al. 2015);
            'gradient' is the ordinary derivative.
    """
    if method == "gradient":
        return op(x)

    @ops.custom_gradient
    def forward(x: Any) -> Any:
        y = op(x)

        def backward(*args: Any, upstream: Any = None) -> Any:
            signal = ops.relu(args[0] if upstream is None else upstream)
            if method == "deconvnet":
                return signal
            # A saturated ReLU6, like a silent ReLU, does not pass its input unchanged.
            passed = ops.logical_and(ops.equal(x, y), x > 0)
            return ops.where(passed, signal, ops.zeros_like(signal))

        return y, backward

    return forward(x)
