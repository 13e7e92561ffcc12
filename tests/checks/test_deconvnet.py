"""The deconvnet check against deconvnets with one planted defect each."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from convlens import Lens, Network, assert_deconv_round_trip, project
from convlens.checks import deconvnet as deconvnet_module
from convlens.checks.check import Effort
from convlens.checks.deconvnet import Deconvnet
from convlens.engine.model import network as network_module


def test_a_healthy_deconvnet_passes(tiny_network, tiny_images):
    trip = assert_deconv_round_trip(tiny_network, tiny_images, "pool_b")
    assert trip.worst < 1e-5
    tested = set(trip.residuals)
    assert {
        ("conv_a", "adjoint"),
        ("conv_b", "adjoint"),
        ("pool_a", "switches"),
        ("pool_a", "pool(unpool)"),
        ("pool_b", "switches"),
        ("input", "zero"),
        ("input", "scale"),
        ("conv_b", "chain"),
    } <= tested


def test_every_layer_of_the_trained_network_passes(mnist_network, digits):
    for layer in (*mnist_network.conv_layers, "max_pooling2d_3", "dense_1"):
        assert_deconv_round_trip(mnist_network, digits.images[:3], layer)


@pytest.mark.slow
def test_batch_norm_average_pools_strides_and_residuals_pass(tiny_images):
    keras.utils.set_random_seed(0)
    x = keras.Input((13, 13, 2))
    y = layers.Conv2D(4, 3, strides=2, name="conv")(x)
    y = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(y))
    y = layers.AveragePooling2D(2, 1, name="mean")(y)
    z = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depth")(y)
    model = keras.Model(x, layers.Conv2D(3, 1, name="top")(layers.Add(name="sum")([y, z])))
    trip = assert_deconv_round_trip(model, tiny_images, "top")
    tested = set(trip.residuals)
    assert {(n, "adjoint") for n in ("conv", "norm", "mean", "depth", "sum", "top")} <= tested
    assert {("relu", "ReLU"), ("depth", "chain")} <= tested


def failure(network, images, project, layer="pool_b"):
    with pytest.raises(AssertionError) as caught:
        assert_deconv_round_trip(network, images, layer, project=project)
    message = str(caught.value)
    assert message.startswith(f"tiny: the deconvnet from layer '{layer}' to the pixels is wrong")
    return message


def test_an_off_by_one_size_is_caught(tiny_network, tiny_images):
    def short(network, images, layer, signal):
        found = project(network, images, layer, signal)
        return {n: s[:, :12, :12] if n == "conv_a" and n != layer else s for n, s in found.items()}

    message = failure(tiny_network, tiny_images, short)
    assert "at 'conv_a' has shape (6, 12, 12, 6), the forward pass (6, 13, 13, 6)" in message


def test_the_dropped_edge_of_a_valid_pool_is_part_of_the_shape(mnist_network, digits):
    def without_edge(network, images, layer, signal):
        found = project(network, images, layer, signal)
        return {n: s[:, :6, :6] if n == "conv2d_3" and n != layer else s for n, s in found.items()}

    with pytest.raises(
        AssertionError, match=r"shape \(3, 6, 6, 64\), the forward .*\(3, 7, 7, 64\)"
    ):
        assert_deconv_round_trip(
            mnist_network, digits.images[:3], "max_pooling2d_3", project=without_edge
        )


def test_a_missing_stage_is_caught(tiny_network, tiny_images):
    def blind(network, images, layer, signal):
        found = dict(project(network, images, layer, signal))
        del found["input"]
        return found

    assert "there is no reconstruction at 'input'" in failure(tiny_network, tiny_images, blind)


@pytest.mark.slow
def test_kernels_that_are_not_flipped_are_caught(tiny, tiny_images):
    flipped = keras.models.clone_model(tiny)
    flipped.set_weights(
        [w[::-1, ::-1] if w.ndim == 4 else w for w in tiny.get_weights()]
    )  # the transpose of a flipped kernel is the kernel as it was

    def unflipped(network, images, layer, signal):
        """Project through the flipped kernels, with the true switches."""
        from convlens import activations

        maps = {"input": images, **activations(network, images, network.below(layer))}
        found = {layer: signal}
        for name in reversed(network.below(layer)):
            source = network.sources(name)[0]
            through = flipped.get_layer(name)
            part = keras.Sequential([keras.Input(maps[source].shape[1:]), _copy(through)])
            part.layers[0].set_weights(through.get_weights())
            found[source] = project(part, maps[source], part.layers[0].name, found[name])["input"]
        return found

    message = failure(tiny, tiny_images, unflipped, "conv_b")
    assert "conv_b (adjoint): filtering is not the adjoint" in message
    assert "conv_a (adjoint)" in message


def _copy(layer):
    return type(layer).from_config(layer.get_config())


def test_switches_from_another_image_are_caught(tiny_network, tiny_images):
    def other(network, images, layer, signal):
        return project(network, np.roll(images, 1, axis=0), layer, signal)

    message = failure(tiny_network, tiny_images, other)
    assert "pool_a (switches): found" in message
    assert "values differ" in message


def test_unpooling_to_the_corner_is_caught(tiny_network, tiny_images):
    def corner(network, images, layer, signal):
        found = dict(project(network, images, layer, signal))
        if layer == "pool_a":
            signal = np.asarray(signal)
            at_corner = np.zeros_like(found["conv_a"])
            at_corner[:, : 2 * signal.shape[1] : 2, : 2 * signal.shape[2] : 2] = signal
            found["conv_a"] = at_corner
        return found

    message = failure(tiny_network, tiny_images, corner)
    assert "pool_a (switches)" in message


def test_a_missing_rectification_is_caught(monkeypatch, tiny, tiny_images):
    monkeypatch.setattr(
        network_module, "rectified", lambda op, x, method: op(x)
    )  # a plain gradient
    message = failure(tiny, tiny_images, project)
    assert "conv_a (adjoint)" in message
    assert "conv_b (adjoint)" in message


def test_a_bias_on_the_way_down_is_caught(tiny_network, tiny_images):
    def biased(network, images, layer, signal):
        found = project(network, images, layer, signal)
        return {n: s if n == layer else s + 0.1 for n, s in found.items()}

    assert "zero at 'pool_b' gives 0.1 at 'input'" in failure(tiny_network, tiny_images, biased)


def test_stages_in_another_order_are_caught(tiny_network, tiny_images):
    def negated(network, images, layer, signal):
        found = project(network, images, layer, signal)
        whole = layer == "pool_b"
        return {n: -s if whole and n in ("input", "conv_a") else s for n, s in found.items()}

    assert "(chain)" in failure(tiny_network, tiny_images, negated)


def branched(layer=None):
    """Return a network with two branches; `layer` joins them."""
    keras.utils.set_random_seed(0)
    image = keras.Input((13, 13, 2))
    x = layers.Conv2D(4, 3, activation="relu", name="low")(image)
    left = layers.Conv2D(4, 3, padding="same", name="left")(x)
    right = layers.Conv2D(4, 1, activation="relu", name="right")(x)
    y = (layer or layers.Add(name="joined"))([left, right])
    y = layers.Conv2D(3, 3, name="high")(layers.MaxPooling2D(name="pool")(y))
    y = layers.Dense(2, name="scores")(layers.GlobalAveragePooling2D(name="mean")(y))
    return keras.Model(image, y, name="branched")


class OneSided(layers.Add):
    """An addition whose backward pass sends twice the signal to its first input."""

    def call(self, inputs):
        @keras.ops.custom_gradient
        def forward(a, b):
            def backward(*args, upstream=None):
                signal = args[0] if upstream is None else upstream
                return 2 * signal, signal

            return a + b, backward

        return forward(*inputs)


def test_a_wrong_stage_of_several_sources_is_caught(tiny_images):
    assert_deconv_round_trip(branched(), tiny_images, "high")
    with pytest.raises(AssertionError, match=r"joined \(adjoint\): filtering is not the adjoint"):
        assert_deconv_round_trip(branched(OneSided(name="joined")), tiny_images, "high")


def test_what_several_readers_send_is_summed_in_a_deconvnet_of_the_users_own(tiny_images):
    network = Network(branched())

    def without_left(network, images, layer, signal):
        found = project(network, images, layer, signal)
        if layer == "high":
            found["low"] = project(network, images, "right", found["right"])["low"]
        return found

    trip = assert_deconv_round_trip(network, tiny_images, "high", project=lambda *a: project(*a))
    assert ("left", "chain") in trip.residuals
    with pytest.raises(AssertionError, match=r"left \(chain\)"):
        assert_deconv_round_trip(network, tiny_images, "high", project=without_left)


def items(model, images):
    """Return the result of each item of a model."""
    lens = Lens(model, images)
    lens.share()
    check = Deconvnet()
    return {
        layer: check.run(lens, layer, Effort())
        for layer in check.layers(lens, Effort())
        if check.reason_to_skip(lens, layer) is None
    }


def test_each_stage_belongs_to_one_item(tiny_images):
    found = items(branched(), tiny_images)
    layers_of = {
        item: {layer for layer, kind in trip.residuals if kind not in ("zero", "scale")}
        for item, trip in found.items()
    }
    assert layers_of == {
        "low": {"low"},
        "left": {"left"},
        "right": {"right"},
        "high": {"joined", "pool", "high"},
    }
    assert sum(trip.shapes for trip in found.values()) == 7  # an addition has two
    assert {trip.layer for trip in found.values()} == set(found)
    for trip in found.values():
        trip.judge()


def test_an_item_fails_for_its_own_stages_alone(tiny_images):
    found = items(branched(OneSided(name="joined")), tiny_images)
    for layer in ("low", "left", "right"):
        found[layer].judge()
    with pytest.raises(AssertionError, match=r"joined \(adjoint\)"):
        found["high"].judge()


def test_all_items_of_a_run_share_one_walk(tiny, tiny_images, monkeypatch):
    walks = []
    true = deconvnet_module.walk
    monkeypatch.setattr(deconvnet_module, "walk", lambda *a: walks.append(a) or true(*a))
    assert len(items(tiny, tiny_images)) == 2
    assert len(walks) == 1


def test_an_error_of_a_layer_is_that_of_its_item(tiny_images):
    class Broken(layers.Add):
        def call(self, inputs):
            @keras.ops.custom_gradient
            def forward(a, b):
                def backward(*args, upstream=None):
                    raise ArithmeticError("no derivative")

                return a + b, backward

            return forward(*inputs)

    lens = Lens(branched(Broken(name="joined")), tiny_images)
    lens.share()
    for layer in ("low", "left", "right"):
        Deconvnet().run(lens, layer, Effort()).judge()
    with pytest.raises(ArithmeticError, match="no derivative"):
        Deconvnet().run(lens, "high", Effort())


def test_nan_never_passes(tiny_network, tiny_images):
    def broken(network, images, layer, signal):
        found = project(network, images, layer, signal)
        return {n: s if n == layer else s * np.nan for n, s in found.items()}

    assert "nan" in failure(tiny_network, tiny_images, broken)


def test_images_that_do_not_differ_are_refused(tiny_network, tiny_images):
    with pytest.raises(ValueError, match="at least two images that differ are needed"):
        assert_deconv_round_trip(tiny_network, tiny_images[[0, 0]], "conv_b")
    with pytest.raises(ValueError, match="at least two images that differ are needed"):
        assert_deconv_round_trip(tiny_network, tiny_images[:1], "conv_b")
