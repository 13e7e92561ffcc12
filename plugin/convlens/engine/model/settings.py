"""The settings of a model's layers, to notice that a model was changed after it was read."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

_PLAIN = (bool, int, float, str, bytes, tuple, type(None))


def settings_of(model: Any) -> list[Any]:
    """Return what a model computes with besides the numbers in its weights.

    These are its graph, and each layer's variables, functions, and attributes such as `strides`.
    Attributes that hold tensors count only in layers that are adapted to data, such as
    Normalization, because other layers keep results of their last call in them.
    """
    found: list[Any] = [*model.outputs]
    for layer in model._flatten_layers():
        found.append(layer)
        if isinstance(layer, keras.Model):  # of which training and prediction change attributes
            continue
        adapted = hasattr(layer, "finalize_state")
        for name, value in vars(layer).items():
            if isinstance(value, _PLAIN) and not name.startswith("_"):
                found.append((name, type(value), repr(value)))
            elif isinstance(value, keras.Variable | keras.DTypePolicy) or (
                not name.startswith("_") and _is_setting(value, adapted)
            ):
                found.append(value)
    return found


def unchanged(before: list[Any], now: list[Any]) -> bool:
    """Return whether two results of `settings_of` are the same."""
    return len(before) == len(now) and all(
        a is b or (type(a) is tuple and a == b) for a, b in zip(before, now, strict=True)
    )


def _is_setting(value: Any, adapted: bool) -> bool:
    if ops.is_tensor(value):
        return adapted
    return callable(value) or isinstance(value, np.ndarray)
