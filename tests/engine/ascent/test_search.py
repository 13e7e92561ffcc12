"""The search without gradient finds what is left to climb, and nothing on a summit."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from convlens import Network, Objective
from convlens.engine.ascent.scores import Scores
from convlens.engine.ascent.search import highest_without_gradient

GOAL = [Objective.unit("sum", 0)]


@pytest.fixture
def distance():
    """Return a network whose unit falls with the distance of the pixels from 0.4."""
    image = keras.Input((9, 7, 1))
    sides = layers.Conv2D(2, 1, activation="relu", name="sides")
    total = layers.Conv2D(1, 1, name="sum")
    network = Network(keras.Model(image, total(sides(image))))
    sides.set_weights([np.float32([[[[1, -1]]]]), np.float32([-0.4, 0.4])])
    total.set_weights([np.float32([[[[-1], [-1]]]]), np.zeros(1, np.float32)])
    return network


def test_nothing_is_higher_than_a_summit(distance):
    images = np.full((1, 9, 7, 1), 0.4, np.float32)
    found = highest_without_gradient(distance, GOAL, images, (0.0, 1.0))
    np.testing.assert_allclose(found, 0, atol=1e-6)


def test_on_a_slope_something_is_higher(distance):
    images = np.full((1, 9, 7, 1), 0.41, np.float32) + 0.3 * np.eye(9, 7, dtype="f")[..., None]
    found = highest_without_gradient(distance, GOAL, images, (0.0, 1.0))
    value = -np.abs(images - 0.4).mean()
    assert found[0] > value + 0.005


def test_what_is_known_of_other_units_counts(distance):
    images = np.float32([np.full((9, 7, 1), 0.9), np.full((9, 7, 1), 0.41)])
    found = highest_without_gradient(distance, GOAL * 2, images, (0.0, 1.0))
    assert (found >= -0.0101).all()


def test_an_image_outside_the_range_is_not_clipped(distance):
    images = np.full((1, 9, 7, 1), 0.4, np.float32)
    found = highest_without_gradient(distance, GOAL, images, (0.0, 0.2))
    np.testing.assert_allclose(found, 0, atol=1e-6)


def test_a_search_ends_with_a_value_that_is_enough(distance, monkeypatch):
    images = np.full((1, 9, 7, 1), 0.41, np.float32)
    seen = []
    table = Scores.table
    monkeypatch.setattr(
        Scores, "table", lambda self, *a, **k: seen.append(1) or table(self, *a, **k)
    )
    value = -np.abs(images - 0.4).mean(axis=(1, 2, 3))
    for slack, tables in ((1.0, 8), (1e-4, 3)):
        seen.clear()
        enough = value + np.float32(slack)
        highest_without_gradient(distance, GOAL, images, (0.0, 1.0), enough=enough)
        assert len(seen) == tables
