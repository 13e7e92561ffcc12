"""Patches of the images that excite a unit most, with their deconvnet reconstructions."""

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
        activations: (u, k) the unit's activation on each patch.
        indices: (u, k) the numbers of the images in the data set.
        positions: (u, k, sides) the activation's position in its feature map, (row, column) in an
            image.
        patches: (u, k, *size, c) the images, cropped to the receptive field of that position.
            Pixels outside the image are NaN.
        reconstructions: (u, k, *size, c) the reconstructions of the activations, cropped likewise.
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
    """Crop each unit's strongest images to the exciting patch, and reconstruct its activation.

    Args:
        model: the model given to `top_images`.
        top: the result of `top_images`.
        layer: name of one of its layers.
        units: channel numbers; None for all units of the layer.
        method: as in `deconvolve`.
        prepare: as in `top_images`.
        batch_size: number of images in a batch.

    Returns:
        Patches and reconstructions; see `TopPatches`.

    Raises:
        ValueError: a layer that `top` does not have, one without positions, a unit out of range.
    """
    network = Network.of(model)
    layer = network.find(layer)
    if layer not in top.indices:
        has = ", ".join(map(repr, top.indices))
        raise ValueError(f"layer {layer!r} is not in `top`, which has {has}: give it to top_images")
    if len(network.outputs[layer].shape) < 3:
        raise ValueError(f"{network.name} layer {layer!r} has no feature maps: choose another")
    chosen = network.check_units(layer, units)
    indices = top.indices[layer][chosen]
    u, k = indices.shape
    flat = indices.reshape(-1)
    cut: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    positions, activations = [], []
    boxes: dict[tuple[int, ...], Box] = {}
    for first in range(0, len(flat), batch_size):
        given = np.stack([top.images[int(i)] for i in flat[first : first + batch_size]])
        x = network.check_images(given if prepare is None else prepare(given))
        unit_of = np.repeat(chosen, k)[first : first + batch_size]
        found = deconvolve(network, x, layer, unit_of, method=method, batch_size=batch_size)
        positions.append(found.positions)
        activations.append(found.activations)
        for image, reconstruction, at in zip(x, found.images, found.positions, strict=True):
            place = tuple(map(int, at))
            if place not in boxes:
                boxes[place] = receptive_field(network, layer, place, image.shape[:-1], padded=True)
            cut.append((_crop(image, boxes[place]), _crop(reconstruction, boxes[place])))
    size = tuple(map(max, zip(*(patch.shape[:-1] for patch, _ in cut), strict=True)))
    patches, reconstructions = (
        np.stack([_pad(pair[i], size) for pair in cut]).reshape(u, k, *size, -1) for i in (0, 1)
    )
    return TopPatches(
        model=network.name,
        layer=layer,
        units=chosen,
        activations=np.concatenate(activations).reshape(u, k),
        indices=indices,
        positions=np.concatenate(positions).reshape(u, k, -1),
        patches=patches,
        reconstructions=reconstructions,
    )


def _crop(image: NDArray[Any], box: Box) -> NDArray[np.float32]:
    """Return an image (*positions, c) cropped to a box; pixels outside the image are NaN.

    A side on which the box covers the whole image keeps the image's size.
    """
    *sides, c = image.shape
    spans = [
        (start, end) if end - start < side else (0, side)
        for start, end, side in zip(box.start, box.end, sides, strict=True)
    ]
    out = np.full((*(end - start for start, end in spans), c), np.nan, np.float32)
    inside = [(max(a, 0), min(b, n)) for (a, b), n in zip(spans, sides, strict=True)]
    to = tuple(slice(a - s, b - s) for (a, b), (s, _) in zip(inside, spans, strict=True))
    out[to] = image[tuple(slice(a, b) for a, b in inside)]
    return out


def _pad(patch: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a patch padded with NaN at its end to a size."""
    out = np.full((*size, patch.shape[-1]), np.nan, np.float32)
    out[tuple(slice(side) for side in patch.shape[:-1])] = patch
    return out
