"""The settings of a model's layers, to notice that a model was changed after it was read."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

_PLAIN = {bool, int, float, str, bytes, type(None)}


def settings_of(model: Any) -> list[Any]:
    """Return what a model computes with besides the numbers in its weights.

    These are its graph, and each layer's variables, functions, and attributes such as `strides`.
    Attributes that hold tensors count only in layers that are adapted to data, such as
    Normalization, because other layers keep results of their last call in them.
    """
    found: list[Any] = [*(getattr(model, "outputs", None) or [])]
    for layer in model._flatten_layers():
        found.append(layer)
        if isinstance(layer, keras.Model):  # of which training and prediction change attributes
            continue
        adapted = hasattr(layer, "finalize_state")
        for name, value in vars(layer).items():
            if name.startswith("_"):
                if isinstance(value, keras.Variable | keras.DTypePolicy):
                    found.append(value)
            elif type(value) in _PLAIN:
                found.append((name, type(value), value))
            elif type(value) is tuple:
                found.append((name, tuple, repr(value)))
            elif (
                callable(value)
                or isinstance(value, keras.Variable | np.ndarray)
                or (adapted and ops.is_tensor(value))
            ):
                found.append(value)
    return found


def unchanged(before: list[Any], now: list[Any]) -> bool:
    """Return whether two results of `settings_of` are the same."""
    return len(before) == len(now) and all(
        a is b or (type(a) is tuple and a == b) for a, b in zip(before, now, strict=True)
    )
