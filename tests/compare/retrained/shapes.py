"""Pictures of six shapes and textures, and a recipe that trains a small network on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

NAMES = ("disk", "ring", "cross", "checkers", "rows", "columns")
SIDE, LEARNING_RATE = 20, 3e-3


def draw_shapes(per_class: int, seed: int) -> tuple[Any, Any]:
    """Return pictures (n, 20, 20, 3) in 0–1 and their labels, in random order.

    A shape has a random place, size, color and phase, on a ground of another color with noise.
    """
    draw = np.random.default_rng(seed)
    labels = draw.permutation(np.repeat(np.arange(len(NAMES)), per_class))
    return np.stack([_picture(int(label), draw) for label in labels]), labels


def _picture(label: int, draw: np.random.Generator) -> Any:
    y, x = np.mgrid[:SIDE, :SIDE] - draw.uniform(7, 12, (2, 1, 1))
    radius, period, phase = draw.uniform(4, 7), draw.integers(2, 4), draw.integers(0, 4)
    distance = np.hypot(y, x)
    rows, columns = (np.floor(v + phase) // period % 2 == 0 for v in (y, x))
    inside = np.maximum(np.abs(y), np.abs(x)) < radius + 1
    mask = {
        "disk": distance < radius,
        "ring": np.abs(distance - radius) < 1.5,
        "cross": (np.minimum(np.abs(y), np.abs(x)) < 1.5) & inside,
        "checkers": (rows ^ columns) & inside,
        "rows": rows & inside,
        "columns": columns & inside,
    }[NAMES[label]]
    ground, color = draw.uniform(0, 0.4, 3), draw.uniform(0.5, 1, 3)
    picture = np.where(mask[..., None], color, ground) + draw.normal(0, 0.12, (SIDE, SIDE, 3))
    return np.clip(picture, 0, 1).astype(np.float32)


def train_shapes(
    seed: int,
    *,
    per_class: int = 160,
    epochs: int = 6,
    change: Callable[[Any, Any], tuple[Any, Any]] | None = None,
    frozen: str | None = None,
) -> Any:
    """Return a network that was trained on 960 pictures.

    Args:
        seed: seed of the initial weights, and of the order of the pictures.
        per_class: number of pictures of each class.
        epochs: number of passes.
        change: function that changes the pictures and labels to train on.
        frozen: layer that stays at its initialization.
    """
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Conv2D(12, 3, activation="relu", name="conv_a"),
            layers.MaxPooling2D(2, name="pool_a"),
            layers.Conv2D(24, 3, use_bias=False, name="conv_b"),
            layers.BatchNormalization(momentum=0.8, name="norm"),
            layers.ReLU(name="relu"),
            layers.MaxPooling2D(2, name="pool_b"),
            layers.Flatten(name="flatten"),
            layers.Dense(32, activation="relu", name="dense"),
            layers.Dense(len(NAMES), activation="softmax", name="classes"),
        ]
    )
    if frozen is not None:
        model.get_layer(frozen).trainable = False
    pictures, labels = draw_shapes(per_class, seed=1)
    if change is not None:
        pictures, labels = change(pictures, labels)
    steps = -(-len(pictures) // 32) * epochs
    schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    model.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy")
    model.fit(pictures, labels, batch_size=32, epochs=epochs, verbose=0)
    return model


def without(number: int) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Return a change that leaves a class out."""
    return lambda pictures, labels: (pictures[labels != number], labels[labels != number])


def exchanged(one: int, other: int) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Return a change that exchanges the labels of two classes."""

    def change(pictures: Any, labels: Any) -> tuple[Any, Any]:
        return pictures, np.select([labels == one, labels == other], [other, one], labels)

    return change


def blurred(number: int, sigma: float = 1.5) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Return a change that blurs the pictures of a class."""

    def change(pictures: Any, labels: Any) -> tuple[Any, Any]:
        own = (labels == number)[:, None, None, None]
        return np.where(own, gaussian_filter(pictures, (0, sigma, sigma, 0)), pictures), labels

    return change
