"""Networks of series: sounds, ECGs, sensors, text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers
from tests.breadth.building import autoencoder, classifier, resnet, sequential


def wavenet() -> Any:
    """Return gated causal convolutions of growing dilation with sums of skips (WaveNet)."""
    sound = keras.Input((64, 1))
    x = layers.Conv1D(6, 2, padding="causal")(sound)
    skips = []
    for dilation in (1, 2, 4, 8):
        signal, gate = (
            layers.Conv1D(6, 2, padding="causal", dilation_rate=dilation, activation=kind)(x)
            for kind in ("tanh", "sigmoid")
        )
        gated = layers.Multiply()([signal, gate])
        skips.append(layers.Conv1D(6, 1)(gated))
        x = layers.Add()([x, skips[-1]])
    x = layers.ReLU()(layers.Add()(skips))
    x = layers.Conv1D(6, 1, activation="relu")(x)
    return keras.Model(sound, layers.Conv1D(8, 1, activation="softmax")(x), name="wavenet")


def tcn() -> Any:
    """Return residual blocks of dilated causal convolutions with dropout; the last step decides."""
    series = keras.Input((48, 3))
    x = series
    for dilation in (1, 2, 4):
        y = x
        for _ in range(2):
            y = layers.Conv1D(6, 3, padding="causal", dilation_rate=dilation)(y)
            y = layers.SpatialDropout1D(0.1)(layers.ReLU()(layers.LayerNormalization()(y)))
        x = layers.ReLU()(layers.Add()([y, layers.Conv1D(6, 1)(x)]))
    return keras.Model(series, layers.Dense(3)(x[:, -1]), name="tcn")


def with_recurrence() -> Any:
    """Return convolutions before a bidirectional LSTM and attention."""
    series = keras.Input((40, 4))
    x = layers.Conv1D(6, 5, activation="relu")(series)
    x = layers.MaxPooling1D()(x)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    x = layers.MultiHeadAttention(2, 4)(x, x)
    x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(series, x, name="with_recurrence")


def inception_time() -> Any:
    """Return convolutions of several lengths side by side (InceptionTime)."""
    series = keras.Input((40, 2))
    x = layers.Conv1D(4, 1, use_bias=False)(series)
    paths = [layers.Conv1D(3, n, padding="same", use_bias=False)(x) for n in (9, 5, 3)]
    pooled = layers.MaxPooling1D(3, 1, padding="same")(series)
    paths.append(layers.Conv1D(3, 1, use_bias=False)(pooled))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Concatenate()(paths)))
    x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(series, x, name="inception_time")


NETWORKS: dict[str, Callable[[], Any]] = {
    "an ECG: strides, dilation, causal padding": lambda: classifier(
        layers.Conv1D(6, 7, strides=2, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling1D(),
        layers.Conv1D(6, 3, dilation_rate=2, padding="causal", activation="relu"),
        shape=(96, 2),
    ),
    "sounds: separable and depthwise in one dimension": lambda: sequential(
        layers.Conv1D(6, 9, strides=4, activation="relu"),
        layers.SeparableConv1D(6, 3, activation="relu"),
        layers.DepthwiseConv1D(3, activation="relu"),
        layers.GlobalMaxPooling1D(),
        layers.Dense(3, activation="softmax"),
        shape=(160, 1),
    ),
    "one dimension, down and up": lambda: classifier(
        layers.Conv1D(4, 3, padding="same", activation="relu"),
        layers.AveragePooling1D(2),
        layers.Cropping1D(1),
        layers.ZeroPadding1D(1),
        layers.UpSampling1D(),
        layers.Conv1DTranspose(4, 3, strides=2, activation="relu"),
        shape=(24, 2),
    ),
    "WaveNet": wavenet,
    "TCN": tcn,
    "residual series": lambda: resnet((64, 2)),
    "series, channels first": lambda: resnet((2, 64), first=True),
    "InceptionTime": inception_time,
    "convolutions, LSTM, attention": with_recurrence,
    "autoencoder of series": lambda: autoencoder((32, 2)),
    "series (t,) with a Reshape": lambda: sequential(
        layers.Reshape((40, 1)),
        layers.Conv1D(4, 5, activation="relu"),
        layers.Flatten(),
        layers.Dense(3, activation="softmax"),
        shape=(40,),
    ),
    "series of any length": lambda: classifier(
        layers.Conv1D(4, 5, activation="relu"),
        layers.Conv1D(4, 3, padding="causal", activation="relu"),
        shape=(None, 3),
    ),
    "text: embeddings and convolutions": lambda: sequential(
        layers.Embedding(50, 8),
        layers.Conv1D(6, 3, activation="relu"),
        layers.GlobalMaxPooling1D(),
        layers.Dense(2, activation="softmax"),
        shape=(20,),
    ),
}
