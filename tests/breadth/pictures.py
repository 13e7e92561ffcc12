"""Networks of pictures: each kind of graph, input and layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from tests.breadth.building import autoencoder, classifier, resnet, sequential, stack, unet

from convlens import Network


def nested() -> Any:
    inner = keras.Sequential(
        [keras.Input((16, 16, 4)), layers.Conv2D(4, 3, padding="same", activation="relu")],
        name="inner",
    )
    image = keras.Input((16, 16, 3))
    x = inner(inner(layers.Conv2D(4, 3, padding="same")(image)))
    return keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))


def transfer_learning() -> Any:
    """Return a backbone of keras.applications behind preprocessing, with a new head."""
    backbone = keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(32, 32, 3), alpha=0.35
    )
    backbone.trainable = False
    image = keras.Input((32, 32, 3))
    x = layers.RandomFlip()(layers.RandomRotation(0.1)(image))
    x = backbone(layers.Rescaling(1 / 127.5, -1)(x), training=False)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(3, activation="softmax")(x), name="transfer_learning")


def two_outputs() -> Any:
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, activation="relu")(image)
    x = layers.Conv2D(4, 3, activation="relu")(x)
    flat = layers.Flatten()(x)
    return keras.Model(image, [layers.Dense(3)(flat), layers.Dense(1)(flat)])


def named_outputs() -> Any:
    """Return a detector's heads, a map and a vector, in a dictionary."""
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    boxes = layers.Conv2D(4, 1, name="boxes")(x)
    kind = layers.Dense(3, activation="softmax", name="kind")(layers.GlobalMaxPooling2D()(x))
    return keras.Model(image, {"boxes": boxes, "kind": kind}, name="named_outputs")


def image_and_numbers() -> Any:
    image, other = keras.Input((16, 16, 3), name="image"), keras.Input((2,), name="numbers")
    x = layers.Conv2D(4, 3, activation="relu")(image)
    x = layers.Concatenate()([layers.Flatten()(x), layers.Dense(3, activation="relu")(other)])
    return keras.Model([image, other], layers.Dense(3)(x), name="image_and_numbers")


def siamese() -> Any:
    """Return one tower for two images, and the distance of their vectors."""
    tower = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(6, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5),
        ],
        name="tower",
    )
    left, right = keras.Input((16, 16, 1), name="left"), keras.Input((16, 16, 1), name="right")
    apart = ops.abs(tower(left) - tower(right))
    return keras.Model([left, right], layers.Dense(1, activation="sigmoid")(apart), name="siamese")


def held(build: Callable[[], Any], name: str, value: Any) -> Network:
    return Network(build(), held={name: value})


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.conv = layers.Conv2D(4, 3)

    def call(self, x: Any) -> Any:
        return self.conv(x)


class Stage(keras.Model):
    """A subclassed model inside another: a convolution, normalized, with a branch in Python."""

    def __init__(self, filters: int, *, pools: bool) -> None:
        super().__init__(name=f"stage_{filters}")
        self.conv = layers.Conv2D(filters, 3, padding="same", name="conv")
        self.norm = layers.BatchNormalization(name="norm")
        self.pool = layers.MaxPooling2D(name="pool") if pools else None

    def call(self, x: Any, training: bool = False) -> Any:
        x = ops.relu(self.norm(self.conv(x), training=training))
        return x if self.pool is None else self.pool(x)


class Nested(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="nested")
        self.stages = [Stage(4, pools=True), Stage(6, pools=False)]
        self.block = Block(name="block")
        self.head = layers.Dense(3, activation="softmax", name="head")

    def call(self, x: Any, training: bool = False) -> Any:
        for stage in self.stages:
            x = stage(x, training=training)
        return self.head(ops.mean(self.block(x), axis=(1, 2)))


def called(model: Any, shape: tuple[int, ...]) -> Any:
    """Return a subclassed model that was called once."""
    model(np.zeros((1, *shape), np.float32))
    return model


class Block(layers.Layer):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.conv = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv")

    def build(self, shape: Any) -> None:
        self.conv.build(shape)

    def call(self, x: Any) -> Any:
        return x + self.conv(x)


def attention_unet() -> Any:
    """Return a U-Net of one level whose skip is gated by attention, with resizing by ops."""
    image = keras.Input((16, 16, 3))
    left = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(layers.MaxPooling2D()(left))
    up = layers.UpSampling2D(interpolation="bilinear")(x)
    gate = layers.ReLU()(layers.Conv2D(4, 1)(left) + layers.Conv2D(4, 1)(up))
    gate = layers.Conv2D(1, 1, activation="sigmoid")(gate)
    x = layers.Concatenate()([left * gate, up])
    x = layers.Conv2D(1, 1, activation="sigmoid")(x)
    return keras.Model(image, x, name="attention_unet")


def super_resolution() -> Any:
    """Return convolutions, then channels moved into positions (ESPCN)."""
    image = keras.Input((12, 12, 1))
    x = layers.Conv2D(6, 5, padding="same", activation="tanh")(image)
    x = layers.Conv2D(4, 3, padding="same")(x)
    x = ops.transpose(ops.reshape(x, (-1, 12, 12, 2, 2)), (0, 1, 3, 2, 4))
    return keras.Model(image, ops.reshape(x, (-1, 24, 24, 1)), name="super_resolution")


def detector() -> Any:
    """Return a feature pyramid with leaky ReLUs and a head of boxes at two scales (YOLO)."""
    image = keras.Input((32, 32, 3))

    def conv(x: Any, filters: int, strides: int = 1) -> Any:
        x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
        return layers.LeakyReLU(0.1)(layers.BatchNormalization()(x))

    large = conv(conv(image, 4, 2), 6, 2)
    small = conv(large, 8, 2)
    pools = [layers.MaxPooling2D(n, 1, padding="same")(small) for n in (3, 5)]
    small = conv(layers.Concatenate()([small, *pools]), 8)
    large = layers.Concatenate()([layers.UpSampling2D()(small), large])
    heads = [layers.Conv2D(7, 1)(x) for x in (large, small)]
    return keras.Model(image, [layers.Reshape((-1, 7))(x) for x in heads], name="detector")


def deep_lab() -> Any:
    """Return parallel dilated convolutions and the whole image's mean (ASPP)."""
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(image)
    paths = [
        layers.Conv2D(4, 3, padding="same", dilation_rate=n, activation="relu")(x)
        for n in (1, 2, 3)
    ]
    mean = layers.GlobalAveragePooling2D(keepdims=True)(x)
    mean = layers.Resizing(8, 8, interpolation="bilinear")(layers.Conv2D(4, 1)(mean))
    x = layers.Conv2D(3, 1)(layers.Concatenate()([*paths, mean]))
    return keras.Model(image, layers.UpSampling2D(2, interpolation="bilinear")(x), name="deep_lab")


def squeeze_and_excite() -> Any:
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    gate = layers.GlobalAveragePooling2D()(x)
    gate = layers.Dense(8, activation="sigmoid")(layers.Dense(4, activation="relu")(gate))
    x = layers.Multiply()([x, layers.Reshape((1, 1, 8))(gate)])
    x = layers.Conv2D(6, 3, groups=2, padding="same", activation="relu")(x)
    x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, x, name="squeeze_and_excite")


def shapes_the_images(shape: tuple[int, ...]) -> Any:
    return sequential(
        layers.Reshape((28, 28, 1)),
        layers.Conv2D(4, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
        shape=shape,
    )


GRAPHS: dict[str, Callable[[], Any]] = {
    "Sequential": lambda: sequential(
        layers.Conv2D(4, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(4, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(2, activation="softmax"),
        shape=(17, 23, 1),
    ),
    "nested model, called twice": nested,
    "a frozen backbone behind augmentation": transfer_learning,
    "two outputs": two_outputs,
    "outputs in a dictionary": named_outputs,
    "image and numbers": image_and_numbers,
    "image and numbers, the numbers held": lambda: held(image_and_numbers, "numbers", [0.5, -1.0]),
    "siamese": siamese,
    "siamese, one image held": lambda: held(siamese, "right", np.full((16, 16, 1), 0.5)),
    "subclassed": lambda: called(Subclassed(), (16, 16, 3)),
    "subclassed models in a subclassed one": lambda: called(Nested(), (16, 16, 3)),
    "convolutions inside custom layers": lambda: stack(Block(), Block()),
    "channels first": lambda: classifier(
        layers.Conv2D(4, 3, data_format="channels_first", name="conv"),
        layers.MaxPooling2D(data_format="channels_first"),
        layers.BatchNormalization(axis=1),
        layers.ReLU(),
        layers.Conv2D(4, 3, data_format="channels_first", activation="relu"),
        shape=(3, 16, 16),
        first=True,
    ),
    "residual, channels first": lambda: resnet((3, 16, 16), first=True),
    "images (28, 28) with a Reshape": lambda: shapes_the_images((28, 28)),
    "images (784,) with a Reshape": lambda: shapes_the_images((784,)),
    "U-Net": lambda: unet((16, 16, 3)),
    "U-Net with attention": attention_unet,
    "autoencoder": lambda: autoencoder((16, 16, 3)),
    "super resolution": super_resolution,
    "detector with a feature pyramid": detector,
    "DeepLab's parallel dilations": deep_lab,
    "squeeze and excitation, groups": squeeze_and_excite,
}
LAYERS: dict[str, Callable[[], Any]] = {
    "odd sizes, 'valid' and strides": lambda: stack(
        layers.Conv2D(4, (3, 2), strides=2, activation="relu")
    ),
    "dilation": lambda: stack(layers.Conv2D(4, 3, dilation_rate=2, activation="relu")),
    "depthwise and separable": lambda: stack(
        layers.DepthwiseConv2D(3, strides=2, padding="same"),
        layers.SeparableConv2D(4, 3, activation="relu"),
    ),
    "transposed convolution": lambda: stack(
        layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu")
    ),
    "overlapping max-pools": lambda: stack(
        layers.ReLU(), layers.MaxPooling2D(3, 2, padding="same")
    ),
    "max-pools that drop an edge": lambda: stack(layers.ReLU(), layers.MaxPooling2D(2)),
    "average pools": lambda: stack(layers.ReLU(), layers.AveragePooling2D(3, 2)),
    "batch norm and dropout": lambda: stack(
        layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.5)
    ),
    "layer and group normalization": lambda: stack(
        layers.LayerNormalization(), layers.ReLU(), layers.GroupNormalization(2)
    ),
    "PReLU": lambda: stack(layers.PReLU(shared_axes=[1, 2])),
    "LeakyReLU": lambda: stack(layers.LeakyReLU()),
    "ReLU6": lambda: stack(layers.ReLU(6.0)),
    "GELU": lambda: stack(layers.Activation("gelu")),
    "swish": lambda: stack(layers.Activation("swish")),
    "images of any size": lambda: stack(layers.ReLU(), shape=(None, None, 3)),
}
