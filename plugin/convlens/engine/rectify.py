"""Which operations are nonlinearities, and the deconvnet's backward pass through a ReLU."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

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


def rectified(op: Any, x: Any) -> Any:
    """Apply a ReLU whose backward pass is ReLU(signal), whatever the sign of `x`.

    This is the rectification of Zeiler & Fergus 2014, §2.1: the signal on its way down passes
    the same non-linearity as the features on their way up.
    """

    @ops.custom_gradient
    def forward(x: Any) -> Any:
        def backward(*args: Any, upstream: Any = None) -> Any:
            signal = args[0] if upstream is None else upstream
            return ops.relu(signal)

        return op(x), backward

    return forward(x)
