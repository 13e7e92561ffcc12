"""Compare receptive fields with the pixels where a position's derivative is not zero."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from convlens import Network, receptive_field
from convlens.engine.model.receptive_field import Box
from convlens.engine.runtime import backend


def plain(padding, strides, dilation, pool):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((21, 18, 1)),
            layers.Conv2D(2, (3, 2), padding=padding, strides=strides, name="a"),
            layers.AveragePooling2D(*pool, padding=padding, name="b"),
            layers.Conv2D(2, 3, padding="same", dilation_rate=dilation, name="top"),
        ]
    )


def branched():
    keras.utils.set_random_seed(1)
    x = keras.Input((20, 20, 2))
    a = layers.Conv2D(3, 5, padding="same", activation="sigmoid")(x)
    b = layers.SeparableConv2D(3, 3, padding="same")(layers.BatchNormalization()(a))
    c = layers.ZeroPadding2D(((2, 0), (1, 1)))(layers.Cropping2D(((1, 1), (0, 2)))(a))
    y = layers.Concatenate()([layers.Add()([a, b]), c]) if c.shape[1:3] == a.shape[1:3] else a
    y = layers.DepthwiseConv2D(3, strides=2, padding="same")(y)
    y = layers.UpSampling2D(2)(y)
    return keras.Model(x, layers.Conv2DTranspose(2, 3, strides=2, padding="same", name="top")(y))


def nested():
    keras.utils.set_random_seed(2)
    inner = keras.Sequential(
        [keras.Input((12, 12, 1)), layers.Conv2D(1, 3, padding="same")], name="inner"
    )
    x = keras.Input((12, 12, 1))
    return keras.Model(x, layers.AveragePooling2D(2, name="top")(inner(inner(x))))


def swapped():
    """Swap the color channels one by one, as Keras's preprocessing does."""
    keras.utils.set_random_seed(3)
    x = keras.Input((15, 15, 3))
    y = ops.stack([x[..., 2], x[..., 1], x[..., 0]], axis=-1) + np.ones((1, 1, 1, 3), np.float32)
    return keras.Model(x, layers.Conv2D(2, 3, padding="same", name="top")(y))


def reached(network, layer, position):
    """Return the box of the pixels with a nonzero derivative for any of a few random images."""
    h, w, c = network.input_shape
    x = ops.convert_to_tensor(np.random.default_rng(3).random((8, h, w, c), dtype=np.float32))
    maps, pullback = backend.vjp(lambda x: network.run(x, [network.outputs[layer]])[0], x)
    signal = np.zeros(maps.shape, np.float32)
    signal[:, position[0], position[1]] = np.random.default_rng(4).random(maps.shape[-1])
    touched = np.abs(np.asarray(pullback(ops.convert_to_tensor(signal)))).max(axis=(0, -1)) > 0
    rows, columns = np.flatnonzero(touched.any(axis=1)), np.flatnonzero(touched.any(axis=0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


@pytest.mark.parametrize(
    "build",
    [
        lambda: plain("same", 1, 1, (2, 2)),
        lambda: plain("valid", 2, 1, (3, 2)),
        lambda: plain("same", 2, 2, (2, 1)),
        lambda: plain("valid", 1, 2, (2, 3)),
        branched,
        nested,
        swapped,
    ],
)
def test_it_is_where_the_derivative_reaches(build):
    network = Network(build())
    h, w = network.input_shape[:2]
    rows, columns = network.outputs["top"].shape[1:3]
    for at in [(0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1), (1, columns - 2)]:
        field = receptive_field(network, "top", at, (h, w))
        assert field == reached(network, "top", at)


def test_three_convolutions_and_pools_see_what_the_hand_count_says(mnist_network):
    """18 = 3 + 1 + 2·2 + 2 + 4·2: kernels of 3 at strides 1, 2 and 4, pools of 2 at 1 and 2."""
    assert receptive_field(mnist_network, "conv2d_3", (3, 3), (28, 28)) == Box(5, 5, 23, 23)
    for at, cut, whole in [
        ("conv2d_1", Box(0, 0, 2, 2), Box(-1, -1, 2, 2)),
        ("conv2d_3", Box(0, 0, 11, 11), Box(-7, -7, 11, 11)),
    ]:
        assert receptive_field(mnist_network, at, (0, 0), (28, 28)) == cut
        assert receptive_field(mnist_network, at, (0, 0), (28, 28), padded=True) == whole


def test_a_gate_does_not_widen_the_field_but_a_mixture_of_positions_does():
    x = keras.Input((8, 8, 4))
    y = layers.Conv2D(4, 3, padding="same", name="conv")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(y)
    gated = layers.Multiply(name="gated")([y, layers.Conv2D(4, 1, activation="sigmoid")(gate)])
    mixed = layers.Reshape((8, 8, 4), name="mixed")(
        layers.Permute((2, 1))(layers.Reshape((64, 4))(gated))
    )
    network = Network(keras.Model(x, mixed))
    assert receptive_field(network, "gated", (4, 4), (8, 8)) == Box(3, 3, 6, 6)
    assert receptive_field(network, "mixed", (4, 4), (8, 8)) == Box(0, 0, 8, 8)


def test_a_vector_sees_the_whole_image(tiny_network):
    assert receptive_field(tiny_network, "classes", (0, 0), (13, 13)) == Box(0, 0, 13, 13)


def test_images_of_any_size():
    model = keras.Sequential(
        [keras.Input((None, None, 1)), layers.Conv2D(2, 5, strides=3, padding="same", name="conv")]
    )
    network = Network(model)
    # 'same' on 20 pixels: 7 windows cover (7 - 1)·3 + 5 = 23, so one pixel of padding in front.
    assert receptive_field(network, "conv", (1, 0), (20, 20)) == Box(2, 0, 7, 4)
