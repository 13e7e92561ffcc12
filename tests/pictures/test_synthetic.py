"""The synthetic textures."""

from __future__ import annotations

import numpy as np

from convlens.pictures.synthetic import synthetic_images


def test_they_fill_their_range_differ_and_repeat_from_the_seed():
    images = synthetic_images((20, 31, 3), (-1.0, 2.0), count=12, seed=4)
    assert images.shape == (12, 20, 31, 3)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images.min(axis=(1, 2, 3)), -1, atol=1e-5)
    np.testing.assert_allclose(images.max(axis=(1, 2, 3)), 2, atol=1e-5)
    np.testing.assert_array_equal(images, synthetic_images((20, 31, 3), (-1, 2), count=12, seed=4))
    flat = images.reshape(12, -1)
    distances = np.abs(flat[:, None] - flat).max(axis=-1) + np.eye(12)
    assert distances.min() > 0.1
