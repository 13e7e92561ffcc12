"""Pictures of arrays show the place where they differ, however small the difference is."""

from __future__ import annotations

import numpy as np
import pytest

from convlens.baselines.check import observe
from convlens.baselines.values import compare_values

DRAW = np.random.default_rng(0)
YELLOW = (253, 231, 37)


def pictures(before, now):
    found = compare_values(observe(before), observe(now), key="k")
    assert not found.passed
    return found.pictures


def changed(array, at, by):
    now = array.copy()
    now[at] += by
    return now


@pytest.mark.parametrize(
    ("shape", "at"),
    [
        ((300,), (299,)),
        ((900, 300), (899, 2)),
        ((3, 3, 8, 900), (0, 2, 7, 899)),
        ((2000, 900), (9, 9)),
    ],
)
def test_one_value_of_many_is_shown(shape, at):
    before = DRAW.standard_normal(shape)
    (pair,) = pictures(before, changed(before, at, 0.05))
    assert pair.expected.shape == pair.actual.shape == pair.difference.shape
    assert max(pair.expected.shape) <= 256
    assert (pair.difference == YELLOW).all(axis=2).any()
    assert (pair.difference != YELLOW).any()


@pytest.mark.parametrize("shape", [(40, 50, 3), (2, 300, 200, 1), (900, 900, 3)])
def test_a_mark_in_a_picture_is_shown(shape):
    before = DRAW.integers(0, 256, shape).astype(np.uint8)
    now = before.copy()
    now[..., -12:, -12:, :] = 0
    (pair,) = pictures(before, now)
    assert (pair.difference == YELLOW).all(axis=2).any()
    assert not np.array_equal(pair.expected, pair.actual)


def test_only_what_differs_is_shown_by_its_name():
    before = {"same": np.eye(4), "other": np.eye(4), "shape": np.eye(3), "fact": 3}
    now = {"same": np.eye(4), "other": 2 * np.eye(4), "shape": np.eye(2), "fact": 4}
    (pair,) = pictures(before, now)
    assert pair.layer == pair.title
    assert "other" in pair.title
    assert "Black is 0 and white 2 in both" in pair.note
    assert "yellow is 1," in pair.note
