"""Images of another size: their middle, or continued by mirror images."""

from __future__ import annotations

import numpy as np
import pytest

from convlens.pictures.fit import fitted


def test_smaller_images_are_the_middle():
    images = np.arange(2 * 6 * 5).reshape(2, 6, 5, 1)
    np.testing.assert_array_equal(fitted(images, (2, 3)), images[:, 2:4, 1:4])


def test_larger_images_are_continued_by_mirror_images():
    row = np.array([1, 2, 3]).reshape(1, 3, 1)
    assert fitted(row, (6,)).ravel().tolist() == [1, 1, 2, 3, 3, 2]


@pytest.mark.parametrize("size", [(4, 9), (9, 4), (40, 3)])
def test_each_side_gets_its_size(size):
    assert fitted(np.zeros((1, 6, 5, 3)), size).shape == (1, *size, 3)
