"""A model bound to its images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.engine.ascent.maximize import Maximization, maximize
from convlens.engine.ascent.objectives import Objective
from convlens.engine.ascent.options import check_range
from convlens.engine.explain.deconvnet import Reconstruction, deconvolve
from convlens.engine.explain.invariance import Invariance, Transformation, invariance
from convlens.engine.explain.occlusion import Occlusion, occlude
from convlens.engine.explain.patches import TopPatches, top_patches
from convlens.engine.explain.topk import TopImages, top_images
from convlens.engine.features.activations import activations
from convlens.engine.features.gram import Divisor, gram_matrix
from convlens.engine.model.network import Network, Units


class Lens:
    """A model, the images that it is looked at with, and the pixels' range.

    Compiled functions are kept between calls; the model's weights are read anew at each.

    Attributes:
        network: the model taken apart, which the engine's functions and checks take as a model.
        images: (n, h, w, c) float32.
        labels: (n,) the images' classes, or None.
        value_range: (low, high) of the pixels that the model takes.
        source: where the images came from, in words.
    """

    def __init__(
        self,
        model: keras.Model | Network,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        value_range: tuple[float, float] = (0.0, 1.0),
        source: str = "given images",
    ) -> None:
        """Bind a model to images.

        Raises:
            TypeError: not a Keras model.
            ValueError: a model that cannot be taken apart, images of a wrong shape or outside the
                range, or a number of labels that is not that of the images.
        """
        self.network = Network.of(model)
        self.images = self.network.check_images(images)
        self.value_range = check_range(value_range)
        self.source = source
        low, high = self.value_range
        smallest, largest = float(self.images.min()), float(self.images.max())
        slack = 1e-3 * (high - low)
        if smallest < low - slack or largest > high + slack:
            raise ValueError(
                f"the images' values range from {smallest:g} to {largest:g}, but "
                f"{self.network.name} takes {low:g} to {high:g}: rescale them, or state the range"
            )
        self.labels = None if labels is None else np.asarray(labels)
        if self.labels is not None and self.labels.shape != (len(self.images),):
            raise ValueError(f"{len(self.images)} images have labels of shape {self.labels.shape}")

    @property
    def model(self) -> Any:
        """The Keras model."""
        return self.network.model

    @property
    def name(self) -> str:
        """The model's name."""
        return self.network.name

    @property
    def conv_layers(self) -> tuple[str, ...]:
        """The convolutions' names, in the order of the network."""
        return self.network.conv_layers

    def activations(
        self, layers: str | Iterable[str] | None = None, images: ArrayLike | None = None
    ) -> dict[str, NDArray[Any]]:
        """Return layers' feature maps for the lens's images, or others; see `activations`."""
        return activations(self.network, self.images if images is None else images, layers)

    def maximize(
        self,
        layer: str | Objective | Sequence[Objective] | None = None,
        units: Units = None,
        **options: Any,
    ) -> Maximization:
        """Return images that excite a layer's units, or the classes; see `maximize`."""
        options.setdefault("value_range", self.value_range)
        if None in self.network.input_shape[:2] and "seed_images" not in options:
            options.setdefault("size", self.images.shape[1:3])
        return maximize(self.network, layer, units, **options)

    def deconvolve(
        self,
        layer: str | None,
        units: Units = None,
        images: ArrayLike | None = None,
        **options: Any,
    ) -> Reconstruction:
        """Return units' reconstructions for the lens's first image, or others; see `deconvolve`."""
        return deconvolve(
            self.network, self.images[0] if images is None else images, layer, units, **options
        )

    def top_images(
        self, data: Any = None, layers: str | Iterable[str] | None = None, **options: Any
    ) -> TopImages:
        """Return each unit's strongest of the lens's images, or of others; see `top_images`."""
        return top_images(self.network, self.images if data is None else data, layers, **options)

    def top_patches(
        self, top: TopImages, layer: str, units: Units = None, **options: Any
    ) -> TopPatches:
        """Return what excited units in their strongest images; see `top_patches`."""
        return top_patches(self.network, top, layer, units, **options)

    def occlude(self, images: ArrayLike | None = None, **options: Any) -> Occlusion:
        """Return what hiding parts of the lens's images, or of others, changes; see `occlude`."""
        if images is None and self.labels is not None:
            options.setdefault("classes", self.labels)
        options.setdefault("value", sum(self.value_range) / 2)
        return occlude(self.network, self.images if images is None else images, **options)

    def invariance(
        self, transformation: Transformation, images: ArrayLike | None = None, **options: Any
    ) -> Invariance:
        """Return how features move with the lens's images, or others; see `invariance`."""
        if images is None and self.labels is not None:
            options.setdefault("classes", self.labels)
        options.setdefault("fill", self.value_range[0])
        given = self.images if images is None else images
        return invariance(self.network, given, transformation, **options)

    def gram(
        self, layer: str, divisor: Divisor = "none", images: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """Return the Gram matrices (n, c, c) of a layer's feature maps; see `gram_matrix`."""
        layer = self.network.find(layer)
        gram: NDArray[np.float32] = gram_matrix(self.activations(layer, images)[layer], divisor)
        return gram

    def one_of_each(self, most: int = 10) -> Sequence[int]:
        """Return numbers of images: the first of each class, or the first few without labels."""
        if self.labels is None:
            return list(range(min(most, len(self.images))))
        _, first = np.unique(self.labels, return_index=True)
        return [int(i) for i in first[:most]]
