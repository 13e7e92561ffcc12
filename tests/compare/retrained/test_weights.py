"""Layers at initialization and pruned ones are named; trained, equal and renamed ones are not."""

from __future__ import annotations

import numpy as np
import pytest

from convlens import Network
from convlens.compare.retrained.weights import compare_weights, paired_layers
from convlens.fixtures.defects import plant


def build(seed: int, trained: bool = True, prefix: str = "", initializer: str = "glorot_uniform"):
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    options = {"kernel_initializer": initializer}
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(8, 3, name=f"{prefix}first", **options),
            layers.Conv2D(80, 3, use_bias=False, name=f"{prefix}bare", **options),
            layers.BatchNormalization(name=f"{prefix}norm"),
            layers.SeparableConv2D(
                8,
                3,
                name=f"{prefix}separable",
                depthwise_initializer=initializer,
                pointwise_initializer=initializer,
            ),
            layers.Flatten(name=f"{prefix}flatten"),
            layers.Dense(5, activation="softmax", name=f"{prefix}classes", **options),
        ]
    )
    if trained:
        draw = np.random.default_rng(seed)
        for layer in model.layers:
            for v in layer.trainable_variables:
                v.assign(v + draw.normal(0, 0.05, v.shape))
    return model


INITIALIZERS = ["glorot_uniform", "he_normal", "lecun_uniform", "glorot_normal"]


@pytest.mark.quick(2)
@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_two_trainings_pass(initializer):
    new, old = (Network(build(seed, initializer=initializer)) for seed in (0, 1))
    assert compare_weights(new, old) == ()


@pytest.mark.quick(2)
@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_layers_at_initialization_are_named(initializer):
    new = Network(build(0, trained=False, prefix="new_", initializer=initializer))
    found = compare_weights(new, Network(build(1, initializer=initializer)))
    assert [each.layer for each in found] == [
        *("new_first", "new_bare", "new_norm", "new_separable", "new_classes"),
    ]
    assert all("not trained" in each.finding for each in found)
    assert compare_weights(new, new) == ()


@pytest.mark.parametrize("layer", ["first", "bare", "norm", "separable", "classes"])
def test_one_frozen_layer_is_named_alone(layer):
    new, initial = build(0), build(2, trained=False)
    new.get_layer(layer).set_weights(initial.get_layer(layer).get_weights())
    (found,) = compare_weights(Network(new), Network(build(1)))
    assert found.layer == layer
    new.get_layer(layer).trainable = False
    assert [x.layer for x in compare_weights(Network(new), Network(build(1)))] == [layer]


def test_a_pruned_layer_is_named(mnist_cnn):
    network = Network(mnist_cnn)
    (found,) = compare_weights(Network(plant(mnist_cnn, "pruned-layer", "conv2d_2")), network)
    assert found.layer == "conv2d_2"
    assert found.finding.startswith("90% of its weights are exactly 0 (before 0%)")


def test_a_reinitialized_layer_is_named(mnist_cnn):
    network = Network(mnist_cnn)
    found = compare_weights(Network(plant(mnist_cnn, "reinitialized", "conv2d_3")), network)
    assert [each.layer for each in found] == ["conv2d_3"]


def test_other_networks_are_paired_by_name(mnist_cnn):
    import keras

    first = build(0)
    fewer = keras.Sequential([keras.Input((12, 12, 3)), *first.layers[:2]])
    pairs = list(paired_layers(Network(fewer), Network(first)))
    assert pairs == [("first", "first"), ("bare", "bare")]
    assert list(paired_layers(Network(mnist_cnn), Network(first))) == []
