"""Invariance curves and the transformations that they use."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from convlens import activations, invariance
from convlens.engine.explain.invariance import transform


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).random((4, 12, 12, 1), dtype=np.float32)


def pooled():
    """Return a network that ignores positions, except for effects of the padding."""
    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(4, 3, padding="same", activation="relu", name="conv", use_bias=False),
            layers.GlobalAveragePooling2D(name="mean"),
            layers.Dense(3, activation="softmax", name="out"),
        ],
        name="pooled",
    )


def test_transformations_are_what_they_say(images):
    down = transform(images, "translation", 3, fill=7)
    np.testing.assert_array_equal(down[:, 3:], images[:, :-3])
    assert (down[:, :3] == 7).all()
    up = transform(images, "translation", -2)
    np.testing.assert_array_equal(up[:, :-2], images[:, 2:])
    quarter = transform(images, "rotation", 90)
    np.testing.assert_allclose(quarter, np.rot90(images, axes=(1, 2)), atol=1e-6)
    odd = images[:, :11, :11]
    double = transform(odd, "scale", 2.0)
    np.testing.assert_allclose(double[:, 1::2, 1::2], odd[:, 3:8, 3:8], atol=1e-6)
    half = transform(odd, "scale", 0.5, fill=9)
    assert (half[:, 0] == 9).all()
    np.testing.assert_allclose(half[:, 5, 5], odd[:, 5, 5], atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "amount"), [("translation", 0), ("scale", 1), ("rotation", 0), ("rotation", 360)]
)
def test_the_amount_that_changes_nothing_is_exact(images, kind, amount):
    np.testing.assert_array_equal(transform(images, kind, amount, fill=5), images)


def test_distances_are_those_of_the_features(images):
    model = pooled()
    found = invariance(model, images, "translation", [-2, 0, 3], classes=[0, 1, 2, 0])
    for i, amount in enumerate([-2, 0, 3]):
        changed = transform(images, "translation", amount)
        for layer in ("conv", "out"):
            a, b = (activations(model, x, layer)[layer].reshape(4, -1) for x in (images, changed))
            expected = np.sqrt(((a - b) ** 2).sum(axis=1))
            np.testing.assert_allclose(found.distances[layer][i], expected, rtol=1e-4, atol=1e-6)
            relative = expected / np.sqrt((a**2).sum(axis=1))
            np.testing.assert_allclose(found.relative(layer)[i], relative, rtol=1e-4, atol=1e-6)
        out = activations(model, changed, "out")["out"]
        np.testing.assert_allclose(found.probabilities[i], out[range(4), [0, 1, 2, 0]], rtol=1e-5)
    assert list(found.distances) == ["conv", "out"]


def test_a_network_that_pools_everything_ignores_a_translation_of_an_object():
    canvas = np.zeros((2, 12, 12, 1), np.float32)
    canvas[:, 4:7, 5:8] = np.random.default_rng(3).random((2, 3, 3, 1))
    found = invariance(pooled(), canvas, "translation", [-2, 2], layers=["conv", "mean"])
    assert found.relative("mean").max() < 1e-5
    assert found.relative("conv").min() > 0.5


@pytest.mark.parametrize("kind", ["translation", "scale", "rotation"])
def test_default_amounts_hold_the_one_that_changes_nothing(images, kind):
    found = invariance(pooled(), images, kind)
    still = found.image_distances.max(axis=1) == 0
    assert still.any()
    assert len(found.amounts) >= 7
    assert found.distances["out"][still].max() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("shear",), "transformation must be one of 'translation', 'scale', 'rotation'"),
        (("scale", [0.0]), "amounts of a scale must be above 0"),
        (("rotation", []), "a list of finite numbers"),
        (("rotation", [np.nan]), "a list of finite numbers"),
    ],
)
def test_bad_arguments_are_refused(images, arguments, message):
    with pytest.raises(ValueError, match=message):
        invariance(pooled(), images, *arguments)


def test_classes_that_do_not_fit_are_refused(images):
    with pytest.raises(ValueError, match="no unit 3"):
        invariance(pooled(), images, "scale", classes=[0, 1, 2, 3])
