"""Compare the deconvnet and its two variants with xplique, an independent implementation."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from convlens import deconvolve

xplique = pytest.importorskip(
    "xplique", reason="needs xplique: pip install 'pytest-convlens[peers]'"
)


def residual():
    """Return a small residual network with random weights."""
    keras.utils.set_random_seed(5)
    image = keras.Input((28, 28, 1))
    y = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    for _ in range(2):
        z = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(y))
        z = layers.Conv2D(8, 3, padding="same")(layers.ReLU()(z))
        y = layers.MaxPooling2D(2)(layers.ReLU()(layers.Add()([y, z])))
    return keras.Model(image, layers.Dense(10, activation="softmax")(layers.Flatten()(y)))


def logits(model):
    """Return the model without its softmax."""
    last = model.layers[-1]
    linear = layers.Dense(last.units, name="logits")
    out = linear(last.input)
    linear.set_weights(last.get_weights())
    return keras.Model(model.inputs[0], out)


@pytest.mark.filterwarnings("ignore")  # of TensorFlow's, about what xplique does
@pytest.mark.parametrize(
    ("method", "peer"),
    [("deconvnet", "DeconvNet"), ("guided", "GuidedBackprop"), ("gradient", "Saliency")],
)
@pytest.mark.parametrize("build", [None, residual], ids=["mnist_cnn", "residual"])
def test_each_image_agrees_with_xplique(method, peer, build, mnist_cnn, digits):
    from xplique import attributions

    model = mnist_cnn if build is None else build()
    scores = logits(model)
    images = digits.images[::10]
    classes = np.asarray(scores(images)).argmax(axis=1)
    explainer = getattr(attributions, peer)(scores, reducer=None)
    theirs = np.asarray(explainer(images, np.eye(10, dtype=np.float32)[classes]))
    ours = deconvolve(model, images, None, classes, method=method).images
    if method == "gradient":
        ours = np.abs(ours)  # xplique's saliency is the gradient's magnitude
    a, b = (v.reshape(len(images), -1).astype(np.float64) for v in (ours, theirs))
    cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() >= 0.9999
