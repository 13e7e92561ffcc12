"""The healthy networks of the zoo; `python tests/zoo/zoo_networks.py mnist.npz` trains them again.

They are the shipped network with other seeds, trained for five epochs, and two smaller networks of
other kinds, trained on MNIST in two colors with the first seed that leaves no dead filter. Weights
are stored as float16.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from convlens import activations
from convlens.fixtures.mnist_cnn import build_mnist_cnn, load_mnist_cnn
from convlens.fixtures.train_mnist_cnn import SEED, read_mnist, train

DATA = Path(__file__).parent / "data"
INK, PAPER = np.array([255.0, 200.0, 60.0]), np.array([20.0, 40.0, 90.0])
CNN_SEEDS = (3, 4, 5, 6)
CNN_EPOCHS, EPOCHS, IMAGES = 5, 4, 30_000


def colored(images: Any) -> Any:
    """Return gray images (n, h, w, 1) in 0–1 as two-color images (n, h, w, 3) in 0–255."""
    return (images * INK + (1 - images) * PAPER).astype(np.float32)


def residual() -> keras.Model:
    """Return a network with residual connections and average pooling, for colors in 0–255."""
    image = keras.Input((28, 28, 3), name="image")
    x = layers.Rescaling(1 / 255, name="rescaling")(image)
    # The colored inputs are always positive, so that ReLUs may die without a positive initial bias.
    options = {
        "kernel_initializer": "he_normal",
        "bias_initializer": keras.initializers.Constant(0.1),
    }
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="stem", **options)(x)
    for i, filters in enumerate((16, 32), start=1):
        skip = layers.Conv2D(filters, 1, name=f"skip_{i}")(x)
        x = layers.Conv2D(
            filters, 3, padding="same", activation="relu", name=f"conv_{i}a", **options
        )(x)
        x = layers.Conv2D(filters, 3, padding="same", name=f"conv_{i}b")(x)
        x = layers.Add(name=f"add_{i}")([x, skip])
        x = layers.ReLU(name=f"relu_{i}")(x)
        x = layers.AveragePooling2D(2, name=f"pool_{i}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dropout(0.2, name="dropout")(x)
    return keras.Model(
        image, layers.Dense(10, activation="softmax", name="classes")(x), name="residual"
    )


def batch_norm() -> keras.Model:
    """Return a network with batch normalization after each convolution, for colors in 0–1."""
    image = keras.Input((28, 28, 3), name="image")
    x = image
    for i, filters in enumerate((16, 32, 32), start=1):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv_{i}")(x)
        x = layers.BatchNormalization(name=f"norm_{i}")(x)
        x = layers.ReLU(name=f"relu_{i}")(x)
        x = layers.MaxPooling2D(2, name=f"pool_{i}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dropout(0.2, name="dropout")(x)
    return keras.Model(
        image, layers.Dense(10, activation="softmax", name="classes")(x), name="batch_norm"
    )


KINDS = {"residual": (residual, 255.0), "batch_norm": (batch_norm, 1.0)}


def load(name: str) -> tuple[keras.Model, float]:
    """Return a healthy network by name, and the maximum pixel value of its input."""
    if name == f"mnist_cnn-{SEED}":
        return load_mnist_cnn(), 1.0
    build, high = KINDS.get(name, (build_mnist_cnn, 1.0))
    model = build()
    with np.load(DATA / f"{name}.npz") as kept:
        model.set_weights([kept[weight.path].astype(np.float32) for weight in model.weights])
    return model, high


def keep(name: str, model: keras.Model) -> None:
    """Write a network's weights as float16."""
    np.savez_compressed(
        DATA / f"{name}.npz",
        **{w.path: keras.ops.convert_to_numpy(w.value).astype(np.float16) for w in model.weights},
    )


def fitted(build: Any, x: Any, y: Any, seed: int) -> keras.Model:
    """Return a trained network with initial weights from a seed."""
    keras.utils.set_random_seed(seed)
    model = build()
    steps = -(-len(x) // 128) * EPOCHS
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps)),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(x, y, batch_size=128, epochs=EPOCHS, verbose=2)
    return model


def healthy(model: keras.Model, x: Any) -> bool:
    """Return whether each filter responds to more than one percent of the training images."""
    maps = activations(model, x[:2000])
    return all((np.ptp(m, axis=(1, 2)) > 0).mean(axis=0).min() > 0.01 for m in maps.values())


def main(mnist_path: str) -> None:
    mnist = read_mnist(Path(mnist_path))
    for seed in CNN_SEEDS:
        keep(f"mnist_cnn-{seed}", train(mnist, seed=seed, epochs=CNN_EPOCHS)[0])
    for name, (build, high) in KINDS.items():
        x = colored(mnist.x_train[:IMAGES, ..., None] / 255.0) / 255.0 * high
        y = mnist.y_train[:IMAGES].astype(np.int64)
        models = (fitted(build, x, y, seed) for seed in count())
        model = next(found for found in models if healthy(found, x))
        test = colored(mnist.x_test[..., None] / 255.0) / 255.0 * high
        print(name, model.evaluate(test, mnist.y_test.astype(np.int64), verbose=0))
        keep(name, model)


if __name__ == "__main__":
    main(*sys.argv[1:])
