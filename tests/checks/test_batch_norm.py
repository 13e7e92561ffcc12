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


FRESH = {
    "zeros": {"gamma_initializer": "zeros"},
    "constants": {
        "gamma_initializer": keras.initializers.Constant(1.5),
        "beta_initializer": keras.initializers.Constant(0.2),
        "moving_mean_initializer": keras.initializers.Constant(0.1),
        "moving_variance_initializer": keras.initializers.Constant(2.0),
    },
    "random": {"gamma_initializer": keras.initializers.RandomNormal(1.0, 0.1)},
    "seeded": {"gamma_initializer": keras.initializers.RandomNormal(1.0, 0.1, seed=3)},
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("case", FRESH)
def test_what_the_layers_own_initializers_give_was_never_trained(case, saved, tmp_path):
    model = network(**FRESH[case])
    if saved:  # an initializer without a seed draws anew in the loaded model
        model.save(tmp_path / "m.keras")
        model = keras.saving.load_model(tmp_path / "m.keras")
    assert assert_batch_norm_trained(model) == {"first": False, "second": False}


@pytest.mark.parametrize("case", FRESH)
def test_a_trained_shift_with_initial_statistics_is_found_whatever_the_initializers(case):
    model = network(**FRESH[case])
    model.get_layer("second").beta.assign([0.3, 0.2, 0.2, -0.1])
    with pytest.raises(AssertionError, match=r"layer 'second' \(mean 0(\.1)?, variance (1|2)\)"):
        assert_batch_norm_trained(model)


def test_a_scale_of_zeros_that_was_trained_in_one_channel_is_found():
    model = network(gamma_initializer="zeros")
    model.get_layer("first").gamma.assign([0, 0, 1e-3, 0])
    with pytest.raises(AssertionError, match="layer 'first'"):
        assert_batch_norm_trained(model)


def test_numbers_that_were_folded_away_pass_whatever_the_initializers():
    model = network(gamma_initializer="zeros")
    for name in ("first", "second"):
        model.get_layer(name).gamma.assign(np.ones(4))
    assert assert_batch_norm_trained(model) == {"first": False, "second": False}


def test_bad_input(mnist_cnn):
    with pytest.raises(ValueError, match="no batch normalization"):
        assert_batch_norm_trained(mnist_cnn)
    with pytest.raises(ValueError, match="'conv' is, or has, no batch normalization"):
        assert_batch_norm_trained(network(), "conv")
    with pytest.raises(ValueError, match="no layer 'frist': did you mean 'first'"):
        assert_batch_norm_trained(network(), "frist")
