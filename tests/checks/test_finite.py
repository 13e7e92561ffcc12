"""Values that are not numbers are found and located."""

from __future__ import annotations

import numpy as np
import pytest

from convlens import Network, activations, assert_finite
from convlens.checks.finite_weights import assert_finite_weights


def test_a_healthy_model_and_its_activations_pass(mnist_cnn, mnist_network, digits):
    assert sum(assert_finite(mnist_cnn).values()) == 113_514
    assert assert_finite(mnist_network) == assert_finite(mnist_cnn)
    assert_finite(activations(mnist_network, digits.images))


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "1 NaN, 0 inf"), (-np.inf, "0 NaN, 1 inf")])
def test_a_bad_weight_is_located(tiny, value, kind):
    kernel, bias = tiny.get_layer("conv_b").get_weights()
    kernel[1, 2, 3, 4] = value
    tiny.get_layer("conv_b").set_weights([kernel, bias])
    with pytest.raises(AssertionError) as failure:
        assert_finite(tiny)
    assert "conv_b/kernel: 1 of 270 values" in str(failure.value)
    assert kind in str(failure.value)
    assert "the first at (1, 2, 3, 4)" in str(failure.value)


def test_a_networks_weights_whose_sum_overflows_are_finite(tiny):
    """The sum is a quick look; where it says nothing, each value is looked at."""
    layer = tiny.get_layer("conv_b")
    kernel, bias = layer.get_weights()
    layer.set_weights([np.full_like(kernel, 3e38), bias])
    assert_finite_weights(Network(tiny))
    kernel[0, 0, 0, 0], kernel[1, 1, 1, 1] = np.inf, -np.inf
    layer.set_weights([kernel, bias])
    with pytest.raises(AssertionError, match=r"layer 'conv_b', kernel: 2 of 270 values \(0 NaN"):
        assert_finite_weights(Network(tiny))


def test_arrays_are_named():
    with pytest.raises(AssertionError, match=r"b: 1 of 2 values"):
        assert_finite({"a": np.zeros(3), "b": np.array([0, np.inf])})
    assert assert_finite(np.ones((2, 2)), name="one array") == {"values": 4}


@pytest.mark.parametrize("nothing", [{}, {"a": np.zeros(0)}, np.zeros(0)])
def test_nothing_to_examine_never_passes(nothing):
    with pytest.raises(AssertionError, match="nothing to examine"):
        assert_finite(nothing)
