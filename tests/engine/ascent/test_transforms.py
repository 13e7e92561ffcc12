"""Jitter, scale and rotation: the transformed images and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from convlens import maximize
from convlens.engine.ascent.transforms import Transforms, resample
from convlens.engine.runtime import backend

EYE = np.eye(2, dtype=np.float32)


def seen(images, matrix):
    return np.asarray(resample(ops.convert_to_tensor(images), ops.convert_to_tensor(matrix)))


def images(shape, n=2):
    return np.random.default_rng(0).random((n, *shape), dtype=np.float32)


@pytest.mark.parametrize("shape", [(6, 9, 3), (7, 7, 1), (2, 2, 1), (1, 4, 1), (1, 1, 2)])
def test_no_change_is_the_identity(shape):
    x = images(shape)
    np.testing.assert_allclose(seen(x, EYE), x, atol=1e-6)


def test_a_quarter_turn_is_that_of_numpy():
    x = images((7, 7, 2))
    turn = np.float32([[0, -1], [1, 0]])
    np.testing.assert_allclose(seen(x, turn), np.rot90(x, -1, axes=(1, 2)), atol=1e-5)


def test_enlarging_shows_the_middle():
    x = images((9, 9, 1))
    double = seen(x, EYE / 2)
    np.testing.assert_allclose(double[:, ::2, ::2], x[:, 2:7, 2:7], atol=1e-6)


def test_beyond_the_edge_the_image_is_mirrored():
    ramp = np.broadcast_to(np.arange(5.0, dtype=np.float32)[None, None, :, None], (1, 5, 5, 1))
    half = seen(ramp, 2 * EYE)
    np.testing.assert_allclose(half[0, 2, :, 0], [2, 0, 2, 4, 2], atol=1e-6)


def test_the_gradient_is_the_transpose():
    """⟨resample(x), y⟩ = ⟨x, pullback(y)⟩ for any x and y."""
    matrix = Transforms(0, (0.9, 1.1), 20.0).matrices(np.ones(3), 5)[1]
    x, y = images((8, 6, 3)), images((8, 6, 3))[::-1].copy()
    out, pullback = backend.vjp(lambda t: resample(t, matrix), ops.convert_to_tensor(x))
    back = np.asarray(pullback(ops.convert_to_tensor(y)))
    assert (np.asarray(out) * y).sum() == pytest.approx((x * back).sum(), rel=1e-4)


def test_draws_fill_their_ranges_and_repeat_from_the_seed():
    transforms = Transforms(2, (0.8, 1.25), 30.0)
    matrices = transforms.matrices(np.ones(500), 3)
    factor = 1 / np.sqrt(np.linalg.det(matrices))
    angle = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert 0.8 <= factor.min() < 0.82
    assert 1.22 < factor.max() <= 1.2501
    assert -30 <= angle.min() < -28
    assert 28 < angle.max() <= 30
    np.testing.assert_array_equal(matrices, transforms.matrices(np.ones(500), 3))
    assert np.abs(matrices - transforms.matrices(np.ones(500), 4)).max() > 0.01
    np.testing.assert_array_equal(transforms.matrices(np.zeros(3), 3), [EYE] * 3)


@pytest.mark.slow
def test_an_ascent_under_all_transformations_still_rises(tiny_network):
    found = maximize(tiny_network, "conv_b", steps=80, jitter=2, scale=(0.9, 1.1), rotation=10)
    assert (found.trace[-1] > found.trace[0]).all()


@pytest.mark.parametrize("scale", [(1.1, 0.9), (0, 1), 3, (1, 2, 3)])
def test_a_scale_that_is_no_range_is_refused(tiny_network, scale):
    with pytest.raises(ValueError, match="scale must be"):
        maximize(tiny_network, "conv_a", scale=scale)


def test_a_negative_rotation_is_refused(tiny_network):
    with pytest.raises(ValueError, match="rotation must be 0 or more"):
        maximize(tiny_network, "conv_a", rotation=-5)
