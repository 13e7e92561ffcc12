"""A network with the parts that converters fuse, and copies of it with a fault."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def images() -> Any:
    return np.random.default_rng(7).random((6, 16, 16, 3), dtype=np.float32)


@pytest.fixture(scope="session")
def build(images: Any) -> Callable[[], Any]:
    """Return a builder of the same network again: batch normalizations, a residual, a dropout."""

    def make() -> Any:
        import keras
        from keras import layers

        keras.utils.set_random_seed(3)
        image = keras.Input((16, 16, 3))
        x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="conv_a")(image)
        x = layers.BatchNormalization(name="bn_a", momentum=0.0)(x)
        x = short = layers.ReLU(name="relu_a")(x)
        x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
        x = layers.BatchNormalization(name="bn_b", momentum=0.0)(x)
        x = layers.ReLU(6.0, name="relu_b")(x)
        x = layers.Conv2D(6, 1, name="conv_b")(x)
        x = layers.Add(name="add")([x, short])
        x = layers.Conv2D(6, 1, activation="relu", name="conv_d")(x)
        x = layers.Conv2D(8, 3, 2, padding="same", activation="relu", name="conv_c")(x)
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = layers.Dropout(0.5, name="dropout")(x)
        x = layers.Dense(4, activation="softmax", name="classes")(x)
        model = keras.Model(image, x, name="reference")
        draw = np.random.default_rng(4)
        for layer in model.layers:
            for weight in layer.trainable_variables:
                if weight.name in ("bias", "beta", "gamma"):
                    weight.assign(weight + draw.uniform(-0.3, 0.3, weight.shape))
        model(images, training=True)  # gives the batch normalizations statistics of data
        return model

    return make


@pytest.fixture(scope="session")
def reference(build: Callable[[], Any]) -> Any:
    """The network as a `Network`; do not change it."""
    from convlens import Network

    return Network(build())


@pytest.fixture(scope="session")
def variety(images: Any) -> Any:
    """A network with most kinds of layers that converters get wrong; do not change it."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(5)
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, 2, padding="same", use_bias=False, name="stem")(image)
    x = layers.BatchNormalization(name="stem_bn", momentum=0.0)(x)
    x = layers.ReLU(name="stem_relu")(x)
    x = layers.Conv2D(8, 3, padding="same", name="conv_1", activation="gelu")(x)
    x = short = layers.Conv2D(8, 3, padding="same", name="conv_2")(x)
    x = layers.LeakyReLU(0.2, name="leaky")(x)
    x = layers.AveragePooling2D(3, 1, padding="same", name="average")(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = layers.BatchNormalization(name="depthwise_bn", momentum=0.0)(y)
    y = layers.Activation("silu", name="depthwise_silu")(y)
    x = layers.Concatenate(name="joined")([x, y])
    x = layers.Conv2D(8, 1, name="narrow")(x)
    x = layers.Add(name="sum")([x, short])
    x = layers.LayerNormalization(name="layer_norm")(x)
    x = layers.Conv2D(8, 3, 2, padding="same", activation="relu", name="conv_3")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear", name="larger")(x)
    x = layers.Conv2D(4, 3, 2, padding="same", activation="relu", name="conv_4")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(16, activation="relu", name="dense_1")(x)
    x = layers.Dense(16, name="dense_2")(x)
    x = layers.Dense(5, activation="softmax", name="classes")(x)
    model = keras.Model(image, x, name="variety")
    draw = np.random.default_rng(6)
    for layer in model.layers:
        for weight in layer.trainable_variables:
            if weight.name in ("bias", "beta", "gamma"):
                weight.assign(weight + draw.uniform(-0.3, 0.3, weight.shape))
    # Some values above 6, where a ReLU and a ReLU6 differ.
    model.get_layer("stem_bn").gamma.assign(4 + draw.uniform(-0.3, 0.3, 8))
    model(images, training=True)
    return model


@pytest.fixture(scope="session")
def convert(tmp_path_factory: Any) -> Callable[..., Path]:
    """Return a function (model, images, kind) that converts a model to TFLite, once for each."""
    folder, made = tmp_path_factory.mktemp("tflite"), {}

    def make(model: Any, images: Any, kind: str = "float32") -> Path:
        key = model.name, kind
        if key not in made:
            made[key] = folder / f"{model.name}_{kind.replace(' ', '_')}.tflite"
            made[key].write_bytes(converted(model, images, kind))
        return made[key]

    return make


def converted(model: Any, images: Any, kind: str) -> bytes:
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if kind != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if kind == "int8":
            converter.representative_dataset = lambda: ([image[None]] for image in images)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        return bytes(converter.convert())


@pytest.fixture(scope="session")
def without_erfc() -> Callable[[Path], None]:
    """Return a function that writes 1 - Erf for each Erfc in an ONNX file.

    tf2onnx takes over the Erfc of an exact GELU as it is, and ONNX has no such operator.
    """
    return replace_erfc


def replace_erfc(path: Path) -> None:
    import onnx

    model = onnx.load(path)
    one = onnx.helper.make_tensor("one_of_erfc", onnx.TensorProto.FLOAT, [], [1.0])
    nodes = []
    for node in model.graph.node:
        if node.op_type != "Erfc":
            nodes.append(node)
            continue
        inner = f"{node.output[0]}_erf"
        nodes.append(onnx.helper.make_node("Erf", node.input, [inner]))
        nodes.append(onnx.helper.make_node("Sub", [one.name, inner], node.output))
    if len(nodes) > len(model.graph.node):
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        model.graph.initializer.append(one)
        onnx.save(model, path)
