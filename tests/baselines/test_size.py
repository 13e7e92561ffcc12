"""The file of a large network's baseline is small."""

from __future__ import annotations

import numpy as np
import pytest

from convlens import assert_matches_baseline


@pytest.mark.slow
def test_a_baseline_of_vgg19_is_under_2_megabytes(tmp_path):
    import keras

    keras.utils.set_random_seed(0)
    model = keras.applications.VGG19(weights=None)
    images = np.random.default_rng(0).random((8, 224, 224, 3), dtype=np.float32)
    assert_matches_baseline(model, tmp_path, "VGG19", images=images, update="missing")
    found = assert_matches_baseline(model, tmp_path, "VGG19", images=images)
    assert len(found.layers) == 25  # including the input
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_000_000
