"""Every kind of network that people use: every core of the engine runs, or says why not.

The table in docs/breadth.md is written by this test:
``pytest --run-slow tests/test_breadth.py --write-docs``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from convlens import Network, activations, deconvolve, maximize, transfer_style

pytestmark = pytest.mark.weekly
TABLE = Path(__file__).resolve().parents[1] / "docs" / "breadth.md"
HEAD = """# What runs on which network

Written by `pytest --run-slow tests/test_breadth.py --write-docs`. Each network is built with random
weights. Its activations must agree with the model's own predictions; the ascent must raise the two
most active units of the first, the middle and the last convolution; the deconvnet from each of
these must reach the pixels; four steps of style transfer must lower the loss. A refusal is quoted.

| network | images | convolutions | activations | ascent | deconvnet | style |
|---|---|---|---|---|---|---|
"""
APPLICATIONS = {
    "VGG16": 32,
    "VGG19": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "InceptionV3": 75,
    "Xception": 71,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "DenseNet121": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "ConvNeXtTiny": 32,
    "NASNetMobile": 32,
}


def application(name: str, side: int) -> Callable[[], Any]:
    return lambda: getattr(keras.applications, name)(
        weights=None, input_shape=(side, side, 3), classes=10
    )


def stack(*body: Any, shape: tuple[int, ...] = (17, 23, 3)) -> Callable[[], Any]:
    """Return a builder of layers between two convolutions and two classes."""

    def build() -> Any:
        image = keras.Input(shape)
        x = layers.Conv2D(6, 3, padding="same")(image)
        for make in body:
            x = make()(x)
        x = layers.Conv2D(5, 3, padding="same", activation="relu")(x)
        x = layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling2D()(x))
        return keras.Model(image, x)

    return build


def nested() -> Any:
    inner = keras.Sequential(
        [keras.Input((16, 16, 4)), layers.Conv2D(4, 3, padding="same", activation="relu")],
        name="inner",
    )
    image = keras.Input((16, 16, 3))
    x = inner(inner(layers.Conv2D(4, 3, padding="same")(image)))
    return keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))


def two_outputs() -> Any:
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, activation="relu")(image)
    x = layers.Conv2D(4, 3, activation="relu")(x)
    flat = layers.Flatten()(x)
    return keras.Model(image, [layers.Dense(3)(flat), layers.Dense(1)(flat)])


def two_inputs() -> Any:
    image, other = keras.Input((16, 16, 3), name="image"), keras.Input((2,), name="other")
    x = layers.Conv2D(4, 3, activation="relu")(image)
    x = layers.Concatenate()([layers.Flatten()(x), other])
    return keras.Model([image, other], layers.Dense(3)(x), name="two_inputs")


def held() -> Network:
    return Network(two_inputs(), held={"other": [0.5, -1.0]})


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.conv = layers.Conv2D(4, 3)

    def call(self, x: Any) -> Any:
        return self.conv(x)


def subclassed() -> Any:
    model = Subclassed()
    model(np.zeros((1, 16, 16, 3), np.float32))
    return model


class Block(layers.Layer):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.conv = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv")

    def build(self, shape: Any) -> None:
        self.conv.build(shape)

    def call(self, x: Any) -> Any:
        return x + self.conv(x)


def sequential(*body: Any, shape: tuple[int, ...], name: str = "model") -> Callable[[], Any]:
    return lambda: keras.Sequential([keras.Input(shape), *(make() for make in body)], name=name)


NETWORKS: dict[str, Callable[[], Any]] = {
    **{name: application(name, side) for name, side in APPLICATIONS.items()},
    "Sequential": sequential(
        lambda: layers.Conv2D(4, 3, activation="relu"),
        lambda: layers.MaxPooling2D(),
        lambda: layers.Conv2D(4, 3, activation="relu"),
        lambda: layers.Flatten(),
        lambda: layers.Dense(2, activation="softmax"),
        shape=(17, 23, 1),
    ),
    "nested model, called twice": nested,
    "two outputs": two_outputs,
    "two inputs": two_inputs,
    "two inputs, one held": held,
    "subclassed": subclassed,
    "convolutions inside custom layers": stack(Block, Block),
    "channels first": sequential(
        lambda: layers.Conv2D(4, 3, data_format="channels_first", name="conv"),
        lambda: layers.MaxPooling2D(data_format="channels_first"),
        lambda: layers.BatchNormalization(axis=1),
        lambda: layers.ReLU(),
        lambda: layers.Conv2D(4, 3, data_format="channels_first", activation="relu"),
        lambda: layers.GlobalAveragePooling2D(data_format="channels_first"),
        lambda: layers.Dense(2, activation="softmax"),
        shape=(3, 16, 16),
    ),
    "an ECG: strides, dilation, causal padding": sequential(
        lambda: layers.Conv1D(6, 7, strides=2, padding="same"),
        lambda: layers.BatchNormalization(),
        lambda: layers.ReLU(),
        lambda: layers.MaxPooling1D(),
        lambda: layers.Conv1D(6, 3, dilation_rate=2, padding="causal", activation="relu"),
        lambda: layers.GlobalAveragePooling1D(),
        lambda: layers.Dense(3, activation="softmax"),
        shape=(96, 2),
    ),
    "sounds: separable and depthwise in one dimension": sequential(
        lambda: layers.Conv1D(6, 9, strides=4, activation="relu"),
        lambda: layers.SeparableConv1D(6, 3, activation="relu"),
        lambda: layers.DepthwiseConv1D(3, activation="relu"),
        lambda: layers.GlobalMaxPooling1D(),
        lambda: layers.Dense(3, activation="softmax"),
        shape=(160, 1),
    ),
    "one dimension, down and up": sequential(
        lambda: layers.Conv1D(4, 3, padding="same", activation="relu"),
        lambda: layers.AveragePooling1D(2),
        lambda: layers.Cropping1D(1),
        lambda: layers.ZeroPadding1D(1),
        lambda: layers.UpSampling1D(),
        lambda: layers.Conv1DTranspose(4, 3, strides=2, activation="relu"),
        lambda: layers.GlobalAveragePooling1D(),
        lambda: layers.Dense(2),
        shape=(24, 2),
    ),
    "a video": sequential(
        lambda: layers.Conv3D(4, 3, padding="same", activation="relu"),
        lambda: layers.MaxPooling3D(),
        lambda: layers.Conv3D(4, 3, activation="relu"),
        lambda: layers.GlobalAveragePooling3D(),
        lambda: layers.Dense(3, activation="softmax"),
        shape=(8, 12, 12, 1),
    ),
    "three dimensions, down and up": sequential(
        lambda: layers.Conv3D(4, 3, padding="same", activation="relu"),
        lambda: layers.AveragePooling3D(2),
        lambda: layers.Cropping3D(1),
        lambda: layers.ZeroPadding3D(1),
        lambda: layers.UpSampling3D(),
        lambda: layers.Conv3DTranspose(3, 2, strides=2, activation="relu"),
        lambda: layers.GlobalAveragePooling3D(),
        lambda: layers.Dense(2),
        shape=(6, 8, 8, 1),
    ),
    "TimeDistributed convolutions": sequential(
        lambda: layers.TimeDistributed(layers.Conv2D(3, 3, activation="relu")),
        lambda: layers.Flatten(),
        lambda: layers.Dense(2, activation="softmax"),
        shape=(3, 8, 8, 1),
    ),
    "ConvLSTM2D": sequential(
        lambda: layers.ConvLSTM2D(3, 3),
        lambda: layers.Flatten(),
        lambda: layers.Dense(2, activation="softmax"),
        shape=(3, 8, 8, 1),
    ),
    "images (28, 28) with a Reshape": sequential(
        lambda: layers.Reshape((28, 28, 1)),
        lambda: layers.Conv2D(4, 3, activation="relu"),
        lambda: layers.MaxPooling2D(),
        lambda: layers.Flatten(),
        lambda: layers.Dense(10, activation="softmax"),
        shape=(28, 28),
    ),
    "images (784,) with a Reshape": sequential(
        lambda: layers.Reshape((28, 28, 1)),
        lambda: layers.Conv2D(4, 3, activation="relu"),
        lambda: layers.Flatten(),
        lambda: layers.Dense(10, activation="softmax"),
        shape=(784,),
    ),
    "odd sizes, 'valid' and strides": stack(
        lambda: layers.Conv2D(4, (3, 2), strides=2, activation="relu")
    ),
    "dilation": stack(lambda: layers.Conv2D(4, 3, dilation_rate=2, activation="relu")),
    "depthwise and separable": stack(
        lambda: layers.DepthwiseConv2D(3, strides=2, padding="same"),
        lambda: layers.SeparableConv2D(4, 3, activation="relu"),
    ),
    "transposed convolution": stack(
        lambda: layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu")
    ),
    "overlapping max-pools": stack(
        lambda: layers.ReLU(), lambda: layers.MaxPooling2D(3, 2, padding="same")
    ),
    "max-pools that drop an edge": stack(lambda: layers.ReLU(), lambda: layers.MaxPooling2D(2)),
    "average pools": stack(lambda: layers.ReLU(), lambda: layers.AveragePooling2D(3, 2)),
    "batch norm and dropout": stack(
        lambda: layers.BatchNormalization(), lambda: layers.ReLU(), lambda: layers.Dropout(0.5)
    ),
    "PReLU": stack(lambda: layers.PReLU(shared_axes=[1, 2])),
    "LeakyReLU": stack(lambda: layers.LeakyReLU()),
    "ReLU6": stack(lambda: layers.ReLU(6.0)),
    "GELU": stack(lambda: layers.Activation("gelu")),
    "swish": stack(lambda: layers.Activation("swish")),
    "images of any size": stack(lambda: layers.ReLU(), shape=(None, None, 3)),
}


def images_for(network: Network) -> Any:
    shape = tuple(side or 19 for side in network.input_shape)
    return np.random.default_rng(0).random((2, *shape), dtype=np.float32)


def reason(work: Callable[[], None]) -> str:
    """Return 'yes' where work runs, and where it is refused the reason."""
    try:
        work()
    except (ValueError, TypeError) as error:
        return f"refused: {error}"
    return "yes"


def look(build: Callable[[], Any]) -> list[str]:
    """Return a network's row of the table."""
    keras.utils.set_random_seed(0)
    model = build()
    try:
        network = model if isinstance(model, Network) else Network(model)
    except ValueError as error:
        return ["", "", f"refused: {error}", "", "", ""]
    shape = "×".join("any" if side is None else str(side) for side in network.input_shape)
    images = images_for(network)
    convolutions = network.conv_layers
    if not convolutions:
        return [shape, "0", reason(lambda: activations(network, images_for(network))), "", "", ""]
    chosen = list(dict.fromkeys(convolutions[i] for i in (0, len(convolutions) // 2, -1)))

    seen: dict[str, Any] = {}

    def forward() -> None:
        seen.update(activations(network, images, [*chosen, network.output_layer]))
        # TensorFlow's predict has no kernels for channels-first convolutions on CPUs.
        if not (isinstance(model, Network) or network.is_channels_first):
            own = model.predict(np.asarray(network.inputs_for(images)[0]), verbose=0)
            own = own[0] if isinstance(own, list) else own
            np.testing.assert_allclose(seen[network.output_layer], own, rtol=1e-4, atol=1e-6)
        assert all(np.isfinite(value).all() for value in seen.values())

    def ascent() -> None:
        size = images.shape[1:-1] if None in network.input_shape else None
        for layer in chosen:
            # The units that fire most: of random units some are dead. Without jitter what is
            # climbed is what is measured, so that six steps must show.
            units = np.argsort(-seen[layer].mean(axis=tuple(range(seen[layer].ndim - 1))))[:2]
            found = maximize(network, layer, units, steps=6, jitter=0, checkpoints=1, size=size)
            assert (found.trace[-1] > found.trace[0]).all(), (layer, found.trace)

    def down() -> None:
        for layer in chosen:
            found = deconvolve(network, images, layer, 0, stages=layer == chosen[0])
            assert found.images.shape == images.shape
            assert np.isfinite(found.images).all()
            np.testing.assert_allclose(
                found.activations,
                seen[layer][..., 0].reshape(len(images), -1).max(axis=1),
                rtol=1e-4,
                atol=1e-7,
            )

    def style() -> None:
        total = transfer_style(images[0], images[1], network, steps=4).losses["total"]
        assert (np.diff(total) < 0).all(), total

    works = (forward, ascent, down, style)
    return [shape, str(len(convolutions)), *(reason(work) for work in works)]


@pytest.fixture(scope="module")
def rows() -> dict[str, list[str]]:
    return {}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_runs_or_is_refused_with_the_reason(name, rows):
    row = look(NETWORKS[name])
    rows[name] = row
    for cell in row[2:]:
        assert cell in ("yes", "") or cell.startswith("refused: "), cell
    if name in APPLICATIONS:
        assert row[2:] == ["yes"] * 4


def test_the_table_in_the_docs_is_this_runs(rows, pytestconfig):
    if rows.keys() != NETWORKS.keys():
        pytest.skip("needs all networks of the table: run the whole file")
    lines = [" | ".join([name, *cells]) for name, cells in rows.items()]
    table = HEAD + "\n".join(f"| {line} |" for line in lines) + "\n"
    if pytestconfig.getoption("--write-docs"):
        TABLE.write_text(table, encoding="utf-8")
    assert TABLE.read_text(encoding="utf-8") == table
