"""The count of operations agrees with counts by hand."""

from __future__ import annotations

import keras
import pytest
from keras import layers

from convlens import Network
from convlens.engine.model.flops import ascent_flops, forward_flops


def test_the_count_of_the_shipped_network_agrees_with_a_count_by_hand(mnist_cnn):
    network = Network(mnist_cnn)
    by_hand = [
        2 * 28 * 28 * 24 * 3 * 3 * 1,  # conv2d_1, 3×3, one color
        2 * 14 * 14 * 48 * 3 * 3 * 24,
        2 * 7 * 7 * 64 * 3 * 3 * 48,
    ]
    for i, name in enumerate(("conv2d_1", "conv2d_2", "conv2d_3")):
        assert forward_flops(network, name, (28, 28, 1)) == sum(by_hand[: i + 1])
    assert ascent_flops(network, "conv2d_3", (28, 28, 1)) == 2 * sum(by_hand)


@pytest.mark.slow
def test_the_count_of_vgg19_agrees_with_published_numbers():
    model = keras.applications.VGG19(weights=None)
    convolutions = 2 * 9 * 224**2 * (3 * 64 + 64 * 64)
    convolutions += 2 * 9 * 112**2 * (64 * 128 + 128 * 128)
    convolutions += 2 * 9 * 56**2 * (128 * 256 + 3 * 256 * 256)
    convolutions += 2 * 9 * 28**2 * (256 * 512 + 3 * 512 * 512)
    convolutions += 2 * 9 * 14**2 * 4 * 512 * 512
    dense = 2 * (7 * 7 * 512 * 4096 + 4096 * 4096 + 4096 * 1000)
    counted = forward_flops(Network(model), "predictions", (224, 224, 3))
    assert counted == convolutions + dense
    assert counted / 2e9 == pytest.approx(19.6, abs=0.1)  # multiply-adds, as often quoted


def test_each_kind_of_convolution_is_counted():
    image = keras.Input((9, 9, 6))
    x = layers.DepthwiseConv2D(3, name="deep", depth_multiplier=2)(image)  # 7×7×12
    x = layers.SeparableConv2D(5, 3, name="apart", padding="same")(x)
    x = layers.Conv2DTranspose(4, 2, strides=2, name="up")(x)  # 14×14×4
    x = layers.Conv2D(8, 1, groups=2, name="grouped")(x)
    network = Network(keras.Model(image, x))
    deep = 2 * 7 * 7 * 12 * 9
    apart = deep + 2 * 7 * 7 * 12 * 9 + 2 * 7 * 7 * 12 * 5
    up = apart + 2 * 7 * 7 * 4 * 5 * 4
    grouped = up + 2 * 14 * 14 * 8 * 2
    counts = [forward_flops(network, n, (9, 9, 6)) for n in ("deep", "apart", "up", "grouped")]
    assert counts == [deep, apart, up, grouped]
