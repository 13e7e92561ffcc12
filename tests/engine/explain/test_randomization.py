"""Cascading randomization: the weights that it changes and keeps, and its measures."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from scipy.stats import spearmanr

from convlens import Network, deconvolve, randomization_curve
from convlens.engine.explain.randomization import rank_correlation, reinitialize, scaled_similarity


def weights_of(model):
    return [w.copy() for w in model.get_weights()]


def output_of(model, images):
    return np.array(keras.ops.convert_to_numpy(model(images)))


def test_the_model_given_is_not_changed(tiny, tiny_images):
    before, said = weights_of(tiny), output_of(tiny, tiny_images)
    network = Network(tiny)
    known = deconvolve(network, tiny_images, None, 1).images
    for given in (tiny, network):
        randomization_curve(given, tiny_images, method="guided")
    for a, b in zip(before, tiny.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(output_of(tiny, tiny_images), said)
    np.testing.assert_array_equal(deconvolve(network, tiny_images, None, 1).images, known)


def test_layers_fall_from_the_top_and_stay_fallen(tiny, tiny_images):
    seen = []

    def look(network, images, units):
        seen.append({n: weights_of(x) for n, x in network.layers.items() if x.weights})
        return images

    curve = randomization_curve(tiny, tiny_images, 0, method=look)
    assert curve.layers == ("classes", "conv_b", "conv_a")
    assert curve.method == "look"
    assert len(seen) == 4
    for step in range(1, 4):
        for i, name in enumerate(curve.layers):
            now, then = seen[step][name][0], seen[step - 1][name][0]
            assert (now != then).any() == (i == step - 1), (step, name)
    np.testing.assert_array_equal(curve.explanation, np.abs(tiny_images).sum(axis=-1))


def test_only_what_the_unit_is_computed_from_is_re_initialized(tiny_network, tiny_images):
    curve = randomization_curve(tiny_network, tiny_images, 2, layer="conv_b")
    assert curve.layers == ("conv_b", "conv_a")
    assert curve.spearman.shape == curve.ssim.shape == (2, len(tiny_images))
    assert curve.explanations.shape == (2, *tiny_images.shape[:3])


@pytest.mark.parametrize("method", ["gradient", "guided", "deconvnet"])
def test_it_explains_as_deconvolve_does(tiny_network, tiny_images, method):
    curve = randomization_curve(tiny_network, tiny_images, [0, 1, 2, 2, 1, 0], method=method)
    want = deconvolve(tiny_network, tiny_images, None, [0, 1, 2, 2, 1, 0], method=method).images
    np.testing.assert_array_equal(curve.explanation, np.abs(want).sum(axis=-1))


def test_a_seed_repeats_and_another_differs(tiny_network, tiny_images):
    one, again, other = (
        randomization_curve(tiny_network, tiny_images, 0, seed=seed) for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(one.explanations, again.explanations)
    assert (one.explanations != other.explanations).any()


def test_the_unit_is_the_one_that_the_trained_network_prefers(tiny_network, tiny_images):
    curve = randomization_curve(tiny_network, tiny_images)
    want = output_of(tiny_network.model, tiny_images).argmax(axis=1)
    np.testing.assert_array_equal(curve.units, want)


def test_weights_come_from_the_initializer_and_constants_are_permuted():
    image = keras.Input((8, 8, 3))
    y = layers.SeparableConv2D(
        32, 3, depthwise_initializer=keras.initializers.RandomUniform(4, 5), name="conv"
    )(image)
    model = keras.Model(image, layers.BatchNormalization(name="norm")(y))
    draw = np.random.default_rng(0)
    values = [draw.uniform(8, 9, w.shape) for w in model.get_weights()]
    model.set_weights(values)
    conv, norm = model.get_layer("conv"), model.get_layer("norm")
    assert reinitialize(conv, np.random.default_rng(1))
    assert reinitialize(norm, np.random.default_rng(1))
    depthwise, pointwise, bias = conv.get_weights()
    assert 4 <= depthwise.min() <= depthwise.max() <= 5
    assert abs(pointwise.mean()) < 0.1  # Glorot's, not 8 to 9
    for new, old in zip([bias, *norm.get_weights()], values[2:], strict=True):
        np.testing.assert_array_equal(np.sort(new), np.sort(old).astype(np.float32))
        assert (new != old.astype(np.float32)).any()


def test_layers_that_cannot_change_are_reported_unchanged():
    image = keras.Input((8, 8, 1))
    normal = layers.Normalization(mean=0.3, variance=2.0)
    model = keras.Model(image, layers.BatchNormalization()(normal(image)))
    assert not reinitialize(normal, np.random.default_rng(0))
    assert not reinitialize(model.layers[-1], np.random.default_rng(0))  # one channel


def test_rank_correlation_is_spearmans_with_ties():
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 6, (9, 7)), draw.integers(0, 6, (9, 7)) + 0.5
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a.ravel(), b.ravel()).statistic)
    assert rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    assert np.isnan(rank_correlation(a, np.ones((9, 7))))
    assert np.isnan(rank_correlation(a, np.where(a == 2, np.nan, b)))


def test_scaled_similarity_asks_for_the_picture_and_not_for_its_scale():
    draw = np.random.default_rng(0)
    a, b = draw.random((2, 16, 16))
    assert scaled_similarity(a, 7 * a) == pytest.approx(1)
    assert scaled_similarity(a, b) < 0.3
    assert np.isnan(scaled_similarity(a, np.zeros((16, 16))))
    assert np.isnan(scaled_similarity(np.full((16, 16), np.inf), b))


def test_wrong_arguments_are_named(tiny_network, tiny_images):
    with pytest.raises(ValueError, match="method must be one of"):
        randomization_curve(tiny_network, tiny_images, method="lime")
    with pytest.raises(ValueError, match="one unit or 6 units, one for each image, not 2"):
        randomization_curve(tiny_network, tiny_images, [0, 1])
    with pytest.raises(ValueError, match=r"must have shape \(6, 13, 13\) or \(6, 13, 13, 2\)"):
        randomization_curve(tiny_network, tiny_images, method=lambda network, x, units: x[:2])


def test_held_inputs_come_along():
    image, extra = keras.Input((8, 8, 1), name="image"), keras.Input((3,), name="extra")
    y = layers.Flatten()(layers.Conv2D(2, 3, activation="relu", name="conv")(image))
    both = layers.Concatenate()([y, extra])
    model = keras.Model([image, extra], layers.Dense(3, activation="softmax", name="out")(both))
    network = Network(model, held={"extra": [1.0, 2.0, 3.0]})
    images = np.random.default_rng(0).random((3, 8, 8, 1), dtype=np.float32)
    assert randomization_curve(network, images, 1).layers == ("out", "conv")
