"""Several images for one unit, kept apart (Olah, Mordvintsev & Schubert 2017, "Diversity")."""

from __future__ import annotations

from typing import Any

from keras import ops


def likeness(maps: Any, groups: Any) -> Any:
    """Return how alike each image's texture is to those of its siblings, (n,) in [0, 1].

    The mean over the siblings j of cos(G_i, G_j), G the Gram matrix of the feature maps.

    Args:
        maps: (n, h, w, c), or vectors (n, c).
        groups: (n,) equal for siblings: images of one unit.
    """
    shape = ops.shape(maps)
    features = ops.reshape(maps, (shape[0], -1, maps.shape[-1]))
    gram = ops.matmul(ops.transpose(features, (0, 2, 1)), features)
    flat = ops.reshape(gram, (shape[0], maps.shape[-1] ** 2))
    flat = flat / (ops.sqrt(ops.sum(ops.square(flat), axis=1, keepdims=True)) + 1e-12)
    cosine = ops.matmul(flat, ops.transpose(flat))
    same = ops.cast(ops.equal(groups[:, None], groups[None, :]), "float32")
    siblings = same * (1.0 - ops.eye(shape[0]))
    return ops.sum(cosine * siblings, axis=1) / ops.maximum(ops.sum(siblings, axis=1), 1.0)
