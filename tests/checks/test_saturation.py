"""Saturation: weights and pixels that are too large are found, and the layer is named."""

from __future__ import annotations

import numpy as np
import pytest

from convlens import assert_not_saturated
from convlens.checks.saturation import LARGEST_MARGIN
from convlens.fixtures.defects import plant


def test_a_trained_network_passes(mnist_cnn, digits):
    margins = assert_not_saturated(mnist_cnn, digits.images)
    assert margins.shape == (200,)
    assert 0 < np.median(margins) < 40


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "layer",
    [
        "conv2d_1",
        "predictions",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("conv2d_3", "dense_1")),
    ],
)
def test_exploding_weights_are_named(mnist_cnn, digits, layer):
    with pytest.raises(AssertionError, match=f"grow most in layer '{layer}'"):
        assert_not_saturated(plant(mnist_cnn, "exploding-scale", layer), digits.images)


def test_pixels_of_another_range_are_found(mnist_cnn, digits):
    with pytest.raises(AssertionError, match="saturated for most of 200 images"):
        assert_not_saturated(mnist_cnn, digits.images * 255)


def test_the_limit_is_where_float32_ends():
    # exp(-margin) of the second class is the smallest normal number.
    assert np.exp(-LARGEST_MARGIN) == pytest.approx(np.finfo(np.float32).tiny)


def test_the_margin_is_held(mnist_cnn, digits):
    median = float(np.median(assert_not_saturated(mnist_cnn, digits.images)))
    assert_not_saturated(mnist_cnn, digits.images, margin=median)
    with pytest.raises(AssertionError, match="saturated"):
        assert_not_saturated(mnist_cnn, digits.images, margin=median * 0.999)
