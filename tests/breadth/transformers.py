"""Transformers and mixers whose stem, or whose blocks, are convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops


def conv_mixer() -> Any:
    """Return patches, depthwise convolutions with a residual add, and 1×1 ones (ConvMixer)."""
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 2, strides=2)(image)
    x = layers.BatchNormalization()(layers.Activation("gelu")(x))
    for _ in range(2):
        y = layers.DepthwiseConv2D(5, padding="same")(x)
        x = layers.Add()([layers.BatchNormalization()(layers.Activation("gelu")(y)), x])
        x = layers.Activation("gelu")(layers.Conv2D(8, 1)(x))
        x = layers.BatchNormalization()(x)
    x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, x, name="conv_mixer")


class Positions(layers.Layer):
    """Add a learned vector to each token, and put a token of the class before them."""

    def build(self, shape: Any) -> None:
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")
        self.places = self.add_weight(shape=(1, shape[1] + 1, shape[-1]), name="places")

    def call(self, x: Any) -> Any:
        tokens = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([tokens, x], axis=1) + self.places


def encoded(x: Any, width: int) -> Any:
    """Return tokens after a transformer's block: attention and two dense layers, each added."""
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, width // 2)(y, y)])
    y = layers.Dense(2 * width, activation="gelu")(layers.LayerNormalization()(x))
    return layers.Add()([x, layers.Dense(width)(y)])


def vit() -> Any:
    """Return a ViT with a convolution for its patches."""
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 4, strides=4, name="patches")(image)
    x = Positions(name="positions")(layers.Reshape((-1, 8))(x))
    for _ in range(2):
        x = encoded(x, 8)
    x = layers.LayerNormalization()(x)
    return keras.Model(image, layers.Dense(3, activation="softmax")(x[:, 0]), name="vit")


def vit_with_a_stem() -> Any:
    """Return a ViT whose stem is three convolutions with batch normalization."""
    image = x = keras.Input((16, 16, 3))
    for filters in (4, 6, 8):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = encoded(layers.Reshape((-1, 8))(x), 8)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(image, layers.Dense(3, activation="softmax")(x), name="vit_with_a_stem")


def compact_transformer() -> Any:
    """Return convolutions with pools, tokens, and attention that pools them (CCT)."""
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", use_bias=False)(image)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = encoded(layers.Reshape((-1, 8))(x), 8)
    weights = layers.Softmax(axis=1)(layers.Dense(1)(x))
    x = layers.Flatten()(layers.Dot(axes=1)([weights, x]))
    return keras.Model(image, layers.Dense(3, activation="softmax")(x), name="cct")


def mobile_vit() -> Any:
    """Return an inverted bottleneck, and attention among the pixels of patches (MobileViT)."""
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="silu")(image)
    y = layers.BatchNormalization()(layers.Conv2D(16, 1, activation="silu")(x))
    y = layers.DepthwiseConv2D(3, padding="same", activation="silu")(y)
    x = layers.Add()([x, layers.BatchNormalization()(layers.Conv2D(8, 1)(y))])
    y = layers.Conv2D(8, 1, activation="silu")(layers.Conv2D(8, 3, padding="same")(x))
    # 8×8 positions as the 4 places of 16 patches: tokens of the same place see one another.
    y = ops.reshape(y, (-1, 4, 2, 4, 2, 8))
    y = ops.reshape(ops.transpose(y, (0, 2, 4, 1, 3, 5)), (-1, 4, 16, 8))
    y = encoded(y, 8)
    y = ops.transpose(ops.reshape(y, (-1, 2, 2, 4, 4, 8)), (0, 3, 1, 4, 2, 5))
    y = layers.Conv2D(8, 1, activation="silu")(ops.reshape(y, (-1, 8, 8, 8)))
    x = layers.Conv2D(8, 3, padding="same", activation="silu")(layers.Concatenate()([x, y]))
    x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, x, name="mobile_vit")


def mlp_mixer() -> Any:
    """Return patches by a convolution, mixed over positions and over channels by dense layers."""
    image = keras.Input((16, 16, 3))
    x = layers.Reshape((16, 8))(layers.Conv2D(8, 4, strides=4)(image))
    y = layers.Permute((2, 1))(layers.LayerNormalization()(x))
    y = layers.Dense(16)(layers.Dense(16, activation="gelu")(y))
    x = layers.Add()([x, layers.Permute((2, 1))(y)])
    x = layers.Add()([x, layers.Dense(8)(layers.LayerNormalization()(x))])
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(image, layers.Dense(3, activation="softmax")(x), name="mlp_mixer")


NETWORKS: dict[str, Callable[[], Any]] = {
    "ConvMixer": conv_mixer,
    "ViT, patches by a convolution": vit,
    "ViT with a stem of convolutions": vit_with_a_stem,
    "compact convolutional transformer": compact_transformer,
    "MobileViT": mobile_vit,
    "MLP-Mixer": mlp_mixer,
}
