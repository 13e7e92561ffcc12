"""The loss terms of neural style transfer, in the conventions that are in use.

With F and P the features (n, h, w, c) of the image and of the content, N = c filters, M = h·w
positions, and G = FᵀF/M and A the same of the style:

| convention | content | style, a layer | against `gatys`, style |
|---|---|---|---|
| ``gatys`` | ½ Σ (F-P)² | Σ (G-A)² / 4N² | 1 |
| ``tensorflow-tutorial`` | mean (F-P)² | mean (G-A)² | 4 |
| ``johnson`` | mean (F-P)² | mean ((G-A)/N)² | 4/N² |

Gatys et al. 2015 write Σ(G-A)²/4N²M² with G = FᵀF for a style image as large as the result; divided
by M each on its own, which is the same there, the style image may have any size.
"""

from __future__ import annotations

from typing import Any, Literal

from keras import ops

from convlens.engine.features.gram import gram_matrix

Convention = Literal["gatys", "tensorflow-tutorial", "johnson"]
CONVENTIONS: tuple[Convention, ...] = ("gatys", "tensorflow-tutorial", "johnson")


def content_loss(features: Any, target: Any, convention: Convention = "gatys") -> Any:
    """Return how far features are from the content's, a number.

    Args:
        features, target: (1, h, w, c), of any float type; the loss is float32.
        convention: see the module.
    """
    difference = ops.cast(features, "float32") - ops.cast(target, "float32")
    total = ops.sum(ops.square(difference))
    return total / 2 if convention == "gatys" else total / _size(difference)


def style_loss(gram: Any, target: Any, convention: Convention = "gatys") -> Any:
    """Return how far a layer's Gram matrix is from the style's, a number.

    Args:
        gram, target: (1, c, c) float32, divided by the positions; see `style_gram`.
        convention: see the module.
    """
    channels = gram.shape[-1]
    total = ops.sum(ops.square(gram - target))
    by = {
        "gatys": 4.0 * channels**2,
        "tensorflow-tutorial": float(channels**2),
        "johnson": float(channels**4),
    }
    return total / by[convention]


def style_gram(features: Any, guide: Any = None) -> Any:
    """Return Σ t·f·fᵀ / Σ t over the positions of a feature map, (1, c, c) float32.

    Args:
        features: (1, h, w, c), f at each position.
        guide: (1, h, w, 1) t ≥ 0, where in the image a style counts (Gatys et al. 2017, guided
            Gram matrices); None for 1 everywhere.
    """
    if guide is None:
        return gram_matrix(features, "positions")
    share = guide / ops.mean(guide)
    return gram_matrix(ops.cast(features, "float32") * ops.sqrt(share), "positions")


def variation(image: Any) -> Any:
    """Return Σ|dx| + Σ|dy| of an image (1, h, w, c), as the TensorFlow tutorial weighs it."""
    down = ops.sum(ops.abs(image[:, 1:] - image[:, :-1]))
    return down + ops.sum(ops.abs(image[:, :, 1:] - image[:, :, :-1]))


def _size(x: Any) -> Any:
    return ops.cast(ops.size(x), "float32")
