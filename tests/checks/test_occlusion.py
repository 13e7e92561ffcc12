"""The checks of occlusion: a healthy network, and ones that look at the wrong thing."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers, ops

from convlens import Network, assert_occlusion_on_object, assert_occlusion_sensitive, occlude


@pytest.fixture(scope="module")
def some(digits):
    return digits.images[::10], digits.labels[::10]


@pytest.fixture(scope="module")
def healthy(mnist_network, some):
    return occlude(mnist_network, *some, value=0.0)


@pytest.fixture(scope="module")
def strokes(some):
    return some[0][..., 0] > 0.5


def built(function):
    image = keras.Input((28, 28, 1))
    x = layers.Conv2D(1, 1, use_bias=False, kernel_initializer="ones", name="conv")(image)
    return Network(keras.Model(image, layers.Softmax(name="out")(function(x)), name="planted"))


def test_the_shipped_network_hangs_on_the_strokes(healthy, strokes):
    falls = assert_occlusion_sensitive(healthy)
    assert falls.min() > 0.1
    means = assert_occlusion_on_object(healthy, strokes)
    assert (means[:, 0] > 2 * means[:, 1]).all()


def test_a_network_that_ignores_its_image_is_caught(some, strokes):
    constant = built(lambda x: layers.Dense(10, kernel_initializer="zeros")(layers.Flatten()(x)))
    found = occlude(constant, *some, value=0.0)
    with pytest.raises(AssertionError, match="hiding parts of 20 of 20 images does not"):
        assert_occlusion_sensitive(found)
    with pytest.raises(AssertionError, match="does not depend on the object") as caught:
        assert_occlusion_on_object(found, strokes)
    assert "and 10 more" in str(caught.value)


def test_a_network_that_reads_a_mark_in_the_corner_is_caught(some, strokes):
    """Clever Hans: the class is written into a corner, and read there."""
    images, labels = some[0].copy(), some[1]
    images[:, 0, :10, 0] = np.eye(10)[labels]
    hans = built(lambda x: 9 * layers.Flatten()(x[:, :1, :10]) + 0.01 * ops.mean(x))
    found = occlude(hans, images, labels, value=0.0)
    assert_occlusion_sensitive(found)  # it does look at the image
    with pytest.raises(AssertionError, match="in 20 of 20 images") as caught:
        assert_occlusion_on_object(found, strokes)
    assert "on the background" in str(caught.value)


def test_a_share_of_the_images_may_fail_where_it_is_allowed(healthy, strokes):
    swapped = strokes.copy()
    swapped[0] = ~swapped[0]
    with pytest.raises(AssertionError, match="in 1 of 20 images"):
        assert_occlusion_on_object(healthy, swapped)
    assert_occlusion_on_object(healthy, swapped, fraction=0.9)


def test_a_patch_that_hides_nothing_is_caught(mnist_network, some, strokes):
    found = occlude(mnist_network, np.zeros_like(some[0]), some[1], value=0.0)
    for check in (assert_occlusion_sensitive, lambda o: assert_occlusion_on_object(o, strokes)):
        with pytest.raises(AssertionError, match="hides nothing: image 0"):
            check(found)


def test_nan_never_passes(healthy, strokes):
    scores = healthy.scores.copy()
    scores[3, 0] = np.nan
    broken = replace(healthy, scores=scores)
    for check in (assert_occlusion_sensitive, lambda o: assert_occlusion_on_object(o, strokes)):
        with pytest.raises(AssertionError, match="is not finite"):
            check(broken)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m[:3], r"masks must have shape \(20, 28, 28\)"),
        (lambda m: np.zeros_like(m), "mask of image 0 is empty"),
        (lambda m: np.ones_like(m), "as large as the image"),
    ],
)
def test_masks_that_do_not_fit_are_refused(healthy, strokes, change, message):
    with pytest.raises(ValueError, match=message):
        assert_occlusion_on_object(healthy, change(strokes))
