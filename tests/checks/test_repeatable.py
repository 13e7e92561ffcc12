"""Repeatability: what is random, or depends on the batch, is found and named."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from convlens import assert_repeatable


def network(*, dropout: bool | None = None, norm: bool | None = None, noise: bool = False):
    keras.utils.set_random_seed(1)
    image = keras.Input((9, 9, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="first")(image)
    x = layers.BatchNormalization(name="norm")(x, training=norm)
    x = layers.Dropout(0.5, name="dropout")(x, training=dropout)
    if noise:
        x = layers.GaussianNoise(0.1, name="noise")(x, training=True)
    return keras.Model(image, layers.Dense(3, name="last")(layers.Flatten()(x)), name="net")


IMAGES = np.random.default_rng(0).random((6, 9, 9, 3), np.float32)


def test_a_healthy_network_passes(mnist_cnn, digits):
    found = assert_repeatable(mnist_cnn, digits.images[:8])
    assert next(iter(found)) == "conv2d_1"
    assert max(found.values()) < 1e-5
    assert max(assert_repeatable(network(), IMAGES).values()) < 1e-5


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (network(dropout=True), "layer 'dropout' is the first that gives .* another output each"),
        (network(noise=True), "layer 'noise' is the first that gives"),
        (network(norm=True), "layer 'norm' is the first whose output .* depends on the others"),
        (network(norm=True, dropout=True), "layer 'norm' is the first whose"),
    ],
)
def test_planted_defects_are_named(model, message):
    with pytest.raises(AssertionError, match=message):
        assert_repeatable(model, IMAGES)


def test_the_tolerance_is_held():
    with pytest.raises(AssertionError, match="tolerance 0"):
        assert_repeatable(network(norm=True), IMAGES, tol=0)
    assert_repeatable(network(norm=True), IMAGES, tol=100)


def test_one_image_is_no_batch():
    with pytest.raises(ValueError, match="at least two images are needed"):
        assert_repeatable(network(), IMAGES[:1])
