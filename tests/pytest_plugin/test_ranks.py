"""Model files of series, videos and images without channels, with no test code."""

from __future__ import annotations

import keras
import pytest
from keras import layers

MODELS = {
    "ecg": (
        (48, 2),
        lambda: [
            layers.Conv1D(4, 5, strides=2, padding="same"),
            layers.BatchNormalization(beta_initializer="ones"),
            layers.ReLU(),
            layers.Conv1D(4, 3, dilation_rate=2, padding="causal", activation="relu"),
            layers.GlobalAveragePooling1D(),
        ],
    ),
    "video": (
        (6, 10, 10, 1),
        lambda: [
            layers.Conv3D(3, 3, activation="relu", bias_initializer="ones"),
            layers.MaxPooling3D(2),
            layers.Flatten(),
        ],
    ),
    "flat": (
        (12, 12),
        lambda: [
            layers.Reshape((12, 12, 1)),
            layers.Conv2D(3, 3, activation="relu", bias_initializer="ones"),
            layers.Flatten(),
        ],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_item_of_a_model_is_decided(pytester, name):
    shape, body = MODELS[name]
    keras.utils.set_random_seed(1)
    stack = [keras.Input(shape), *body(), layers.Dense(2, activation="softmax")]
    keras.Sequential(stack).save(pytester.path / f"{name}.keras")
    result = pytester.runpytest(
        f"{name}.keras", "--convlens-effort=quick", "--convlens-pictures=seen", "-rA"
    )
    counts = result.parseoutcomes()
    assert counts.get("errors", 0) == 0
    assert counts["passed"] >= 8
    shown = result.stdout.str()
    assert "was not made" not in shown
    for check in ("gram", "deconvnet", "repeatable", "finite"):
        assert f"FAILED {name}.keras::{check}" not in shown
