"""The quick gradient of a convolution is its gradient."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from convlens import Network
from convlens.engine.model.convolved import quick_convolutions
from convlens.engine.runtime import backend


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2D(5, 3, padding="same", activation="relu"),
        layers.Conv2D(5, (5, 1), padding="same", use_bias=False),
        layers.Conv2D(4, 1, padding="valid"),
        layers.DepthwiseConv2D(3, padding="same"),
        layers.Conv2D(5, 3, padding="same", strides=2),
        layers.Conv2D(6, 3, padding="same", groups=3),
        layers.Conv2D(5, 2, padding="same"),
        layers.Conv2D(5, 3),
        layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
    ],
    ids=str,
)
def test_values_and_gradients_are_the_layers_own(layer, monkeypatch):
    monkeypatch.setattr(backend, "gradients_are_slow", lambda: backend.backend_name() != "jax")
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((7, 6, 3)), layer])
    network = Network(model)
    draw = np.random.default_rng(0)
    x = ops.convert_to_tensor(draw.random((2, 7, 6, 3), np.float32))
    out = network.outputs[layer.name]
    upstream = ops.convert_to_tensor(draw.random((2, *out.shape[1:]), np.float32))

    def both(functions):
        y, pullback = backend.vjp(lambda x: network.run(x, [out], functions=functions)[0], x)
        return y, pullback(upstream)

    quick = quick_convolutions(network.graph)
    for mine, own in zip(both(quick), both({}), strict=True):
        np.testing.assert_allclose(mine, own, rtol=1e-4, atol=1e-5)


def test_other_convolutions_are_left_alone(monkeypatch):
    monkeypatch.setattr(backend, "gradients_are_slow", lambda: True)
    image = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(image)
    x = layers.Conv2D(4, 3, groups=2, padding="same")(x)
    x = layers.Conv2D(4, 3, dilation_rate=2, padding="same")(x)
    x = layers.Conv2D(4, 3)(layers.ZeroPadding2D()(x))
    network = Network(keras.Model(image, x))
    assert quick_convolutions(network.graph) == {}
    monkeypatch.setattr(backend, "gradients_are_slow", lambda: False)
    plain = Network(keras.Sequential([keras.Input((8, 8, 4)), layers.Conv2D(4, 1)]))
    assert quick_convolutions(plain.graph) == {}
