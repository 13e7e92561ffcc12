"""The loss terms of neural style transfer, in three common normalizations.

F and P are the features (n, h, w, c) of the image and of the content, with N = c filters and
M = h·w positions; G = FᵀF/M is the Gram matrix of the image, and A that of the style:

| convention | content | style, per layer | style, relative to `gatys` |
|---|---|---|---|
| ``gatys`` | ½ Σ (F-P)² | Σ (G-A)² / 4N² | 1 |
| ``tensorflow-tutorial`` | mean (F-P)² | mean (G-A)² | 4 |
| ``johnson`` | mean (F-P)² | mean ((G-A)/N)² | 4/N² |

Gatys et al. 2015 write Σ(G-A)²/4N²M² with G = FᵀF, for a style image as large as the result.
Dividing each Gram matrix by its own M gives the same loss, and allows style images of any size.
"""

from __future__ import annotations

from typing import Any, Literal

from keras import ops

from convlens.engine.features.gram import gram_matrix

Convention = Literal["gatys", "tensorflow-tutorial", "johnson"]
CONVENTIONS: tuple[Convention, ...] = ("gatys", "tensorflow-tutorial", "johnson")


def content_loss(features: Any, target: Any, convention: Convention = "gatys") -> Any:
    """Return the squared distance of features from the content's features, a scalar.

    Args:
        features, target: (1, h, w, c) of any float type; the loss is float32.
        convention: normalization; see the module's docstring.
    """
    difference = ops.cast(features, "float32") - ops.cast(target, "float32")
    total = ops.sum(ops.square(difference))
    return total / 2 if convention == "gatys" else total / _size(difference)


def style_loss(gram: Any, target: Any, convention: Convention = "gatys") -> Any:
    """Return the squared distance of a layer's Gram matrix from the style's, a scalar.

    Args:
        gram, target: (1, c, c) float32, as `style_gram` returns them.
        convention: normalization; see the module's docstring.
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
        features: (1, h, w, c), the vectors f.
        guide: (1, h, w, 1) the weight t ≥ 0 of the style at each position (Gatys et al. 2017,
            guided Gram matrices); None for 1 everywhere.
    """
    if guide is None:
        return gram_matrix(features, "positions")
    share = guide / ops.mean(guide)
    return gram_matrix(ops.cast(features, "float32") * ops.sqrt(share), "positions")


def variation(image: Any) -> Any:
    """Return Σ|dx| + Σ|dy| of an image (1, h, w, c), as in the TensorFlow tutorial."""
    down = ops.sum(ops.abs(image[:, 1:] - image[:, :-1]))
    return down + ops.sum(ops.abs(image[:, :, 1:] - image[:, :, :-1]))


def _size(x: Any) -> Any:
    return ops.cast(ops.size(x), "float32")
