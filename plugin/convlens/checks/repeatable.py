"""Outputs that depend on the image alone."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.checks.finite import assert_finite_weights
from convlens.engine.features.activations import activations
from convlens.engine.model.network import Network

# Of a layer's largest value. TF32 and other sums for another batch leave 5e-4 in float32.
_TOLERANCES = {"float16": 2e-2, "bfloat16": 1e-1}
_TOLERANCE = 1e-3


def assert_repeatable(
    model: keras.Model | Network, images: ArrayLike, *, tol: float | None = None
) -> dict[str, float]:
    """Assert that what each layer makes of an image is the same each time, and in any batch.

    What it catches: a dropout, noise or augmentation that is active at inference, and a batch
    normalization in training mode. One that is called with ``training=True`` counts: it is active
    when the model is called, though Keras's ``predict()`` overrules it.

    Args:
        model: a Keras model or a `Network`.
        images: (n, h, w, c) in the model's own range; n is 2 or more.
        tol: the largest difference, in units of the layer's largest value; by the layer's type
            unless given (1e-3 for float32).

    Returns:
        layer → the largest difference, in the order of the network.

    Raises:
        AssertionError: a layer's output differs, naming the first one; a weight is not finite.
        ValueError: fewer than two images, or of a wrong shape.
    """
    __tracebackhide__ = True
    network = Network.of(model)
    assert_finite_weights(network)
    x = network.check_images(images)
    if len(x) < 2:
        raise ValueError(f"{network.name}: two images or more tell a batch from one image")
    names = tuple(network.outputs)
    once = activations(network, x, names)
    again = activations(network, x, names)
    # One call an image: the compiled function takes a batch of any size.
    alone = activations(network, x, names, batch_size=1)
    differences: dict[str, float] = {}
    for name in names:
        allowed = _TOLERANCES.get(once[name].dtype.name, _TOLERANCE) if tol is None else tol
        twice = _difference(once[name], again[name])
        apart = _difference(once[name], alone[name])
        differences[name] = max(twice, apart)
        if not twice <= allowed:
            raise AssertionError(
                f"{network.name} layer {name!r} is the first that gives the same images another "
                f"output each time: it differs by {twice:.3g} of its largest value (tolerance "
                f"{allowed:g}). A dropout or noise is active at inference."
            )
        if not apart <= allowed:
            raise AssertionError(
                f"{network.name} layer {name!r} is the first whose output for an image depends on "
                f"the others in its batch: it differs by {apart:.3g} of its largest value "
                f"(tolerance {allowed:g}). A batch normalization is in training mode."
            )
    return differences


def _difference(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Return the largest difference in units of the largest value; 0 where all values are 0."""
    one, other = a.astype(np.float64), b.astype(np.float64)
    return float(np.abs(one - other).max() / (np.abs(one).max() or 1.0))
