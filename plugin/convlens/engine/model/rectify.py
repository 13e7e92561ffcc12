"""Nonlinearities, and the three backward passes of a ReLU: deconvnet, guided and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.runtime import backend

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
# Numbers of both signs and of many sizes that every type of 16 bits holds without rounding.
_GRID = np.array(
    [s * m * 2.0**e for e in range(-14, 10) for m in (1, 1.25, 1.5, 1.75) for s in (1, -1)] + [0.0]
)
_FREE_SIZE = 8
# Swish and GELU fall to -0.28 and -0.17 and rise again on the other side.
_PIT = 0.05


def is_activation_layer(layer: Any) -> bool:
    """Return whether a layer is an activation alone, whose input is a pre-activation."""
    return isinstance(layer, _LAYERS)


def relu_bound(
    function: Callable[[Any], Any], shape: Sequence[int | None], dtype: str
) -> float | None:
    """Return the bound above which a ReLU is constant; infinity for an unbounded one.

    The function is a ReLU if it computes min(max(x, 0), bound) for all numbers of a grid. A leaky
    ReLU, one with a threshold, and an ELU are therefore none, whatever their names.

    Args:
        function: a function of one tensor.
        shape: shape of its argument; None is any size.
        dtype: type of its argument.

    Returns:
        The bound, 6 for ReLU6; None for a function that is no ReLU.
    """
    numbers, values = _on_grid(function, shape, dtype)
    if values is None:
        return None
    bound = float(values.max())
    if not bound > 0 or not np.array_equal(values, numbers.clip(0, bound).astype(np.float32)):
        return None
    return math.inf if bound == numbers.max() else bound


def has_pit_below_zero(
    function: Callable[[Any], Any], shape: Sequence[int | None], dtype: str
) -> bool:
    """Return whether a function of each number has a pit below 0, as swish, GELU and mish do.

    Left of the pit it rises to no more than its value at 0, so an ascent from there ends low. On
    the right it rises higher.

    Args:
        function: a function of one tensor.
        shape: shape of its argument; None is any size.
        dtype: type of its argument.
    """
    numbers, values = _on_grid(function, shape, dtype)
    if values is None or not np.isfinite(values).all():
        return False
    low = values[numbers <= 0]
    left, zero, right = (values[numbers == at] for at in (numbers.min(), 0, numbers.max()))
    in_pit = low.min() < min(left.min(), zero.min()) - _PIT
    return bool(in_pit and low.max() <= zero.max() < right.min())


def _on_grid(
    function: Callable[[Any], Any], shape: Sequence[int | None], dtype: str
) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
    """Return the numbers of the grid, and a function's values there; None if it takes no such."""
    one = [_FREE_SIZE if side is None else side for side in shape[1:]]
    size = math.ceil(_GRID.size / max(1, math.prod(one))) * math.prod(one)
    # In random order, so that no position and no channel sees numbers of one sign alone.
    numbers = np.random.default_rng(0).permutation(np.resize(_GRID, size)).reshape(-1, *one)
    try:
        with backend.outside_of_graphs():
            found = function(ops.cast(ops.convert_to_tensor(numbers), dtype))
            return numbers, np.asarray(ops.convert_to_numpy(ops.cast(found, "float32")))
    except Exception:  # of any type: a function may refuse these numbers in its own way
        return numbers, None


def rectified(function: Callable[[Any], Any], x: Any, method: Method) -> Any:
    """Apply a ReLU with the backward pass of a method.

    Args:
        function: the ReLU.
        x: input of the ReLU.
        method: 'deconvnet' passes ReLU(signal) whatever the sign of `x` (Zeiler & Fergus 2014,
            §2.1: the signal going down passes the same non-linearity as the features going up);
            'guided' passes ReLU(signal) only where the ReLU passed `x` (Springenberg et al. 2015);
            'gradient' is the ordinary derivative.
    """
    if method == "gradient":
        return function(x)

    @ops.custom_gradient
    def forward(x: Any) -> Any:
        y = function(x)

        def backward(*args: Any, upstream: Any = None) -> Any:
            signal = ops.relu(args[0] if upstream is None else upstream)
            if method == "deconvnet":
                return signal
            # A saturated ReLU6, like a silent ReLU, does not pass its input unchanged.
            passed = ops.logical_and(ops.equal(x, y), x > 0)
            return ops.where(passed, signal, ops.zeros_like(signal))

        return y, backward

    return forward(x)
