"""Explanations that rank pixels as the class does, and ones that do not."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from convlens import Network, assert_faithful, deconvolve, occlude
from convlens.engine.ascent.scores import class_scores


@pytest.fixture(scope="module")
def some(digits):
    return digits.images[::10], digits.labels[::10]


def times_input(network, images, classes):
    slope = deconvolve(network, images, None, classes, method="gradient").images
    return slope * images


@pytest.fixture(scope="module")
def product(mnist_network, some):
    return times_input(mnist_network, *some)


@pytest.fixture(scope="module")
def heat(mnist_network, some):
    return occlude(mnist_network, *some, value=0.0, patch=5, stride=1).heat


@pytest.mark.slow
def test_gradient_times_input_and_occlusion_pass(mnist_network, some, product, heat):
    for saliency in (product, heat):
        found = assert_faithful(mnist_network, some[0], saliency, some[1])
        assert found.random_deletion.shape == found.random_insertion.shape == (8, 20)
        assert found.deletion.mean() < found.random_deletion.mean() - 0.3
        assert found.insertion.mean() > found.random_insertion.mean() + 0.2
        assert found.own > 0.7
        np.testing.assert_array_equal(found.classes, some[1])


def shuffled(network, images, classes, product):
    draw = np.random.default_rng(3)
    return np.stack([draw.permutation(v.ravel()).reshape(v.shape) for v in product])


def negated(network, images, classes, product):
    return -product


def of_another_image(network, images, classes, product):
    return np.roll(product, 1, axis=0)


def of_another_class(network, images, classes, product):
    return times_input(network, images, np.argsort(class_scores(network, images), axis=1)[:, -2])


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "defect",
    [
        negated,
        pytest.param(shuffled, marks=pytest.mark.slow),
        pytest.param(of_another_image, marks=pytest.mark.slow),
        pytest.param(of_another_class, marks=pytest.mark.slow),
    ],
)
def test_an_explanation_of_something_else_is_found_out(mnist_network, some, product, defect):
    wrong = defect(mnist_network, *some, product)
    with pytest.raises(AssertionError) as error:
        assert_faithful(mnist_network, some[0], wrong, some[1])
    message = str(error.value)
    assert "of 20 images random orders of the pixels do as well as the explanation" in message
    assert "8 orders, each to be beaten and their mean by 0.05, in at least 60%" in message
    assert "deletion 0." in message
    assert message.count("\n") <= 11


@pytest.mark.slow
def test_explanations_of_the_other_images_are_found_out_where_they_beat_random_orders(
    mnist_network, some, heat
):
    wrong = np.roll(heat, 1, axis=0)
    with pytest.raises(AssertionError, match="suit other images as well as their own") as error:
        assert_faithful(mnist_network, some[0], wrong, some[1], fraction=0.2)
    assert "at least 70% must be won" in str(error.value)
    assert "its own wins" in str(error.value)


@pytest.mark.slow
def test_the_brightness_of_the_image_is_no_explanation(mnist_network, some):
    with pytest.raises(AssertionError, match="suit other images as well as their own"):
        assert_faithful(mnist_network, some[0], some[0], some[1])


def test_a_map_that_ranks_nothing_is_refused(mnist_network, some, product):
    flat = product.copy()
    flat[4] = 0.25
    with pytest.raises(AssertionError, match=r"1 of 20 .*\n  image 4: 0.25 everywhere"):
        assert_faithful(mnist_network, some[0], flat, some[1])


def test_nan_never_passes(mnist_network, some, product):
    wrong = product.copy()
    wrong[2, 3, 3] = np.nan
    with pytest.raises(AssertionError, match="explanation is not finite"):
        assert_faithful(mnist_network, some[0], wrong, some[1])


def test_outputs_that_are_not_numbers_never_pass(some, product):
    image = keras.Input((28, 28, 1))
    y = layers.Conv2D(1, 1, kernel_initializer="ones", name="conv")(image)
    y = layers.Dense(10, kernel_initializer="zeros", name="out")(layers.Flatten()(y))
    model = keras.Model(image, y, name="broken")
    kernel, bias = model.get_layer("out").get_weights()
    model.get_layer("out").set_weights([kernel, bias * np.nan])
    with pytest.raises(AssertionError, match="an area under a curve is not finite"):
        assert_faithful(Network(model), some[0], product, some[1])


def test_a_network_that_looks_at_nothing_never_passes(some, product):
    image = keras.Input((28, 28, 1))
    y = layers.Conv2D(1, 1, kernel_initializer="zeros", name="conv")(image)
    y = layers.Dense(10, activation="softmax", name="out")(layers.Flatten()(y))
    with pytest.raises(AssertionError, match="in 20 of 20 images"):
        assert_faithful(Network(keras.Model(image, y, name="blind")), some[0], product, some[1])


def test_one_image_is_held_against_random_orders_alone(mnist_network, some, product):
    found = assert_faithful(mnist_network, some[0][0], product[0], some[1][:1])
    assert np.isnan(found.own)
    with pytest.raises(AssertionError, match="in 1 of 1 images"):
        assert_faithful(mnist_network, some[0][0], -product[0], some[1][:1])


def test_a_seed_repeats(mnist_network, some, product):
    few = some[0][:4], product[:4], some[1][:4]
    one, again, other = (
        assert_faithful(mnist_network, *few, orders=2, seed=s).random_deletion for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_an_empty_selection_and_a_control_of_nothing_are_refused(mnist_network, some, product):
    with pytest.raises(ValueError, match="no image"):
        assert_faithful(mnist_network, some[0][:0], product[:0])
    for wrong in ({"orders": 0}, {"margin": 0}, {"fraction": 0}, {"own": np.nan}):
        with pytest.raises(ValueError, match="margin must be above 0"):
            assert_faithful(mnist_network, some[0], product, some[1], **wrong)
