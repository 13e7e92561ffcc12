"""Figures of checks' and the engine's results."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.engine.ascent.maximize import Maximization
from convlens.engine.explain.invariance import Invariance
from convlens.engine.explain.occlusion import Occlusion
from convlens.engine.explain.patches import TopPatches
from convlens.lens import Lens
from convlens.pictures import (
    Curves,
    HeatMap,
    Tiles,
    deprocess,
    feature_map_pixels,
    grid,
    signed_pixels,
    stretched_pixels,
    viridis,
)
from convlens.pictures.fit import fitted
from convlens.pictures.normalize import Pixels, range_pixels
from convlens.pictures.photographs import resized
from convlens.pictures.unfold import unfolded
from convlens.style.sound import SpectrogramTransform
from convlens.style.sound_transfer import SoundTransfer
from convlens.style.task import StyleTransfer

# Convolutions whose reconstructions share one compiled function.
_GROUP = 8
# Feature maps in a picture.
_MAX_MAPS = 128
_AMOUNT = {"translation": "pixels down", "scale": "factor", "rotation": "degrees"}


def draw_activations(lens: Lens, layer: str) -> Tiles:
    """Return the feature maps of the lens's first image in viridis, one tile for each unit.

    Of a layer with more than 128 units those whose maps are flat are shown, and evenly spread ones.
    """
    chosen = lens.one_of_each(1)
    maps = lens.maps(layer, chosen)[0]
    *sides, count = maps.shape
    flat = np.ptp(maps.reshape(-1, count), axis=0) == 0
    units = _shown_units(flat)
    pixels = [_colored(feature_map_pixels(maps[..., u])) for u in units]
    labels = [f"{u} (flat)" if flat[u] else str(u) for u in units]
    what = "" if lens.labels is None else f" of a {lens.labels[chosen[0]]}"
    shown = f"{count} units" if len(units) == count else f"{len(units)} of {count} units"
    return Tiles(
        pixels,
        labels,
        f"{lens.name} · {layer}: feature maps{what}",
        f"{shown}, {' x '.join(map(str, sides))} positions; each map is normalized, flat ones are "
        "black",
    )


def _shown_units(flat: NDArray[np.bool_]) -> list[int]:
    """Return the numbers of the units to show, in order: some flat ones, and evenly spread ones."""
    count = len(flat)
    if count <= _MAX_MAPS:
        return list(range(count))
    first = np.flatnonzero(flat)[: _MAX_MAPS // 2].tolist()
    others = np.setdiff1d(np.arange(count), first)
    left = np.linspace(0, len(others) - 1, _MAX_MAPS - len(first)).round().astype(int)
    return sorted([*first, *others[left].tolist()])


def draw_images(
    images: NDArray[Any],
    labels: Sequence[str],
    title: str,
    note: str,
    value_range: tuple[float, float],
) -> Tiles:
    """Return images (n, *positions, c) as they are, each with a label."""
    in_range = partial(range_pixels, value_range=value_range)
    return Tiles([_shown(in_range, image) for image in images], labels, title, note)


def draw_maximized(
    result: Maximization, count: int | None = None, middle: tuple[int, ...] | None = None
) -> Tiles:
    """Return the images that excite a layer's units, with each unit's final activation.

    Each image is stretched to the full contrast; those of the preset "keras-vis" are shown as that
    library shows them. The activations are those of the images as they are.

    Args:
        result: the images.
        count: number of units that the layer has, for the subtitle.
        middle: (h, w) of the part of each image that is shown; None for the whole image. At the
            edges, maps see their padding, and images show it.
    """
    sides = result.images.shape[1:-1]
    images, size = result.images, _sides(sides)
    if middle is not None and middle != sides:
        images = fitted(images, middle)
        size = f"the middle {_sides(middle)} of {size}"
    shown = (
        f"{len(result.units)} units" if count is None else f"{len(result.units)} of {count} units"
    )
    as_keras_vis = result.preset == "keras-vis"
    pixels = [
        _shown(
            deprocess
            if as_keras_vis
            else partial(stretched_pixels, value_range=result.model_range),
            image,
        )
        for image in images
    ]
    labels = [f"{name}: {a:.3g}" for name, a in zip(result.labels, result.trace[-1], strict=True)]
    return Tiles(
        pixels,
        labels,
        f"{result.model} · {result.layer}: images that excite each unit",
        f"unit: activation reached; {shown}, {result.steps} steps of gradient ascent, "
        f"{size} pixels, seed {result.seed}",
        columns=8 if len(pixels) > 10 else 5,
    )


def draw_curves(result: Maximization) -> Curves:
    """Return each unit's activation along its ascent."""
    series = {f"unit {u}": result.trace[:, i].tolist() for i, u in enumerate(result.units)}
    return Curves(
        series,
        result.trace_steps.tolist(),
        f"{result.model} · {result.layer}: ascent",
        x_label="step",
        y_label="mean activation",
    )


def draw_gram(lens: Lens, layer: str, gram: NDArray[Any]) -> HeatMap:
    """Return a layer's Gram matrix (c, c) as a heat map."""
    return HeatMap(gram, f"{lens.name} · {layer}: Gram matrix", "of the first image; unit by unit")


def draw_reconstructions(lens: Lens, layer: str, units: int = 4) -> Tiles:
    """Return one image of each class beside the reconstructions of its strongest units.

    Args:
        lens: the model and its images.
        layer: a layer with feature maps.
        units: number of units that are shown beside each image.
    """
    chosen = lens.one_of_each()
    images, maps = lens.images[chosen], lens.maps(layer, chosen)
    strongest = np.argsort(-maps.max(axis=tuple(range(1, maps.ndim - 1))), axis=1)[:, :units]
    together = _neighbors(lens.conv_layers, layer)
    columns = [lens.deconvolve(layer, column, images, together=together) for column in strongest.T]
    pixels, labels = [], []
    for i, image in enumerate(columns[0].inputs):
        pixels.append(_shown(partial(range_pixels, value_range=lens.value_range), image))
        labels.append("input")
        for column in columns:
            pixels.append(_shown(signed_pixels, column.images[i]))
            labels.append(f"unit {column.units[i]}: {column.activations[i]:.3g}")
    return Tiles(
        pixels,
        labels,
        f"{lens.name} · {layer}: what excited the strongest units",
        "deconvnet reconstructions of each unit's largest activation; mid-gray is 0",
        columns=(len(columns) + 1) * (2 if len(columns[0].inputs) > 5 else 1),
        cell=112,
        together=len(columns) + 1,
    )


def draw_top(top: TopPatches, value_range: tuple[float, float]) -> Tiles:
    """Return each unit's strongest patches beside their reconstructions, as in the paper's fig. 2.

    Pixels outside an image, and reconstructions of 0, are mid-gray.
    """
    k = top.patches.shape[1]
    columns = math.ceil(math.sqrt(k))
    tiles = []
    for patches, reconstructions in zip(top.patches, top.reconstructions, strict=True):
        middle = sum(value_range) / 2
        in_range = partial(range_pixels, value_range=value_range)
        seen = [_shown(in_range, np.nan_to_num(p, nan=middle)) for p in patches]
        down = [_shown(signed_pixels, np.nan_to_num(r)) for r in reconstructions]
        blocks = [
            grid(np.stack([np.atleast_3d(p) for p in part]), columns, margin=1)
            for part in (down, seen)
        ]
        gap = np.full((blocks[0].shape[0], 3, blocks[0].shape[2]), 255, np.uint8)
        tiles.append(np.concatenate([blocks[0], gap, blocks[1]], axis=1))
    side = max(tiles[0].shape[:2])
    cell = side * max(1, round(240 / side))
    return Tiles(
        tiles,
        [f"{u}: {a[0]:.3g}" for u, a in zip(top.units, top.activations, strict=True)],
        f"{top.model} · {top.layer}: the {k} strongest patches of each unit",
        "unit: strongest activation; left the deconvnet's reconstructions, right the patches",
        columns=max(1, 1100 // cell),
        cell=cell,
    )


def draw_occlusion(occlusion: Occlusion, value_range: tuple[float, float]) -> Tiles:
    """Return each image beside the heat map of its class's score drop under occlusion."""
    heat = occlusion.heat
    top = max(float(heat.max()), 1e-12)
    pixels, labels = [], []
    for i, image in enumerate(occlusion.images):
        pixels.append(range_pixels(_displayed(image), value_range))
        labels.append(f"class {occlusion.classes[i]}: {occlusion.score[i]:.3g}")
        pixels.append(viridis((np.clip(heat[i] / top, 0, 1) * 255).astype(np.uint8)))
        labels.append(f"falls by {occlusion.drops[i].max():.3g}")
    return Tiles(
        pixels,
        labels,
        f"{occlusion.model}: where hiding lowers the score",
        f"mean fall of the class's score where a patch of {occlusion.patch} px hides a pixel; "
        f"yellow is {top:.3g}, dark 0 or a rise",
        columns=2 * min(4, max(1, math.ceil(len(occlusion.images) / 3))),
    )


def draw_invariance(curves_of: Invariance) -> Curves:
    """Return invariance curves: the class's probability, and the distances of features."""
    medians = {
        f"{layer}: distance": np.median(curves_of.relative(layer), axis=1)
        for layer in curves_of.distances
    }
    medians["probability of the class"] = curves_of.probabilities.mean(axis=1)
    return Curves(
        {name: values.tolist() for name, values in medians.items()},
        curves_of.amounts.tolist(),
        f"{curves_of.model} under {curves_of.transformation}",
        x_label=_AMOUNT[curves_of.transformation],
        y_label="median distance / length; mean probability",
    )


def draw_style(result: StyleTransfer) -> Tiles:
    """Return the content, the styles and the result side by side."""
    size = result.image.shape[:2]
    styles = [resized(s, (size[0], size[1])) for s in result.styles]
    pixels = [range_pixels(x, (0.0, 1.0)) for x in (result.content, *styles, result.image)]
    names = ["style"] if len(styles) == 1 else [f"style {i + 1}" for i in range(len(styles))]
    return Tiles(
        [np.repeat(p, 3, axis=-1) if p.shape[-1] == 1 else p for p in pixels],
        ["content", *names, "result"],
        f"{result.model}: style transfer",
        f"{result.steps} steps of {result.optimizer}, {size[0]} x {size[1]}",
        columns=4,
        cell=256,
    )


def draw_sounds(result: SoundTransfer) -> Tiles:
    """Return the spectrograms of content, style and result; low frequencies are at the bottom."""
    transform = SpectrogramTransform(result.window, result.hop)
    sounds = {"content": result.content, "style": result.style, "result": result.sound}
    pixels = []
    for sound in sounds.values():
        logs = np.log1p(np.abs(transform(sound.samples))).T[::-1] / result.peak
        shown = resized(np.clip(logs, 0, 1).astype(np.float32)[..., None], (256, 384))[..., 0]
        pixels.append(viridis(np.round(shown * 255).astype(np.uint8)))
    return Tiles(
        pixels,
        [f"{name}, {sound.seconds:.2g} s" for name, sound in sounds.items()],
        "style transfer of a sound",
        f"{result.transfer.steps} steps; spectrograms from 0 to {result.sound.rate / 2000:g} kHz",
        columns=3,
        cell=384,
    )


def draw_losses(result: StyleTransfer) -> Curves:
    """Return the loss and its parts along a style transfer, on a logarithmic scale."""
    losses = {name: values for name, values in result.losses.items() if values.any()}
    least = 1e-4 * losses["total"].min()  # a term may be 0, which has no logarithm
    return Curves(
        {name: np.log10(np.maximum(v, least)).tolist() for name, v in losses.items()},
        list(range(result.steps + 1)),
        f"{result.model}: style transfer",
        x_label="step",
        y_label="log10 of the weighted loss",
    )


def _neighbors(layers: Sequence[str], layer: str) -> tuple[str, ...]:
    """Return the group of `layers` that `layer` is in, or `layer` alone if it is none of them."""
    if layer not in layers:
        return (layer,)
    first = layers.index(layer) // _GROUP * _GROUP
    return tuple(layers[first : first + _GROUP])


def _colored(levels: Pixels) -> Pixels:
    """Return the gray levels of a feature map (*positions) as a picture in viridis."""
    return unfolded(levels if levels.ndim == 1 else viridis(levels), levels.ndim)


def _sides(size: tuple[int, ...]) -> str:
    return " by ".join(map(str, size))


def _shown(convert: Callable[[NDArray[Any]], Pixels], image: NDArray[Any]) -> Pixels:
    """Return an image (*positions, c), converted to pixels, as a picture."""
    sides = image.ndim - 1
    return unfolded(convert(image if sides == 1 else _displayed(image)), sides)


def _displayed(image: NDArray[Any]) -> NDArray[Any]:
    """Return an image of 1 or 3 channels unchanged; return the channel mean of any other image."""
    return image if image.shape[-1] in (1, 3) else image.mean(axis=-1, keepdims=True)
