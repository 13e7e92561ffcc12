"""Parts of the networks of docs/breadth.md."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers


def sequential(*body: Any, shape: tuple[int, ...]) -> keras.Model:
    """Return a Sequential model of layers for inputs of a shape."""
    return keras.Sequential([keras.Input(shape), *body], name="model")


def classifier(*body: Any, shape: tuple[int, ...], first: bool = False) -> keras.Model:
    """Return a Sequential model of layers, a global average pool and three classes."""
    rank = len(shape) - 1
    pool = getattr(layers, f"GlobalAveragePooling{rank}D")
    layout = "channels_first" if first else "channels_last"
    return sequential(
        *body, pool(data_format=layout), layers.Dense(3, activation="softmax"), shape=shape
    )


def stack(*body: Any, shape: tuple[int | None, ...] = (17, 23, 3)) -> keras.Model:
    """Return a model of layers between two convolutions, and two classes."""
    image = keras.Input(shape)
    x = layers.Conv2D(6, 3, padding="same")(image)
    for layer in body:
        x = layer(x)
    x = layers.Conv2D(5, 3, padding="same", activation="relu")(x)
    x = layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, x, name="model")


def unet(shape: tuple[int, ...]) -> keras.Model:
    """Return a U-Net of one level with a skip, for images or volumes."""
    rank = len(shape) - 1
    conv, up = getattr(layers, f"Conv{rank}D"), getattr(layers, f"Conv{rank}DTranspose")
    image = keras.Input(shape)
    left = conv(4, 3, padding="same", activation="relu")(image)
    x = getattr(layers, f"MaxPooling{rank}D")()(left)
    x = conv(6, 3, padding="same", activation="relu")(x)
    x = up(4, 2, strides=2, activation="relu")(x)
    x = conv(4, 3, padding="same", activation="relu")(layers.Concatenate()([x, left]))
    return keras.Model(image, conv(2, 1, activation="softmax")(x), name="unet")


def autoencoder(shape: tuple[int, ...]) -> keras.Model:
    """Return a convolutional encoder, a dense bottleneck and a decoder, each a nested model."""
    rank = len(shape) - 1
    conv, up = getattr(layers, f"Conv{rank}D"), getattr(layers, f"Conv{rank}DTranspose")
    small = tuple(side // 2 for side in shape[:-1])
    size = 4
    for side in small:
        size *= side
    encoder = keras.Sequential(
        [
            keras.Input(shape),
            conv(4, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(6),
        ],
        name="encoder",
    )
    decoder = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(size, activation="relu"),
            layers.Reshape((*small, 4)),
            up(4, 3, strides=2, padding="same", activation="relu"),
            conv(shape[-1], 3, padding="same", activation="sigmoid"),
        ],
        name="decoder",
    )
    image = keras.Input(shape)
    return keras.Model(image, decoder(encoder(image)), name="autoencoder")


def residual(x: Any, filters: int, *, rank: int, first: bool = False) -> Any:
    """Return a residual block of two convolutions with batch normalization and a strided skip."""
    layout = "channels_first" if first else "channels_last"
    conv = getattr(layers, f"Conv{rank}D")

    def normalized(x: Any, strides: int, size: int) -> Any:
        x = conv(
            filters, size, strides=strides, padding="same", use_bias=False, data_format=layout
        )(x)
        return layers.BatchNormalization(axis=1 if first else -1)(x)

    skip = normalized(x, 2, 1)
    x = layers.ReLU()(normalized(x, 2, 3))
    return layers.ReLU()(layers.Add()([normalized(x, 1, 3), skip]))


def resnet(shape: tuple[int, ...], *, first: bool = False) -> keras.Model:
    """Return a residual network of two blocks, for series, images or volumes."""
    rank = len(shape) - 1
    image = keras.Input(shape)
    x = residual(image, 4, rank=rank, first=first)
    x = residual(x, 6, rank=rank, first=first)
    layout = "channels_first" if first else "channels_last"
    x = getattr(layers, f"GlobalAveragePooling{rank}D")(data_format=layout)(x)
    return keras.Model(image, layers.Dense(3, activation="softmax")(x), name="resnet")
