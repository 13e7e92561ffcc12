"""Occlusion sensitivity: which parts of an image a score and a feature map hang on."""

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
    """What changes when a patch hides a part of each image (Zeiler & Fergus 2014, figure 6).

    Attributes:
        model: the model's name.
        images: (n, h, w, c) the images that were occluded.
        classes: (n,) the class whose score was followed.
        patch: the patch's side in pixels.
        value: () or (c,) what the patch shows.
        corners: (p, 2) row and column of each patch's upper left corner.
        score: (n,) the class's score before the softmax on the whole image.
        scores: (n, p) its score with each patch hidden.
        probability: (n,) the model's output for the class on the whole image.
        probabilities: (n, p) its output with each patch hidden.
        predicted: (n, p) the most probable class with each patch hidden.
        layer: the layer whose feature map was followed; None without.
        units: (n,) the followed unit of that layer, the most active one on the whole image.
        activity: (n,) the sum of its feature map on the whole image.
        activities: (n, p) the sum with each patch hidden.
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
        """How far the score falls with each patch hidden, (n, p); negative where it rises."""
        return self.score[:, None] - self.scores

    def spread(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return each pixel's mean of the values (n, p) of the patches that cover it, (n, h, w)."""
        n, h, w, _ = self.images.shape
        total, count = np.zeros((n, h, w)), np.zeros((h, w))
        for column, (y, x) in enumerate(self.corners):
            total[:, y : y + self.patch, x : x + self.patch] += values[:, column, None, None]
            count[y : y + self.patch, x : x + self.patch] += 1
        return (total / count).astype(np.float32)

    @property
    def heat(self) -> NDArray[np.float32]:
        """How far the score falls where each pixel is hidden, (n, h, w)."""
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
    """Hide a square patch of each image, at one position after the other, and see what changes.

    Args:
        model: a Keras model whose output is a vector of classes, or a `Network`.
        images: (n, h, w, c), or one image (h, w, c), in the model's own input range.
        classes: (n,) the class to follow in each image; None for the one that the model predicts.
        patch: the side of the patch in pixels; a quarter of the shorter side.
        stride: how many pixels lie between two positions; half the patch. The last positions are
            moved to end at the image's edge, so that every pixel is hidden at least once.
        value: what the patch shows: a number, or one a channel; 0.5 is the middle of [0, 1].
        layer: a layer with feature maps, of which each image's most active unit is followed too.
        batch_size: how many occluded images go through the network at a time.
        progress: called with (occluded images done, in all). None shows a bar on a terminal.

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
    x = network.check_images(given[None] if given.ndim == 3 else given)
    n, h, w, c = x.shape
    side = max(1, min(h, w) // 4) if patch is None else patch
    step = max(1, side // 2) if stride is None else stride
    if not 1 <= side <= min(h, w):
        raise ValueError(f"patch is 1 to {min(h, w)} pixels, not {side}")
    if not 1 <= step <= side:
        raise ValueError(f"stride is 1 to {side}, the side of the patch, not {step}")
    shown = np.asarray(value, np.float32)
    if shown.shape not in ((), (c,)) or not np.isfinite(shown).all():
        raise ValueError(f"value is a number or {c} numbers, one a channel, not {value!r}")
    if layer is not None and len(network.outputs[network.find(layer)].shape) != 4:
        raise ValueError(f"{network.name} layer {layer!r} has no feature maps")
    look = _looker(network, output, layer)
    scores, probabilities, sums, peaks = in_batches(look, x, batch_size)
    followed = classes_to_follow(network, classes, probabilities)
    units = None if layer is None else peaks.argmax(axis=1)
    corners = np.array(
        [(y, left) for y in _starts(h, side, step) for left in _starts(w, side, step)]
    )
    found: dict[str, list[NDArray[Any]]] = {k: [] for k in ("score", "p", "predicted", "sum")}
    total = n * len(corners)
    with progress_to(progress, f"{network.name} occlusion", "images") as report:
        for i in range(n):
            hidden = np.repeat(x[i : i + 1], len(corners), axis=0)
            for row, (top, left) in enumerate(corners):
                hidden[row, top : top + side, left : left + side] = shown
            s, p, total_of, _ = in_batches(look, hidden, batch_size)
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


def _looker(network: Network, output: str, layer: str | None) -> Callable[..., Any]:
    """Return the compiled function: images → scores, outputs, sums and peaks of feature maps."""
    wanted = [tensor_of(network, output), network.outputs[output]]
    if layer is not None:
        wanted.append(network.outputs[layer])

    def look(images: Any) -> list[Any]:
        values = [ops.cast(v, "float32") for v in network.run(images, wanted)]
        maps = values[2] if layer is not None else values[0][:, None, None, :]
        return [*values[:2], ops.sum(maps, axis=(1, 2)), ops.max(maps, axis=(1, 2))]

    return network.compiled(("occlusion", output, layer), lambda: look)


def _starts(length: int, patch: int, stride: int) -> list[int]:
    """Return where patches begin along a side: every `stride`, the last ending at the edge."""
    count = math.ceil((length - patch) / stride) + 1
    return [min(i * stride, length - patch) for i in range(count)]
