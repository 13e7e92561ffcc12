"""The shapes of tensors for images of another size."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from convlens import Network


def test_the_shapes_are_those_that_are_computed():
    image = keras.Input((24, 24, 3))
    x = layers.Conv2D(4, 3, strides=2, name="conv")(image)
    x = layers.MaxPooling2D(padding="same", name="pool")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="gate")(x)
    x = layers.Conv2DTranspose(2, 3, strides=2, name="up")(x * gate)
    network = Network(keras.Model(image, x))
    shapes = network.shapes((17, 30, 3))
    values = network.run(np.zeros((2, 17, 30, 3), np.float32), list(network.outputs.values()))
    for (name, tensor), value in zip(network.outputs.items(), values, strict=True):
        assert shapes[id(tensor)][1:] == tuple(value.shape[1:]), name


def test_what_does_not_take_the_size_is_left_out():
    image = keras.Input((8, 8, 1))
    x = layers.Flatten(name="flatten")(layers.Conv2D(2, 3, name="conv")(image))
    network = Network(keras.Model(image, layers.Dense(3, name="dense")(x)))
    other, small = network.shapes((9, 9, 1)), network.shapes((2, 2, 1))
    assert id(network.outputs["flatten"]) in other
    assert id(network.outputs["dense"]) not in other
    assert id(network.outputs["conv"]) not in small
