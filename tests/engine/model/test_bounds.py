"""Bounds of channels: no image leaves them, and one layer's are reached."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from convlens import Network
from convlens.engine.model.bounds import channel_bounds


class Doubled(layers.ReLU):
    """An activation of the user's own."""

    def call(self, inputs):
        return 2 * super().call(inputs)


def branched():
    image = keras.Input((12, 12, 3))
    x = layers.Rescaling(2.0, offset=-1.0)(image)
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    y = layers.ZeroPadding2D(1)(layers.BatchNormalization()(x))
    y = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)(y)
    y = layers.ReLU(6.0)(y)
    y = layers.Conv2D(6, 1, padding="valid")(layers.AveragePooling2D(1)(y))
    x = layers.Add()([x, layers.Dropout(0.2)(y)])
    x = layers.Concatenate()([x, y])
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="top")(layers.MaxPooling2D(2)(x))
    return keras.Model(image, x)


@pytest.mark.parametrize("seed", range(3))
def test_no_image_leaves_them(seed):
    keras.utils.set_random_seed(seed)
    model = branched()
    draw = np.random.default_rng(seed)
    for variable in model.variables:
        if np.ndim(variable) == 1:
            variable.assign(draw.uniform(0.3, 2, variable.shape))
    network = Network(model)
    found = channel_bounds(network, (0.0, 1.0))
    assert set(found) == {id(network.image)} | {
        id(t) for call in network.graph for t in call.outputs
    }
    symbols = [t for call in network.graph for t in call.outputs]
    images = draw.random((30, 12, 12, 3), np.float32)
    images[:10] = np.round(images[:10])  # the corners of the range reach the farthest
    values = network.run(ops.convert_to_tensor(images), symbols)
    for symbol, value in zip(symbols, values, strict=True):
        low, high = found[id(symbol)]
        own = np.asarray(value).reshape(-1, value.shape[-1])
        slack = 1e-4 * (high - low + np.abs(high))
        assert (own >= low - slack).all(), symbol.name
        assert (own <= high + slack).all(), symbol.name


def test_those_of_the_first_convolution_are_reached():
    keras.utils.set_random_seed(0)
    network = Network(keras.Sequential([keras.Input((3, 3, 2)), layers.Conv2D(5, 3)]))
    low, high = channel_bounds(network, (-1.0, 1.0))[id(network.result)]
    kernel = np.asarray(next(iter(network.layers.values())).kernel)
    best = np.sign(kernel).transpose(3, 0, 1, 2).astype(np.float32)
    values = network.run(ops.convert_to_tensor(best), [network.result])[0]
    np.testing.assert_allclose(np.diagonal(np.asarray(values)[:, 0, 0]), high, rtol=1e-5)
    np.testing.assert_allclose(low, -high)


def test_nothing_is_said_of_what_is_not_known():
    image = keras.Input((8, 8, 4))
    known = layers.Conv2D(4, 3, groups=2)(image)
    own = Doubled()(layers.Conv2D(4, 3)(image))
    bent = layers.Activation("gelu")(layers.Conv2D(4, 3)(image))
    mixed = layers.BatchNormalization(axis=1)(image)
    network = Network(keras.Model(image, [known, bent, mixed, own]))
    found = channel_bounds(network, (0.0, 1.0))
    assert not {id(t) for t in network.results} & set(found)
    assert len(found) == 3  # the image, and the two convolutions of all channels
