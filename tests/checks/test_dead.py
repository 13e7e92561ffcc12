"""Dead filters: found behind the activation that alone reads them, and judged over images."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as kl

from convlens import Effort, Lens, Network, assert_no_dead_filters, assert_no_duplicate_filters
from convlens.checks.ascent import Ascent
from convlens.checks.dead import Dead
from convlens.checks.deconvnet import Deconvnet
from convlens.checks.duplicates import Duplicates
from convlens.checks.gram import Gram

IMAGES = np.random.default_rng(0).random((8, 16, 16, 3), dtype=np.float32)


def model(*layers, **options):
    """Return a network of a convolution 'conv' with eight filters, and of layers on it."""
    keras.utils.set_random_seed(2)
    conv = kl.Conv2D(8, 3, name="conv", **options)
    return keras.Sequential([keras.Input((16, 16, 3)), conv, *layers], name="net")


def branched(build):
    """Return a network of which `build` gives the outputs for the maps of 'conv'."""
    keras.utils.set_random_seed(2)
    image = keras.Input((16, 16, 3))
    return keras.Model(image, build(kl.Conv2D(8, 3, name="conv")(image)), name="net")


def change(net, layer, unit, *, scale=1.0, add=0.0):
    """Scale a filter's kernel, and add to its bias; or to the shift of a batch normalization."""
    own = net.get_layer(layer)
    kernel, shift = (own.gamma, own.beta) if hasattr(own, "beta") else (own.kernel, own.bias)
    kernel.assign(np.where(np.arange(8) == unit, scale, 1) * np.asarray(kernel.value))
    shift.assign(np.where(np.arange(8) == unit, add, 0) + np.asarray(shift.value))
    return net


def tail():
    return [kl.GlobalAveragePooling2D(), kl.Dense(3)]


def norm():
    return kl.BatchNormalization(name="norm")


SILENCED = {
    "bias before a ReLU": (lambda: model(kl.ReLU(name="relu"), *tail()), "conv", "its ReLU 'relu'"),
    "a fused ReLU": (lambda: model(*tail(), activation="relu"), "conv", None),
    "bias before Activation": (
        lambda: model(kl.Activation("relu", name="act"), *tail()),
        "conv",
        "its ReLU 'act'",
    ),
    "shift before a ReLU": (
        lambda: model(norm(), kl.ReLU(name="relu"), *tail()),
        "norm",
        "its ReLU 'relu'",
    ),
    "shift, dropout and scaling": (
        lambda: model(norm(), kl.Dropout(0.5), kl.Rescaling(2.0), kl.ReLU(name="relu"), *tail()),
        "norm",
        "its ReLU 'relu'",
    ),
    "a pool before the ReLU": (
        lambda: model(kl.MaxPooling2D(), kl.ReLU(name="relu"), *tail()),
        "conv",
        "its ReLU 'relu'",
    ),
    "padding and cropping": (
        lambda: model(kl.ZeroPadding2D(), kl.Cropping2D(2), kl.ReLU(name="relu"), *tail()),
        "conv",
        "its ReLU 'relu'",
    ),
    "ReLU6": (
        lambda: model(norm(), kl.ReLU(6.0, name="relu"), *tail()),
        "norm",
        "'relu'",
    ),
    "GELU": (
        lambda: model(norm(), kl.Activation("gelu", name="gelu"), *tail()),
        "norm",
        "its activation 'gelu'",
    ),
    "a swish of operations": (
        lambda: branched(lambda y: kl.Conv2D(2, 3)(y * keras.ops.sigmoid(y))),
        "conv",
        "multiply",
    ),
    "a ReLU of operations": (
        lambda: branched(lambda y: kl.Conv2D(2, 3)(keras.ops.relu(y))),
        "conv",
        "relu",
    ),
    "a nested ReLU": (
        lambda: model(
            keras.Sequential(
                [keras.Input((14, 14, 8)), norm(), kl.ReLU(name="relu")], name="block"
            ),
            *tail(),
        ),
        "conv",
        "its ReLU 'block.relu'",
    ),
    "the model's last ReLU": (lambda: model(kl.ReLU(name="relu")), "conv", "its ReLU 'relu'"),
}


FIRST = (
    "bias before a ReLU",
    "a fused ReLU",
    "shift before a ReLU",
    "GELU",
    "a ReLU of operations",
    "a nested ReLU",
)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "case",
    [
        *FIRST,
        *(pytest.param(case, marks=pytest.mark.slow) for case in SILENCED if case not in FIRST),
    ],
)
def test_a_silenced_unit_is_named_with_its_activation(case):
    build, layer, behind = SILENCED[case]
    net = build()
    assert assert_no_dead_filters(net, IMAGES, "conv")["conv"].dead == ()
    change(net, layer, 3, add=-200)
    with pytest.raises(AssertionError, match="layer 'conv': 1 of 8 are dead") as failed:
        assert_no_dead_filters(net, IMAGES)
    text = str(failed.value)
    assert "units 3 (" in text
    assert (" behind " in text) == (behind is not None)
    assert (behind or "").lower().replace("_", "") in text.lower().replace("_", "")


HEALTHY = {
    "the ReLU is not the only reader": lambda: branched(
        lambda y: kl.Conv2D(2, 3)(kl.Concatenate()([kl.ReLU()(y), y]))
    ),
    "a residual connection": lambda: branched(
        lambda y: kl.Conv2D(2, 3)(kl.Add()([y, kl.Conv2D(8, 3, padding="same")(kl.ReLU()(y))]))
    ),
    "the model returns it too": lambda: branched(lambda y: [kl.ReLU()(y), y]),
    "a leaky ReLU": lambda: model(kl.LeakyReLU(0.01), *tail()),
    "a fused leaky ReLU": lambda: model(*tail(), activation="leaky_relu"),
    "a PReLU": lambda: model(kl.PReLU(alpha_initializer=keras.initializers.Constant(0.2)), *tail()),
    "the ReLU of the next convolution": lambda: model(kl.Conv2D(8, 3, activation="relu"), *tail()),
    "no activation": lambda: model(*tail()),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", HEALTHY)
def test_a_unit_that_still_varies_is_not_dead(case):
    net = change(HEALTHY[case](), "conv", 3, add=-200)
    assert assert_no_dead_filters(net, IMAGES, "conv")["conv"].dead == ()


def test_a_batch_norm_that_takes_away_a_large_mean_leaves_a_healthy_filter():
    net = change(model(norm(), kl.ReLU(), *tail()), "conv", 3, add=1e4)
    net.get_layer("norm").moving_mean.assign(np.where(np.arange(8) == 3, 1e4, 0.0))
    assert assert_no_dead_filters(net, IMAGES)["conv"].dead == ()
    net.get_layer("norm").moving_mean.assign(np.zeros(8))
    change(net, "conv", 3, add=-2e4)
    with pytest.raises(AssertionError, match="units 3 "):
        assert_no_dead_filters(net, IMAGES)


@pytest.mark.parametrize("scale", [0, 1e-33, 1e-20, 1e-9])
def test_a_filter_far_below_its_layer_is_dead(scale):
    with pytest.raises(AssertionError, match="units 5 "):
        assert_no_dead_filters(change(model(*tail()), "conv", 5, scale=scale), IMAGES)


@pytest.mark.parametrize("scale", [1e-5, 1e-2, 1e4])
def test_a_weak_or_a_strong_filter_is_not_dead(scale):
    assert_no_dead_filters(change(model(*tail()), "conv", 5, scale=scale), IMAGES)


def test_a_layer_that_vanished_is_dead():
    net = model(*tail())
    net.get_layer("conv").kernel.assign(np.asarray(net.get_layer("conv").kernel.value) * 1e-33)
    with pytest.raises(AssertionError, match="8 of 8 are dead"):
        assert_no_dead_filters(net, IMAGES)


def test_a_map_that_differs_at_its_padded_border_alone_is_dead():
    keras.utils.set_random_seed(2)
    image = keras.Input((16, 16, 3))
    silent = kl.Conv2D(4, 3, bias_initializer="ones", kernel_initializer="zeros", name="silent")
    conv = kl.Conv2D(8, 3, padding="same", name="conv")
    net = keras.Model(image, conv(silent(image)), name="net")
    with pytest.raises(AssertionError, match=r"8 of 8 are dead.*the same for all images\)"):
        assert_no_dead_filters(net, IMAGES, "conv")


@pytest.mark.parametrize(
    "images",
    [IMAGES[:2], 0.5 + 1e-3 * (IMAGES - 0.5), np.concatenate([IMAGES[:1]] * 7 + [IMAGES[1:2]])],
)
def test_few_images_and_low_contrast_are_no_defect(images):
    bias = {"bias_initializer": keras.initializers.Constant(2.0)}
    net = model(kl.ReLU(), kl.DepthwiseConv2D(3, name="depth", **bias), kl.ReLU(), **bias)
    assert assert_no_dead_filters(net, images).keys() == {"conv", "depth"}


def test_a_depthwise_filter_is_found():
    net = model(kl.DepthwiseConv2D(3, name="depth"), norm(), kl.ReLU(name="relu"), *tail())
    with pytest.raises(AssertionError, match="layer 'depth': 1 of 8 are dead behind its ReLU") as e:
        assert_no_dead_filters(change(net, "norm", 6, add=-100), IMAGES)
    assert "layer 'conv'" not in str(e.value)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
def test_half_precision(dtype):
    def net():
        relu = kl.ReLU(name="relu", dtype=dtype)
        norm = kl.BatchNormalization(name="norm", dtype=dtype)
        return model(norm, relu, *tail(), dtype=dtype, bias_initializer="ones")

    assert_no_dead_filters(net(), IMAGES)
    with pytest.raises(AssertionError, match="units 3 "):
        assert_no_dead_filters(change(net(), "norm", 3, add=-100), IMAGES)


def test_one_image_or_equal_images_cannot_tell():
    net = model(*tail())
    for images in (IMAGES[:1], np.repeat(IMAGES[:1], 3, axis=0)):
        with pytest.raises(ValueError, match="at least two images that differ are needed"):
            assert_no_dead_filters(net, images)
        assert "at least two images" in (Dead().reason_to_skip(Lens(net, images), "conv") or "")
        assert_no_duplicate_filters(net, images)
    assert Dead().reason_to_skip(Lens(net, IMAGES), "conv") is None


# The range of the images


def for_bytes():
    """Return a network for pixels in 0–255: in 0–1 its filters never pass their bias."""
    net = model(kl.ReLU(name="relu"), *tail())
    kernel = np.abs(np.asarray(net.get_layer("conv").kernel.value))
    net.get_layer("conv").kernel.assign(kernel)
    net.get_layer("conv").bias.assign(-3 * kernel.sum(axis=(0, 1, 2)))
    return net


def verdict(lens):
    Dead().verdict(Dead().run(lens, "conv", Effort()))


def test_an_assumed_range_is_named_with_what_another_would_do():
    with pytest.raises(AssertionError) as failed:
        verdict(Lens(for_bytes(), IMAGES, range_given=False))
    assert str(failed.value).splitlines()[-1] == (
        "no range was given, so 0 to 1 was assumed: with --convlens-range 0,255, 0 of 8 are dead"
    )


def test_a_given_range_is_asked_about():
    with pytest.raises(AssertionError, match="8 of 8 are dead") as failed:
        verdict(Lens(for_bytes(), IMAGES))
    assert "the images range from" in str(failed.value)
    assert "--convlens-range" not in str(failed.value)
    verdict(Lens(for_bytes(), 255 * IMAGES, value_range=(0, 255)))


def test_a_single_dead_filter_is_no_question_of_range():
    net = change(model(kl.ReLU(), *tail()), "conv", 3, add=-200)
    with pytest.raises(AssertionError) as failed:
        verdict(Lens(net, IMAGES, range_given=False))
    assert "range" not in str(failed.value)


# Layers that the images do not reach


def siamese(together):
    """Return a network with a held second input, through a shared encoder or one for both."""
    keras.utils.set_random_seed(0)
    a, b = keras.Input((16, 16, 3), name="a"), keras.Input((16, 16, 3), name="b")
    if together:
        x, y = keras.Input((16, 16, 3)), keras.Input((16, 16, 3))
        pair = keras.Model(
            [x, y], [kl.Conv2D(8, 3, name="one")(x), kl.Conv2D(8, 3, name="two")(y)], name="e"
        )
        left, right = pair([a, b])
    else:
        encoder = keras.Sequential(
            [keras.Input((16, 16, 3)), kl.Conv2D(8, 3, name="one")], name="e"
        )
        left, right = encoder(a), encoder(b)
    joined = kl.Conv2D(4, 1, name="joined")(kl.Subtract()([left, right]))
    net = keras.Model([a, b], kl.GlobalAveragePooling2D()(joined), name="siamese")
    return Network(net, held={"b": np.full((16, 16, 3), 0.5, "float32")})


@pytest.mark.parametrize(("together", "unreached"), [(False, "e.one:2"), (True, "e.two")])
def test_layers_of_held_inputs_alone_are_skipped(together, unreached):
    network = siamese(together)
    lens = Lens(network, IMAGES)
    for check in (Dead(), Duplicates(), Gram(), Ascent(), Deconvnet()):
        reasons = {layer: check.reason_to_skip(lens, layer) for layer in network.conv_layers}
        assert {layer for layer, reason in reasons.items() if reason} == {unreached}
        assert "depends on held inputs alone" in reasons[unreached]
    assert set(assert_no_dead_filters(network, IMAGES)) == {"e.one", "joined"}
    with pytest.raises(ValueError, match=f"'{unreached}': the images do not reach it"):
        assert_no_dead_filters(network, IMAGES, unreached)
