"""Repeatability: what is random, or depends on the batch, is found and named."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

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


@pytest.mark.quick(1)
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


def around(inner, **options):
    """Put a layer or model, called with the given options, into a network."""
    image = keras.Input((9, 9, 3))
    return keras.Model(image, layers.Conv2D(2, 3, name="last")(inner(image, **options)), name="net")


def nested(*inside):
    return keras.Sequential(
        [keras.Input((9, 9, 3)), keras.Sequential([keras.Input((9, 9, 3)), *inside], name="deep")],
        name="inner",
    )


class Scaled(layers.Layer):
    """Neither random nor of the batch, but another function in training."""

    def call(self, x, training=None):
        return 2 * x if training else x


class AlwaysDropout(layers.Dropout):
    def call(self, x, training=None):
        return super().call(x, training=True)


class Noisy(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal(ops.shape(x), seed=self.seeds)


@pytest.mark.parametrize(
    "build",
    [
        lambda: around(layers.RandomFlip()),
        lambda: around(nested(layers.RandomRotation(0.2), layers.GaussianNoise(0.5))),
        lambda: around(nested(layers.Dropout(0.5)), training=False),
        lambda: around(Scaled()),
    ],
)
def test_augmentation_as_the_tutorials_build_it_is_no_defect(build):
    model = build()
    assert max(assert_repeatable(model, IMAGES).values()) < 1e-5


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: around(nested(layers.Dropout(0.5, name="drop")), training=True),
            r"layer 'inner\.deep\.drop' is the first that gives the same images another",
        ),
        (
            lambda: around(nested(layers.RandomFlip(name="flip")), training=True),
            # It may draw the same flips twice, but not for each image alone too.
            r"layer 'inner\.deep\.flip' is the first (that gives the same|whose output)",
        ),
        (
            lambda: around(nested(layers.BatchNormalization(name="norm")), training=True),
            r"layer 'inner\.deep\.norm' is the first whose output .* depends on the others",
        ),
        (
            lambda: around(Scaled(name="scaled"), training=True),
            r"layer 'scaled' is the first that gives other outputs in model\(x\) than in "
            r"model\.predict\(x\): they differ by 1 of .* leave the argument out",
        ),
        (lambda: around(AlwaysDropout(0.5, name="drop")), "layer 'drop' is the first that gives"),
        (
            lambda: around(Noisy(name="noise")),
            "layer 'noise' is the first (that gives|whose output)",
        ),
    ],
)
def test_what_the_graph_or_a_layer_leaves_on_is_named(build, message):
    with pytest.raises(AssertionError, match=message):
        assert_repeatable(build(), IMAGES)


def test_the_model_has_its_own_variables_again():
    model = network(norm=True, dropout=True)
    before = [np.array(ops.convert_to_numpy(v)) for v in model.variables]
    with pytest.raises(AssertionError):
        assert_repeatable(model, IMAGES)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)


def test_the_tolerance_is_held():
    with pytest.raises(AssertionError, match="tolerance 0"):
        assert_repeatable(network(norm=True), IMAGES, tol=0)
    assert_repeatable(network(norm=True), IMAGES, tol=100)


def test_one_image_is_no_batch():
    with pytest.raises(ValueError, match="at least two images are needed"):
        assert_repeatable(network(), IMAGES[:1])


class Shifted(layers.Layer):
    """Changes the last image of a batch of two, as no image alone."""

    def call(self, x):
        last = ops.expand_dims(ops.arange(ops.shape(x)[0]) % 2 == 1, (1, 2, 3))
        return ops.where(last, x + 1, x)


@pytest.mark.quick(1)
@pytest.mark.parametrize("count", [2, 3, 6])
def test_every_image_is_compared_with_itself_alone(count):
    with pytest.raises(AssertionError, match="layer 'shifted' is the first whose output"):
        assert_repeatable(around(Shifted(name="shifted")), IMAGES[:count])
    assert_repeatable(network(), IMAGES[:count])
