"""The survey: one pass gives what layer after layer gave, as exact as float64."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from convlens import Network, activations, filter_statistics
from convlens.engine.ascent.scores import class_scores
from convlens.engine.features import survey as survey_module
from convlens.engine.features.sketch import sketch_layers
from convlens.engine.features.survey import Wanted, survey_network


@pytest.fixture(
    params=[2**29, pytest.param(4 * 3000, marks=pytest.mark.slow), 1],
    ids=["one batch", "small batches", "single images"],
)
def budget(request, monkeypatch):
    monkeypatch.setattr(survey_module, "_BUDGET", request.param)


def residual_network(seed: int = 1) -> keras.Model:
    """Return a network with a batch normalization and a ReLU behind its first convolution."""
    x = keras.Input((9, 9, 2))
    y = layers.Conv2D(5, 3, padding="same", name="conv_a")(x)
    y = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(y))
    z = layers.Add(name="add")([y, layers.Conv2D(5, 1, name="conv_b")(y)])
    z = layers.GlobalAveragePooling2D(name="mean")(z)
    model = keras.Model(x, layers.Dense(3, activation="softmax", name="classes")(z))
    draw = np.random.default_rng(seed)
    model.set_weights([draw.normal(0.1, 0.5, w.shape) ** 2 + 0.01 for w in model.get_weights()])
    for name in ("conv_a", "conv_b"):
        kernel, bias = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([draw.normal(0, 0.5, kernel.shape), bias])
    return model


IMAGES = np.random.default_rng(0).random((7, 9, 9, 2), dtype=np.float32)


@pytest.mark.quick(1)
def test_one_pass_gives_what_all_maps_give(budget):
    network = Network(residual_network())
    found = survey_network(network, IMAGES, Wanted.all_of(network, seed=0))
    maps = activations(network, IMAGES, ["conv_a", "conv_b", "relu"])
    for name, judged, behind in (("conv_a", "relu", "its ReLU 'relu'"), ("conv_b", "conv_b", None)):
        own, seen = filter_statistics(maps[judged], name), found.filters[name]
        for field in ("low", "high", "spread", "fires"):
            np.testing.assert_allclose(
                getattr(seen, field), getattr(own, field), rtol=1e-4, atol=1e-6
            )
        assert (seen.dead, seen.duplicates, seen.behind) == (own.dead, own.duplicates, behind)
    assert found.broken == found.not_finite == {}
    np.testing.assert_allclose(found.scores, class_scores(network, IMAGES), rtol=1e-4)
    expected, outputs = sketch_layers(network, IMAGES)
    sketches, results = found.sketches
    assert list(sketches) == list(expected)
    for name, sketch in expected.items():
        np.testing.assert_allclose(
            sketches[name].projection, sketch.projection, rtol=1e-3, atol=1e-5
        )
    np.testing.assert_allclose(results["classes"], outputs["classes"], rtol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 300.0], ids=["centered", "far from 0"])
def test_duplicates_are_those_of_float64(budget, offset):
    model = residual_network()
    kernel, bias = model.get_layer("conv_a").get_weights()
    kernel[..., 3] = 2 * kernel[..., 1]
    kernel[..., 4] = kernel[..., 0] * (1 + 1e-3 * np.random.default_rng(2).normal(size=(3, 3, 2)))
    bias = np.full(5, offset, np.float32)
    bias[[3, 4]] = 2 * bias[1], bias[0]
    model.get_layer("conv_a").set_weights([kernel, bias])
    network = Network(model)
    seen = survey_network(network, IMAGES, Wanted(filters=("conv_a",))).filters["conv_a"]
    own = filter_statistics(activations(network, IMAGES, "conv_a")["conv_a"])
    assert (1, 3) in [pair[:2] for pair in seen.duplicates]
    assert [pair[:2] for pair in seen.duplicates] == [pair[:2] for pair in own.duplicates]
    np.testing.assert_allclose(
        [pair[2] for pair in seen.duplicates], [pair[2] for pair in own.duplicates], atol=1e-12
    )


@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_sizes_that_float32_cannot_square_are_compared_all_the_same(scale):
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(3, 1, name="conv")])
    kernel = scale * np.array([1, 2, 1], np.float32).reshape(1, 1, 1, 3)
    model.set_weights([kernel, scale * np.array([0, 0, 1], np.float32)])
    x = np.random.default_rng(0).random((3, 4, 4, 1), dtype=np.float32)
    network = Network(model)
    seen = survey_network(network, x, Wanted(filters=("conv",))).filters["conv"]
    assert [pair[:2] for pair in seen.duplicates] == [(0, 1)]


@pytest.mark.parametrize("pixel", [(10, 10), (10, -10)], ids=["infinite", "NaN"])
def test_values_that_are_not_finite_are_counted_where_they_are(budget, pixel):
    x = keras.Input((4, 4, 2))
    y = layers.Conv2D(3, 1, name="conv")(x)
    model = keras.Model(x, layers.Conv2D(2, 1, name="next")(y))
    kernel, bias = model.get_layer("conv").get_weights()
    kernel[..., 2] = 3e38  # times 10 it is infinite
    model.get_layer("conv").set_weights([kernel, bias])
    images = np.full((5, 4, 4, 2), 0.1, np.float32)
    images[3, 2, 1] = pixel
    network = Network(model)
    found = survey_network(network, images, Wanted(filters=("conv",), finite=("conv", "next")))
    assert found.broken == {"conv": 2}
    bad = found.not_finite["conv"]
    maps = activations(network, images, "conv")["conv"]
    assert bad.first == tuple(np.argwhere(~np.isfinite(maps))[0]) == (3, 2, 1, 2)
    assert (bad.size, bad.count) == (maps.size, 1)
    assert bad.nan == np.isnan(maps).sum()
    assert found.not_finite["next"].count == 2


def test_a_sum_that_overflows_is_no_infinite_value():
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(2, 1, name="conv")])
    kernel = np.array([2e38, -2e38], np.float32).reshape(1, 1, 1, 2)
    model.set_weights([kernel, np.zeros(2)])
    x = 0.5 + np.random.default_rng(0).random((3, 4, 4, 1), dtype=np.float32)
    found = survey_network(Network(model), x, Wanted(filters=("conv",), finite=("conv",)))
    assert found.broken == found.not_finite == {}
    assert found.filters["conv"].dead == ()


def test_weights_that_change_are_seen_by_the_next_survey():
    model = residual_network()
    network = Network(model)
    wanted = Wanted(filters=("conv_a",))
    before = survey_network(network, IMAGES, wanted).filters["conv_a"].high
    kernel, bias = model.get_layer("conv_a").get_weights()
    model.get_layer("conv_a").set_weights([2 * kernel, 2 * bias])
    assert (survey_network(network, IMAGES, wanted).filters["conv_a"].high != before).any()
