"""Dead and duplicate filters, planted and not."""

from __future__ import annotations

import numpy as np
import pytest

from convlens import (
    assert_no_dead_filters,
    assert_no_duplicate_filters,
    filter_statistics,
)


def change(model, layer, edit):
    kernel, bias = model.get_layer(layer).get_weights()
    edit(kernel, bias)
    model.get_layer(layer).set_weights([kernel, bias])


def kill(kernel, bias, units=(2,)):
    for unit in units:
        kernel[..., unit], bias[unit] = -np.abs(kernel[..., unit]), -1


def duplicate(kernel, bias, scale=1.0):
    kernel[..., 4], bias[4] = scale * kernel[..., 1], scale * bias[1]


def test_healthy_networks_pass(mnist_network, digits, tiny_network, tiny_images):
    found = assert_no_dead_filters(mnist_network, digits.images)
    assert {name: len(s.high) for name, s in found.items()} == {
        "conv2d_1": 24,
        "conv2d_2": 48,
        "conv2d_3": 64,
    }
    assert_no_duplicate_filters(mnist_network, digits.images)
    assert_no_dead_filters(tiny_network, tiny_images, "conv_a")


@pytest.mark.slow
def test_the_trained_network_has_no_dead_filter_on_real_digits(mnist_network, mnist):
    images = mnist.x_test[:1000, ..., None].astype(np.float32) / 255
    assert_no_dead_filters(mnist_network, images)
    assert_no_duplicate_filters(mnist_network, images)


def test_a_dead_filter_is_named(tiny, tiny_images):
    change(tiny, "conv_a", kill)
    with pytest.raises(AssertionError) as failure:
        assert_no_dead_filters(tiny, tiny_images, "conv_a")
    assert "tiny has filters that never fire on 6 images" in str(failure.value)
    assert "layer 'conv_a': 1 of 6 are dead, units 2 (always 0)" in str(failure.value)
    assert assert_no_dead_filters(tiny, tiny_images, "conv_a", allowed=1)["conv_a"].dead == (2,)


def test_a_constant_filter_is_dead_too(tiny, tiny_images):
    def constant(kernel, bias):
        kernel[..., 0], bias[0] = 0, 3

    change(tiny, "conv_a", constant)
    with pytest.raises(AssertionError, match=r"units 0 \(always 3\)"):
        assert_no_dead_filters(tiny, tiny_images, "conv_a")


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_duplicate_is_named_also_when_scaled(tiny, tiny_images, scale):
    change(tiny, "conv_a", lambda k, b: duplicate(k, b, scale))
    with pytest.raises(AssertionError, match=r"layer 'conv_a': units 1 and 4, cosine 1\.0000"):
        assert_no_duplicate_filters(tiny, tiny_images, "conv_a")


def test_a_filter_that_is_nearly_the_same_is_no_duplicate(tiny, tiny_images):
    def nearly(kernel, bias):
        kernel[..., 4] = kernel[..., 1] * (1 + 0.05 * np.arange(9).reshape(3, 3, 1))

    change(tiny, "conv_a", nearly)
    assert_no_duplicate_filters(tiny, tiny_images, "conv_a")


def test_a_layer_of_dead_filters_has_nothing_to_compare(tiny, tiny_images):
    change(tiny, "conv_a", lambda k, b: kill(k, b, range(6)))
    with pytest.raises(AssertionError, match="all 6 filters are dead"):
        assert_no_duplicate_filters(tiny, tiny_images, "conv_a")
    with pytest.raises(AssertionError, match="6 of 6 are dead, units 0, 1, 2, 3, 4, 5 "):
        assert_no_dead_filters(tiny, tiny_images, "conv_a")


def test_nan_never_passes(tiny, tiny_images):
    change(tiny, "conv_a", lambda k, b: k.__setitem__((0, 0, 0, 3), np.nan))
    for check in (assert_no_dead_filters, assert_no_duplicate_filters):
        with pytest.raises(AssertionError, match="layer 'conv_a', kernel: 1 of 108 values"):
            check(tiny, tiny_images, "conv_a")


def test_nothing_to_examine_is_refused():
    with pytest.raises(ValueError, match="units\\) is needed"):
        filter_statistics(np.zeros((0, 2, 2, 3)))
    with pytest.raises(ValueError, match="unit 1 is not finite"):
        filter_statistics(np.array([[0.0, np.inf], [1.0, 2.0]]))
