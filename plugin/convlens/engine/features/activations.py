"""Feature activations: the outputs of layers for images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
from numpy.typing import ArrayLike, NDArray

from convlens.engine.model.network import Network
from convlens.engine.runtime.batches import in_batches


def activations(
    model: keras.Model | Network,
    images: ArrayLike,
    layers: str | Iterable[str] | None = None,
    *,
    batch_size: int = 64,
) -> dict[str, NDArray[Any]]:
    """Return the outputs of layers for images, from one forward pass.

    Args:
        model: a Keras model, or a `Network` to reuse its compiled functions.
        images: (n, h, w, c), in the model's own input range.
        layers: names of layers; None for every convolution.
        batch_size: number of images in a batch.

    Returns:
        layer → feature maps (n, h, w, c), or (n, units) for a layer without positions.

    Raises:
        ValueError: an unknown layer, images of a wrong shape, a model without convolutions.

    Example:
        >>> from convlens.fixtures.digits import load_digits
        >>> from convlens.fixtures.mnist_cnn import load_mnist_cnn
        >>> images, labels = load_digits()
        >>> activations(load_mnist_cnn(), images[:2], "conv2d_1")["conv2d_1"].shape
        (2, 28, 28, 24)
    """
    network = Network.of(model)
    names = check_layers(network, layers)
    x = network.check_images(images)

    def build() -> Callable[..., Any]:
        tensors = [network.outputs[name] for name in names]
        return lambda batch: network.run(batch, tensors)

    forward = network.compiled(("activations", names), build)
    return dict(zip(names, in_batches(forward, x, batch_size), strict=True))


def check_layers(network: Network, layers: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the names of the chosen layers; None chooses every convolution.

    Raises:
        ValueError: an unknown layer, an empty choice, a model without convolutions.
    """
    if layers is None:
        if not network.conv_layers:
            raise ValueError(f"{network.name} has no convolutional layer")
        return network.conv_layers
    chosen = (layers,) if isinstance(layers, str) else tuple(layers)
    if not chosen:
        raise ValueError(f"layers must name at least one layer of {network.name}")
    return tuple(network.find(name) for name in chosen)
