"""Dead filters: found behind the activation that alone reads them, and judged over images."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers as kl

from convlens import (
    Effort,
    Lens,
    Network,
    activations,
    assert_no_dead_filters,
    assert_no_duplicate_filters,
    maximize,
)
from convlens.checks.ascent import Ascent
from convlens.checks.check import run_check
from convlens.checks.dead import Dead
from convlens.checks.deconvnet import Deconvnet
from convlens.checks.duplicates import Duplicates
from convlens.checks.gram import Gram
from convlens.engine.ascent.plan import LIMITS
from convlens.engine.features.survey import Wanted
from convlens.engine.model.bounds import channel_bounds
from convlens.pictures.synthetic import synthetic_images

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


# Synthetic images: what is silent on them is only a suspect

TEXTURES = synthetic_images((16, 16, 3))
PATTERN = np.sign(np.random.default_rng(4).standard_normal((3, 3, 3))).astype(np.float32)
# The largest product of the pattern with pixels in 0–1.
TOP = float(np.maximum(PATTERN, 0).sum())


def seek(net, layer, unit, share):
    """Let a filter seek the pattern: it fires where its product exceeds a share of the largest."""
    own = net.get_layer(layer)
    kernel, bias = (np.array(v) for v in own.get_weights())
    kernel[..., unit], bias[unit] = PATTERN, -share * TOP
    own.set_weights([kernel, bias])
    return net


def stretch(net, unit, scale, add):
    """Scale and shift a channel of a batch normalization."""
    own = net.get_layer("norm")
    weights = own.get_weights()
    weights[0][unit], weights[1][unit] = scale, add
    own.set_weights(weights)
    return net


def dead_units(net, layer="conv", images=TEXTURES, level="standard", **options):
    """Return the units that a lens with synthetic images, or given ones, says are dead."""
    seen = Dead().run(Lens(net, images, **options), layer, Effort(level=level))
    return seen.layers[layer].dead


RARE = {
    "fused": lambda: model(*tail(), activation="relu"),
    "a ReLU of its own": lambda: model(kl.ReLU(), *tail()),
    "a pool before the ReLU": lambda: model(kl.MaxPooling2D(), kl.ReLU(), *tail()),
    "batch norm and ReLU": lambda: model(norm(), kl.ReLU(), *tail()),
    "a ReLU of operations": lambda: branched(lambda y: kl.Conv2D(2, 3)(keras.ops.relu(y))),
    "batch norm and ReLU6": lambda: model(norm(), kl.ReLU(6.0), *tail()),
    "padding and strides": lambda: model(
        kl.ReLU(), kl.Flatten(), kl.Dense(3), strides=2, padding="same"
    ),
}


FEW = ("a ReLU of its own", "padding and strides")
CASES = [
    *((case, "quick") for case in FEW),
    *(
        pytest.param(case, "standard", marks=() if case in FEW else pytest.mark.slow)
        for case in RARE
    ),
]


@pytest.mark.parametrize(("case", "level"), CASES)
def test_a_filter_for_a_pattern_that_no_texture_has_is_not_dead(case, level):
    net = seek(RARE[case](), "conv", 3, 0.95)
    assert dead_units(net) == (3,)
    assert dead_units(net, level=level, synthetic=True) == ()
    with pytest.raises(AssertionError, match="units 3 "):
        assert_no_dead_filters(net, TEXTURES)


@pytest.mark.parametrize(("case", "level"), CASES)
def test_a_filter_that_fires_outside_of_the_range_alone_is_dead(case, level):
    net = seek(RARE[case](), "conv", 3, 1.01)
    assert dead_units(net, level=level, synthetic=True) == (3,)
    with pytest.raises(AssertionError, match="on 48 images, nor on images made to excite them"):
        verdict(Lens(net, TEXTURES, synthetic=True))
    assert dead_units(net, images=2 * TEXTURES, value_range=(0, 2), synthetic=True) == ()


def test_a_filter_of_a_deep_layer_for_a_pattern_that_no_texture_has_is_not_dead():
    def net(share):
        maps = [norm(), kl.ReLU(), kl.Conv2D(8, 3, name="deep"), kl.ReLU(), *tail()]
        net = stretch(model(*maps), 0, 1.0, 0.0)
        own = net.get_layer("deep")
        kernel, bias = (np.array(v) for v in own.get_weights())
        top = maximize(net, "deep", [5], steps=60, value_range=(0, 1), size=(16, 16))
        peak = activations(net, top.images, "deep")["deep"][..., 5].max()
        bias[5] = -share * float(peak)
        own.set_weights([kernel, bias])
        return net

    assert dead_units(net(0.9), "deep") == (5,)
    assert dead_units(net(0.9), "deep", synthetic=True) == ()
    assert dead_units(net(20), "deep", synthetic=True) == (5,)


def test_a_filter_that_reads_silent_ones_alone_is_not_dead():
    def net(share, weight):
        depth = kl.DepthwiseConv2D(3, name="depth")
        net = seek(model(kl.ReLU(), depth, kl.ReLU(), *tail()), "conv", 3, share)
        kernel = np.asarray(depth.kernel.value).copy()
        kernel[..., 3, :] = weight
        depth.kernel.assign(kernel)
        depth.bias.assign(np.full(8, 0.1))
        return net

    for weight in (1, -1):
        assert dead_units(net(0.95, weight), "depth") == (3,)
        assert dead_units(net(0.95, weight), "depth", synthetic=True) == ()
    assert dead_units(net(1.01, 1), "depth", synthetic=True) == (3,)
    assert dead_units(net(0.95, 0), "depth", synthetic=True) == (3,)


def test_a_filter_at_its_ceiling_is_moved_down():
    """A ReLU6 at 6 for all textures is alive if the pattern's opposite lowers it."""
    for share, dead in ((0.05, ()), (-0.05, (3,))):
        net = model(kl.ReLU(6.0), *tail())
        own = net.get_layer("conv")
        kernel, bias = own.get_weights()
        # The smallest product with pixels in 0–1 is that of the negative weights.
        kernel[..., 3], bias[3] = 10 * PATTERN, 6 - 10 * np.minimum(PATTERN, 0).sum()
        bias[3] -= share * 10 * TOP
        own.set_weights([kernel, bias])
        assert dead_units(net) == (3,)
        assert dead_units(net, synthetic=True) == dead


@pytest.mark.parametrize("scale", [0, 1e-33, 1e-20, 1e-9])
@pytest.mark.parametrize("activation", ["relu", None])
def test_a_filter_without_weights_stays_dead(scale, activation):
    net = change(model(*tail(), activation=activation), "conv", 5, scale=scale)
    assert dead_units(net, synthetic=True) == (5,)


@pytest.mark.parametrize("level", ["standard", "quick"])
def test_a_dead_layer_is_named(level):
    net = model(kl.ReLU(), *tail())
    net.get_layer("conv").bias.assign(np.full(8, -200))
    assert dead_units(net, level=level, synthetic=True) == tuple(range(8))
    net.get_layer("conv").kernel.assign(np.zeros((3, 3, 3, 8)))
    assert dead_units(net, level=level, synthetic=True) == tuple(range(8))


def test_a_hint_at_the_range_counts_what_stays_dead_in_the_other_range():
    net = for_bytes()
    change(net, "conv", 2, add=-1e6)
    with pytest.raises(AssertionError) as failed:
        verdict(Lens(net, IMAGES, range_given=False, synthetic=True))
    assert str(failed.value).splitlines()[-1] == (
        "no range was given, so 0 to 1 was assumed: with --convlens-range 0,255, 1 of 8 are dead"
    )


def test_duplicates_are_no_matter_of_textures_either():
    net = model(kl.ReLU(), *tail())
    for unit in range(8):
        seek(net, "conv", unit, 0.95)
    with pytest.raises(AssertionError, match="all 8 filters are dead"):
        Duplicates().verdict(Duplicates().run(Lens(net, TEXTURES), "conv", Effort()))
    Duplicates().verdict(Duplicates().run(Lens(net, TEXTURES, synthetic=True), "conv", Effort()))


KINDS = {
    "series": ((40, 3), lambda: kl.Conv1D(8, 3, name="conv")),
    "volumes": ((8, 10, 12, 2), lambda: kl.Conv3D(8, 3, name="conv")),
    "frames": ((4, 12, 12, 3), lambda: kl.TimeDistributed(kl.Conv2D(8, 3, name="conv"))),
    "depthwise": ((16, 16, 4), lambda: kl.DepthwiseConv2D(3, depth_multiplier=2, name="conv")),
    "transposed": ((8, 8, 3), lambda: kl.Conv2DTranspose(8, 3, strides=2, name="conv")),
    "one position": ((3, 3, 3), lambda: kl.Conv2D(8, 3, name="conv")),
    "any size": ((None, None, 3), lambda: kl.Conv2D(8, 3, name="conv")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_of_maps(kind):
    shape, conv = KINDS[kind]
    keras.utils.set_random_seed(1)
    image = keras.Input(shape)
    maps = kl.ReLU()(conv()(image))
    net = keras.Model(image, maps if None in shape else kl.Dense(2)(kl.Flatten()(maps)))
    lens = Lens(net, synthetic_images(tuple(n or 20 for n in shape)), synthetic=True)
    (name,) = lens.conv_layers
    own = lens.network.layers[name]
    own = getattr(own, "layer", own)
    kernel, bias = (np.array(v) for v in own.get_weights())
    # The filter of unit 3 is an array of its own.
    at = {"depthwise": np.s_[..., 1, 1], "transposed": np.s_[:, :, 3]}.get(kind, np.s_[..., 3])
    kernel[at] = np.sign(np.random.default_rng(3).standard_normal(kernel[at].shape))
    pieces = [kernel[at]]
    if kind == "transposed":  # of whose filter each position reads a part
        pieces = [kernel[at][i::2, j::2] for i in (0, 1) for j in (0, 1)]
    top = max(np.maximum(piece, 0).sum() for piece in pieces)
    for share, dead in ((0.95, False), (1.01, True)):
        bias[3] = -share * top
        own.set_weights([kernel, bias])
        assert 3 in lens.survey(Wanted(filters=(name,))).filters[name].dead
        seen = Dead().run(lens, name, Effort())
        assert (3 in seen.layers[name].dead) == dead


def test_the_work_is_bounded(monkeypatch):
    """Of a large layer that a bias silences, as many filters are tried as the effort allows."""
    net = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            kl.Conv2D(16, 3, name="conv", activation="relu"),
            kl.Conv2D(128, 3, name="deep", activation="relu"),
            *tail(),
        ]
    )
    # Below 0 for every image, but not by so much that the weights alone prove it.
    network = Network(net)
    _, high = channel_bounds(network, (0.0, 1.0))[id(network.outputs["deep"])]
    net.get_layer("deep").bias.assign(-0.9 * high)
    lens = Lens(net, synthetic_images((32, 32, 3)), synthetic=True)
    monkeypatch.setitem(LIMITS, "quick", replace(LIMITS["quick"], passes=20))
    seen = Dead().run(lens, "deep", Effort(level="quick"))
    assert 1 <= len(seen.layers["deep"].dead) < 28
    with pytest.raises(AssertionError, match=r"; 1\d\d more fire on none of the 48 images"):
        Dead().verdict(seen)


def test_what_the_weights_prove_takes_no_attempt(monkeypatch):
    """A filter whose bounds are below its ReLU for every image is not climbed."""

    def refuse(*_):
        raise RuntimeError("an attempt was made")

    monkeypatch.setattr("convlens.checks._waking.Waking", refuse)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((16, 16, 3)), kl.Conv2D(6, 3, activation="relu", name="conv")]
    )
    kernel, _ = model.layers[0].get_weights()
    far = -np.abs(kernel).sum(axis=(0, 1, 2))
    model.layers[0].set_weights([kernel, np.where(np.arange(6) == 2, far, 0.0)])
    lens = Lens(model, synthetic_images((16, 16, 3)), synthetic=True)
    with pytest.raises(AssertionError, match=r"1 of 6 are dead, units 2 \(always 0\)"):
        Dead().verdict(run_check(Dead(), lens, "conv", Effort()))
    near = np.where(np.arange(6) == 2, -0.99 * np.maximum(kernel, 0).sum(axis=(0, 1, 2)), 0.0)
    model.layers[0].set_weights([kernel, near])
    with pytest.raises(RuntimeError, match="an attempt was made"):
        run_check(Dead(), lens, "conv", Effort())
