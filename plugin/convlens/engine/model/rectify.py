"""Which operations are nonlinearities, and the ways to pass a ReLU on the way down."""

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
    """Return whether `op` is an activation layer (its input is then a pre-activation)."""
    return isinstance(op, _LAYERS)


def is_relu(op: Any) -> bool:
    """Return whether `op` is a ReLU or ReLU6, as a layer, an activation or an operation."""
    if isinstance(op, keras.layers.ReLU):
        return not op.negative_slope and not op.threshold
    if isinstance(op, keras.layers.Activation):
        return op.activation in (keras.activations.relu, keras.activations.relu6)
    # `keras.ops.relu` in a functional graph is an operation, which Keras does not make public.
    return type(op).__module__.startswith("keras.") and type(op).__name__ in ("Relu", "Relu6")


def rectified(op: Any, x: Any, method: Method) -> Any:
    """Apply a ReLU with the backward pass of a method.

    Args:
        op: the ReLU.
        x: what enters it.
        method: 'deconvnet' passes ReLU(signal), whatever the sign of `x` (Zeiler & Fergus 2014,
            §2.1: the signal on its way down passes the same non-linearity as the features on
            their way up); 'guided' passes that only where the ReLU passed `x` (Springenberg et al.
            2015); 'gradient' leaves the derivative as it is.
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
            # A ReLU6 that is full, as a ReLU that is silent, does not give out what it was given.
            passed = ops.logical_and(ops.equal(x, y), x > 0)
            return ops.where(passed, signal, ops.zeros_like(signal))

        return y, backward

    return forward(x)
