"""Every check on networks of other types: healthy networks pass, planted defects fail.

The network is the shipped one, in half precision, mixed precision and float64, and with a single
layer in float16 or bfloat16.
"""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from convlens import (
    Network,
    activations,
    assert_accuracy,
    assert_activation_increases,
    assert_class_images_recognized,
    assert_deconv_round_trip,
    assert_finite,
    assert_gram_invariant,
    assert_gram_symmetric,
    assert_matches_baseline,
    assert_no_dead_filters,
    assert_no_duplicate_filters,
    assert_repeatable,
    gram_matrix,
    maximize,
    project,
)
from convlens.fixtures.defects import plant

QUICK = ("bfloat16",)
SLOW = (
    "mixed_float16",
    "float16",
    "mixed_bfloat16",
    "float64",
    "one float16 layer",
    "one bfloat16 layer",
)
KINDS = [*QUICK, *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW)]
LAYER = "conv2d_2"


def in_type(model, kind):
    """Return a copy of a model that computes in another type, with the same weights."""

    def copy(layer):
        config = layer.get_config()
        if not kind.startswith("one "):
            config["dtype"] = kind
        elif layer.name == LAYER:
            config["dtype"] = kind.split()[1]
        return type(layer).from_config(config)

    found = keras.models.clone_model(model, clone_function=copy)
    found.set_weights(model.get_weights())
    return found


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def network(kind, mnist_cnn):
    return Network(in_type(mnist_cnn, kind))


@pytest.fixture(scope="module")
def images(digits):
    return digits.images[::10]


@pytest.fixture(scope="module")
def maps(network, images):
    return activations(network, images, LAYER)[LAYER]


@pytest.fixture(scope="module")
def ascent(network):
    return maximize(network, LAYER, [0, 5, 9], steps=60)


@pytest.fixture(scope="module")
def class_images(network):
    return maximize(network, None, [1, 4, 7], steps=100)


def changed(network, layer, edit):
    """Return a copy of a network with other weights in a layer."""
    model = keras.models.clone_model(network.model)
    model.set_weights(network.model.get_weights())
    own = model.get_layer(layer)
    values = [np.asarray(v, np.float32) for v in own.get_weights()]
    edit(*values)
    own.set_weights(values)
    return model


def test_activations_are_floats_that_numpy_knows(maps):
    assert maps.dtype in (np.float32, np.float64)


def test_the_weights_are_finite(network):
    assert_finite(network)


def test_no_filter_is_dead(network, images):
    assert_no_dead_filters(network, images)


def test_a_dead_filter_is_named(network, images):
    def kill(kernel, bias):
        bias[5] = -100

    with pytest.raises(AssertionError, match=f"'{LAYER}': 1 of 48 are dead, units 5"):
        assert_no_dead_filters(changed(network, LAYER, kill), images)


def test_no_filter_is_a_duplicate(network, images):
    assert_no_duplicate_filters(network, images)


@pytest.mark.parametrize("factor", [1.0, 1.3])
def test_a_duplicate_is_named(network, images, factor):
    def duplicate(kernel, bias):
        kernel[..., 7], bias[7] = factor * kernel[..., 2], factor * bias[2]

    with pytest.raises(AssertionError, match=f"'{LAYER}': units 2 and 7"):
        assert_no_duplicate_filters(changed(network, LAYER, duplicate), images)


def test_the_gram_matrix_passes(maps):
    assert_gram_symmetric(gram_matrix(maps), maps)
    assert_gram_invariant(maps)


def test_a_changed_entry_of_the_gram_matrix_is_named(maps):
    bad = gram_matrix(maps).copy()
    i, j = np.argwhere(np.triu(bad[0], 1) > 0.2 * bad[0].max())[0]
    bad[0, i, j] *= 1.01
    with pytest.raises(AssertionError, match="is no Gram matrix"):
        assert_gram_symmetric(bad, maps)


def test_a_reshape_that_mixes_channels_with_positions_is_named(maps):
    n, h, w, c = maps.shape
    mixed = maps.reshape(n, c, h * w).transpose(0, 2, 1).reshape(maps.shape)
    with pytest.raises(AssertionError, match="mixed with positions"):
        assert_gram_symmetric(gram_matrix(mixed), maps)


def test_the_deconvnet_passes(network, images):
    trip = assert_deconv_round_trip(network, images[:3], "predictions")
    assert (LAYER, "adjoint") in trip.residuals


def no_rectifier(network, images, layer, signal):
    found = project(network, images, layer, signal)
    opposite = project(network, images, layer, -signal)
    return {n: (v if n == layer else v - opposite[n]) for n, v in found.items()}


def half_signal(network, images, layer, signal):
    found = project(network, images, layer, signal)
    return {n: (v if n == layer else 0.9 * v) for n, v in found.items()}


def flipped(network, images, layer, signal):
    found = project(network, images, layer, signal)
    return {n: (v[:, ::-1] if n == "input" else v) for n, v in found.items()}


def other_images(network, images, layer, signal):
    return project(network, images[::-1], layer, signal)


@pytest.mark.parametrize("wrong", [no_rectifier, half_signal, flipped, other_images])
def test_a_wrong_deconvnet_is_named(network, images, wrong):
    with pytest.raises(AssertionError, match="to the pixels is wrong"):
        assert_deconv_round_trip(network, images[:3], LAYER, project=wrong)


def test_the_network_is_repeatable(network, images):
    assert_repeatable(network, images)


def test_noise_at_inference_is_named(network, images):
    image = keras.Input((28, 28, 1), dtype="float32")
    y = layers.GaussianNoise(0.2, name="noise", dtype="float32")(image, training=True)
    model = keras.Model(image, network.model(y))
    with pytest.raises(AssertionError, match="another output each time"):
        assert_repeatable(model, images)


@pytest.mark.quick(1)
def test_the_ascent_passes(network, ascent):
    assert_activation_increases(network, ascent)


def test_a_wrong_ascent_is_named(network, ascent):
    with pytest.raises(AssertionError, match=r"at least .* is needed"):
        assert_activation_increases(network, replace(ascent, images=ascent.start))
    with pytest.raises(AssertionError, match="it was not measured on these images"):
        assert_activation_increases(network, replace(ascent, trace=0.8 * ascent.trace))


@pytest.mark.slow
def test_class_images_are_recognized(network, class_images):
    assert_class_images_recognized(network, class_images)


@pytest.mark.slow
def test_permuted_classes_are_named(network, class_images):
    with pytest.raises(AssertionError, match="does not recognize"):
        assert_class_images_recognized(
            network, replace(class_images, units=np.roll(class_images.units, 1))
        )


def test_digits_are_classified(network, digits):
    assert_accuracy(network, digits.images, digits.labels, min_accuracy=0.95)


@pytest.mark.quick(1)
def test_an_unchanged_network_holds_its_baseline(network, images, tmp_path):
    assert_matches_baseline(network, tmp_path, "net", images=images, update="missing")
    assert assert_matches_baseline(network, tmp_path, "net", images=images).passed


@pytest.mark.slow
def test_a_changed_network_fails_its_baseline(network, images, tmp_path):
    assert_matches_baseline(network, tmp_path, "net", images=images, update="missing")
    for defect in ("dead-filter", "flipped-kernels", "permuted-channels"):
        broken = plant(network.model, defect, LAYER)
        with pytest.raises(AssertionError, match=f"{LAYER!r}"):
            assert_matches_baseline(broken, tmp_path, "net", images=images)


@pytest.mark.slow
def test_another_type_is_named_as_another_precision(kind, network, mnist_cnn, images, tmp_path):
    """A float64 network agrees with a float32 baseline; a coarser one is named."""
    assert_matches_baseline(mnist_cnn, tmp_path, "net", images=images, update="missing")
    if kind == "float64":
        assert_matches_baseline(network, tmp_path, "net", images=images)
        return
    with pytest.raises(AssertionError, match="computes in another precision than its baseline"):
        assert_matches_baseline(network, tmp_path, "net", images=images)
