"""The same ascent done by others: a bare forward-backward pass, and tf-keras-vis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray


def bare_passes(model: keras.Model, layer: str, images: NDArray[Any], steps: int) -> Any:
    """Return a compiled function that runs `steps` forward and backward passes, and no more.

    The truncated network on the whole batch, the gradient of the mean activation by the images
    added to them, in one TensorFlow loop: the least that any ascent of so many steps can do.
    """
    import tensorflow as tf

    truncated = keras.Model(model.inputs[0], model.get_layer(layer).output)
    pick = tf.one_hot(tf.range(len(images)), truncated.output.shape[-1])

    @tf.function
    def run(x: Any) -> Any:
        def step(i: Any, x: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                means = tf.reduce_mean(truncated(x, training=False), axis=(1, 2))
                value = tf.reduce_sum(means * pick)
            return i + 1, x + tape.gradient(value, x)

        return tf.while_loop(lambda i, x: i < steps, step, (0, x))[1]

    return lambda: run(tf.constant(images)).numpy()


def tf_keras_vis(
    model: keras.Model, layer: str, images: NDArray[Any], steps: int
) -> Callable[[], NDArray[Any]]:
    """Return tf-keras-vis's ascent of the layer's first units as one batch, its own defaults.

    Raises:
        ImportError: tf-keras-vis is not installed.
    """
    from tf_keras_vis.activation_maximization import ActivationMaximization
    from tf_keras_vis.utils.model_modifiers import ExtractIntermediateLayer
    from tf_keras_vis.utils.scores import CategoricalScore

    units = list(range(len(images)))

    def run() -> NDArray[Any]:
        ascent = ActivationMaximization(model, ExtractIntermediateLayer(layer), clone=True)
        found = ascent(
            CategoricalScore(units),
            seed_input=images,
            input_range=(0.0, 1.0),
            steps=steps,
        )
        return np.asarray(found)

    return run
