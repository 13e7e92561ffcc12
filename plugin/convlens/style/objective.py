"""The loss of style transfer: L = α·Σ v_l·content_l + β·Σ w_l·style_l + γ·TV of one image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.model.network import Network
from convlens.engine.runtime import backend
from convlens.style.losses import (
    CONVENTIONS,
    Convention,
    content_loss,
    style_gram,
    style_loss,
    variation,
)


@dataclass(frozen=True)
class StyleWeights:
    """The weights of the terms of the loss.

    Attributes:
        content_layers: layer → its weight v_l.
        style_layers: layer → its weight w_l.
        content, style, variation: α, β and γ.
        convention: normalization of the terms; see `convlens.style.losses`.
    """

    content_layers: Mapping[str, float]
    style_layers: Mapping[str, float]
    content: float
    style: float
    variation: float
    convention: Convention

    def __post_init__(self) -> None:
        if self.convention not in CONVENTIONS:
            raise ValueError(
                f"convention must be one of {', '.join(map(repr, CONVENTIONS))}, "
                f"not {self.convention!r}"
            )
        numbers = {
            "content_weight": self.content,
            "style_weight": self.style,
            "tv_weight": self.variation,
            **{f"the weight of layer {n!r}": w for n, w in self.content_layers.items()},
            **{f"the weight of layer {n!r}": w for n, w in self.style_layers.items()},
        }
        for name, number in numbers.items():
            if not (np.isfinite(number) and number >= 0):
                raise ValueError(f"{name} must be 0 or more, not {number!r}")
        if not self.style_layers or not any(self.style_layers.values()):
            raise ValueError("at least one style layer must have a weight above 0")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the terms: 'content:<layer>', 'style:<layer>' and 'variation'."""
        return (
            *(f"content:{name}" for name in self.content_layers),
            *(f"style:{name}" for name in self.style_layers),
            "variation",
        )

    @property
    def by_term(self) -> NDArray[np.float64]:
        """The weight of each term in the sum, (terms,)."""
        return np.array(
            [
                *(self.content * w for w in self.content_layers.values()),
                *(self.style * w for w in self.style_layers.values()),
                self.variation,
            ]
        )


@dataclass(frozen=True)
class StyleTargets:
    """The targets of the image's features, as tensors.

    Attributes:
        content: the content's features (1, h, w, c) at each content layer.
        grams: for each style, its Gram matrix (1, c, c) at each style layer.
        guides: for each style, its mask (1, h, w, 1) at the size of each style layer; empty
            without masks.
        shares: (styles,) the share of each style; they sum to 1.
    """

    content: list[Any]
    grams: list[list[Any]]
    guides: list[list[Any]]
    shares: Any


class StyleObjective:
    """The loss terms of an image, and the gradient of their weighted sum.

    Attributes:
        layers: names of all content and style layers.
        weights: (terms,) float32, the weight of each term in the sum.
    """

    def __init__(
        self, network: Network, weights: StyleWeights, value_range: tuple[float, float]
    ) -> None:
        """Prepare the loss for a network.

        Args:
            network: the network.
            weights: the weights of the terms.
            value_range: input values of the network that correspond to the images' 0 and 1.

        Raises:
            ValueError: an unknown layer, or one without positions.
        """
        self.network = network
        self.convention = weights.convention
        self.value_range = value_range
        self.content_layers = tuple(network.find(name) for name in weights.content_layers)
        self.style_layers = tuple(network.find(name) for name in weights.style_layers)
        for name in (*self.content_layers, *self.style_layers):
            if len(network.outputs[name].shape) != 4:
                raise ValueError(f"{network.name} layer {name!r} has no feature maps (n, h, w, c)")
        self.layers = tuple(dict.fromkeys((*self.content_layers, *self.style_layers)))
        self.weights: NDArray[np.float32] = weights.by_term.astype(np.float32)

    def features(self, image: NDArray[np.float32]) -> dict[str, Any]:
        """Return the feature maps of an image (1, h, w, c) with values in [0, 1], by layer."""

        def build() -> Callable[..., Any]:
            return self._features

        run = self.network.compiled(("style features", self.layers, self.value_range), build)
        return dict(zip(self.layers, run(ops.convert_to_tensor(image)), strict=True))

    def targets(
        self,
        content: NDArray[np.float32],
        styles: Sequence[NDArray[np.float32]],
        shares: NDArray[np.float32],
        masks: Sequence[NDArray[np.float32]] = (),
    ) -> StyleTargets:
        """Return the targets of a content and some styles.

        Args:
            content: (1, h, w, c) with values in [0, 1].
            styles: the styles, (1, h, w, c) each, of any size.
            shares: (styles,) the share of each style.
            masks: for each style a mask (1, h, w, 1) of the content's region that it applies to;
                empty for everywhere.

        Raises:
            ValueError: a mask that is 0 everywhere at the size of some layer.
        """
        seen = self.features(content)
        grams = []
        for style in styles:
            maps = self.features(style)
            grams.append([style_gram(maps[name]) for name in self.style_layers])
        guides = [
            [self._guide(mask, name, seen[name].shape[1:3]) for name in self.style_layers]
            for mask in masks
        ]
        return StyleTargets(
            [seen[name] for name in self.content_layers],
            grams,
            guides,
            ops.convert_to_tensor(shares.astype(np.float32)),
        )

    def _guide(self, mask: NDArray[np.float32], layer: str, size: tuple[int, int]) -> Any:
        small = ops.image.resize(
            ops.convert_to_tensor(mask), size, interpolation="bilinear", antialias=True
        )
        if not float(ops.max(small)) > 0:
            raise ValueError(
                f"a mask is 0 everywhere at the size {size} of layer {layer!r}: enlarge its region"
            )
        return ops.maximum(small, 0.0)

    def terms(self, image: Any, targets: StyleTargets) -> Any:
        """Return the unweighted terms (terms,) of an image (1, h, w, c)."""
        maps = dict(zip(self.layers, self._features(image), strict=True))
        terms = [
            content_loss(maps[name], target, self.convention)
            for name, target in zip(self.content_layers, targets.content, strict=True)
        ]
        for k, name in enumerate(self.style_layers):
            whole = None if targets.guides else style_gram(maps[name])
            losses = [
                style_loss(
                    style_gram(maps[name], targets.guides[s][k]) if whole is None else whole,
                    grams[k],
                    self.convention,
                )
                for s, grams in enumerate(targets.grams)
            ]
            terms.append(ops.sum(ops.stack(losses) * targets.shares))
        return ops.stack([*terms, variation(image)])

    def measure(self, image: NDArray[np.float32], targets: StyleTargets) -> NDArray[np.float32]:
        """Return the unweighted terms (terms,) of an image (1, h, w, c), by a compiled function."""
        run = self.compiled("style terms", None, lambda t, image: self.terms(image, t), targets)
        measured: NDArray[np.float32] = ops.convert_to_numpy(run(ops.convert_to_tensor(image)))
        return measured

    def slope(self, image: Any, targets: StyleTargets, weights: Any) -> tuple[Any, Any]:
        """Return the unweighted terms (terms,), and the gradient of their weighted sum."""
        terms, pullback = backend.vjp(lambda x: self.terms(x, targets), image)
        return terms, pullback(weights)

    def compiled(
        self, name: str, options: Any, fn: Callable[..., Any], targets: StyleTargets
    ) -> Callable[..., Any]:
        """Return `fn(targets, *args)` compiled; its cache key includes `name` and `options`."""
        shape = (len(targets.content), len(targets.grams), bool(targets.guides))
        key = (name, self.convention, self.content_layers, self.style_layers, self.value_range)

        def build() -> Callable[..., Any]:
            return lambda parts, *args: fn(StyleTargets(*parts), *args)

        run = self.network.compiled((key, options, shape), build)
        parts = [targets.content, targets.grams, targets.guides, targets.shares]
        return lambda *args: run(parts, *args)

    def _features(self, image: Any) -> list[Any]:
        low, high = self.value_range
        tensors = [self.network.outputs[name] for name in self.layers]
        return self.network.run(low + (high - low) * image, tensors)
