"""The item that says what the checks of filters do not look at."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from convlens import Lens
from convlens.checks.check import Effort
from convlens.checks.convolutions import Convolutions

IMAGES = np.random.default_rng(0).random((2, 8, 8, 1), dtype=np.float32)


def transformer(blocks: int) -> keras.Model:
    """Return a convolution for patches, and blocks of attention and dense layers."""
    image = keras.Input((8, 8, 1))
    x = layers.Reshape((16, 6))(layers.Conv2D(6, 2, strides=2, activation="relu")(image))
    for number in range(blocks):
        attention = layers.MultiHeadAttention(2, 3, name=f"attention_{number}")
        x = layers.LayerNormalization()(x + attention(x, x))
        x = x + layers.Dense(6, activation="gelu")(x)
    return keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def reason(model: keras.Model) -> str | None:
    lens = Lens(model, IMAGES)
    if Convolutions().layers(lens, Effort()) == ():
        return None
    return Convolutions().reason_to_skip(lens, None)


def test_layers_without_filters_are_named_in_one_line():
    found = reason(transformer(12))
    assert found is not None
    assert found.startswith("12 of ")
    assert "(attention_0, attention_1, " in found
    assert "attention_9 … and 2 more): the checks of the whole model see" in found


def test_a_network_of_convolutions_and_dense_layers_has_no_such_item():
    assert reason(transformer(0)) is None
