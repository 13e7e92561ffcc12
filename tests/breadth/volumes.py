"""Networks of volumes and videos."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers
from tests.breadth.building import autoencoder, classifier, resnet, sequential, unet


def split_in_space_and_time() -> Any:
    """Return convolutions of each frame, then along time, with a residual add ((2+1)D)."""
    video = keras.Input((6, 12, 12, 3))
    x = layers.Conv3D(4, (1, 3, 3), padding="same", activation="relu")(video)
    x = layers.Conv3D(4, (3, 1, 1), padding="same")(x)
    x = layers.ReLU()(layers.Add()([x, layers.Conv3D(4, 1)(video)]))
    x = layers.MaxPooling3D((1, 2, 2))(x)
    x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling3D()(x))
    return keras.Model(video, x, name="split")


def frames_of_a_network() -> Any:
    """Return a convolutional network of each frame, and an LSTM over the frames."""
    frame = keras.Input((10, 10, 1))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(frame)
    x = layers.Add()([x, layers.Conv2D(4, 3, padding="same", activation="relu")(x)])
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(x))
    network = keras.Model(frame, x, name="frame")
    return sequential(
        layers.TimeDistributed(network),
        layers.LSTM(4),
        layers.Dense(2, activation="softmax"),
        shape=(3, 10, 10, 1),
    )


NETWORKS: dict[str, Callable[[], Any]] = {
    "a video": lambda: classifier(
        layers.Conv3D(4, 3, padding="same", activation="relu"),
        layers.MaxPooling3D(),
        layers.Conv3D(4, 3, activation="relu"),
        shape=(8, 12, 12, 1),
    ),
    "three dimensions, down and up": lambda: classifier(
        layers.Conv3D(4, 3, padding="same", activation="relu"),
        layers.AveragePooling3D(2),
        layers.Cropping3D(1),
        layers.ZeroPadding3D(1),
        layers.UpSampling3D(),
        layers.Conv3DTranspose(3, 2, strides=2, activation="relu"),
        shape=(6, 8, 8, 1),
    ),
    "a video, in space and in time": split_in_space_and_time,
    "residual volumes": lambda: resnet((8, 8, 8, 1)),
    "volumes, channels first": lambda: resnet((1, 8, 8, 8), first=True),
    "U-Net of volumes": lambda: unet((8, 8, 8, 1)),
    "autoencoder of volumes": lambda: autoencoder((4, 8, 8, 1)),
    "TimeDistributed convolutions": lambda: sequential(
        layers.TimeDistributed(layers.Conv2D(3, 3, activation="relu")),
        layers.TimeDistributed(layers.MaxPooling2D()),
        layers.TimeDistributed(layers.Conv2D(3, 2, activation="relu")),
        layers.Flatten(),
        layers.Dense(2, activation="softmax"),
        shape=(3, 8, 8, 1),
    ),
    "TimeDistributed network, LSTM": frames_of_a_network,
    "ConvLSTM2D": lambda: sequential(
        layers.ConvLSTM2D(3, 3),
        layers.Flatten(),
        layers.Dense(2, activation="softmax"),
        shape=(3, 8, 8, 1),
    ),
    "ConvLSTM2D between convolutions": lambda: sequential(
        layers.Conv3D(3, (1, 3, 3), activation="relu"),
        layers.ConvLSTM2D(3, 3, return_sequences=True, padding="same"),
        layers.BatchNormalization(),
        layers.Conv3D(1, 3, padding="same", activation="sigmoid"),
        shape=(3, 8, 8, 1),
    ),
}
