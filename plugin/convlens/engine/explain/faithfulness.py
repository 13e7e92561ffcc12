"""Deletion and insertion curves: test if the pixels that an explanation ranks first matter.

Pixels are removed from an image, or added to a blurred image, in the order of their saliency, while
the probability of the class is measured (Petsiuk et al. 2018, RISE, §4.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from convlens.engine.model.network import Network
from convlens.engine.model.targets import classes_to_follow, output_of
from convlens.engine.runtime import backend

Substitute = Literal["mean", "blur"]
SUBSTITUTES = ("mean", "blur")


@dataclass(frozen=True)
class PixelCurve:
    """The probability of a class as pixels are deleted or inserted.

    Attributes:
        model: the model's name.
        kind: 'deletion' or 'insertion'.
        classes: (n,) the class of each image.
        fractions: (s + 1,) the fraction of replaced pixels, 0 to 1.
        probabilities: (n, s + 1) the model's output for the class.
    """

    model: str
    kind: Literal["deletion", "insertion"]
    classes: NDArray[np.int64]
    fractions: NDArray[np.float64]
    probabilities: NDArray[np.float32]

    @property
    def area(self) -> NDArray[np.float64]:
        """The area under each curve (n,), by the trapezoidal rule; 0 to 1 for probabilities."""
        widths = np.diff(self.fractions)
        p = self.probabilities.astype(np.float64)
        return (p[:, 1:] + p[:, :-1]) @ widths / 2


def deletion_curve(
    model: keras.Model | Network,
    images: ArrayLike,
    saliency: ArrayLike,
    classes: ArrayLike | None = None,
    *,
    substitute: Substitute = "mean",
    steps: int = 28,
    seed: int = 0,
    batch_size: int = 256,
) -> PixelCurve:
    """Remove pixels from images, the most salient first, and measure the class's probability.

    Args:
        model: a Keras model whose output is a vector of classes, or a `Network`.
        images: (n, h, w, c), or one image (h, w, c), in the model's own input range.
        saliency: (n, h, w), or (n, h, w, c), which is summed over channels. Higher values mean
            more evidence for the class; signs count. Pixels of equal saliency are removed in a
            random order, since the order of the array would make a pattern from top to bottom.
        classes: (n,) the class to follow in each image; None for the predicted class.
        substitute: replacement of removed pixels: 'mean' for the image's mean by channel, 'blur'
            for the image blurred by a Gaussian with a deviation of a tenth of its shorter side.
        steps: number of equal steps in which the pixels are replaced.
        seed: seed of the order of equal values.
        batch_size: number of images in a batch.

    Returns:
        The probabilities; a faithful explanation has a small `area`.

    Raises:
        ValueError: no vector of classes, images, saliency or classes of a wrong shape, saliency
            that is not finite, an unknown substitute, fewer steps than 1 or more than pixels.

    Example:
        >>> from convlens import deconvolve
        >>> from convlens.fixtures.digits import load_digits
        >>> from convlens.fixtures.mnist_cnn import load_mnist_cnn
        >>> images, labels = load_digits()
        >>> model = load_mnist_cnn()
        >>> slope = deconvolve(model, images[:2], None, labels[:2], method="gradient").images
        >>> deletion_curve(model, images[:2], slope * images[:2], labels[:2]).probabilities.shape
        (2, 29)
    """
    options = (substitute, steps, seed, batch_size)
    return _curve("deletion", model, images, saliency, classes, *options)


def insertion_curve(
    model: keras.Model | Network,
    images: ArrayLike,
    saliency: ArrayLike,
    classes: ArrayLike | None = None,
    *,
    substitute: Substitute = "blur",
    steps: int = 28,
    seed: int = 0,
    batch_size: int = 256,
) -> PixelCurve:
    """Add pixels to blurred images, the most salient first, and measure the class's probability.

    Args:
        model: a Keras model whose output is a vector of classes, or a `Network`.
        images: (n, h, w, c), or one image (h, w, c), in the model's own input range.
        saliency: (n, h, w) or (n, h, w, c), as in `deletion_curve`.
        classes: (n,) the class to follow in each image; None for the predicted class.
        substitute: the image at the start of the curve: 'blur' or 'mean', as in `deletion_curve`.
        steps: number of equal steps in which the pixels are replaced.
        seed: seed of the order of equal values.
        batch_size: number of images in a batch.

    Returns:
        The probabilities; a faithful explanation has a large `area`.

    Raises:
        ValueError: as in `deletion_curve`.
    """
    options = (substitute, steps, seed, batch_size)
    return _curve("insertion", model, images, saliency, classes, *options)


def check_saliency(saliency: ArrayLike, images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the saliency of each pixel (n, h, w), summed over channels.

    Raises:
        ValueError: not shaped like the images, with or without their channels.
    """
    values = np.asarray(saliency, np.float64)
    if values.ndim == images.ndim - 1 and len(images) == 1 and values.shape == images.shape[1:]:
        values = values[None]
    if values.shape == images.shape:
        return values.sum(axis=-1)
    if values.shape != images.shape[:3]:
        raise ValueError(
            f"saliency must have shape {images.shape[:3]} or {images.shape}, not {values.shape}"
        )
    return values


def _curve(
    kind: Literal["deletion", "insertion"],
    model: keras.Model | Network,
    images: ArrayLike,
    saliency: ArrayLike,
    classes: ArrayLike | None,
    substitute: Substitute,
    steps: int,
    seed: int,
    batch_size: int,
) -> PixelCurve:
    network = Network.of(model)
    output = output_of(network, None)
    given = np.asarray(images)
    x = network.check_pictures(given)
    n, h, w, _ = x.shape
    values = check_saliency(saliency, x)
    if not np.isfinite(values).all():
        raise ValueError("saliency has values that are not finite (NaN or infinity)")
    if substitute not in SUBSTITUTES:
        raise ValueError(f"substitute must be 'mean' or 'blur', not {substitute!r}")
    if not 1 <= steps <= h * w:
        raise ValueError(f"steps must be between 1 and {h * w}, the number of pixels, not {steps}")

    def build() -> Callable[..., Any]:
        def look(before: Any, after: Any, ranks: Any, counts: Any) -> Any:
            gone = (ranks < counts[:, None, None])[..., None]
            return network.run(ops.where(gone, after, before), [network.outputs[output]])[0]

        return look

    look = network.compiled(("exchange", output), build)
    plain = substitutes(x, substitute)
    before, after = (x, plain) if kind == "deletion" else (plain, x)
    ranks = _ranks(values, seed)
    counts = np.round(np.linspace(0, h * w, steps + 1)).astype(np.int32)
    # Every image with each number of replaced pixels, as one long batch.
    which, count = np.repeat(np.arange(n), steps + 1), np.tile(counts, n)
    parts = []
    for i in range(0, len(which), batch_size):
        some = which[i : i + batch_size]
        batch = (before[some], after[some], ranks[some], count[i : i + batch_size])
        found = look(*(ops.convert_to_tensor(v) for v in batch))
        parts.append(backend.to_numpy(found).astype(np.float32))
    outputs = np.concatenate(parts).reshape(n, steps + 1, -1)
    # The unchanged image: the last point of an insertion, the first of a deletion.
    whole = outputs[:, -1 if kind == "insertion" else 0]
    followed = classes_to_follow(network, classes, whole)
    return PixelCurve(
        model=network.name,
        kind=kind,
        classes=followed,
        fractions=counts / (h * w),
        probabilities=outputs[np.arange(n), :, followed],
    )


def substitutes(images: NDArray[np.float32], kind: Substitute) -> NDArray[np.float32]:
    """Return the replacement of each pixel, (n, h, w, c); see `deletion_curve`."""
    if kind == "mean":
        return np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape).copy()
    sigma = min(images.shape[1:3]) / 10
    return np.asarray(gaussian_filter(images, (0, sigma, sigma, 0)), np.float32)


def _ranks(values: NDArray[np.float64], seed: int) -> NDArray[np.int32]:
    """Return each pixel's rank (n, h, w); rank 0 has the highest value."""
    flat = values.reshape(len(values), -1)
    shuffled = np.random.default_rng(seed).random(flat.shape)
    order = np.lexsort((shuffled, -flat), axis=-1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(flat.shape[1])[None], axis=1)
    return ranks.reshape(values.shape).astype(np.int32)
