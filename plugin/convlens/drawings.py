"""The battery's pictures: what each property saw."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.engine.ascent import Maximization
from convlens.engine.deconvnet import Reconstruction
from convlens.lens import Lens
from convlens.pictures import (
    curves,
    deprocess,
    feature_map_pixels,
    heat_map,
    sheet,
    signed_pixels,
    viridis,
)
from convlens.pictures.normalise import range_pixels


def draw_activations(lens: Lens, layer: str) -> Image.Image:
    """Return the feature maps of the lens's first image, each unit's in viridis, eight a row."""
    chosen = lens.one_of_each(1)
    maps = lens.activations(layer, lens.images[chosen])[layer][0]
    pixels = [viridis(feature_map_pixels(maps[..., u])) for u in range(maps.shape[-1])]
    flat = np.ptp(maps, axis=(0, 1)) == 0
    labels = [f"{u} (flat)" if flat[u] else str(u) for u in range(len(pixels))]
    h, w = maps.shape[:2]
    what = "" if lens.labels is None else f" of a {lens.labels[chosen[0]]}"
    return sheet(
        pixels,
        labels,
        f"{lens.name} · {layer}: feature maps{what}",
        f"{len(pixels)} units, {h} x {w} positions; each map is normalised, flat ones are black",
    )


def draw_maximized(result: Maximization) -> Image.Image:
    """Return the images that excite a layer's units, with each unit's final activation."""
    pixels = [deprocess(_displayed(image)) for image in result.images]
    labels = [f"{u}: {a:.3g}" for u, a in zip(result.units, result.trace[-1], strict=True)]
    return sheet(
        pixels,
        labels,
        f"{result.model} · {result.layer}: images that excite each unit",
        f"unit: activation reached; {result.steps} steps of gradient ascent, seed {result.seed}",
        columns=8 if len(pixels) > 10 else 5,
    )


def draw_curves(result: Maximization) -> Image.Image:
    """Return each unit's activation along its ascent."""
    series = {f"unit {u}": result.trace[:, i].tolist() for i, u in enumerate(result.units)}
    return curves(
        series,
        result.trace_steps.tolist(),
        f"{result.model} · {result.layer}: ascent",
        x_label="step",
        y_label="mean activation",
    )


def draw_gram(lens: Lens, layer: str, gram: NDArray[Any]) -> Image.Image:
    """Return a layer's Gram matrix (c, c) as a heat map."""
    return heat_map(gram, f"{lens.name} · {layer}: Gram matrix", "of the first image; unit by unit")


def draw_reconstructions(lens: Lens, layer: str, columns: list[Reconstruction]) -> Image.Image:
    """Return each image beside the reconstructions of its strongest units, a row an image."""
    pixels, labels = [], []
    for i, image in enumerate(columns[0].inputs):
        pixels.append(range_pixels(_displayed(image), lens.value_range))
        labels.append("input")
        for column in columns:
            pixels.append(signed_pixels(_displayed(column.images[i])))
            labels.append(f"unit {column.units[i]}: {column.activations[i]:.3g}")
    return sheet(
        pixels,
        labels,
        f"{lens.name} · {layer}: what excited the strongest units",
        "deconvnet reconstructions of each unit's largest activation; mid-grey is 0",
        columns=(len(columns) + 1) * (2 if len(columns[0].inputs) > 5 else 1),
        cell=112,
    )


def _displayed(image: NDArray[Any]) -> NDArray[Any]:
    """Return an image with 1 or 3 channels; of any other number, their mean."""
    return image if image.shape[-1] in (1, 3) else image.mean(axis=-1, keepdims=True)
