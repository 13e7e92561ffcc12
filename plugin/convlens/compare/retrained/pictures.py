"""Figures of a retraining: images that are wrong now, the curve of CKA, and units that are gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from convlens.compare.retrained.hidden import LayerSimilarity
from convlens.compare.retrained.retraining import Retraining
from convlens.drawings import draw_images, draw_top
from convlens.engine.explain.patches import top_patches
from convlens.engine.explain.topk import top_images
from convlens.engine.model.network import Network
from convlens.pictures import Curves, Tiles

_MAX_IMAGES, _MAX_UNITS, _MAX_PATCHES = 40, 8, 4


def draw_wrong(found: Retraining, images: NDArray[Any], value_range: tuple[float, float]) -> Tiles:
    """Return the images that are wrong now, those of the classes that failed first."""
    shown = list(found.wrong_now[:_MAX_IMAGES])
    old, new = found.answers
    what = "wrong now" if found.churn.labeled else "answered otherwise"
    return draw_images(
        images[shown],
        [f"#{i}: {old[i]} → {new[i]}" for i in shown],
        f"{found.new} · images that are {what}",
        f"#image: answer of {found.old} → of {found.new}; {len(shown)} of {len(found.wrong_now)}",
        value_range,
    )


def draw_similarity(found: Retraining) -> Curves:
    """Return the similarity of features along the layers with kernels."""
    shown = {
        "CKA": [layer.cka for layer in found.hidden],
        "units with a partner": [1 - len(x.lost) / x.units for x in found.hidden],
    }
    names = f"{found.hidden[0].layer} … {found.hidden[-1].layer}"
    return Curves(
        shown,
        list(range(1, len(found.hidden) + 1)),
        f"{found.new} beside {found.old}: features (judges nothing)",
        x_label=f"layer: {names}",
        y_label="CKA; share of units",
    )


def gone(found: Retraining, old: Network) -> LayerSimilarity | None:
    """Return the layer with feature maps whose units are gone most often; None for none."""
    layers = [
        layer
        for layer in found.hidden
        if layer.lost and len(old.outputs[layer.old_layer].shape) > 2
    ]
    return max(layers, key=lambda layer: len(layer.lost) / layer.units, default=None)


def draw_gone(
    found: Retraining,
    old: Network,
    layer: LayerSimilarity,
    images: NDArray[Any],
    value_range: tuple[float, float],
) -> Tiles:
    """Return the strongest patches of the old model's units that have no partner."""
    k = min(_MAX_PATCHES, len(images))
    top = top_images(old, images, layer.old_layer, k=k, progress=_silent)
    units = layer.lost[:_MAX_UNITS]
    drawn = draw_top(top_patches(old, top, layer.old_layer, units), value_range)
    title = f"{found.old} · {layer.old_layer}: units without a partner in {found.new}"
    note = f"{len(units)} of {len(layer.lost)}; {drawn.note}"
    return replace(drawn, title=title, note=note)


def _silent(done: int, total: int) -> None:
    """Show no progress: a figure is drawn behind a verdict."""
