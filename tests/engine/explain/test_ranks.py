"""The deconvnet of series, images and volumes, against one written out in NumPy loops."""

from __future__ import annotations

from itertools import pairwise

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from keras import layers

from convlens import Network, activations, deconvolve, project, receptive_field, top_images
from convlens.engine.explain.patches import top_patches

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
POOLS = (layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D)
SHAPES = {1: (21, 2), 2: (9, 8, 2), 3: (7, 8, 7, 1)}  # the drawn networks need sides of 7


def network_of(rank, *, padding="same", pool=2, strides=2, size=3, step=1, bias=True):
    """Return a Sequential model of two convolutions with a ReLU, each with a max-pool."""
    convolution, max_pool = CONVOLUTIONS[rank - 1], POOLS[rank - 1]
    keras.utils.set_random_seed(rank)
    model = keras.Sequential(
        [
            keras.Input(SHAPES[rank]),
            convolution(3, size, strides=step, padding=padding, activation="relu", use_bias=bias),
            max_pool(pool, strides=strides, padding=padding),
            convolution(4, 2, padding="same", activation="relu", use_bias=bias),
        ]
    )
    for layer in model.layers:
        if layer.weights and bias:
            layer.bias.assign(np.random.default_rng(2).normal(0, 0.1, layer.bias.shape))
    return model


def explicit(model, images, signal):
    """Project a signal at the last layer down to the pixels; nothing of the engine's is used."""
    values = [images]
    for layer in model.layers:
        values.append(np.asarray(layer(values[-1])))
    for layer, (below, _) in reversed(list(zip(model.layers, pairwise(values), strict=True))):
        if isinstance(layer, POOLS):
            signal = unpooled(layer, below, signal)
        else:
            signal = transposed(layer, np.maximum(signal, 0), below.shape)
    return signal


def starts(layer, size, below, above):
    """Return the first input of each window along each side, padding included."""
    windows = zip(size, layer.strides, below[1:-1], above[1:-1], strict=True)
    found = []
    for extent, stride, side, count in windows:
        missing = max((count - 1) * stride + extent - side, 0)
        before = missing // 2 if layer.padding == "same" else 0
        found.append(np.arange(count) * stride - before)
    return found


def transposed(conv, signal, shape):
    """Add each value of a signal, times the kernel, to the inputs of its window."""
    kernel = np.asarray(conv.kernel)
    first = starts(conv, conv.kernel_size, shape, signal.shape)
    out = np.zeros(shape, np.float64)
    for at in np.ndindex(*signal.shape[1:-1]):
        for tap in np.ndindex(*conv.kernel_size):
            to = [int(first[i][at[i]]) + tap[i] for i in range(len(at))]
            if all(0 <= n < side for n, side in zip(to, shape[1:-1], strict=True)):
                out[(slice(None), *to)] += signal[(slice(None), *at)] @ kernel[tap].T
    return out


def unpooled(pool, below, signal):
    """Put each value of a signal where its window has its first maximum."""
    first = starts(pool, pool.pool_size, below.shape, signal.shape)
    out = np.zeros(below.shape, np.float64)
    for image, *at, unit in np.ndindex(*signal.shape):
        best, where = -np.inf, None
        for tap in np.ndindex(*pool.pool_size):
            to = [int(first[i][at[i]]) + tap[i] for i in range(len(at))]
            inside = all(0 <= n < side for n, side in zip(to, below.shape[1:-1], strict=True))
            if inside and below[(image, *to, unit)] > best:
                best, where = below[(image, *to, unit)], (image, *to, unit)
        out[where] += signal[(image, *at, unit)]
    return out


class Block(layers.Layer):
    """A layer of one's own around others."""

    def __init__(self, inside):
        super().__init__(name="block")
        self.inside = inside

    def call(self, x):
        for layer in self.inside:
            x = layer(x)
        return x


class Whole(keras.Model):
    """A subclassed model around layers."""

    def __init__(self, inside):
        super().__init__(name="whole")
        self.inside = inside

    def call(self, x):
        for layer in self.inside:
            x = layer(x)
        return x


def formed(model, form):
    """Return a model of the same layers: nested, or inside code of one's own."""
    shape = model.input_shape[1:]
    image = keras.Input(shape)
    if form == "nested":
        return keras.Model(image, model(image))
    if form == "block":
        return keras.Model(image, Block(model.layers)(image))
    if form == "subclassed":
        whole = Whole([*model.layers[:-1], Block(model.layers[-1:])])
        whole(np.zeros((1, *shape), np.float32))
        return whole
    return model


def compare(model, form="plain"):
    network = Network(formed(model, form))
    draw = np.random.default_rng(3)
    images = draw.random((2, *network.input_shape), dtype=np.float32)
    layer = network.conv_layers[-1]
    assert layer.split(".")[-1] == model.layers[-1].name
    shape = activations(network, images, layer)[layer].shape
    signal = draw.standard_normal(shape).astype(np.float32)
    found = project(network, images, layer, signal)["input"]
    expected = explicit(model, images, signal)
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.quick(1)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_deconvnet_of_each_rank_agrees_with_a_written_out_one(rank):
    compare(network_of(rank))


def test_of_equal_values_in_a_volume_the_first_is_the_switch():
    pool = keras.Sequential([keras.Input((4, 4, 4, 1)), layers.MaxPooling3D(2)])
    image = np.ones((1, 4, 4, 4, 1), np.float32)
    signal = np.ones((1, 2, 2, 2, 1), np.float32)
    found = project(pool, image, pool.layers[0].name, signal)["input"]
    np.testing.assert_array_equal(found, unpooled(pool.layers[0], image, signal))


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rank=st.integers(1, 3),
    form=st.sampled_from(["plain", "nested", "block", "subclassed"]),
    padding=st.sampled_from(["same", "valid"]),
    pool=st.integers(1, 3),
    strides=st.integers(1, 2),
    size=st.integers(1, 3),
    step=st.integers(1, 2),
    bias=st.booleans(),
)
def test_the_deconvnet_of_any_small_network_agrees(rank, form, **options):
    compare(network_of(rank, **options), form)


@pytest.mark.parametrize("form", ["nested", "block", "subclassed"])
def test_layers_inside_others_are_projected_as_outside(form):
    compare(network_of(1), form)


@pytest.mark.quick(1)
@pytest.mark.parametrize("rank", [1, 3])
def test_a_unit_is_projected_from_its_strongest_position(rank):
    network = Network(network_of(rank))
    images = np.random.default_rng(4).random((3, *network.input_shape), dtype=np.float32)
    layer = network.conv_layers[-1]
    maps = activations(network, images, layer)[layer]
    found = deconvolve(network, images, layer, 1)
    assert found.positions.shape == (3, rank)
    for i, at in enumerate(found.positions):
        assert maps[(i, *at, 1)] == pytest.approx(maps[i, ..., 1].max(), rel=1e-5)
    at = tuple(int(n) for n in found.positions[0])
    given = deconvolve(network, images[0], layer, 1, position=at)
    np.testing.assert_allclose(given.images[0], found.images[0], atol=1e-6)


@pytest.mark.parametrize("rank", [1, 3])
def test_pixels_outside_the_receptive_field_do_not_matter(rank):
    network = Network(network_of(rank, strides=1))
    layer = network.conv_layers[-1]
    sides = network.input_shape[:-1]
    at = tuple(side // 2 for side in network.positions(layer))
    box = receptive_field(network, layer, at, sides)
    image = np.random.default_rng(5).random((1, *network.input_shape), dtype=np.float32)
    other = np.random.default_rng(6).random(image.shape, dtype=np.float32)
    inside = (0, *(slice(a, b) for a, b in zip(box.start, box.end, strict=True)))
    other[inside] = image[inside]
    assert other.sum() != image.sum()
    one, two = (activations(network, x, layer)[layer][(0, *at)] for x in (image, other))
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_a_causal_convolution_reads_the_past_alone():
    model = keras.Sequential(
        [keras.Input((20, 1)), layers.Conv1D(2, 3, dilation_rate=2, padding="causal", name="past")]
    )
    box = receptive_field(model, "past", (10,), (20,))
    assert (box.start, box.end) == ((6,), (11,))


@pytest.mark.parametrize("rank", [1, 3])
def test_the_strongest_patches_of_series_and_volumes_are_their_receptive_fields(rank):
    network = Network(network_of(rank))
    layer = network.conv_layers[0]
    images = np.random.default_rng(7).random((4, *network.input_shape), dtype=np.float32)
    top = top_patches(network, top_images(network, images, layer, k=2), layer, [0, 2])
    assert top.patches.shape == (2, 2, *(3,) * rank, network.input_shape[-1])
