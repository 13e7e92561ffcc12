"""Figures of the engine's results: their content and a readable size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convlens import invariance, maximize, occlude, top_images, top_patches
from convlens.drawings import draw_invariance, draw_maximized, draw_occlusion, draw_top
from convlens.pictures import deprocess, stretched_pixels
from convlens.pictures.sheet import font


def shown(figure):
    return np.asarray(figure.image())


def test_top_patches_are_shown_beside_their_reconstructions(mnist_network, digits):
    top = top_images(mnist_network, digits.images, "conv2d_2", k=9)
    patches = top_patches(mnist_network, top, "conv2d_2", range(6))
    picture = draw_top(patches, (0.0, 1.0)).image()
    assert 600 < picture.width < 1300
    swapped = replace(patches, patches=patches.patches[:, ::-1])
    assert (shown(draw_top(swapped, (0.0, 1.0))) != np.asarray(picture)).any()
    one = draw_top(top_patches(mnist_network, top, "conv2d_2", 3), (0.0, 1.0))
    assert one.image().width >= 240


def test_occlusion_is_bright_where_the_score_falls(mnist_network, digits):
    found = occlude(mnist_network, digits.images[:2], digits.labels[:2], value=0.0)
    picture = shown(draw_occlusion(found, (0.0, 1.0))).astype(int)
    flat = replace(found, scores=np.repeat(found.score[:, None], found.scores.shape[1], axis=1))
    dark = shown(draw_occlusion(flat, (0.0, 1.0))).astype(int)
    yellow = (picture[..., 0] > 200) & (picture[..., 1] > 200) & (picture[..., 2] < 80)
    assert yellow.sum() > 20
    assert not ((dark[..., 0] > 200) & (dark[..., 1] > 200) & (dark[..., 2] < 80)).any()


def test_invariance_is_drawn_as_curves(mnist_network, digits):
    curves = invariance(mnist_network, digits.images[:5], "rotation")
    assert draw_invariance(curves).image().size == (760, 460)


@pytest.mark.slow
@pytest.mark.parametrize("preset", [None, "keras-vis"])
def test_images_are_brought_to_one_contrast_and_measured_as_they_are(tiny_network, preset):
    found = maximize(tiny_network, "conv_b", [0], steps=1, preset=preset, value_range=(-1.0, 1.0))
    assert found.preset == preset
    assert found.model_range == (-1.0, 1.0)
    gray = np.random.default_rng(0).uniform(-0.3, 0.3, (1, 13, 13, 1)).astype(np.float32)
    shown, paler = (draw_maximized(replace(found, images=gray * part)) for part in (1, 0.5))
    expected = deprocess(gray[0]) if preset else stretched_pixels(gray[0], (-1.0, 1.0))
    assert np.array_equal(shown.pixels[0], expected)
    assert np.abs(shown.pixels[0].astype(int) - paler.pixels[0]).max() <= 1
    assert shown.labels == paler.labels == [f"0: {found.trace[-1, 0]:.3g}"]
    flat = draw_maximized(replace(found, images=gray * 0.05)).pixels[0]
    assert bool(np.ptp(flat) < 10) is (preset is None)


def test_the_font_has_every_character_of_the_texts(tiny_network):
    found = draw_maximized(maximize(tiny_network, "conv_b", steps=2), 5)
    face = font(13)
    missing = bytes(face.getmask("\uffff"))
    written = set(found.title + found.note + "".join(found.labels)) - {" "}
    assert missing == bytes(face.getmask("×"))
    assert [char for char in written if bytes(face.getmask(char)) == missing] == []
