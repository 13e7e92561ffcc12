"""Parametrizations of the images in an ascent."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from convlens import maximize
from convlens.engine.ascent.parametrization import Parametrization, fourier_basis, spectrum


@pytest.mark.parametrize("n", [1, 2, 5, 8, 13])
def test_the_fourier_basis_is_orthonormal_and_ordered_by_frequency(n):
    basis = fourier_basis(n).astype(np.float64)
    np.testing.assert_allclose(basis.T @ basis, np.eye(n), atol=1e-6)
    power = np.abs(np.fft.rfft(basis, axis=0)) ** 2
    frequencies = (power * np.arange(n // 2 + 1)[:, None]).sum(axis=0) / power.sum(axis=0)
    np.testing.assert_allclose(frequencies, (np.arange(n) + 1) // 2, atol=1e-5)


def test_the_spectrum_falls_as_one_over_the_frequency():
    weights = spectrum(8, 16)[..., 0]
    assert weights[0, 0] == pytest.approx(0.25 * 16)
    assert weights[1, 0] == pytest.approx(0.25 * 8)  # one cosine down the 8 rows
    assert weights[0, 3] == pytest.approx(0.25 * 8)  # two cycles in 16 columns
    assert weights[1, 3] == pytest.approx(0.25 / np.hypot(1 / 8, 2 / 16))


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize(
    ("basis", "decorrelate"), [("fourier", True), ("pixel", True), ("fourier", False)]
)
def test_decoding_undoes_encoding(basis, decorrelate, clip):
    space = Parametrization(basis, decorrelate, clip, (-1.0, 3.0))
    images = np.random.default_rng(0).uniform(-0.9, 2.9, (2, 7, 10, 3)).astype(np.float32)
    z = ops.convert_to_tensor(space.encode(images))
    np.testing.assert_allclose(space.decode(z), images, atol=2e-4)


def test_pixels_at_the_ends_of_the_range_can_be_encoded():
    space = Parametrization("fourier", False, True, (0.0, 255.0))
    images = np.zeros((1, 4, 4, 1), np.float32)
    images[0, 1:3] = 255
    decoded = np.asarray(space.decode(ops.convert_to_tensor(space.encode(images))))
    assert np.isfinite(decoded).all()
    np.testing.assert_allclose(decoded, images, atol=0.3)


@pytest.mark.slow
def test_the_fourier_basis_gives_smoother_images_that_stay_in_the_range(tiny_network):
    plain = maximize(tiny_network, "conv_a", steps=60, seed=2)
    smooth = maximize(tiny_network, "conv_a", steps=60, seed=2, basis="fourier")

    def roughness(images):
        return (np.diff(images, axis=1) ** 2).mean() / images.var()

    assert roughness(smooth.images) < 0.7 * roughness(plain.images)
    assert smooth.images.min() >= 0
    assert smooth.images.max() <= 1
    assert (smooth.trace[-1] > smooth.trace[0]).all()
    assert (smooth.path_length > 0).all()


@pytest.mark.slow
def test_a_second_pass_begins_where_the_first_ended(tiny_network):
    first = maximize(tiny_network, "conv_b", steps=20, basis="fourier")
    second = maximize(tiny_network, "conv_b", steps=1, basis="fourier", seed_images=first.images)
    np.testing.assert_allclose(second.start, first.images, atol=5e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"basis": "wavelet"}, "basis must be 'pixel' or 'fourier'"),
        ({"decorrelate": True}, "decorrelate needs images of 3 channels, not 2"),
    ],
)
def test_spaces_that_do_not_fit_are_refused(tiny_network, options, message):
    with pytest.raises(ValueError, match=message):
        maximize(tiny_network, "conv_a", **options)
