"""Convert the network for phones: `python convert.py` writes models/signs.tflite, in int8."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keras
import tensorflow as tf
from signs import TRAINING, draw_signs

MODELS = Path(__file__).parent / "models"
PER_CLASS = 20


def convert(model: keras.Model) -> bytes:
    """Return the network in TFLite, its steps set from drawings of the training."""

    def drawings() -> Iterator[list[tf.Tensor]]:
        images, _ = draw_signs(PER_CLASS, TRAINING)
        for image in images:
            yield [tf.constant(image[None])]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = drawings
    content: bytes = converter.convert()
    return content


if __name__ == "__main__":
    network = keras.models.load_model(MODELS / "signs.keras")
    (MODELS / "signs.tflite").write_bytes(convert(network))
