"""Similarity of hidden layers: the estimate, units without a partner, and no verdict."""

from __future__ import annotations

import numpy as np
import pytest

from convlens import Network, assert_no_regression
from convlens.compare.retrained.hidden import compare_hidden
from convlens.fixtures.defects import plant


@pytest.fixture(scope="module")
def given(mnist_cnn, digits):
    return Network(mnist_cnn), digits[0]


def test_a_model_is_like_itself(given):
    network, images = given
    found = compare_hidden(network, network, images)
    assert [x.layer for x in found] == [*network.conv_layers, "dense_1", "predictions"]
    assert all(x.cka == pytest.approx(1, abs=1e-4) for x in found)
    assert all(x.lost == () for x in found)
    assert [x.units for x in found] == [24, 48, 64, 128, 10]


def test_permuted_units_change_nothing(given, mnist_cnn):
    network, images = given
    other = Network(plant(mnist_cnn, "permuted-channels", "conv2d_1"))
    first = compare_hidden(other, network, images)[0]
    assert first.cka == pytest.approx(1, abs=1e-4)
    assert first.lost == ()


def test_the_estimate_is_the_definition():
    """Of one batch it is the ratio of unbiased HSIC (Song et al. 2012, eq. 5)."""
    from convlens.compare.retrained.hidden import _alignments, _ratio

    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(40, 5)), draw.normal(size=(40, 7))
    b[:, :3] += a[:, :3]

    def hsic(k, m):
        n = len(k)
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        one = np.ones(n)
        return (
            np.trace(k @ m)
            + one @ k @ one * (one @ m @ one) / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (one @ k @ m @ one)
        ) / (n * (n - 3))

    k, m = a @ a.T, b @ b.T
    expected = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
    assert _ratio(_alignments(a, b)) == pytest.approx(expected)
    unlike = _ratio(_alignments(draw.normal(size=(60, 9)), draw.normal(size=(60, 9))))
    assert unlike < 0.2  # features of another origin; the biased estimate gives 0.3 and more


def test_units_without_a_partner(given, mnist_cnn):
    network, images = given
    found = compare_hidden(Network(plant(mnist_cnn, "reinitialized", "dense_1")), network, images)
    by_layer = {x.layer: x for x in found}
    assert by_layer["conv2d_3"].lost == ()
    assert by_layer["dense_1"].lost
    assert by_layer["dense_1"].cka < 0.9 < by_layer["conv2d_3"].cka


def test_a_unit_without_a_partner_is_found():
    from convlens.compare.retrained.hidden import _partners

    old = np.random.default_rng(0).normal(size=(200, 4))
    new = old[:, [1, 0, 3]] * 3 + 1
    old[:, 3] = 7.0  # a dead unit has no partner, and was not lost
    assert _partners([(new[:90], old[:90]), (new[90:], old[90:])]) == (4, (2,))


def test_it_judges_nothing(mnist_cnn, digits):
    """Other features and the same answers pass."""
    from convlens.fixtures.mnist_cnn import build_mnist_cnn

    other = build_mnist_cnn()
    other.set_weights(mnist_cnn.get_weights())
    kernel, bias = other.get_layer("dense_1").get_weights()
    order = np.random.default_rng(0).permutation(128)
    scale = np.geomspace(0.1, 10, 128).astype(np.float32)
    other.get_layer("dense_1").set_weights([(kernel * scale)[:, order], (bias * scale)[order]])
    kernel, bias = other.get_layer("predictions").get_weights()
    other.get_layer("predictions").set_weights([(kernel / scale[:, None])[order], bias])
    found = assert_no_regression(other, mnist_cnn, *digits)
    assert {x.layer: x.cka for x in found.hidden}["dense_1"] < 0.9
