"""Batch normalizations: lost statistics are found; untrained and folded ones are not blamed."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from convlens import assert_batch_norm_trained
from convlens.fixtures.defects import plant


def network(**options: bool) -> keras.Model:
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, name="conv")(image)
    x = layers.BatchNormalization(name="first", **options)(x)
    x = layers.BatchNormalization(name="second", **options)(x)
    return keras.Model(image, layers.GlobalAveragePooling2D()(x), name="net")


def trained(**options: bool) -> keras.Model:
    model = network(**options)
    draw = np.random.default_rng(0)
    model.set_weights([draw.uniform(0.5, 2, w.shape) for w in model.weights])
    return model


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}])
def test_lost_statistics_are_found_and_named(options):
    model = trained(**options)
    assert assert_batch_norm_trained(model) == {"first": True, "second": True}
    with pytest.raises(AssertionError, match="layer 'second'") as failed:
        assert_batch_norm_trained(plant(model, "reset-batch-norm", "second"))
    assert "'first'" not in str(failed.value)


def test_layers_that_were_never_trained_or_were_folded_pass():
    assert assert_batch_norm_trained(network()) == {"first": False, "second": False}


def test_a_moved_variance_alone_is_a_statistic():
    model = plant(trained(), "reset-batch-norm", "first")
    model.get_layer("first").moving_variance.assign(np.full(4, 1.5))
    assert assert_batch_norm_trained(model, "first") == {"first": True}


def test_bad_input(mnist_cnn):
    with pytest.raises(ValueError, match="no batch normalization"):
        assert_batch_norm_trained(mnist_cnn)
    with pytest.raises(ValueError, match="'conv' is, or has, no batch normalization"):
        assert_batch_norm_trained(network(), "conv")
    with pytest.raises(ValueError, match="no layer 'frist': did you mean 'first'"):
        assert_batch_norm_trained(network(), "frist")
