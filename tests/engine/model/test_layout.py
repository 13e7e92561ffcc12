"""Channels-first models, and models whose first layer gives the images their shape."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from convlens import Network, activations, assert_deconv_round_trip, deconvolve, maximize

FIRST = {"data_format": "channels_first"}


def channels_first():
    """Return a channels-first model of most kinds of layers, and the same model channels last."""

    def build(data_format):
        own = {"data_format": data_format}
        axis = 1 if data_format == "channels_first" else -1
        shape = (12, 10, 3)
        image = keras.Input((3, 12, 10) if axis == 1 else shape)
        x = layers.Conv2D(4, 3, padding="same", activation="relu", name="first", **own)(image)
        x = layers.MaxPooling2D(2, **own)(x)
        y = layers.BatchNormalization(axis=axis, name="norm")(x)
        y = layers.SeparableConv2D(4, 3, padding="same", name="second", **own)(y)
        x = layers.Concatenate(axis=axis)([x, layers.ReLU()(y)])
        x = layers.ZeroPadding2D(1, **own)(layers.UpSampling2D(2, **own)(x))
        x = layers.Conv2D(3, 3, strides=2, activation="tanh", name="third", **own)(x)
        x = layers.GlobalAveragePooling2D(**own)(x)
        return keras.Model(image, layers.Dense(3, activation="softmax", name="classes")(x))

    keras.utils.set_random_seed(3)
    first, last = build("channels_first"), build("channels_last")
    last.set_weights(first.get_weights())
    return first, last


@pytest.fixture(scope="module")
def both():
    return tuple(map(Network, channels_first()))


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).random((2, 12, 10, 3), dtype=np.float32)


def test_a_channels_first_model_is_read_as_channels_last(both, pictures):
    first, last = both
    assert first.input_shape == (12, 10, 3)
    assert first.conv_layers == ("first", "second", "third")
    names = ["first", "norm", "second", "third", "classes"]
    own = activations(first, pictures.transpose(0, 3, 1, 2), names)
    expected = activations(last, pictures, names)
    for name in names:
        np.testing.assert_allclose(own[name], expected[name], atol=1e-5, err_msg=name)


def test_images_of_either_layout_are_taken(both, pictures):
    first, _ = both
    np.testing.assert_array_equal(first.check_images(pictures), pictures)
    np.testing.assert_array_equal(first.check_images(pictures.transpose(0, 3, 1, 2)), pictures)
    with pytest.raises(ValueError, match="takes images of shape"):
        first.check_images(pictures[:, :5])


def test_the_cores_run_on_a_channels_first_model(both, pictures):
    first, last = both
    np.testing.assert_allclose(
        deconvolve(first, pictures[0], "second", 1).images,
        deconvolve(last, pictures[0], "second", 1).images,
        atol=1e-5,
    )
    assert maximize(first, "third", [0], steps=2).images.shape == (1, 12, 10, 3)
    assert_deconv_round_trip(first, pictures, "third")


def test_a_channels_first_map_is_flattened_in_the_models_own_order():
    keras.utils.set_random_seed(4)
    image = keras.Input((2, 4, 6))
    x = layers.Conv2D(3, 3, **FIRST)(image)
    x = layers.Flatten()(x)  # whose own layout is channels last, so that it moves nothing
    model = keras.Model(image, layers.Dense(2, name="classes")(x))
    images = np.random.default_rng(1).random((2, 4, 6, 2), dtype=np.float32)
    found = activations(model, images, "classes")["classes"]
    conv, dense = model.layers[1], model.layers[-1]
    maps = np.zeros((2, 2, 4, 3))
    kernel, bias = (w.numpy() for w in conv.weights)
    for row, column in np.ndindex(2, 4):
        patch = images[:, row : row + 3, column : column + 3]
        maps[:, row, column] = np.einsum("nhwc,hwcu->nu", patch, kernel) + bias
    flat = maps.transpose(0, 3, 1, 2).reshape(2, -1)
    np.testing.assert_allclose(found, flat @ dense.kernel.numpy() + dense.bias.numpy(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(8, 8), (64,)])
def test_images_without_channels_are_read_as_the_first_layer_shapes_them(shape):
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.Input(shape),
            layers.Reshape((8, 8, 1)),
            layers.Conv2D(3, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    network = Network(model)
    images = np.random.default_rng(2).random((2, 8, 8), dtype=np.float32)
    assert network.input_shape == (8, 8, 1)
    own = images.reshape(2, *shape)
    found = activations(network, own, "dense" if "dense" in network.layers else None)
    assert next(iter(found.values())).shape[0] == 2
    probabilities = activations(network, images[..., None], model.layers[-1].name)
    np.testing.assert_allclose(
        probabilities[model.layers[-1].name], model.predict(own, verbose=0), atol=1e-5
    )
    assert deconvolve(network, own, "conv", 0).images.shape == (2, 8, 8, 1)
    assert maximize(network, "conv", [0], steps=2).images.shape[-1] == 1


def test_a_vector_that_nothing_shapes_is_refused():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="convlens needs series"):
        Network(model)
