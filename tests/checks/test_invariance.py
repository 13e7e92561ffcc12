"""The check of invariance: a healthy network, and ones that see where or how large things are."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from convlens import Network, assert_invariant, invariance


@pytest.fixture(scope="module")
def moved(mnist_network, digits):
    return invariance(mnist_network, digits.images[::5], "translation", classes=digits.labels[::5])


def test_the_shipped_network_bears_a_little_of_each(mnist_network, digits, moved):
    shares = assert_invariant(moved, (-2, 2), distance={"conv2d_3": 0.9})
    assert shares.amounts.tolist() == [-2, -1, 0, 1, 2]
    assert shares.recognized.min() > 0.9
    assert shares.distances["conv2d_3"][2] == 0
    images, labels = digits.images[::5], digits.labels[::5]
    for kind, within in (("scale", (0.8, 1.3)), ("rotation", (0, 15))):
        assert_invariant(invariance(mnist_network, images, kind, classes=labels), within)


def test_beyond_what_it_bears_it_fails_and_says_where(moved):
    with pytest.raises(AssertionError, match="under translation is not invariant") as caught:
        assert_invariant(moved, (-7, 7))
    assert "at -7: 8% of the images give their class a probability of at least 0.5" in str(
        caught.value
    )
    assert "at 1:" not in str(caught.value)
    with pytest.raises(AssertionError, match=r"at 2: the features of 'conv2d_3' change by 0\.\d+"):
        assert_invariant(moved, (-2, 2), distance={"conv2d_3": 0.2})


def test_a_network_that_sees_where_things_are_is_caught():
    """A template matcher: no convolution helps it when the template moves by two pixels."""
    draw = np.random.default_rng(0)
    templates = (draw.random((4, 16, 16, 1)) > 0.5).astype(np.float32)
    model = keras.Sequential(
        [keras.Input((16, 16, 1)), layers.Flatten(), layers.Dense(4, activation="softmax")],
        name="matcher",
    )
    weights = templates.reshape(4, -1).T - 0.5
    model.set_weights([weights, np.zeros(4, np.float32)])
    curves = invariance(
        Network(model), templates, "translation", [-2, 0, 2], layers=model.layers[-1].name
    )
    assert curves.probabilities[1].min() > 0.99
    with pytest.raises(AssertionError, match=r"at -2: \d+% of the images give"):
        assert_invariant(curves, (-2, 2))


def test_a_network_that_sees_how_large_things_are_is_caught():
    """It counts bright pixels: twice the size is another class."""
    square = np.zeros((1, 21, 21, 1), np.float32)
    square[0, 7:14, 7:14] = 1
    image = keras.Input((21, 21, 1))
    count = layers.Conv2D(1, 21, kernel_initializer="ones", name="conv")(image)
    out = layers.Dense(2, activation="softmax", name="out")(layers.Flatten()(count))
    model = keras.Model(image, out, name="counter")
    model.get_layer("out").set_weights([np.float32([[-1, 1]]), np.float32([70, -70])])
    curves = invariance(model, square, "scale", [1.0, 1.1, 1.6])
    assert_invariant(curves, (1.0, 1.1))
    with pytest.raises(AssertionError, match=r"at 1\.6: 0% of the images give"):
        assert_invariant(curves, (1.0, 1.6))


def test_a_transformation_that_does_nothing_is_caught(moved):
    broken = replace(
        moved,
        image_distances=np.zeros_like(moved.image_distances),
        distances={k: np.zeros_like(v) for k, v in moved.distances.items()},
        probabilities=np.ones_like(moved.probabilities),
    )
    with pytest.raises(AssertionError, match="-1 changed no image"):
        assert_invariant(broken, (-1, 1))


def test_an_identity_that_moves_features_is_caught(moved):
    distances = {k: v + 0.1 for k, v in moved.distances.items()}
    with pytest.raises(AssertionError, match="0 must change nothing, but changes features"):
        assert_invariant(replace(moved, distances=distances), (-1, 1))


@pytest.mark.parametrize("field", ["probabilities", "distances"])
def test_nan_never_passes(moved, field):
    if field == "probabilities":
        broken = replace(moved, probabilities=moved.probabilities * np.nan)
    else:
        broken = replace(moved, distances={k: v * np.nan for k, v in moved.distances.items()})
    with pytest.raises(AssertionError, match="is not finite"):
        assert_invariant(broken, (-1, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((20, 30),), "no amount from 20 to 30 was measured"),
        (((0, 0),), "no amount from 0 to 0 was measured that changes the image"),
        (((-1, 1), {"conv2d_2": 1.0}), "layer 'conv2d_2' were not measured"),
    ],
)
def test_a_choice_that_judges_nothing_is_refused(moved, arguments, message):
    within, *rest = arguments
    with pytest.raises(ValueError, match=message):
        assert_invariant(moved, within, distance=rest[0] if rest else None)
