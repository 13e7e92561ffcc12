"""Compare each loss term with its formula in float64 NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from convlens.style.losses import (
    CONVENTIONS,
    content_loss,
    style_gram,
    style_loss,
    variation,
)

SHAPE = (1, 9, 7, 5)


@pytest.fixture
def maps():
    draw = np.random.default_rng(3)
    return [np.abs(draw.normal(0, 30, SHAPE)).astype(np.float32) for _ in range(2)]


def flat(features):
    return features.reshape(-1, features.shape[-1]).astype(np.float64)


def plain_style(f, s, convention):
    """Return the loss by the formula of each convention's source, from FᵀF."""
    (m, n), k = f.shape, s.shape[0]
    g, a = f.T @ f, s.T @ s
    if convention == "gatys":
        assert k == m, "the paper's formula is for styles as large as the image"
        return ((g - a) ** 2).sum() / (4 * n**2 * m**2)
    if convention == "tensorflow-tutorial":
        return ((g / m - a / k) ** 2).mean()
    return ((g / (n * m) - a / (n * k)) ** 2).mean()


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_style_loss_is_the_formula(maps, convention):
    got = style_loss(*(style_gram(ops.convert_to_tensor(f)) for f in maps), convention)
    want = plain_style(*(flat(f) for f in maps), convention)
    assert float(got) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_content_loss_is_the_formula(maps, convention):
    got = content_loss(*(ops.convert_to_tensor(f) for f in maps), convention)
    square = (flat(maps[0]) - flat(maps[1])) ** 2
    want = square.sum() / 2 if convention == "gatys" else square.mean()
    assert float(got) == pytest.approx(want, rel=1e-5)


def test_the_conventions_differ_by_exact_factors(maps):
    grams = [style_gram(ops.convert_to_tensor(f)) for f in maps]
    gatys, tutorial, johnson = (float(style_loss(*grams, c)) for c in CONVENTIONS)
    n = SHAPE[-1]
    assert tutorial == pytest.approx(4 * gatys, rel=1e-6)
    assert johnson == pytest.approx(4 / n**2 * gatys, rel=1e-6)


def test_a_style_of_another_size_repeats_without_a_loss(maps):
    once = style_gram(ops.convert_to_tensor(maps[0]))
    twice = style_gram(ops.convert_to_tensor(np.concatenate([maps[0]] * 2, axis=1)))
    size = float(style_loss(once, ops.zeros_like(once)))
    assert float(style_loss(once, twice)) < 1e-10 * size


def test_a_guide_counts_its_positions_alone(maps):
    guide = np.zeros((*SHAPE[:3], 1), np.float32)
    guide[:, 2:5, 1:4] = 0.5
    got = style_gram(ops.convert_to_tensor(maps[0]), ops.convert_to_tensor(guide))
    inside = flat(maps[0][:, 2:5, 1:4])
    np.testing.assert_allclose(got[0], inside.T @ inside / len(inside), rtol=1e-5)


def test_a_guide_of_ones_changes_nothing(maps):
    features = ops.convert_to_tensor(maps[0])
    whole = style_gram(features, ops.ones((*SHAPE[:3], 1)))
    np.testing.assert_allclose(whole, style_gram(features), rtol=1e-5)


def test_variation_is_the_sum_of_absolute_differences():
    x = np.random.default_rng(0).random((1, 6, 5, 3))
    want = np.abs(np.diff(x, axis=1)).sum() + np.abs(np.diff(x, axis=2)).sum()
    assert float(variation(ops.convert_to_tensor(x.astype(np.float32)))) == pytest.approx(want)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_half_precision_features_do_not_overflow(convention):
    features = ops.full((1, 40, 40, 4), 200.0, dtype="float16")
    gram = style_gram(features)
    assert float(gram[0, 0, 0]) == 40000.0
    assert np.isfinite(float(style_loss(gram, ops.zeros_like(gram), convention)))
    assert np.isfinite(float(content_loss(features, ops.zeros_like(features), convention)))
