"""A network with the parts that converters fuse, and copies of it with a fault."""

from __future__ import annotations

from collections.abc import Callable
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
