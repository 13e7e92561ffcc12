"""Train the network anew: `python train.py` writes models/signs.keras."""

from __future__ import annotations

from pathlib import Path

import keras
from keras import layers
from signs import CLASSES, SIDE, TRAINING, draw_signs, held_out

FILE = Path(__file__).parent / "models" / "signs.keras"
STARTING_BIAS = keras.initializers.Constant(0.1)


def build() -> keras.Model:
    """Return the network without training: (n, 32, 32, 3) from 0 to 1 → 5 classes."""
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3), name="image"),
            _filters(8, 5, "edges"),
            layers.MaxPooling2D(2, name="half"),
            _filters(16, 3, "shapes"),
            layers.MaxPooling2D(2, name="quarter"),
            _filters(24, 3, "signs"),
            layers.GlobalAveragePooling2D(name="mean"),
            layers.Dense(len(CLASSES), activation="softmax", name="classes"),
        ],
        name="signs",
    )


def _filters(count: int, side: int, name: str) -> layers.Layer:
    # With biases of 0 to begin with, a filter or two never fired: `dead` found them.
    return layers.Conv2D(
        count, side, padding="same", activation="relu", bias_initializer=STARTING_BIAS, name=name
    )


def train(epochs: int = 15) -> keras.Model:
    """Return the trained network; the same for the same versions, on the same device."""
    keras.utils.set_random_seed(0)
    model = build()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    images, labels = draw_signs(400, TRAINING)
    model.fit(images, labels, 32, epochs, validation_data=held_out(), verbose=2)
    return model


if __name__ == "__main__":
    train().save(FILE)
