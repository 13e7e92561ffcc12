"""Compare occlusion sensitivity with a model whose response to each patch is known."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from convlens import occlude


def linear(h=9, w=7, classes=3):
    """Return a model whose scores are linear in the pixels, and its weights (h, w, classes)."""
    weights = np.random.default_rng(0).standard_normal((h, w, classes)).astype(np.float32)
    model = keras.Sequential(
        [
            keras.Input((h, w, 1)),
            layers.Conv2D(2, 1, name="conv"),
            layers.Flatten(),
            layers.Dense(classes, activation="softmax", name="out"),
        ],
        name="linear",
    )
    kernel = np.zeros((h, w, 2, classes), np.float32)
    kernel[:, :, 0] = weights
    model.set_weights(
        [
            np.float32([1, -2]).reshape(1, 1, 1, 2),
            np.zeros(2, np.float32),
            kernel.reshape(-1, classes),
            np.zeros(classes, np.float32),
        ]
    )
    return model, weights


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).random((3, 9, 7, 1), dtype=np.float32)


def test_scores_are_those_with_the_patch_in_the_image(images):
    model, weights = linear()
    found = occlude(model, images, [2, 0, 1], patch=3, stride=2, value=0.25, layer="conv")
    assert found.corners.tolist() == [[y, x] for y in (0, 2, 4, 6) for x in (0, 2, 4)]
    for i, number in enumerate([2, 0, 1]):
        assert found.score[i] == pytest.approx(
            float((images[i, ..., 0] * weights[..., number]).sum()), rel=1e-4
        )
        for p, (y, x) in enumerate(found.corners):
            hidden = images[i].copy()
            hidden[y : y + 3, x : x + 3] = 0.25
            scores = (hidden * weights).sum(axis=(0, 1))
            softmax = np.exp(scores) / np.exp(scores).sum()
            assert found.scores[i, p] == pytest.approx(float(scores[number]), rel=1e-3, abs=1e-4)
            assert found.probabilities[i, p] == pytest.approx(float(softmax[number]), rel=1e-3)
            assert found.predicted[i, p] == scores.argmax()
            # Unit 0 is the image itself, and unit 1 negative: unit 0 is the most active.
            assert found.activities[i, p] == pytest.approx(float(hidden.sum()), rel=1e-4)
    assert found.units.tolist() == [0, 0, 0]
    np.testing.assert_allclose(found.activity, images.sum(axis=(1, 2, 3)), rtol=1e-4)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("patch", "stride"), [(1, 1), (2, 2), (4, 3), (7, 7), (5, 1), (None, None)]
)
def test_every_pixel_is_hidden_at_least_once(images, patch, stride):
    model, _ = linear()
    found = occlude(model, images[:1], patch=patch, stride=stride)
    assert np.isfinite(found.heat).all()  # a pixel under no patch would be 0 / 0
    assert (found.corners >= 0).all()
    assert (found.corners + found.patch <= [9, 7]).all()


def test_the_heat_is_the_mean_over_the_patches_that_cover_a_pixel(images):
    model, _ = linear()
    found = occlude(model, images, patch=4, stride=3)
    y, x = 3, 5
    covers = (found.corners <= [y, x]).all(axis=1) & (found.corners + 4 > [y, x]).all(axis=1)
    assert covers.sum() > 1
    np.testing.assert_allclose(
        found.heat[:, y, x], found.drops[:, covers].mean(axis=1), rtol=1e-4, atol=1e-5
    )


def test_batches_do_not_matter_and_the_prediction_is_followed(images):
    model, _ = linear()
    whole = occlude(model, images, patch=3)
    small = occlude(model, images, patch=3, batch_size=2)
    np.testing.assert_allclose(small.scores, whole.scores, rtol=1e-4, atol=1e-5)
    assert whole.classes.tolist() == model.predict(images, verbose=0).argmax(axis=1).tolist()
    assert whole.activities is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 8}, "patch must be between 1 and 7 pixels"),
        ({"patch": 3, "stride": 4}, "stride must be between 1 and 3"),
        ({"value": [1, 2]}, "value must be a number, or 1 numbers"),
        ({"value": np.nan}, "value must be a number"),
        ({"layer": "out"}, "has no feature maps"),
        ({"layer": "cone"}, "no layer 'cone'"),
        ({"classes": [0, 1]}, r"classes must have shape \(3,\), .* not \(2,\)"),
        ({"classes": [0, 1, 3]}, "no unit 3"),
    ],
)
def test_bad_arguments_are_refused(images, options, message):
    model, _ = linear()
    with pytest.raises(ValueError, match=message):
        occlude(model, images, **options)
