"""Subclassed models and custom layers with convolutions inside."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from convlens import Network, activations, assert_deconv_round_trip, deconvolve, maximize
from convlens.checks.convolutions import Convolutions
from convlens.lens import Lens


class Block(layers.Layer):
    """A residual block of two convolutions and a scale."""

    def __init__(self, filters, **options):
        super().__init__(**options)
        self.first = layers.Conv2D(filters, 3, padding="same", activation="relu", name="first")
        self.second = layers.Conv2D(filters, 3, padding="same", name="second")
        self.drop = layers.Dropout(0.5)

    def build(self, shape):
        self.first.build(shape)
        self.second.build((*shape[:-1], self.first.filters))
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x, training=None):
        y = self.drop(self.second(self.first(x)), training=training)
        return ops.relu(x + ops.multiply(y, self.scale))


class Whole(keras.Model):
    """A subclassed model of a convolution, a block and classes."""

    def __init__(self, block=Block):
        super().__init__(name="whole")
        self.stem = layers.Conv2D(4, 3, activation="relu", name="stem")
        self.block = block(4, name="block")
        self.pool = layers.GlobalAveragePooling2D()
        self.classes = layers.Dense(3, activation="softmax", name="classes")

    def call(self, x):
        return self.classes(self.pool(self.block(self.stem(x))))


class Opaque(Block):
    """A block that computes with NumPy's shapes of values, and so cannot be traced."""

    def call(self, x, training=None):
        if not isinstance(ops.shape(x)[0], keras.KerasTensor) and type(x) is keras.KerasTensor:
            raise TypeError("a symbolic tensor has no values")
        return super().call(x, training=training)


def images():
    return np.random.default_rng(0).random((2, 10, 9, 1), dtype=np.float32)


@pytest.fixture(scope="module")
def whole():
    keras.utils.set_random_seed(1)
    model = Whole()
    model(images())
    return model


def test_a_subclassed_model_is_opened_with_its_blocks(whole):
    network = Network(whole)
    assert network.conv_layers == ("stem", "block.first", "block.second")
    found = activations(network, images(), ["stem", "block.first", "classes"])
    np.testing.assert_allclose(found["classes"], whole.predict(images(), verbose=0), atol=1e-6)
    np.testing.assert_allclose(
        found["stem"], keras.ops.convert_to_numpy(whole.stem(images())), atol=1e-6
    )
    assert deconvolve(network, images()[0], "block.second", 1).images.shape == (1, 10, 9, 1)
    assert maximize(network, "block.first", [0], steps=2, size=(10, 9)).images.shape[-1] == 1
    assert_deconv_round_trip(network, images(), "block.second")


def test_the_users_layers_keep_their_nodes(whole):
    before = [len(layer._inbound_nodes) for layer in whole._flatten_layers()]
    Network(whole)
    assert [len(layer._inbound_nodes) for layer in whole._flatten_layers()] == before


def test_a_weight_inside_a_block_is_read_when_it_changes(whole):
    network = Network(whole)
    before = activations(network, images(), "classes")["classes"]
    whole.block.scale.assign(3.0)
    try:
        after = activations(network, images(), "classes")["classes"]
        np.testing.assert_allclose(after, whole.predict(images(), verbose=0), atol=1e-6)
    finally:
        whole.block.scale.assign(1.0)
    assert np.abs(after - before).max() > 1e-4


def test_a_block_in_a_functional_model_is_opened_for_each_call():
    keras.utils.set_random_seed(2)
    image, block = keras.Input((8, 8, 2)), Block(2, name="block")
    model = keras.Model(image, block(block(image)))
    network = Network(model)
    assert network.conv_layers[:2] == ("block.first", "block.second")
    assert len(network.conv_layers) == 4


def test_what_cannot_be_traced_is_named_and_the_rest_still_runs():
    keras.utils.set_random_seed(3)
    model = Whole(Opaque)
    model(images())
    network = Network(model)
    assert network.conv_layers == ("stem",)
    assert "no values" in network.untraced["block"]
    found = activations(network, images(), "classes")["classes"]
    np.testing.assert_allclose(found, model.predict(images(), verbose=0), atol=1e-6)
    reason = Convolutions().reason_to_skip(Lens(network, images()), None)
    assert "'block'" in reason
    assert "no values" in reason


def test_a_subclassed_model_that_was_never_called_is_refused():
    with pytest.raises(ValueError, match="was never built: call it on a few images"):
        Network(Whole())


class Windows(layers.Layer):
    """A convolution, and dense layers over windows and tokens; it reads the size of the batch."""

    def __init__(self, **options):
        super().__init__(**options)
        self.conv = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")
        self.dense = layers.Dense(4, name="dense")

    def build(self, shape):
        self.conv.build(shape)
        self.dense.build((None, None, 4))
        self.token = self.add_weight(shape=(1, 1, 4), name="token")

    def call(self, x):
        x = self.conv(x)
        (count, *_), (_, height, width, channels) = ops.shape(x), x.shape
        x = ops.reshape(x, (2 * count, -1, channels))  # two windows of an image
        x = ops.reshape(self.dense(x), (count, height * width, channels))
        x = ops.concatenate([ops.broadcast_to(self.token, (count, 1, channels)), x], axis=1)
        return x[:count, 1:] + ops.zeros((count, 1, channels))


def windowed(block):
    keras.utils.set_random_seed(2)
    image = keras.Input((8, 6, 1))
    return keras.Model(image, layers.GlobalAveragePooling1D()(layers.Dense(2)(block(image))))


def test_code_that_reads_the_size_of_the_batch_is_opened():
    model = windowed(Windows(name="block"))
    network = Network(model)
    assert network.conv_layers == ("block.conv",)
    assert not network.untraced
    for count in (1, 2, 5, 13):
        x = np.random.default_rng(count).random((count, 8, 6, 1), dtype=np.float32)
        found = activations(network, x, [network.output_layer])[network.output_layer]
        np.testing.assert_allclose(found, model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    assert_deconv_round_trip(network, x, "block.conv")


class Pairs(Windows):
    """A block that computes something of all pairs of images of a batch."""

    def call(self, x):
        x = self.conv(x)
        count = ops.shape(x)[0]
        return ops.reshape(ops.tile(x, (count, 1, 1, 1)), (count * count, -1))


class Ordered(Windows):
    """A block that gives each image of a batch another constant."""

    def call(self, x):
        x = self.conv(x)
        return x + ops.reshape(ops.arange(ops.shape(x)[0], dtype="float32"), (-1, 1, 1, 1))


class Early(Windows):
    """A block that computes something else for large batches."""

    def call(self, x):
        return self.conv(x) if x.shape[0] == 7 else ops.relu(self.conv(x))


@pytest.mark.parametrize(
    ("block", "reason"),
    [(Pairs, "no line"), (Ordered, "other constants"), (Early, "something else for each size")],
)
def test_code_that_needs_a_certain_batch_is_named(block, reason):
    image = keras.Input((8, 6, 1))
    network = Network(keras.Model(image, layers.Flatten()(block(name="block")(image))))
    assert network.conv_layers == ()
    assert reason in network.untraced["block"]
