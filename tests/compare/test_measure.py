"""Signal-to-noise ratios: their definition, and tensors that have none."""

from __future__ import annotations

import numpy as np
import pytest

from convlens.compare import measure
from convlens.compare.measure import Tally, decibels, snr


@pytest.fixture
def maps():
    return np.random.default_rng(0).normal(size=(5, 7, 7, 4)).astype(np.float32)


def difference(expected, actual):
    tally = Tally()
    for i in range(len(expected)):
        tally.add([i], expected[i][None], actual[i][None])
    return tally.difference()


def test_noise_of_a_hundredth_is_40_decibels(maps):
    noise = np.random.default_rng(1).normal(size=maps.shape)
    assert snr(maps, maps + 0.01 * noise) == pytest.approx(40, abs=0.2)


def test_equal_tensors(maps):
    found = difference(maps, maps)
    assert (found.snr, found.channel_snr, found.image_snr) == (200, 200, 200)
    assert found.cosine == pytest.approx(1)


def test_the_worst_channel_and_image_are_found(maps):
    changed = maps.copy()
    changed[3, ..., 2] += 0.5
    found = difference(maps, changed)
    assert (found.worst_channel, found.worst_image) == (2, 3)
    assert found.channel_snr < found.snr


def test_images_one_by_one_give_what_they_give_together(maps):
    tally = Tally()
    tally.add(range(len(maps)), maps, 1.1 * maps)
    assert tally.difference().snr == pytest.approx(difference(maps, 1.1 * maps).snr)


def test_a_constant_offset_counts_against_the_variance_and_not_the_mean(maps):
    assert snr(maps + 100, maps + 101) < 15


def test_rounding_of_a_nearly_constant_tensor_is_no_difference():
    values = (1 + 1e-4 * np.random.default_rng(2).normal(size=(4, 50))).astype(np.float32)
    assert snr(values, np.nextafter(values, np.float32(2))) > 90


def test_a_silent_channel_has_no_ratio_of_its_own(maps):
    maps[..., 1] = 0
    found = difference(maps, np.where(maps == 0, np.float32(1e-8), maps))
    assert found.channel_snr > 90


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_a_difference_unless_both_have_it(maps, value):
    changed = maps.copy()
    changed[0, 0, 0, 0] = value
    assert snr(maps, changed) == snr(changed, maps) == -200
    assert snr(changed, changed) == 200


def test_decibels():
    assert decibels(100, 1) == pytest.approx(20)
    assert (decibels(1, 0), decibels(0, 1), decibels(1, np.nan)) == (200, -200, -200)


def test_a_unit_that_hardly_varies_is_as_noisy_as_its_layer():
    draw = np.random.default_rng(3)
    units = draw.normal(size=(8, 60)).astype(np.float32)
    units[:, 7] *= 0.01
    noise = 1e-3 * draw.normal(size=units.shape)
    found = difference(units, units + noise)
    assert found.channel_snr > found.snr - 10
    noise[:, 7] *= 100
    found = difference(units, units + noise)
    assert (found.worst_channel, found.channel_snr < 20) == (7, True)


@pytest.mark.parametrize("factor", [0.0, 1.0, 1e6, 1e30])
def test_equal_tensors_of_any_size_have_no_noise(maps, factor):
    found = difference(factor * maps, factor * maps)
    assert found.snr == found.channel_snr == found.image_snr == 200


@pytest.mark.parametrize("broken", [None, np.nan, np.inf])
def test_parts_of_large_tensors_add_up(broken):
    draw = np.random.default_rng(3)
    expected = draw.normal(size=(2, 90, 90, 12)).astype(np.float32)
    actual = (expected + draw.normal(size=expected.shape) / 50).astype(np.float32)
    assert expected[0].size > measure._VALUES_AT_ONCE
    if broken is not None:
        actual[1, 80, 3, 5] = broken
    found = difference(expected, actual)
    if broken is not None:
        assert (found.snr, found.worst_channel, found.worst_image) == (-200, 5, 1)
        return
    assert found.snr == pytest.approx(snr(expected, actual), abs=1e-6)
    e, a = (v.astype(np.float64) for v in (expected, actual))
    by_channel = ((a - e) ** 2).mean(axis=(0, 1, 2))
    tally = Tally()
    tally.add([0, 1], expected, actual)
    np.testing.assert_allclose(tally.noise, by_channel, rtol=1e-9)
    cosine = (e * a).sum() / np.sqrt((e**2).sum() * (a**2).sum())
    assert found.cosine == pytest.approx(cosine, abs=1e-9)
    worst = ((a - e) ** 2).mean(axis=(1, 2, 3))
    assert found.worst_image == worst.argmax()
