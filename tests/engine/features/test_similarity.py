"""Compare local measures of similarity with their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from convlens.engine.features.similarity import structural_similarity, worst_tile


@pytest.fixture
def images():
    return np.random.default_rng(0).random((2, 20, 24, 3))


def test_structural_similarity_is_that_of_its_definition(images):
    a, b = images
    measured = structural_similarity(a, b)
    assert measured.shape == (20, 24)
    for row, column in ((3, 3), (10, 12), (16, 20)):
        values = []
        for c in range(3):
            x, y = (i[row - 3 : row + 4, column - 3 : column + 4, c].ravel() for i in (a, b))
            covariance = np.cov(x, y, bias=True)
            c1, c2 = 1e-4, 9e-4
            values.append(
                (2 * x.mean() * y.mean() + c1)
                * (2 * covariance[0, 1] + c2)
                / ((x.mean() ** 2 + y.mean() ** 2 + c1) * (x.var() + y.var() + c2))
            )
        assert measured[row, column] == pytest.approx(np.mean(values), rel=1e-9)


def test_an_image_is_wholly_similar_to_itself_and_symmetrically_to_another(images):
    a, b = images
    assert structural_similarity(a, a) == pytest.approx(1, abs=1e-12)
    assert structural_similarity(a, b) == pytest.approx(structural_similarity(b, a))
    assert structural_similarity(a, 1 - a).max() < 0


def test_the_worst_tile_is_where_the_change_is(images):
    a = images[0]
    b = a.copy()
    b[9:13, 14:18] += 0.5
    error, (row, column) = worst_tile(a, b)
    assert error == pytest.approx(0.25)  # a quarter of 8×8 pixels by a half: √(0.25·0.25)
    assert 8 <= row <= 14
    assert 13 <= column <= 19
    assert worst_tile(a, a)[0] == 0


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 40, 1), (5, 5, 3)])
def test_images_smaller_than_a_tile(shape):
    a = np.zeros(shape)
    assert worst_tile(a, a + 0.5)[0] == pytest.approx(0.5)
    assert structural_similarity(a, a).min() == pytest.approx(1)
