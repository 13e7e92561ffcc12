"""Compare receptive fields with the pixels where a position's derivative is not zero."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from keras import layers, ops

from convlens import Network, receptive_field
from convlens.engine.model.receptive_field import Box, reaches
from convlens.engine.runtime import backend


def plain(padding, strides, dilation, pool):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((21, 18, 1)),
            layers.Conv2D(2, (3, 2), padding=padding, strides=strides, name="a"),
            layers.AveragePooling2D(*pool, padding=padding, name="b"),
            layers.Conv2D(2, 3, padding="same", dilation_rate=dilation, name="top"),
        ]
    )


def branched():
    keras.utils.set_random_seed(1)
    x = keras.Input((20, 20, 2))
    a = layers.Conv2D(3, 5, padding="same", activation="sigmoid")(x)
    b = layers.SeparableConv2D(3, 3, padding="same")(layers.BatchNormalization()(a))
    c = layers.ZeroPadding2D(((2, 0), (1, 1)))(layers.Cropping2D(((1, 1), (0, 2)))(a))
    y = layers.Concatenate()([layers.Add()([a, b]), c]) if c.shape[1:3] == a.shape[1:3] else a
    y = layers.DepthwiseConv2D(3, strides=2, padding="same")(y)
    y = layers.UpSampling2D(2)(y)
    return keras.Model(x, layers.Conv2DTranspose(2, 3, strides=2, padding="same", name="top")(y))


def nested():
    keras.utils.set_random_seed(2)
    inner = keras.Sequential(
        [keras.Input((12, 12, 1)), layers.Conv2D(1, 3, padding="same")], name="inner"
    )
    x = keras.Input((12, 12, 1))
    return keras.Model(x, layers.AveragePooling2D(2, name="top")(inner(inner(x))))


def swapped():
    """Swap the color channels one by one, as Keras's preprocessing does."""
    keras.utils.set_random_seed(3)
    x = keras.Input((15, 15, 3))
    y = ops.stack([x[..., 2], x[..., 1], x[..., 0]], axis=-1) + np.ones((1, 1, 1, 3), np.float32)
    return keras.Model(x, layers.Conv2D(2, 3, padding="same", name="top")(y))


def reached(network, layer, position):
    """Return the box of the pixels with a nonzero derivative for any of a few random images."""
    h, w, c = network.input_shape
    x = ops.convert_to_tensor(np.random.default_rng(3).random((8, h, w, c), dtype=np.float32))
    maps, pullback = backend.vjp(lambda x: network.run(x, [network.outputs[layer]])[0], x)
    signal = np.zeros(maps.shape, np.float32)
    signal[:, position[0], position[1]] = np.random.default_rng(4).random(maps.shape[-1])
    touched = np.abs(np.asarray(pullback(ops.convert_to_tensor(signal)))).max(axis=(0, -1)) > 0
    rows, columns = np.flatnonzero(touched.any(axis=1)), np.flatnonzero(touched.any(axis=0))
    if not rows.size:
        return Box((0, 0), (0, 0))
    return Box((int(rows[0]), int(columns[0])), (int(rows[-1]) + 1, int(columns[-1]) + 1))


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "build",
    [
        lambda: plain("same", 1, 1, (2, 2)),
        lambda: plain("valid", 2, 1, (3, 2)),
        lambda: plain("same", 2, 2, (2, 1)),
        lambda: plain("valid", 1, 2, (2, 3)),
        branched,
        nested,
        swapped,
    ],
)
def test_it_is_where_the_derivative_reaches(build):
    network = Network(build())
    h, w = network.input_shape[:2]
    rows, columns = network.outputs["top"].shape[1:3]
    for at in [(0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1), (1, columns - 2)]:
        field = receptive_field(network, "top", at, (h, w))
        assert field == reached(network, "top", at)


def test_three_convolutions_and_pools_see_what_the_hand_count_says(mnist_network):
    """18 = 3 + 1 + 2·2 + 2 + 4·2: kernels of 3 at strides 1, 2 and 4, pools of 2 at 1 and 2."""
    assert receptive_field(mnist_network, "conv2d_3", (3, 3), (28, 28)) == Box((5, 5), (23, 23))
    for at, cut, whole in [
        ("conv2d_1", Box((0, 0), (2, 2)), Box((-1, -1), (2, 2))),
        ("conv2d_3", Box((0, 0), (11, 11)), Box((-7, -7), (11, 11))),
    ]:
        assert receptive_field(mnist_network, at, (0, 0), (28, 28)) == cut
        assert receptive_field(mnist_network, at, (0, 0), (28, 28), padded=True) == whole


def test_a_gate_does_not_widen_the_field_but_a_mixture_of_positions_does():
    x = keras.Input((8, 8, 4))
    y = layers.Conv2D(4, 3, padding="same", name="conv")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(y)
    gated = layers.Multiply(name="gated")([y, layers.Conv2D(4, 1, activation="sigmoid")(gate)])
    mixed = layers.Reshape((8, 8, 4), name="mixed")(
        layers.Permute((2, 1))(layers.Reshape((64, 4))(gated))
    )
    network = Network(keras.Model(x, mixed))
    assert receptive_field(network, "gated", (4, 4), (8, 8)) == Box((3, 3), (6, 6))
    assert receptive_field(network, "mixed", (4, 4), (8, 8)) == Box((0, 0), (8, 8))


def test_a_vector_sees_the_whole_image(tiny_network):
    assert receptive_field(tiny_network, "classes", (0, 0), (13, 13)) == Box((0, 0), (13, 13))


def test_images_of_any_size():
    model = keras.Sequential(
        [keras.Input((None, None, 1)), layers.Conv2D(2, 5, strides=3, padding="same", name="conv")]
    )
    network = Network(model)
    # 'same' on 20 pixels: 7 windows cover (7 - 1)·3 + 5 = 23, so one pixel of padding in front.
    assert receptive_field(network, "conv", (1, 0), (20, 20)) == Box((2, 0), (7, 4))


def test_a_map_of_one_position_that_grows_again_is_no_gate():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Conv2D(2, 4),
            layers.Conv2DTranspose(2, 3, name="grown"),
            layers.UpSampling2D(2, name="doubled"),
        ]
    )
    for layer in ("grown", "doubled"):
        assert receptive_field(model, layer, (1, 1), (4, 4)) == Box((0, 0), (4, 4))


def test_a_convolution_with_a_call_of_the_users_own_is_not_taken_for_keras():
    class Shifted(layers.Conv2D):
        def call(self, x):
            return ops.roll(super().call(x), 3, axis=1)

    keras.utils.set_random_seed(0)
    x = keras.Input((9, 9, 1))
    network = Network(keras.Model(x, Shifted(1, 1, name="top")(x)))
    box, touched = (
        receptive_field(network, "top", (4, 4), (9, 9)),
        reached(network, "top", (4, 4)),
    )
    assert box.start[0] <= touched.start[0]
    assert box.end[0] >= touched.end[0]


def test_a_branch_that_reads_only_padding_adds_nothing():
    """At (0, 0), the second convolution's columns -1 and 2 lie outside its map of 2 columns."""
    x = keras.Input((9, 8, 1))
    one = positive(layers.Conv2D, 2, (1, 3), dilation_rate=(1, 3))(x)
    two = positive(layers.Conv2D, 2, (3, 2), dilation_rate=(1, 3), padding="same")(one)
    top = layers.Activation("linear", name="top")(layers.Concatenate()([one, two]))
    network = Network(keras.Model(x, top))
    assert receptive_field(network, "top", (0, 0), (9, 8)) == Box((0, 0), (1, 7))
    assert receptive_field(network, "top", (0, 1), (9, 8)) == Box((0, 0), (2, 8))


def positive(layer, *args, **options):
    """Return a layer whose weights are all positive, so that no derivatives cancel."""
    kernel = keras.initializers.RandomUniform(0.5, 1, seed=len(args))
    name = "depthwise_initializer" if layer is layers.DepthwiseConv2D else "kernel_initializer"
    return layer(*args, **{name: kernel}, **options)


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def convolutions(draw):
    """Draw a convolution: Keras allows either strides or dilations."""
    options = {"padding": draw(st.sampled_from(["same", "valid"]))}
    if draw(st.booleans()):
        options["dilation_rate"] = draw(pairs(1, 3))
    else:
        options["strides"] = draw(pairs(1, 3))
    return positive(layers.Conv2D, 2, draw(pairs(1, 4)), **options)


@st.composite
def transposed(draw):
    """Draw a transposed convolution, with an `output_padding` that Keras can compute."""
    kernel, strides = draw(pairs(1, 5)), draw(pairs(1, 3))
    padding = draw(st.sampled_from(["same", "valid"]))
    options: dict[str, Any] = {"strides": strides}
    if draw(st.booleans()):
        least = [1 - k % 2 if padding == "same" else 0 for k in kernel]
        if all(low < s for low, s in zip(least, strides, strict=True)):
            options["output_padding"] = tuple(
                draw(st.integers(low, s - 1)) for low, s in zip(least, strides, strict=True)
            )
    # On CPUs, TensorFlow has no kernel for a dilated one.
    elif keras.backend.backend() == "jax" and draw(st.booleans()):
        options = {"dilation_rate": draw(pairs(2, 3))}
    return positive(layers.Conv2DTranspose, 2, kernel, padding=padding, **options)


@st.composite
def others(draw):
    """Draw a pool, a change of size, or a layer that does not mix positions."""
    padding, kind = draw(st.sampled_from(["same", "valid"])), draw(st.integers(0, 7))
    edges = (draw(pairs(0, 2)), draw(pairs(0, 2)))
    if kind == 0:
        return layers.AveragePooling2D(draw(pairs(1, 3)), draw(pairs(1, 3)), padding)
    if kind == 1:
        # Keras takes strides of one size only.
        return positive(
            layers.DepthwiseConv2D,
            draw(pairs(1, 4)),
            strides=draw(st.integers(1, 3)),
            padding=padding,
        )
    if kind == 2:
        return layers.UpSampling2D(draw(pairs(1, 4)))
    if kind == 3:
        size, how = draw(pairs(1, 4)), draw(st.sampled_from(["bilinear", "bicubic"]))
        return layers.UpSampling2D(size, interpolation=how)
    if kind == 4:
        return layers.ZeroPadding2D(edges)
    if kind == 5:
        return layers.Cropping2D(edges)
    if kind == 6:
        return layers.BatchNormalization()
    return layers.Activation("softplus")


@st.composite
def geometries(draw, depth):
    """Draw a network of a chain of layers, and perhaps a branch beside it."""
    keras.utils.clear_session(free_memory=False)
    any_layer = convolutions() | transposed() | others()
    x = y = keras.Input((draw(st.integers(6, 14)), draw(st.integers(6, 14)), 1))
    for _ in range(draw(st.integers(1, depth))):
        layer = draw(any_layer)
        try:
            made = layer(y)
        except (ValueError, ZeroDivisionError):
            continue  # a window or a cut larger than the map
        assume(all(0 < side <= 60 for side in made.shape[1:3]))
        if made.shape[1:3] == y.shape[1:3] and draw(st.booleans()):
            made = layers.Concatenate()([y, made])
        y = made
    y = layers.Activation("linear", name="top")(y)
    at = tuple(draw(st.integers(0, side - 1)) for side in y.shape[1:3])
    return Network(keras.Model(x, y)), at


def over(count):
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def compare_with_derivatives(network, at):
    h, w, _ = network.input_shape
    found = receptive_field(network, "top", at, (h, w))
    assert found == reached(network, "top", at), (
        found,
        [c.op for c in network.calls("top")],
    )


@pytest.mark.slow
@over(40)
@given(drawn=geometries(depth=2))
def test_every_geometry_is_where_the_derivative_reaches(drawn):
    compare_with_derivatives(*drawn)


@pytest.mark.slow
@over(150)
@given(drawn=geometries(depth=5))
def test_deep_geometries_are_where_the_derivative_reaches(drawn):
    compare_with_derivatives(*drawn)


def reaching():
    """Return a network of windows, strides, dilations, enlargements and branches."""
    image = keras.Input((64, 80, 3))
    x = layers.ZeroPadding2D(3)(image)
    x = layers.Conv2D(4, 7, strides=2, name="stem")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool")(x)
    y = layers.Conv2D(4, (3, 5), padding="same", dilation_rate=2, name="wide")(x)
    x = layers.Add(name="sum")([x, layers.BatchNormalization()(y)])
    x = layers.Conv2D(4, 3, strides=(2, 1), padding="same", name="down")(x)
    return Network(keras.Model(image, layers.UpSampling2D(name="up")(x)))


def test_the_reach_of_a_map_is_the_field_of_each_of_its_positions():
    network = reaching()
    shapes = network.shapes((64, 80, 3))
    found = reaches(network, shapes)
    for name in ("stem", "pool", "wide", "sum", "down"):
        reach = found[id(network.outputs[name])]
        first, *others = (
            receptive_field(network, name, at, (64, 80), padded=True)
            for at in ((4, 4), (5, 4), (4, 5))
        )
        field = tuple(b - a for a, b in zip(first.start, first.end, strict=True))
        assert reach.size == (min(64, field[0]), min(80, field[1])), name
        steps = tuple(b.start[i] - first.start[i] for i, b in enumerate(others[:2]))
        assert reach.stride == steps, name
        corner = receptive_field(network, name, (0, 0), (64, 80), padded=True)
        assert reach.start == corner.start, name
    assert found[id(network.outputs["up"])].stride == (
        pytest.approx(4, rel=0.1),
        pytest.approx(2, rel=0.1),
    )


def test_a_layer_that_mixes_all_positions_reaches_the_whole_image():
    image = keras.Input((20, 20, 1))
    x = layers.GlobalAveragePooling2D(name="mean")(layers.Conv2D(3, 3, name="conv")(image))
    network = Network(keras.Model(image, x))
    found = reaches(network, network.shapes((20, 20, 1)))
    assert found[id(network.outputs["conv"])].size == (3, 3)
    assert found[id(network.outputs["mean"])].size == (20, 20)


def test_a_layer_that_mixes_all_positions_sees_the_padding_below():
    image = keras.Input((20, 20, 1))
    x = layers.Conv2D(3, 5, padding="same", name="conv")(image)
    x = layers.Conv2D(3, 3, padding="same", name="deep")(x)
    x = layers.GlobalAveragePooling2D(keepdims=True, name="mean")(x)
    network = Network(keras.Model(image, x))
    found = reaches(network, network.shapes((20, 20, 1)))
    assert found[id(network.outputs["deep"])].start == (-3, -3)
    assert found[id(network.outputs["mean"])].start == (-3, -3)
