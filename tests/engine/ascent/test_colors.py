"""Preservation of colors."""

from __future__ import annotations

import numpy as np

from convlens.engine.ascent.colors import gray_like, luminance, match_colors, with_luminance

DRAW = np.random.default_rng(4)
CONTENT = (0.2 + 0.5 * DRAW.random((12, 10, 3)) * [1.0, 0.6, 0.3]).astype(np.float32)
STYLE = (0.3 + 0.4 * DRAW.random((9, 11, 3))).astype(np.float32)


def test_the_luminance_is_the_given_one_and_the_chroma_stays():
    light = luminance(CONTENT) + 0.05
    got = with_luminance(CONTENT, light)
    np.testing.assert_allclose(luminance(got), light, atol=1e-6)
    np.testing.assert_allclose(got - light, CONTENT - luminance(CONTENT), atol=1e-6)


def test_colors_that_would_leave_the_range_get_grayer():
    light = np.full((12, 10, 1), 0.97, np.float32)
    got = with_luminance(CONTENT, light)
    assert got.max() <= 1 + 1e-6
    np.testing.assert_allclose(luminance(got), light, atol=1e-6)


def test_a_gray_style_has_the_contents_light():
    got = gray_like(STYLE, CONTENT)
    assert (got[..., 0] == got[..., 2]).all()
    np.testing.assert_allclose(got.mean(), luminance(CONTENT).mean(), atol=1e-3)
    np.testing.assert_allclose(got[..., 0].std(), luminance(CONTENT).std(), atol=1e-3)


def test_matched_colors_have_the_contents_mean_and_covariance():
    got = match_colors(STYLE, CONTENT).reshape(-1, 3)
    want = CONTENT.reshape(-1, 3)
    np.testing.assert_allclose(got.mean(axis=0), want.mean(axis=0), atol=2e-3)
    np.testing.assert_allclose(np.cov(got.T), np.cov(want.T), atol=2e-3)


def test_a_style_of_one_color_is_matched_too():
    got = match_colors(np.full((5, 5, 3), 0.3, np.float32), CONTENT)
    np.testing.assert_allclose(got[0, 0], CONTENT.reshape(-1, 3).mean(axis=0), atol=1e-5)
