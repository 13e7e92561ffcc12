"""Compare deletion and insertion curves with a model whose scores are known."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from scipy.integrate import trapezoid

from convlens import Network, deletion_curve, insertion_curve
from convlens.engine.explain.faithfulness import substitutes


@pytest.fixture(scope="module")
def linear():
    """Return a network of two classes whose output for class 1 is the mean of the pixels."""
    image = keras.Input((4, 5, 1))
    y = layers.Conv2D(1, 1, use_bias=False, kernel_initializer="ones", name="conv")(image)
    y = layers.GlobalAveragePooling2D(name="mean")(y)
    model = keras.Model(image, layers.Dense(2, use_bias=False, name="out")(y), name="linear")
    model.get_layer("out").set_weights([np.float32([[0, 1]])])
    return Network(model)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).random((3, 4, 5, 1), dtype=np.float32)


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_each_point_is_the_output_with_the_first_pixels_exchanged(linear, images, steps):
    # The last pixel is the most salient, so that raster order would be the wrong one.
    saliency = np.tile(np.arange(20).reshape(4, 5), (3, 1, 1))
    out = deletion_curve(linear, images, saliency, [1, 1, 1], steps=steps)
    into = insertion_curve(linear, images, saliency, [1, 1, 1], steps=steps, batch_size=4)
    blurred = substitutes(images, "blur")
    for k, fraction in enumerate(out.fractions):
        count = round(fraction * 20)
        for i, x in enumerate(images.reshape(3, 20)):
            gone, put = x.copy(), blurred[i].ravel().copy()
            gone[20 - count :] = x.mean()
            put[20 - count :] = x[20 - count :]
            assert out.probabilities[i, k] == pytest.approx(gone.mean(), abs=1e-5)
            assert into.probabilities[i, k] == pytest.approx(put.mean(), abs=1e-5)
    assert (out.fractions[0], out.fractions[-1]) == (0, 1)


def test_the_best_order_is_that_of_the_pixels_and_the_worst_its_reverse(linear, images):
    classes = [1, 1, 1]
    draws = [np.random.default_rng(s).random((3, 4, 5)) for s in range(5)]
    for curve, sign in ((deletion_curve, 1), (insertion_curve, -1)):
        options = {"steps": 20, "substitute": "mean"}
        best, worst = (curve(linear, images, s * images, classes, **options) for s in (1, -1))
        for draw in draws:
            other = curve(linear, images, draw, classes, **options).area
            assert (sign * best.area < sign * other).all()
            assert (sign * worst.area > sign * other).all()


def test_the_area_is_that_of_trapezia(linear, images):
    found = deletion_curve(linear, images, images, [1, 1, 1], steps=7)
    want = trapezoid(found.probabilities, found.fractions, axis=1)
    np.testing.assert_allclose(found.area, want, rtol=1e-6)


def test_channels_are_summed_and_one_image_is_a_batch(tiny_network, tiny_images):
    saliency = np.random.default_rng(0).standard_normal(tiny_images.shape)
    whole = deletion_curve(tiny_network, tiny_images, saliency)
    flat = deletion_curve(tiny_network, tiny_images, saliency.sum(axis=-1))
    np.testing.assert_array_equal(whole.probabilities, flat.probabilities)
    one = deletion_curve(tiny_network, tiny_images[0], saliency[0])
    np.testing.assert_allclose(one.probabilities, whole.probabilities[:1], atol=1e-6)
    said = keras.ops.convert_to_numpy(tiny_network.model(tiny_images))
    np.testing.assert_array_equal(whole.classes, said.argmax(axis=1))
    np.testing.assert_allclose(whole.probabilities[:, 0], said.max(axis=1), atol=1e-6)
    into = insertion_curve(tiny_network, tiny_images, saliency)
    np.testing.assert_array_equal(into.classes, whole.classes)
    np.testing.assert_allclose(into.probabilities[:, -1], said.max(axis=1), atol=1e-6)


def test_an_insertion_follows_what_the_whole_image_shows_and_not_the_blurred_one():
    image = keras.Input((6, 6, 1))
    y = layers.Conv2D(1, 1, activation="relu", name="conv")(image)
    y = layers.GlobalAveragePooling2D()(y)
    model = keras.Model(image, layers.Dense(2, name="out")(y), name="sharp")
    ones, zero = np.ones((1, 1, 1, 1)), np.zeros(1)
    model.set_weights([ones, zero - 0.5, np.float32([[0, 100]]), np.float32([0.1, 0])])
    dot = np.zeros((1, 6, 6, 1), np.float32)
    dot[0, 2, 3] = 1  # blurred, it is below 0.5, and class 0 wins
    found = insertion_curve(model, dot, dot, steps=6)
    assert found.classes.tolist() == [1]
    assert found.probabilities[0, 0] == 0
    assert found.probabilities[0, -1] == pytest.approx(50 / 36)


def test_equal_values_are_taken_in_a_seeded_random_order(linear, images):
    flat = np.zeros((3, 4, 5))
    one, again, other = (
        deletion_curve(linear, images, flat, [1] * 3, steps=20, seed=s).probabilities
        for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    raster = -np.tile(np.arange(20.0).reshape(4, 5), (3, 1, 1))
    rows = deletion_curve(linear, images, raster, [1] * 3, steps=20).probabilities
    assert (np.abs(one - rows).max(axis=1) > 1e-3).all()


def test_what_stands_in_for_pixels_knows_channels(tiny_images):
    mean = substitutes(tiny_images, "mean")
    np.testing.assert_allclose(mean[:, 3, 4], tiny_images.mean(axis=(1, 2)), rtol=1e-5)
    blur = substitutes(tiny_images, "blur")
    assert blur.std(axis=(1, 2)).max() < 0.5 * tiny_images.std(axis=(1, 2)).min()
    alone = substitutes(tiny_images[2:3, ..., 1:], "blur")
    np.testing.assert_allclose(blur[2, ..., 1], alone[0, ..., 0], atol=1e-6)


def test_wrong_arguments_are_named(linear, images):
    with pytest.raises(ValueError, match="not finite"):
        deletion_curve(linear, images, np.full((3, 4, 5), np.nan))
    with pytest.raises(ValueError, match=r"saliency must have shape \(3, 4, 5\)"):
        deletion_curve(linear, images, images[:2])
    with pytest.raises(ValueError, match="'mean' or 'blur'"):
        insertion_curve(linear, images, images, substitute="noise")
    with pytest.raises(ValueError, match="between 1 and 20"):
        deletion_curve(linear, images, images, steps=21)
    with pytest.raises(ValueError, match="classes must have shape"):
        deletion_curve(linear, images, images, [1, 1], steps=4)
