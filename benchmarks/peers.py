"""Contestants for comparison with convlens.

They are bare passes of the network, tf-keras-vis, xplique, and the loop of TensorFlow's tutorial on
style transfer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.benchmarks.timing import wait_for
from convlens.engine.runtime import backend


def bare_passes(model: keras.Model, layer: str, images: NDArray[Any], steps: int) -> Any:
    """Return a compiled function that runs only `steps` forward and backward passes.

    Each step runs the truncated network on the whole batch and adds the gradient of each image's
    unit (its mean activation) to the image, in one compiled loop. This is the minimum work of any
    ascent with the same number of steps.
    """
    truncated = keras.Model(model.inputs[0], model.get_layer(layer).output)
    pick = np.eye(truncated.output.shape[-1], dtype=np.float32)[: len(images)]

    def value(x: Any) -> Any:
        maps = ops.cast(truncated(x, training=False), "float32")
        means = ops.mean(maps, axis=(1, 2)) if len(maps.shape) == 4 else maps
        return ops.sum(means * pick)

    def step(i: Any, carry: Any) -> Any:
        (x,) = carry
        made, pull = backend.vjp(value, x)
        return [x + pull(ops.ones_like(made))]

    run = backend.compile(lambda x, count: backend.repeat(count, step, [x])[0], truncated.variables)
    count = ops.convert_to_tensor(np.int32(steps))
    return lambda: np.asarray(run(ops.convert_to_tensor(images), count))


def one_at_a_time(
    model: keras.Model, layer: str, images: NDArray[Any], steps: int
) -> Callable[[], NDArray[Any]]:
    """Return the ascent of early tools: one filter at a time, in a Python loop of steps.

    A function is compiled for each filter. Each step copies the image to the device and the
    gradient back, divides the gradient by its root mean square, and adds it in NumPy.
    """
    truncated = keras.Model(model.inputs[0], model.get_layer(layer).output)

    def climb(unit: int) -> NDArray[Any]:
        def gradient(x: Any) -> Any:
            def value(y: Any) -> Any:
                return ops.mean(ops.cast(truncated(y, training=False)[..., unit], "float32"))

            made, pull = backend.vjp(value, x)
            return pull(ops.ones_like(made))

        run = backend.compile(gradient, truncated.variables)
        image = images[unit : unit + 1].copy()
        for _ in range(steps):
            slope = np.asarray(run(ops.convert_to_tensor(image)))
            image += slope / (np.sqrt(np.mean(slope**2)) + 1e-5)
        return image

    return lambda: np.concatenate([climb(unit) for unit in range(len(images))])


def tf_keras_vis(
    model: keras.Model, layer: str, images: NDArray[Any], steps: int
) -> Callable[[], NDArray[Any]]:
    """Return tf-keras-vis's ascent of the first units as one batch, with its default options.

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
    """Return xplique's ascent of the layer's first units, on pixels without transformations.

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
    """Return a function that only runs the truncated network on each batch."""
    truncated = keras.Model(model.inputs[0], model.get_layer(layer).output)
    forward = backend.compile(lambda x: truncated(x, training=False), truncated.variables)

    def run() -> None:
        for batch in batches():
            wait_for(forward(ops.convert_to_tensor(batch)))

    return run


def bare_gradient(
    model: keras.Model, layer: str, images: NDArray[Any], units: NDArray[Any]
) -> Callable[[], NDArray[Any]]:
    """Return a compiled function for the gradient of each image's strongest unit activation."""
    truncated = keras.Model(model.inputs[0], model.get_layer(layer).output)
    pick = np.eye(truncated.output.shape[-1], dtype=np.float32)[units]

    def value(x: Any) -> Any:
        maps = ops.cast(truncated(x, training=False), "float32")
        return ops.sum(ops.max(maps, axis=(1, 2)) * pick)

    def gradient(x: Any) -> Any:
        made, pull = backend.vjp(value, x)
        return pull(ops.ones_like(made))

    run = backend.compile(gradient, truncated.variables)
    return lambda: np.asarray(run(ops.convert_to_tensor(images)))


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

    def value(x: Any) -> Any:
        return ops.sum(model(x, training=False))

    def gradient(x: Any) -> Any:
        made, pull = backend.vjp(value, x)
        return pull(ops.ones_like(made))

    step = backend.compile(gradient, model.variables)

    def run() -> Any:
        for _ in range(steps):
            found = wait_for(step(ops.convert_to_tensor(image)))
        return np.asarray(found)

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
    """Return the style transfer of TensorFlow's tutorial, which gives the image and the final loss.

    It runs one traced step in a Python loop with Adam 0.02, β₁ 0.99, ε 0.1; weights 1e4 for the
    content, 1e-2 for the style and 30 for the total variation; clipping to the range 0 to 1. Images
    are (1, h, w, 3) in the range 0 to 1, which is also the range of the model.
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
