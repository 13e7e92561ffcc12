"""Layers inside TimeDistributed, and convolutional LSTMs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from convlens import (
    Network,
    activations,
    assert_deconv_round_trip,
    assert_no_dead_filters,
    deconvolve,
    maximize,
    receptive_field,
)
from convlens.engine.model.flops import forward_flops

SHAPE = (3, 9, 8, 2)


def frame_network():
    image = keras.Input(SHAPE[1:])
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv_a")(image)
    x = layers.BatchNormalization(name="norm")(layers.MaxPooling2D(name="pool")(x))
    x = layers.Add(name="add")([x, layers.Conv2D(4, 1, name="conv_b")(x)])
    return keras.Model(image, layers.GlobalAveragePooling2D(name="mean")(x), name="frame")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    video = keras.Input(SHAPE)
    x = layers.TimeDistributed(frame_network(), name="frames")(video)
    return keras.Model(video, layers.Dense(2)(layers.LSTM(3)(x)))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).random((2, *SHAPE), dtype=np.float32)


def test_a_network_of_each_frame_is_opened(model, images):
    network = Network(model)
    assert network.conv_layers == ("frames.conv_a", "frames.conv_b")
    found = activations(network, images, ["frames.conv_b", "frames.mean", network.output_layer])
    assert found["frames.conv_b"].shape == (2, 3, 4, 4, 4)
    inner = model.get_layer("frames").layer
    part = keras.Model(inner.inputs, [inner.get_layer(n).output for n in ("conv_b", "mean")])
    for frame in range(SHAPE[0]):
        maps, mean = part.predict(images[:, frame], verbose=0)
        np.testing.assert_allclose(found["frames.conv_b"][:, frame], maps, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found["frames.mean"][:, frame], mean, rtol=1e-5, atol=1e-6)
    own = model.predict(images, verbose=0)
    np.testing.assert_allclose(found[network.output_layer], own, rtol=1e-5, atol=1e-6)


def test_a_unit_of_a_frame_is_seen_in_its_frame_alone(model, images):
    network = Network(model)
    assert receptive_field(network, "frames.conv_b", (1, 2, 2), SHAPE[:3]).start == (1, 3, 3)
    assert receptive_field(network, "frames.conv_b", (1, 2, 2), SHAPE[:3]).end == (2, 7, 7)
    down = deconvolve(network, images, "frames.conv_b", 0, position=(1, 2, 2)).images
    assert down[:, 1].any()
    assert not down[:, [0, 2]].any()


def test_the_deconvnet_and_the_ascent_reach_the_frames(model, images):
    network = Network(model)
    assert_deconv_round_trip(network, images, "frames.conv_b")
    found = maximize(network, "frames.conv_a", steps=8, jitter=0, checkpoints=1)
    assert (found.trace[-1] > found.trace[0]).all()


def test_a_dead_filter_of_a_frame_is_found(images):
    layer = layers.TimeDistributed(layers.Conv2D(3, 3, activation="relu"), name="conv")
    model = keras.Sequential([keras.Input(SHAPE), layer, layers.Flatten(), layers.Dense(2)])
    assert_no_dead_filters(model, np.concatenate([images, -images]))
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * [1, 0, 1], bias])
    with pytest.raises(AssertionError, match=r"layer 'conv': 1 of 3 are dead, units 1"):
        assert_no_dead_filters(model, np.concatenate([images, -images]))


def test_the_operations_of_all_frames_count(images):
    layer = layers.TimeDistributed(layers.Conv2D(3, 3), name="conv")
    network = Network(keras.Sequential([keras.Input(SHAPE), layer]))
    assert forward_flops(network, "conv", SHAPE) == 3 * 2 * (7 * 6) * 9 * 2 * 3


@pytest.mark.parametrize("every", [True, False])
def test_a_convolutional_lstm_has_units(every, images):
    layer = layers.ConvLSTM2D(3, 3, return_sequences=every, name="lstm")
    model = keras.Sequential([keras.Input(SHAPE), layer, layers.Flatten(), layers.Dense(2)])
    network = Network(model)
    assert network.conv_layers == ("lstm",)
    shape = (2, 3, 7, 6, 3) if every else (2, 7, 6, 3)
    assert activations(network, images)["lstm"].shape == shape
    assert receptive_field(network, "lstm", (1,) * (len(shape) - 2), SHAPE[:3]).end == SHAPE[:3]
    # Four gates, each of a convolution of the frame and one of the state.
    assert forward_flops(network, "lstm", SHAPE) == 3 * 2 * (7 * 6) * 9 * 4 * 3 * (2 + 3)
    assert_deconv_round_trip(network, images, "lstm")
    found = maximize(network, "lstm", steps=8, jitter=0, checkpoints=1)
    assert (found.trace[-1] > found.trace[0]).all()


def test_a_convolutional_lstm_of_both_directions_has_the_units_of_both(images):
    layer = layers.Bidirectional(layers.ConvLSTM2D(3, 3), name="both")
    model = keras.Sequential([keras.Input(SHAPE), layer, layers.Flatten(), layers.Dense(2)])
    network = Network(model)
    assert network.conv_layers == ("both",)
    assert network.units("both") == 6
    assert forward_flops(network, "both", SHAPE) == 2 * 3 * 2 * (7 * 6) * 9 * 4 * 3 * (2 + 3)
    assert_deconv_round_trip(network, images, "both")


def test_a_layer_of_ones_own_for_each_frame_runs_unopened(images):
    class Twice(layers.Layer):
        def call(self, x):
            return 2 * x

        def compute_output_shape(self, shape):
            return shape

    video = keras.Input(SHAPE)
    x = layers.TimeDistributed(Twice(), name="twice")(video)
    model = keras.Model(video, layers.Conv3D(2, 1, name="conv")(x))
    network = Network(model)
    assert list(network.layers) == ["twice", "conv"]
    own = model.predict(images, verbose=0)
    np.testing.assert_allclose(activations(network, images)["conv"], own, rtol=1e-5, atol=1e-6)
