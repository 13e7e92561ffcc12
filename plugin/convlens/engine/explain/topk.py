"""Find the images of a data set that excite each unit most, in one pass over its batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from convlens.engine.features.activations import check_layers
from convlens.engine.model.network import Network
from convlens.engine.runtime import backend
from convlens.engine.runtime.progress import Progress, progress_to


@dataclass(frozen=True)
class TopImages:
    """Each unit's strongest images, strongest first.

    Attributes:
        model: the model's name.
        indices: layer → (units, k) the numbers of the images in the data set.
        activations: layer → (units, k) the unit's largest activation on each image.
        images: number → (h, w, c) the images in `indices`, as given.
        seen: number of images in the data set.
    """

    model: str
    indices: dict[str, NDArray[np.int64]]
    activations: dict[str, NDArray[np.float32]]
    images: dict[int, NDArray[Any]]
    seen: int


class TopInterrupted(KeyboardInterrupt):
    """Ctrl-C ended the search; `result` holds the strongest images read so far."""

    def __init__(self, result: TopImages) -> None:
        super().__init__(
            f"after {result.seen} images; the strongest so far are in this exception's .result"
        )
        self.result = result


def top_images(
    model: keras.Model | Network,
    data: ArrayLike | Iterable[Any],
    layers: str | Iterable[str] | None = None,
    *,
    k: int = 9,
    prepare: Callable[[Any], Any] | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> TopImages:
    """Find the k images on which each unit of each layer is most active (Zeiler & Fergus 2014).

    The data set is read once, with one forward pass for each batch and all layers. At most k images
    for each unit are kept in memory, however large the data set is.

    Args:
        model: a Keras model, or a `Network` to reuse its compiled functions.
        data: an array (n, h, w, c), or batches (b, h, w, c) from any iterable, such as a generator
            or a `tf.data.Dataset`. If a batch is a tuple, its first item is the images.
        layers: names of layers; None for every convolution.
        k: number of images for each unit.
        prepare: function from a batch as given to the model's input, such as
            ``lambda x: x[..., None] / 255``; the result keeps the images as given.
        batch_size: number of images in a batch, if `data` is an array.
        progress: callback, called with (images done, total images, or 0 if unknown). None shows a
            progress bar on a terminal.

    Returns:
        The strongest images; see `TopImages`. Of images that excite a unit equally, the earlier
        ones are kept.

    Raises:
        ValueError: an unknown layer, a layer without positions, a batch of a wrong shape or with
            values that are not finite, k below 1, fewer than k images.
        TopInterrupted: Ctrl-C; its `result` holds the strongest images so far.

    Example:
        >>> from convlens.fixtures.digits import load_digits
        >>> from convlens.fixtures.mnist_cnn import load_mnist_cnn
        >>> images, labels = load_digits()
        >>> top = top_images(load_mnist_cnn(), images, "conv2d_3", k=4)
        >>> top.indices["conv2d_3"].shape
        (64, 4)
    """
    network = Network.of(model)
    names = check_layers(network, layers)
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    strongest = network.compiled(
        ("strongest", names), lambda: lambda x: [_map_maxima(m) for m in _maps(network, names, x)]
    )
    best = _Best([network.units(name) for name in names], k)
    total = len(data) if isinstance(data, np.ndarray) else 0

    def result() -> TopImages:
        return best.result(network.name, names)

    try:
        with progress_to(progress, f"{network.name} top {k}", "images") as report:
            for batch in _batches(data, batch_size):
                x = network.check_images(batch if prepare is None else prepare(batch))
                peaks = strongest(ops.convert_to_tensor(x))
                best.add(batch, np.concatenate([backend.to_numpy(p) for p in peaks], axis=1))
                report(best.seen, total)
    except KeyboardInterrupt:
        if best.seen < k:
            raise
        raise TopInterrupted(result()) from None
    if best.seen < k:
        raise ValueError(f"k must be at most {best.seen}, the number of images, not {k}")
    return result()


def _maps(network: Network, names: tuple[str, ...], images: Any) -> list[Any]:
    return network.run(images, [network.outputs[name] for name in names])


def _map_maxima(maps: Any) -> Any:
    """Return the largest value of each map, (n, units)."""
    positions = tuple(range(1, len(maps.shape) - 1))
    return ops.cast(ops.max(maps, axis=positions) if positions else maps, "float32")


def _batches(data: Any, size: int) -> Iterator[NDArray[Any]]:
    if isinstance(data, np.ndarray):
        for first in range(0, len(data), size):
            yield data[first : first + size]
        return
    for item in data:
        yield np.asarray(item[0] if isinstance(item, tuple | list) else item)


class _Best:
    """The k largest values of each column, with their images."""

    def __init__(self, units: list[int], k: int) -> None:
        self.units = units
        self.k = k
        self.values = np.full((k, sum(units)), -np.inf, np.float32)
        self.numbers = np.full((k, sum(units)), -1, np.int64)
        self.images: dict[int, NDArray[Any]] = {}
        self.seen = 0

    def add(self, batch: NDArray[Any], peaks: NDArray[np.float32]) -> None:
        """Add a batch and its maxima (n, columns)."""
        columns = np.flatnonzero((peaks > self.values[-1]).any(axis=0))
        if columns.size:
            values = np.concatenate([self.values[:, columns], peaks[:, columns]])
            own = np.arange(self.seen, self.seen + len(batch))[:, None]
            numbers = np.concatenate(
                [self.numbers[:, columns], np.broadcast_to(own, (len(batch), columns.size))]
            )
            # A stable sort with the earlier images first: of equal values the earlier is kept.
            order = np.argsort(-values, axis=0, kind="stable")[: self.k]
            self.values[:, columns] = np.take_along_axis(values, order, axis=0)
            self.numbers[:, columns] = np.take_along_axis(numbers, order, axis=0)
            kept = set(np.unique(self.numbers).tolist())
            self.images = {i: image for i, image in self.images.items() if i in kept}
            for i in range(self.seen, self.seen + len(batch)):
                if i in kept:
                    # A copy: a view would keep its whole batch in memory.
                    self.images[i] = batch[i - self.seen].copy()
        self.seen += len(batch)

    def result(self, model: str, layers: tuple[str, ...]) -> TopImages:
        ends = np.cumsum(self.units)[:-1]
        return TopImages(
            model=model,
            indices=dict(zip(layers, np.split(self.numbers.T, ends), strict=True)),
            activations=dict(zip(layers, np.split(self.values.T, ends), strict=True)),
            images=dict(sorted(self.images.items())),
            seen=self.seen,
        )
