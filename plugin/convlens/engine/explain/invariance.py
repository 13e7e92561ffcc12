"""Feature invariance: the change of features and scores under translation, scale and rotation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.engine.features.activations import check_layers
from convlens.engine.model.network import Network
from convlens.engine.model.targets import classes_to_follow, output_of
from convlens.engine.runtime.batches import in_batches

Transformation = Literal["translation", "scale", "rotation"]
TRANSFORMATIONS = ("translation", "scale", "rotation")


@dataclass(frozen=True)
class Invariance:
    """Curves of invariance (Zeiler & Fergus 2014, figure 5).

    Attributes:
        model: the model's name.
        transformation: 'translation', 'scale' or 'rotation'.
        amounts: (a,) pixels down, factors, or degrees counter-clockwise.
        classes: (n,) the class of each image in `probabilities`.
        distances: layer → (a, n) the Euclidean distance between the features of each image and
            those of the transformed image.
        norms: layer → (n,) the length of the image's own feature vector.
        probabilities: (a, n) the model's output for the class.
        image_distances: (a, n) the Euclidean distance between the image and the transformed image.
    """

    model: str
    transformation: Transformation
    amounts: NDArray[np.float64]
    classes: NDArray[np.int64]
    distances: dict[str, NDArray[np.float32]]
    norms: dict[str, NDArray[np.float32]]
    probabilities: NDArray[np.float32]
    image_distances: NDArray[np.float32]

    def relative(self, layer: str) -> NDArray[np.float32]:
        """Return the distances in units of the length of the image's own features, (a, n)."""
        relative = self.distances[layer] / np.maximum(self.norms[layer], 1e-30)
        return relative.astype(np.float32)


def invariance(
    model: keras.Model | Network,
    images: ArrayLike,
    transformation: Transformation,
    amounts: Sequence[float] | None = None,
    *,
    layers: str | Iterable[str] | None = None,
    classes: ArrayLike | None = None,
    fill: float = 0.0,
    batch_size: int = 64,
) -> Invariance:
    """Transform images by several amounts and measure the change of features and scores.

    Args:
        model: a Keras model whose output is a vector of classes, or a `Network`.
        images: (n, h, w, c), in the model's own input range.
        transformation: 'translation' (down), 'scale' (about the center) or 'rotation' (about the
            center).
        amounts: pixels, factors or degrees. Default: up to 15 translations between minus and plus
            a quarter of the height, 13 factors from 0.6 to 1.8, or 25 angles from 0 to 360.
        layers: names of the layers whose features are compared; None for the first and the last
            convolution and the output.
        classes: (n,) the class to follow in each image; None for the predicted class.
        fill: value of the pixels that enter from outside the image.
        batch_size: number of images in a batch.

    Returns:
        The curves; see `Invariance`. The neutral amount (0 pixels, factor 1 or 0 degrees) leaves
        the image exactly as it is.

    Raises:
        ValueError: an unknown transformation or layer, no amount, one that is not finite, a scale
            of 0 or less, no vector of classes, images of a wrong shape, a class out of range.

    Example:
        >>> from convlens.fixtures.digits import load_digits
        >>> from convlens.fixtures.mnist_cnn import load_mnist_cnn
        >>> images, labels = load_digits()
        >>> curves = invariance(load_mnist_cnn(), images[:5], "translation", [-2, 0, 2])
        >>> curves.distances["conv2d_1"].shape
        (3, 5)
    """
    network = Network.of(model)
    output = output_of(network, None)
    x = network.check_pictures(images)
    steps = _amounts(transformation, amounts, x.shape[1])
    if layers is None:
        layers = [*network.conv_layers[:1], *network.conv_layers[-1:], output]
    names = list(
        check_layers(network, dict.fromkeys([layers] if isinstance(layers, str) else layers))
    )
    wanted = list(dict.fromkeys([*names, output]))
    forward = network.compiled(
        ("invariance", tuple(wanted)),
        lambda: lambda batch: network.run(batch, [network.outputs[n] for n in wanted]),
    )

    def features(batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        found = in_batches(forward, batch, batch_size)
        return {n: f.reshape(len(f), -1) for n, f in zip(wanted, found, strict=True)}

    own = features(x)
    followed = classes_to_follow(network, classes, own[output])
    distances: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    probabilities, moved = [], []
    for amount in steps:
        changed = transform(x, transformation, float(amount), fill)
        found = features(changed)
        for name in names:
            distances[name].append(np.linalg.norm(found[name] - own[name], axis=1))
        probabilities.append(found[output][np.arange(len(x)), followed])
        moved.append(np.linalg.norm((changed - x).reshape(len(x), -1), axis=1))
    return Invariance(
        model=network.name,
        transformation=transformation,
        amounts=steps,
        classes=followed,
        distances={name: np.stack(rows) for name, rows in distances.items()},
        norms={name: np.linalg.norm(own[name], axis=1) for name in names},
        probabilities=np.stack(probabilities),
        image_distances=np.stack(moved),
    )


def transform(
    images: NDArray[np.float32], transformation: Transformation, amount: float, fill: float = 0.0
) -> NDArray[np.float32]:
    """Return images (n, h, w, c) moved down, enlarged, or rotated counter-clockwise.

    Interpolation is bilinear, and scale and rotation are about the center. Translations by whole
    pixels, rotations of square images by multiples of 90° and the neutral amount are exact.

    Args:
        images: (n, h, w, c).
        transformation: 'translation' in pixels, 'scale' as a factor, 'rotation' in degrees.
        amount: size of the transformation.
        fill: value of the pixels that enter from outside the image.
    """
    n, h, w, c = images.shape
    y, x = np.mgrid[:h, :w].astype(np.float64)
    if transformation == "translation":
        source_y, source_x = y - amount, x
    else:
        angle = np.radians(amount) if transformation == "rotation" else 0.0
        factor = amount if transformation == "scale" else 1.0
        cos, sin = np.cos(angle) / factor, np.sin(angle) / factor
        dy, dx = y - (h - 1) / 2, x - (w - 1) / 2
        # Remove rounding errors: a remainder of 1e-16 would mix in pixels from outside.
        source_y = np.round(cos * dy + sin * dx + (h - 1) / 2, 9)
        source_x = np.round(-sin * dy + cos * dx + (w - 1) / 2, 9)
    framed = np.full((n, h + 2, w + 2, c), fill, np.float32)
    framed[:, 1:-1, 1:-1] = images
    source_y, source_x = np.clip(source_y, -1, h) + 1, np.clip(source_x, -1, w) + 1
    top = np.minimum(np.floor(source_y).astype(int), h)
    left = np.minimum(np.floor(source_x).astype(int), w)
    down = (source_y - top)[..., None].astype(np.float32)
    right = (source_x - left)[..., None].astype(np.float32)
    upper = framed[:, top, left] * (1 - right) + framed[:, top, left + 1] * right
    lower = framed[:, top + 1, left] * (1 - right) + framed[:, top + 1, left + 1] * right
    out: NDArray[np.float32] = upper * (1 - down) + lower * down
    return out


def _amounts(
    transformation: str, amounts: Sequence[float] | None, height: int
) -> NDArray[np.float64]:
    if transformation not in TRANSFORMATIONS:
        known = ", ".join(map(repr, TRANSFORMATIONS))
        raise ValueError(f"transformation must be one of {known}, not {transformation!r}")
    if amounts is None:
        reach = max(1, height // 4)
        return {
            "translation": np.unique(np.round(np.linspace(-reach, reach, min(2 * reach + 1, 15)))),
            "scale": np.round(np.linspace(0.6, 1.8, 13), 6),
            "rotation": np.linspace(0, 360, 25),
        }[transformation]
    steps = np.asarray(amounts, np.float64)
    if steps.ndim != 1 or not steps.size or not np.isfinite(steps).all():
        raise ValueError(f"amounts must be a list of finite numbers, not {amounts!r}")
    if transformation == "scale" and (steps <= 0).any():
        raise ValueError(f"amounts of a scale must be above 0, not {amounts!r}")
    return steps
