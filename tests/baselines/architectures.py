"""Small networks of ten families, with weights under which every layer responds to its input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from .networks import build_inception, build_residual, random_images, with_weights

SHAPE = (16, 16, 3)


def _finish(image: Any, x: Any, name: str, **options: Any) -> keras.Model:
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(4, "softmax", name="classes", **options)(x)
    return with_weights(keras.Model(image, x, name=name))


def batch_norm() -> keras.Model:
    image = x = keras.Input(SHAPE)
    for i, filters in enumerate((8, 12, 12)):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv_{i}")(x)
        x = layers.BatchNormalization(name=f"norm_{i}")(x)
        x = layers.ReLU(name=f"relu_{i}")(x)
        x = layers.MaxPooling2D(2, name=f"pool_{i}")(x)
    return _finish(image, x, "batch_norm")


def depthwise() -> keras.Model:
    """Inverted residuals, as in MobileNetV2."""
    image = keras.Input(SHAPE)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.ReLU(6.0, name="stem_relu")(layers.BatchNormalization(name="stem_norm")(x))
    for i in range(3):
        y = layers.Conv2D(24, 1, use_bias=False, name=f"expand_{i}")(x)
        y = layers.ReLU(6.0, name=f"expand_relu_{i}")(layers.BatchNormalization(name=f"en_{i}")(y))
        y = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"depth_{i}")(y)
        y = layers.ReLU(6.0, name=f"depth_relu_{i}")(layers.BatchNormalization(name=f"dn_{i}")(y))
        y = layers.Conv2D(8, 1, use_bias=False, name=f"project_{i}")(y)
        x = layers.Add(name=f"add_{i}")([x, layers.BatchNormalization(name=f"pn_{i}")(y)])
    return _finish(image, x, "depthwise")


def squeeze_excite() -> keras.Model:
    """Swish and squeeze-and-excite blocks, as in EfficientNet."""
    image = keras.Input(SHAPE)
    x = layers.Conv2D(12, 3, padding="same", activation="swish", name="stem")(image)
    for i in range(3):
        y = layers.SeparableConv2D(12, 3, padding="same", activation="swish", name=f"sep_{i}")(x)
        s = layers.GlobalAveragePooling2D(keepdims=True, name=f"squeeze_{i}")(y)
        s = layers.Conv2D(4, 1, activation="swish", name=f"reduce_{i}")(s)
        s = layers.Conv2D(12, 1, activation="sigmoid", name=f"excite_{i}")(s)
        x = layers.Add(name=f"add_{i}")([x, layers.Multiply(name=f"scale_{i}")([y, s])])
    return _finish(image, x, "squeeze_excite")


def leaky_tanh() -> keras.Model:
    image = x = keras.Input(SHAPE)
    for i in range(3):
        x = layers.Conv2D(8, 3, padding="same", name=f"conv_{i}")(x)
        x = layers.LeakyReLU(0.1, name=f"leaky_{i}")(x)
        x = layers.Conv2D(8, 3, activation="tanh", padding="same", name=f"tanh_{i}")(x)
    return _finish(image, x, "leaky_tanh")


def dense_blocks() -> keras.Model:
    """Layers that read all layers before them, as in DenseNet."""
    image = keras.Input(SHAPE)
    x = layers.Conv2D(8, 3, padding="same", name="stem")(image)
    for i in range(5):
        y = layers.BatchNormalization(name=f"norm_{i}")(x)
        y = layers.ReLU(name=f"relu_{i}")(y)
        y = layers.Conv2D(6, 3, padding="same", name=f"conv_{i}")(y)
        x = layers.Concatenate(name=f"join_{i}")([x, y])
    return _finish(image, layers.AveragePooling2D(2, name="mean")(x), "dense_blocks")


def chain() -> keras.Model:
    """Twenty convolutions, one after another."""
    image = x = keras.Input(SHAPE)
    for i in range(20):
        x = layers.Conv2D(8, 3, padding="same", activation="relu", name=f"conv_{i:02}")(x)
    return _finish(image, x, "chain")


def application(name: str, side: int = 32) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        build = getattr(keras.applications, name)
        return with_weights(build(weights=None, input_shape=(side, side, 3), classes=10))

    return build


def attention() -> keras.Model:
    """Patches that attend to each other, as in a vision transformer."""
    image = keras.Input(SHAPE)
    x = layers.Conv2D(16, 4, strides=4, name="patches")(image)
    x = layers.Reshape((16, 16), name="tokens")(x)
    for i in range(2):
        y = layers.LayerNormalization(name=f"norm_{i}")(x)
        y = layers.MultiHeadAttention(2, 8, name=f"attention_{i}")(y, y)
        x = layers.Add(name=f"add_{i}")([x, y])
        y = layers.Dense(32, activation="gelu", name=f"wide_{i}")(x)
        x = layers.Add(name=f"sum_{i}")([x, layers.Dense(16, name=f"narrow_{i}")(y)])
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    x = layers.Dense(4, "softmax", name="classes")(x)
    return with_weights(keras.Model(image, x, name="attention"))


def mnist_cnn() -> keras.Model:
    from convlens.fixtures.mnist_cnn import load_mnist_cnn

    return load_mnist_cnn()


SMALL: dict[str, Callable[[], keras.Model]] = {
    "mnist_cnn": mnist_cnn,
    "residual": build_residual,
    "inception": build_inception,
    "batch_norm": batch_norm,
    "depthwise": depthwise,
    "squeeze_excite": squeeze_excite,
    "leaky_tanh": leaky_tanh,
    "dense_blocks": dense_blocks,
    "chain": chain,
    "attention": attention,
}
LARGE: dict[str, Callable[[], keras.Model]] = {
    "MobileNetV2": application("MobileNetV2"),
    "ResNet50": application("ResNet50"),
    "DenseNet121": application("DenseNet121"),
    "EfficientNetB0": application("EfficientNetB0"),
}


def images_for(model: keras.Model, count: int = 12) -> Any:
    """Return images for a network: the shipped digits, or random ones."""
    shape = model.input_shape[1:]
    if shape == SHAPE:
        return random_images(count)
    if shape[-1] == 1:
        from convlens.fixtures.digits import load_digits

        return load_digits()[0][:count]
    high = 255.0 if model.name.startswith("efficientnet") else 1.0
    return (np.random.default_rng(4).random((count, *shape)) * high).astype(np.float32)
