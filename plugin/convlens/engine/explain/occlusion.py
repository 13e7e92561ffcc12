"""Occlusion sensitivity: find the parts of an image that a score and a feature map depend on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from convlens.engine.model.network import Network
from convlens.engine.model.targets import classes_to_follow, output_of, tensor_of
from convlens.engine.runtime.batches import in_batches
from convlens.engine.runtime.progress import Progress, progress_to


@dataclass(frozen=True)
class Occlusion:
    """The effect of hiding each part of an image by a patch (Zeiler & Fergus 2014, figure 6).

    Attributes:
        model: the model's name.
        images: (n, h, w, c) the images without patches.
        classes: (n,) the class of each image.
        patch: the patch's side in pixels.
        value: () or (c,) the pixel value of the patch.
        corners: (p, 2) row and column of each patch's upper left corner.
        score: (n,) the class's score before the softmax on the whole image.
        scores: (n, p) the class's score with each patch applied.
        probability: (n,) the model's output for the class on the whole image.
        probabilities: (n, p) the model's output for the class with each patch applied.
        predicted: (n, p) the most probable class with each patch applied.
        layer: name of the layer whose feature maps were measured; None for no layer.
        units: (n,) the unit of that layer with the largest activation on the whole image.
        activity: (n,) the sum of that unit's feature map on the whole image.
        activities: (n, p) the sum of that unit's feature map with each patch applied.
    """

    model: str
    images: NDArray[np.float32]
    classes: NDArray[np.int64]
    patch: int
    value: NDArray[np.float32]
    corners: NDArray[np.int64]
    score: NDArray[np.float32]
    scores: NDArray[np.float32]
    probability: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    predicted: NDArray[np.int64]
    layer: str | None
    units: NDArray[np.int64] | None
    activity: NDArray[np.float32] | None
    activities: NDArray[np.float32] | None

    @property
    def drops(self) -> NDArray[np.float32]:
        """The drop of the score with each patch applied, (n, p); negative where the score rises."""
        return self.score[:, None] - self.scores

    def spread(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return for each pixel the mean value of the patches that cover it, (n, h, w).

        Args:
            values: (n, p) one value for each patch.
        """
        n, h, w, _ = self.images.shape
        total, count = np.zeros((n, h, w)), np.zeros((h, w))
        for column, (y, x) in enumerate(self.corners):
            total[:, y : y + self.patch, x : x + self.patch] += values[:, column, None, None]
            count[y : y + self.patch, x : x + self.patch] += 1
        return (total / count).astype(np.float32)

    @property
    def heat(self) -> NDArray[np.float32]:
        """The mean drop of the score over the patches that cover each pixel, (n, h, w)."""
        return self.spread(self.drops)


def occlude(
    model: keras.Model | Network,
    images: ArrayLike,
    classes: ArrayLike | None = None,
    *,
    patch: int | None = None,
    stride: int | None = None,
    value: float | ArrayLike = 0.5,
    layer: str | None = None,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Occlusion:
    """Hide a square patch of each image, at one position after another, and measure the effect.

    Args:
        model: a Keras model whose output is a vector of classes, or a `Network`.
        images: (n, h, w, c), or one image (h, w, c), in the model's own input range.
        classes: (n,) the class to follow in each image; None for the predicted class.
        patch: side of the patch in pixels; by default a quarter of the image's shorter side.
        stride: distance between two positions in pixels; by default half the patch. The last
            positions are moved to the image's edge, so that every pixel is hidden at least once.
        value: pixel value of the patch: a number, or one number for each channel; the default 0.5
            is the middle of [0, 1].
        layer: name of a layer with feature maps; each image's most active unit in it is measured
            too.
        batch_size: number of occluded images in a batch.
        progress: callback, called with (occluded images done, total). None shows a progress bar on
            a terminal.

    Returns:
        Scores, probabilities and predictions for each position; see `Occlusion`.

    Raises:
        ValueError: no vector of classes, images of a wrong shape, a class out of range, a patch
            larger than the image, a stride below 1 or larger than the patch, an unknown layer.

    Example:
        >>> from convlens.fixtures.digits import load_digits
        >>> from convlens.fixtures.mnist_cnn import load_mnist_cnn
        >>> images, labels = load_digits()
        >>> occlude(load_mnist_cnn(), images[:3], labels[:3]).heat.shape
        (3, 28, 28)
    """
    network = Network.of(model)
    output = output_of(network, None)
    given = np.asarray(images)
    x = network.check_pictures(given)
    n, h, w, c = x.shape
    side = max(1, min(h, w) // 4) if patch is None else patch
    step = max(1, side // 2) if stride is None else stride
    if not 1 <= side <= min(h, w):
        raise ValueError(f"patch must be between 1 and {min(h, w)} pixels, not {side}")
    if not 1 <= step <= side:
        raise ValueError(f"stride must be between 1 and {side}, the side of the patch, not {step}")
    shown = np.asarray(value, np.float32)
    if shown.shape not in ((), (c,)) or not np.isfinite(shown).all():
        raise ValueError(
            f"value must be a number, or {c} numbers, one for each channel, not {value!r}"
        )
    if layer is not None and len(network.outputs[network.find(layer)].shape) != 4:
        raise ValueError(f"{network.name} layer {layer!r} has no feature maps: choose another")
    measure = _compile_measure(network, output, layer)
    scores, probabilities, sums, peaks = in_batches(measure, x, batch_size)
    followed = classes_to_follow(network, classes, probabilities)
    units = None if layer is None else peaks.argmax(axis=1)
    corners = np.array(
        [(y, left) for y in _patch_starts(h, side, step) for left in _patch_starts(w, side, step)]
    )
    found: dict[str, list[NDArray[Any]]] = {k: [] for k in ("score", "p", "predicted", "sum")}
    total = n * len(corners)
    with progress_to(progress, f"{network.name} occlusion", "images") as report:
        for i in range(n):
            hidden = np.repeat(x[i : i + 1], len(corners), axis=0)
            for row, (top, left) in enumerate(corners):
                hidden[row, top : top + side, left : left + side] = shown
            s, p, total_of, _ = in_batches(measure, hidden, batch_size)
            found["score"].append(s[:, followed[i]])
            found["p"].append(p[:, followed[i]])
            found["predicted"].append(p.argmax(axis=1))
            if units is not None:
                found["sum"].append(total_of[:, units[i]])
            report((i + 1) * len(corners), total)
    every = np.arange(n)
    return Occlusion(
        model=network.name,
        images=x,
        classes=followed,
        patch=side,
        value=shown,
        corners=corners,
        score=scores[every, followed],
        scores=np.stack(found["score"]),
        probability=probabilities[every, followed],
        probabilities=np.stack(found["p"]),
        predicted=np.stack(found["predicted"]),
        layer=layer,
        units=units,
        activity=None if units is None else sums[every, units],
        activities=None if units is None else np.stack(found["sum"]),
    )


def _compile_measure(network: Network, output: str, layer: str | None) -> Callable[..., Any]:
    """Return a compiled function: images → scores, outputs, sums and maxima of feature maps."""
    wanted = [tensor_of(network, output), network.outputs[output]]
    if layer is not None:
        wanted.append(network.outputs[layer])

    def measure(images: Any) -> list[Any]:
        values = [ops.cast(v, "float32") for v in network.run(images, wanted)]
        maps = values[2] if layer is not None else values[0][:, None, None, :]
        return [*values[:2], ops.sum(maps, axis=(1, 2)), ops.max(maps, axis=(1, 2))]

    return network.compiled(("occlusion", output, layer), lambda: measure)


def _patch_starts(length: int, patch: int, stride: int) -> list[int]:
    """Return the first pixel of each patch along a side; the last patch ends at the edge."""
    count = math.ceil((length - patch) / stride) + 1
    return [min(i * stride, length - patch) for i in range(count)]
