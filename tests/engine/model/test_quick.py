"""Calls that are computed quickly have the values and the gradients of Keras's own."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from convlens import Network
from convlens.engine.model.quick import kept_where, mean_over_positions, quick_calls
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
        layers.BatchNormalization(),
        layers.BatchNormalization(scale=False, epsilon=0.1),
        layers.BatchNormalization(center=False),
        layers.BatchNormalization(axis=1),
        layers.Activation("silu"),
        layers.Conv2D(4, 1, activation="silu"),
        layers.Dropout(0.5),
        layers.GlobalAveragePooling2D(),
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.Dense(5, activation="relu"),
        layers.Dense(5, use_bias=False),
    ],
    ids=str,
)
def test_values_and_gradients_are_the_layers_own(layer, monkeypatch):
    monkeypatch.setattr(backend, "gradients_are_slow", lambda: backend.backend_name() != "jax")
    keras.utils.set_random_seed(1)
    flat = [layers.Flatten()] if isinstance(layer, layers.Dense) else []
    model = keras.Sequential([keras.Input((7, 6, 3)), *flat, layer])
    draw = np.random.default_rng(0)
    for variable in layer.weights:  # such as the statistics of a batch normalization
        if np.ndim(variable) == 1:
            variable.assign(draw.uniform(0.5, 2, variable.shape))
    network = Network(model)
    x = ops.convert_to_tensor(draw.random((2, 7, 6, 3), np.float32))
    out = network.outputs[layer.name]
    upstream = ops.convert_to_tensor(draw.random((2, *out.shape[1:]), np.float32))

    def both(functions):
        y, pullback = backend.vjp(lambda x: network.run(x, [out], functions=functions)[0], x)
        return y, pullback(upstream)

    quick = quick_calls(network.graph)
    for mine, own in zip(both(quick), both({}), strict=True):
        np.testing.assert_allclose(mine, own, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX's own gradients are quick")
def test_dense_layers_of_vectors_are_quick(monkeypatch):
    monkeypatch.setattr(backend, "gradients_are_slow", lambda: True)
    image = keras.Input((8, 8, 4))
    network = Network(keras.Model(image, layers.Dense(3)(layers.Flatten()(layers.Dense(2)(image)))))
    quick = quick_calls(network.graph)
    assert [c.op.units for c in network.graph if id(c) in quick] == [3]


class Doubled(layers.BatchNormalization):
    """A batch normalization of the user's own."""

    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs, training=False)


def test_other_calls_are_left_alone(monkeypatch):
    monkeypatch.setattr(backend, "gradients_are_slow", lambda: True)
    image = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(image)
    x = layers.Conv2D(4, 3, groups=2, padding="same")(x)
    x = layers.Conv2D(4, 3, dilation_rate=2, padding="same")(x)
    x = layers.Conv2D(4, 3)(layers.ZeroPadding2D()(x))
    x = layers.BatchNormalization(axis=1)(layers.ReLU()(x))
    x = layers.BatchNormalization(dtype="float16")(Doubled()(x))
    x = layers.Activation("gelu", dtype="float32")(x)
    network = Network(keras.Model(image, x))
    assert quick_calls(network.graph) == {}
    monkeypatch.setattr(backend, "gradients_are_slow", lambda: False)
    plain = Network(keras.Sequential([keras.Input((8, 8, 4)), layers.Conv2D(4, 1)]))
    assert quick_calls(plain.graph) == {}


@pytest.mark.parametrize("slow", [True, False])
def test_means_and_kept_values_have_their_gradients(slow, monkeypatch):
    slow = slow and backend.backend_name() != "jax"
    monkeypatch.setattr(backend, "gradients_are_slow", lambda: slow)
    draw = np.random.default_rng(0)
    given = draw.standard_normal((2, 3, 4, 5)).astype(np.float32)
    weights = draw.random((2, 5), np.float32)

    def total(maps):
        kept = kept_where(lambda x: x > ops.mean(x), maps)
        return mean_over_positions(kept, ops.convert_to_tensor(weights))

    value, pullback = backend.vjp(total, ops.convert_to_tensor(given))
    above = given > given.mean()
    mean = np.where(above, given, 0).mean(axis=(1, 2))
    np.testing.assert_allclose(value, (mean * weights).sum(-1), rtol=1e-5)
    slope = pullback(ops.convert_to_tensor(np.array([1.0, 3.0], np.float32)))
    own = np.where(above, weights[:, None, None] / 12, 0) * np.array([1, 3])[:, None, None, None]
    np.testing.assert_allclose(slope, own, rtol=1e-5)
