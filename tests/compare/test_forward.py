"""A network that is run call by call computes what it computes as a whole."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from convlens import Network
from convlens.compare.forward import Forward
from convlens.compare.keras_model import KerasModel
from convlens.compare.tensors import Tensors
from convlens.compare.walk import Walk
from convlens.engine.runtime import backend


@pytest.fixture(scope="module")
def network() -> Network:
    """A network of quick layers and others, whose batch normalizations change something."""
    keras.utils.set_random_seed(5)
    x = image = keras.Input((12, 12, 3), name="image")
    for i in range(3):
        x = layers.Conv2D(8, 3, padding="same", use_bias=False, name=f"conv_{i}")(x)
        x = layers.BatchNormalization(name=f"bn_{i}")(x)
        x = layers.Activation("silu" if i else "relu", name=f"act_{i}")(x)
        if i == 1:
            x = layers.Dropout(0.5, name="dropout")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, layers.Dense(4, activation="softmax", name="classes")(x))
    draw = np.random.default_rng(6)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            for weight in layer.weights:
                weight.assign(draw.uniform(0.5, 1.5, weight.shape))
    return Network(model)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(7).random((count, 12, 12, 3), dtype=np.float32)


def test_the_values_are_those_of_the_model(network):
    shown = images(3)
    found = {key: value for key, value, _ in Forward(network).follow(shown)}
    wanted = network.model(shown, training=False)
    np.testing.assert_allclose(
        backend.to_numpy(found[id(network.result)]), backend.to_numpy(wanted), rtol=1e-5
    )
    for name, symbol in network.outputs.items():
        own = keras.Model(network.model.input, network.model.get_layer(name).output)
        wanted = backend.to_numpy(own(shown, training=False))
        got = backend.to_numpy(found[id(symbol)])
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_replaced_value_goes_on(network):
    shown = images(2)
    key = id(network.outputs["pool"])
    values: dict = {}
    for own, value, values in Forward(network).follow(shown):
        if own == key:
            values[own] = value * 0
    bias = backend.to_numpy(network.model.get_layer("classes").bias)
    wanted = np.exp(bias) / np.exp(bias).sum()
    found = backend.to_numpy(values[id(network.result)])
    np.testing.assert_allclose(found, np.broadcast_to(wanted, found.shape), rtol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_counterparts_that_are_followed_together_match_as_one_by_one(network, count):
    shown = images(count)
    other = KerasModel(network)
    draw = np.random.default_rng(8)
    held = {
        name: (value + 0.03 * value.std() * draw.standard_normal(value.shape)).astype(np.float32)
        for name, value in other.tensors(shown).items()
    }
    tensors = Tensors(held, channels_first=False, searched=min(2, count))
    walk = Walk(Forward(network), shown, tensors, 10.0, other.output_names, other.sources)
    symbol = network.outputs["conv_1"]
    (i,) = [k for k, c in enumerate(network.all_calls) if c.outputs[0] is symbol]
    value = backend.to_numpy(walk.expected[id(symbol)])
    values = {key: backend.to_numpy(v) for key, v, _ in Forward(network).follow(shown)}
    pairs = tensors.candidates(value[:2], 8, "conv_1", -1)
    assert len(pairs) > 3
    together = walk._followed(i, symbol, pairs, value, values)
    alone = [walk._followed(i, symbol, [pair], value, values)[0] for pair in pairs]
    assert together == alone
    best = max(range(len(pairs)), key=lambda k: pairs[k].snr)
    assert together[best] == max(together) > min(together)
