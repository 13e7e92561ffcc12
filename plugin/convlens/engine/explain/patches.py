"""What in its strongest images excited a unit: patches and their reconstructions side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convlens.engine.explain.deconvnet import deconvolve
from convlens.engine.explain.topk import TopImages
from convlens.engine.model.network import Network, Units
from convlens.engine.model.receptive_field import Box, receptive_field
from convlens.engine.model.rectify import Method


@dataclass(frozen=True)
class TopPatches:
    """Each unit's strongest patches, strongest first (Zeiler & Fergus 2014, figure 2).

    Attributes:
        model: the model's name.
        layer: the layer's name.
        units: (u,) the unit of each row.
        activations: (u, k) the activation that each patch caused.
        indices: (u, k) the numbers of the images in the data set.
        positions: (u, k, 2) row and column of the activation in its feature map.
        patches: (u, k, h, w, c) the images, cut at the receptive field of that position. What lies
            outside the image is NaN.
        reconstructions: (u, k, h, w, c) the reconstructions of the activations, cut alike.
    """

    model: str
    layer: str
    units: NDArray[np.int64]
    activations: NDArray[np.float32]
    indices: NDArray[np.int64]
    positions: NDArray[np.int64]
    patches: NDArray[np.float32]
    reconstructions: NDArray[np.float32]


def top_patches(
    model: keras.Model | Network,
    top: TopImages,
    layer: str,
    units: Units = None,
    *,
    method: Method = "deconvnet",
    prepare: Callable[[Any], Any] | None = None,
    batch_size: int = 64,
) -> TopPatches:
    """Cut out what excited units in their strongest images, and reconstruct it by the deconvnet.

    Args:
        model: the model that `top` was found for.
        top: what `top_images` returned.
        layer: one of its layers.
        units: channel numbers; None for all of the layer's.
        method: as for `deconvolve`.
        prepare: as for `top_images`.
        batch_size: how many images are reconstructed at a time.

    Returns:
        Patches and reconstructions; see `TopPatches`.

    Raises:
        ValueError: a layer that `top` does not have or without positions, a unit out of range.
    """
    network = Network.of(model)
    layer = network.find(layer)
    if layer not in top.indices:
        has = ", ".join(map(repr, top.indices))
        raise ValueError(
            f"the strongest images of layer {layer!r} were not looked for, but of {has}"
        )
    if len(network.outputs[layer].shape) != 4:
        raise ValueError(f"{network.name} layer {layer!r} has no positions to cut patches at")
    chosen = network.check_units(layer, units)
    indices = top.indices[layer][chosen]
    u, k = indices.shape
    flat = indices.reshape(-1)
    cut: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    positions, activations = [], []
    boxes: dict[tuple[int, int], Box] = {}
    for first in range(0, len(flat), batch_size):
        given = np.stack([top.images[int(i)] for i in flat[first : first + batch_size]])
        x = network.check_images(given if prepare is None else prepare(given))
        unit_of = np.repeat(chosen, k)[first : first + batch_size]
        found = deconvolve(network, x, layer, unit_of, method=method, batch_size=batch_size)
        positions.append(found.positions)
        activations.append(found.activations)
        for image, reconstruction, at in zip(x, found.images, found.positions, strict=True):
            place = (int(at[0]), int(at[1]))
            if place not in boxes:
                boxes[place] = receptive_field(network, layer, place, image.shape[:2], padded=True)
            cut.append((_cut(image, boxes[place]), _cut(reconstruction, boxes[place])))
    h = max(patch.shape[0] for patch, _ in cut)
    w = max(patch.shape[1] for patch, _ in cut)
    patches, reconstructions = (
        np.stack([_framed(pair[side], h, w) for pair in cut]).reshape(u, k, h, w, -1)
        for side in (0, 1)
    )
    return TopPatches(
        model=network.name,
        layer=layer,
        units=chosen,
        activations=np.concatenate(activations).reshape(u, k),
        indices=indices,
        positions=np.concatenate(positions).reshape(u, k, 2),
        patches=patches,
        reconstructions=reconstructions,
    )


def _cut(image: NDArray[Any], box: Box) -> NDArray[np.float32]:
    """Return what a box shows of an image (h, w, c); NaN outside, but no more of it than needed.

    A field larger than the image is cut at the image's own size.
    """
    h, w, c = image.shape
    if box.bottom - box.top >= h and box.right - box.left >= w:
        return image.astype(np.float32)
    top, bottom = (box.top, box.bottom) if box.bottom - box.top < h else (0, h)
    left, right = (box.left, box.right) if box.right - box.left < w else (0, w)
    out = np.full((bottom - top, right - left, c), np.nan, np.float32)
    first, last = max(top, 0), min(bottom, h)
    start, end = max(left, 0), min(right, w)
    out[first - top : last - top, start - left : end - left] = image[first:last, start:end]
    return out


def _framed(patch: NDArray[np.float32], h: int, w: int) -> NDArray[np.float32]:
    """Return a patch in a frame of h rows and w columns, NaN around it."""
    out = np.full((h, w, patch.shape[2]), np.nan, np.float32)
    out[: patch.shape[0], : patch.shape[1]] = patch
    return out
