"""Compare one filter of a convolution with the whole layer."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from convlens import Network, maximize
from convlens.engine.ascent.one_filter import OneFilter


def network(**options):
    keras.utils.set_random_seed(0)
    options = {"filters": 7, "kernel_size": 3, **options}
    model = keras.Sequential([keras.Input((11, 14, 4)), layers.Conv2D(name="conv", **options)])
    bias = np.linspace(-0.5, 0.5, model.layers[0].filters, dtype=np.float32)
    if model.layers[0].use_bias:
        model.layers[0].bias.assign(bias)
    return Network(model)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": "same", "activation": "relu"},
        {"padding": "same", "strides": 2, "kernel_size": (3, 2), "filters": 30},
        {"padding": "valid", "strides": 3, "activation": "gelu", "filters": 60},
        {"padding": "same", "dilation_rate": 2, "kernel_size": (2, 3)},
        {"kernel_size": 1, "strides": 2, "padding": "same", "use_bias": False},
        {"kernel_size": 4, "padding": "same", "activation": "elu"},
    ],
)
def test_it_is_the_layers_own_map(options):
    net = network(**options)
    images = ops.convert_to_tensor(np.random.default_rng(1).random((5, 11, 14, 4), np.float32))
    units = np.int32([6, 0, 3, 3, 1])
    before, after = OneFilter.of(net, "conv")(images, ops.convert_to_tensor(units))
    whole = np.asarray(net.run(images, [net.outputs["conv"]])[0])
    np.testing.assert_allclose(after, whole[range(5), :, :, units], rtol=1e-4, atol=1e-5)
    if "conv" in net.preactivations:
        inner = np.asarray(net.run(images, [net.preactivations["conv"]])[0])
        np.testing.assert_allclose(before, inner[range(5), :, :, units], rtol=1e-4, atol=1e-5)


def test_layers_that_need_all_their_filters_are_left_alone():
    assert OneFilter.of(network(groups=1, activation="softmax"), "conv") is None
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2D(4, 3, groups=2, name="grouped"),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.Flatten(),
            layers.Dense(2, name="dense"),
        ]
    )
    net = Network(model)
    for name in ("grouped", "depthwise", "dense"):
        assert OneFilter.of(net, name) is None


@pytest.mark.parametrize(
    ("options", "is_alone"),
    [
        ({"kernel_size": 7, "strides": 2}, True),
        ({"kernel_size": 11, "strides": 4}, False),
        ({"kernel_size": 8, "strides": 8}, False),
    ],
)
def test_all_filters_are_computed_where_large_strides_make_them_cheaper(options, is_alone):
    net = network(padding="same", filters=96, **options)
    assert (OneFilter.of(net, "conv") is not None) == is_alone


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="counts TensorFlow's values")
def test_the_gradient_of_many_taps_takes_no_memory_for_each():
    """AlexNet's first kernel has 121 taps: a gradient for each would be 121 stacks of maps."""
    import tensorflow as tf

    net = network(kernel_size=11, padding="same", filters=256)
    images = tf.random.uniform((2, 11, 14, 4))

    @tf.function
    def gradient(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            before, _ = OneFilter.of(net, "conv")(images, tf.zeros(2, tf.int32))
        return tape.gradient(before, images)

    graph = gradient.get_concrete_function(images).graph
    stack = 121 * 2 * 21 * 24  # the products of all taps, padded
    values = sum(t.shape.num_elements() or 0 for op in graph.get_operations() for t in op.outputs)
    assert values < 20 * stack


@pytest.mark.slow
def test_the_ascent_is_that_of_the_whole_layer(tiny_network, monkeypatch):
    one = maximize(tiny_network, "conv_b", steps=10, seed=8)
    monkeypatch.setattr(OneFilter, "of", classmethod(lambda *_: None))
    whole = maximize(Network(tiny_network.model), "conv_b", steps=10, seed=8)
    np.testing.assert_allclose(one.images, whole.images, atol=1e-4)
