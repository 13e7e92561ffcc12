"""The noise of a channel is estimated from few samples, and from its layer's others."""

from __future__ import annotations

import numpy as np
import pytest

from convlens.baselines.allowance import _noise


@pytest.fixture
def samples():
    return list(np.abs(np.random.default_rng(0).standard_normal((3, 50))))


def test_a_channel_that_is_silent_in_all_samples_is_allowed_a_share_of_the_usual_noise(samples):
    for sample in samples:
        sample[7] = 0
    assert 0.3 < _noise(samples)[7] < 1


def test_one_noisy_channel_leaves_the_others_as_they_are(samples):
    before = _noise(samples)
    for sample in samples:
        sample[7] = 1e3
    after = _noise(samples)
    assert after[7] > 800
    np.testing.assert_allclose(np.delete(after, 7), np.delete(before, 7), rtol=0.2)


def test_a_layer_without_noise_has_none():
    assert not _noise([np.zeros(4)] * 3).any()
