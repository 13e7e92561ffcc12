"""Checks of networks of series and volumes: healthy ones pass, planted defects fail."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from convlens import (
    assert_activation_increases,
    assert_deconv_round_trip,
    assert_gram_symmetric,
    assert_no_dead_filters,
    assert_no_duplicate_filters,
    gram_matrix,
    maximize,
)
from convlens.checks.finite_weights import assert_finite_weights
from convlens.drawings import draw_activations, draw_maximized, draw_reconstructions
from convlens.engine.model.network import Network
from convlens.lens import Lens
from convlens.pictures.synthetic import synthetic_images

RANKS = {1: (layers.Conv1D, (24, 2)), 3: (layers.Conv3D, (6, 8, 8, 1))}


def healthy(rank):
    """Return a small network with two convolutions, the second behind a batch normalization."""
    convolution, shape = RANKS[rank]
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input(shape),
            convolution(
                4, 3, padding="same", activation="relu", bias_initializer="ones", name="first"
            ),
            convolution(5, 3, strides=2, use_bias=False, name="second"),
            layers.BatchNormalization(beta_initializer=keras.initializers.Constant(2)),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ],
        name=f"rank_{rank}",
    )
    return model, synthetic_images(shape, count=12)


@pytest.fixture(params=RANKS, scope="module")
def case(request):
    model, images = healthy(request.param)
    return Network(model), images, [v.numpy() for v in model.weights]


@pytest.fixture(autouse=True)
def weights_restored(case):
    network, _, weights = case
    yield
    network.model.set_weights(weights)


@pytest.mark.quick(1)
def test_a_healthy_network_passes(case):
    network, images, _ = case
    assert_finite_weights(network)
    assert_no_dead_filters(network, images)
    assert_no_duplicate_filters(network, images)
    assert_deconv_round_trip(network, images[:2], "second")


@pytest.mark.quick(1)
def test_the_ascent_raises_units(case):
    network, _, _ = case
    found = maximize(network, "first", [0, 1], steps=8)
    assert (found.trace[-1] > found.trace[0]).all()
    assert_activation_increases(network, found)


def test_a_dead_filter_is_named(case):
    network, images, _ = case
    bias = network.layers["first"].bias
    bias.assign(np.where(np.arange(4) == 2, -100, bias.numpy()))
    with pytest.raises(AssertionError, match="units 2"):
        assert_no_dead_filters(network, images)


def test_a_duplicate_is_named(case):
    network, images, _ = case
    kernel = network.layers["first"].kernel.numpy()
    kernel[..., 3] = kernel[..., 1]
    network.layers["first"].kernel.assign(kernel)
    with pytest.raises(AssertionError, match="first"):
        assert_no_duplicate_filters(network, images)


def test_a_weight_that_is_not_finite_is_named(case):
    network, _, _ = case
    kernel = network.layers["second"].kernel.numpy()
    kernel[(0,) * kernel.ndim] = np.nan
    network.layers["second"].kernel.assign(kernel)
    with pytest.raises(AssertionError, match="second"):
        assert_finite_weights(network)


@pytest.mark.parametrize("shape", [(2, 7, 3), (2, 3, 4, 5, 3)])
def test_a_gram_matrix_sums_over_all_positions(shape):
    features = np.random.default_rng(0).random(shape, dtype=np.float32)
    gram = gram_matrix(features, "positions")
    rows = features.reshape(2, -1, 3).astype(np.float64)
    expected = np.einsum("npi,npj->nij", rows, rows) / rows.shape[1]
    np.testing.assert_allclose(gram, expected, rtol=1e-5)
    assert_gram_symmetric(gram, features, divisor="positions")
    gram[1, 0, 2] += 0.1
    with pytest.raises(AssertionError, match="is no Gram matrix"):
        assert_gram_symmetric(gram, features, divisor="positions")


def test_pictures_are_drawn(case):
    network, images, _ = case
    lens = Lens(network, images)
    found = maximize(network, "first", [0, 1], steps=2)
    for figure in (
        draw_activations(lens, "first"),
        draw_reconstructions(lens, "first", units=1),
        draw_maximized(found),
    ):
        assert figure.image().size[0] > 100


@pytest.mark.slow
def test_a_transformation_of_an_ascent_works_in_every_number_of_dimensions(case):
    network, _, _ = case
    found = maximize(network, "first", [0], steps=2, scale=(0.9, 1.1), rotation=5, basis="fourier")
    assert np.isfinite(found.images).all()
