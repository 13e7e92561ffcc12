"""Diversity term for several images of one unit (Olah, Mordvintsev & Schubert 2017)."""

from __future__ import annotations

from typing import Any

from keras import ops


def sibling_similarity(maps: Any, groups: Any) -> Any:
    """Return the similarity of each image's texture to those of its siblings, (n,) in [0, 1].

    For image i: the mean of cos(G_i, G_j) over its siblings j, with G the Gram matrix of the
    feature maps.

    Args:
        maps: feature maps (n, h, w, c), or vectors (n, c).
        groups: (n,) group numbers; siblings, the images of one unit, share a number.
    """
    shape = ops.shape(maps)
    features = ops.reshape(maps, (shape[0], -1, maps.shape[-1]))
    gram = ops.matmul(ops.transpose(features, (0, 2, 1)), features)
    flat = ops.reshape(gram, (shape[0], maps.shape[-1] ** 2))
    flat = flat / (ops.sqrt(ops.sum(ops.square(flat), axis=1, keepdims=True)) + 1e-12)
    cosine = ops.matmul(flat, ops.transpose(flat))
    same = ops.cast(ops.equal(groups[:, None], groups[None, :]), cosine.dtype)
    siblings = same * (1.0 - ops.eye(shape[0], dtype=cosine.dtype))
    return ops.sum(cosine * siblings, axis=1) / ops.maximum(ops.sum(siblings, axis=1), 1.0)
