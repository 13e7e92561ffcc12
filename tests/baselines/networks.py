"""Three kinds of small networks in which every layer responds to random images."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers


def build_residual() -> Any:
    """Return a residual network with batch normalization: (n, 16, 16, 3) → 4 classes."""
    image = keras.Input((16, 16, 3))
    x = layers.Rescaling(2.0, -1.0, name="rescale")(image)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(x)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.ReLU(name="stem_relu")(x)
    for block in ("a", "b"):
        y = layers.Conv2D(8, 3, padding="same", use_bias=False, name=f"{block}_conv1")(x)
        y = layers.BatchNormalization(name=f"{block}_bn1")(y)
        y = layers.ReLU(name=f"{block}_relu1")(y)
        y = layers.Conv2D(8, 3, padding="same", use_bias=False, name=f"{block}_conv2")(y)
        y = layers.BatchNormalization(name=f"{block}_bn2")(y)
        x = layers.Add(name=f"{block}_add")([x, y])
        x = layers.ReLU(name=f"{block}_out")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return with_weights(
        keras.Model(image, layers.Dense(4, "softmax", name="classes")(x), name="residual")
    )


def build_inception() -> Any:
    """Return a network of two modules of parallel branches: (n, 16, 16, 3) → 4 classes."""
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(image)
    for module in ("a", "b"):
        one = layers.Conv2D(6, 1, activation="relu", name=f"{module}_1x1")(x)
        three = layers.Conv2D(4, 1, activation="relu", name=f"{module}_3x3_reduce")(x)
        three = layers.Conv2D(6, 3, padding="same", activation="relu", name=f"{module}_3x3")(three)
        five = layers.Conv2D(4, 1, activation="relu", name=f"{module}_5x5_reduce")(x)
        five = layers.Conv2D(6, 5, padding="same", activation="relu", name=f"{module}_5x5")(five)
        pool = layers.MaxPooling2D(3, 1, padding="same", name=f"{module}_pool")(x)
        pool = layers.Conv2D(6, 1, activation="relu", name=f"{module}_project")(pool)
        x = layers.Concatenate(name=f"{module}_join")([one, three, five, pool])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return with_weights(
        keras.Model(image, layers.Dense(4, "softmax", name="classes")(x), name="inception")
    )


def random_images(count: int = 12) -> Any:
    return np.random.default_rng(4).random((count, 16, 16, 3), dtype=np.float32)


def with_weights(model: Any) -> Any:
    """Return the model with new weights, which are the same on every backend."""
    draw = np.random.default_rng(8)
    weights = []
    for variable in model.weights:
        shape = variable.shape
        if len(shape) > 1:
            scale = np.sqrt(2 / np.prod(shape[:-1]))
            weights.append((draw.standard_normal(shape) * scale).astype(np.float32))
        elif "variance" in variable.path or "gamma" in variable.path:
            weights.append(draw.uniform(0.6, 1.4, shape).astype(np.float32))
        else:
            weights.append(draw.uniform(-0.2, 0.2, shape).astype(np.float32))
    model.set_weights(weights)
    return model


def subjects() -> dict[str, tuple[Any, Any]]:
    """Return name → (model, images) for the shipped network and the two small ones."""
    from convlens.fixtures.digits import load_digits
    from convlens.fixtures.mnist_cnn import load_mnist_cnn

    return {
        "mnist_cnn": (load_mnist_cnn(), load_digits()[0]),
        "residual": (build_residual(), random_images()),
        "inception": (build_inception(), random_images()),
    }
