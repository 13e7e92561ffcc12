"""The same work done by others.

Bare passes of the network, tf-keras-vis, xplique, and the loop of TensorFlow's style tutorial.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray


def bare_passes(model: keras.Model, layer: str, images: NDArray[Any], steps: int) -> Any:
    """Return a compiled function that runs `steps` forward and backward passes, and no more.

    The truncated network on the whole batch, the gradient of the mean activation by the images
    added to them, in one TensorFlow loop: the least that any ascent of so many steps can do. The
    step is not inlined into the loop, for the reason that `engine.backend.repeat` gives.
    """
    import tensorflow as tf

    truncated = keras.Model(model.inputs[0], model.get_layer(layer).output)
    pick = tf.one_hot(tf.range(len(images)), truncated.output.shape[-1])

    @tf.function(experimental_attributes={"_noinline": True})
    def step(i: Any, x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            means = tf.reduce_mean(truncated(x, training=False), axis=(1, 2))
            value = tf.reduce_sum(means * pick)
        return i + 1, x + tape.gradient(value, x)

    @tf.function
    def run(x: Any) -> Any:
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


def xplique_ascent(
    model: keras.Model, layer: str, images: NDArray[Any], steps: int
) -> Callable[[], NDArray[Any]]:
    """Return xplique's ascent of the layer's first units as one batch, pixels, no transformations.

    Raises:
        ImportError: xplique is not installed.
    """
    from xplique.features_visualizations import Objective, optimize

    shape = images.shape[1:]

    def run() -> NDArray[Any]:
        objective = Objective.channel(model, layer, list(range(len(images))))
        found, _ = optimize(
            objective,
            nb_steps=steps,
            use_fft=False,
            transformations=None,
            custom_shape=shape[:2],
            image_normalizer="clip",
        )
        return np.asarray(found[-1]).reshape(-1, *shape)

    return run


def bare_forward(model: keras.Model, layer: str, batches: Callable[[], Any]) -> Callable[[], None]:
    """Return a function that runs the truncated network on each batch, and no more."""
    import tensorflow as tf

    truncated = keras.Model(model.inputs[0], model.get_layer(layer).output)
    forward = tf.function(lambda x: truncated(x, training=False), reduce_retracing=True)

    def run() -> None:
        for batch in batches():
            forward(tf.constant(batch)).numpy()

    return run


def bare_gradient(
    model: keras.Model, layer: str, images: NDArray[Any], units: NDArray[Any]
) -> Callable[[], NDArray[Any]]:
    """Return a compiled function: each image's gradient of its unit's strongest activation."""
    import tensorflow as tf

    truncated = keras.Model(model.inputs[0], model.get_layer(layer).output)
    pick = tf.one_hot(units, truncated.output.shape[-1])

    @tf.function
    def run(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(tf.reduce_max(truncated(x, training=False), axis=(1, 2)) * pick)
        return tape.gradient(value, x)

    return lambda: run(tf.constant(images)).numpy()


def xplique_deconvnet(
    model: keras.Model, images: NDArray[Any], classes: NDArray[Any]
) -> Callable[[], NDArray[Any]]:
    """Return xplique's DeconvNet of class scores.

    Raises:
        ImportError: xplique is not installed.
    """
    from xplique.attributions import DeconvNet

    last = model.layers[-1]
    linear = keras.layers.Dense(last.units)
    scores = keras.Model(model.inputs[0], linear(last.input))
    linear.set_weights(last.get_weights())
    explainer = DeconvNet(scores, reducer=None)
    wanted = np.eye(last.units, dtype=np.float32)[classes]
    return lambda: np.asarray(explainer(images, wanted))


def bare_style_passes(model: keras.Model, image: NDArray[Any], steps: int) -> Callable[[], Any]:
    """Return a function that runs `steps` forward and backward passes to the model's output."""
    import tensorflow as tf

    @tf.function
    def step(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(model(x, training=False))
        return tape.gradient(value, x)

    def run() -> Any:
        for _ in range(steps):
            found = step(tf.constant(image))
        return found.numpy()

    return run


def tutorial_style(
    model: keras.Model,
    content: NDArray[Any],
    style: NDArray[Any],
    content_layer: str,
    style_layers: Sequence[str],
    steps: int,
    style_weight: float = 1e-2,
) -> Callable[[], tuple[NDArray[Any], float]]:
    """Return the style transfer of TensorFlow's tutorial: the image and the loss that it reaches.

    One traced step in a Python loop; Adam 0.02, β₁ 0.99, ε 0.1; content 1e4, style 1e-2, total
    variation 30; clipped to 0 to 1. Images are (1, h, w, 3) from 0 to 1; the model takes them so.
    """
    import tensorflow as tf

    layers = [*style_layers, content_layer]
    extractor = keras.Model(model.inputs[0], [model.get_layer(name).output for name in layers])

    def gram(maps: Any) -> Any:
        total = tf.linalg.einsum("bijc,bijd->bcd", maps, maps)
        return total / tf.cast(maps.shape[1] * maps.shape[2], tf.float32)

    def outputs(image: Any) -> tuple[list[Any], Any]:
        *styles, content_maps = extractor(image)
        return [gram(maps) for maps in styles], content_maps

    grams, _ = outputs(tf.constant(style))
    _, target = outputs(tf.constant(content))

    def loss_of(image: Any) -> Any:
        now, maps = outputs(image)
        apart = [tf.reduce_mean((a - b) ** 2) for a, b in zip(now, grams, strict=True)]
        loss = style_weight / len(apart) * tf.add_n(apart)
        loss += 1e4 * tf.reduce_mean((maps - target) ** 2)
        return loss + 30 * tf.reduce_sum(tf.image.total_variation(image))

    image = tf.Variable(content)
    optimizer = keras.optimizers.Adam(learning_rate=0.02, beta_1=0.99, epsilon=1e-1)
    optimizer.build([image])
    fresh = [v.numpy() for v in optimizer.variables]

    @tf.function
    def step() -> None:
        with tf.GradientTape() as tape:
            loss = loss_of(image)
        optimizer.apply_gradients([(tape.gradient(loss, image), image)])
        image.assign(tf.clip_by_value(image, 0.0, 1.0))

    def run() -> tuple[NDArray[Any], float]:
        image.assign(content)
        for variable, value in zip(optimizer.variables, fresh, strict=True):
            variable.assign(value)
        for _ in range(steps):
            step()
        return image.numpy(), float(loss_of(image))

    return run
