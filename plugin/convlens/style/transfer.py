"""Neural style transfer (Gatys et al. 2015): one picture's content in another's style."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from convlens.engine.ascent.options import check_range
from convlens.engine.model.network import Network
from convlens.engine.runtime import backend
from convlens.pictures.photographs import read_image, resized
from convlens.style.descent import STYLE_OPTIMIZERS, StyleOptimizer
from convlens.style.inputs import (
    Image,
    KeepColors,
    check_masks,
    check_shares,
    check_size,
    colored,
    in_channels_of,
    read_for,
    takes_series,
)
from convlens.style.losses import Convention
from convlens.style.objective import StyleObjective, StyleWeights
from convlens.style.task import Recipe, StyleProgress, StyleTask, StyleTransfer

if TYPE_CHECKING:
    import keras

    Layers = str | Sequence[str] | Mapping[str, float] | None

CONTENT_LAYERS = ("block5_conv2",)
STYLE_LAYERS = ("block1_conv1", "block2_conv1", "block3_conv1", "block4_conv1", "block5_conv1")
StylePreset = Literal["tensorflow-tutorial"]

_PRESETS: dict[str | None, Recipe] = {
    None: Recipe(),
    "tensorflow-tutorial": Recipe(
        convention="tensorflow-tutorial",
        content_weight=1e4,
        style_weight=1e-2,
        tv_weight=30.0,
        optimizer="adam",
        beta1=0.99,
        epsilon=0.1,
        steps=1000,
        size=512,
    ),
}


def transfer_style(
    content: Any,
    style: Any,
    model: keras.Model | Network | None = None,
    *,
    content_layers: Layers = None,
    style_layers: Layers = None,
    content_weight: float | None = None,
    style_weight: float | None = None,
    tv_weight: float | None = None,
    convention: Convention | None = None,
    style_shares: Sequence[float] | None = None,
    masks: Sequence[ArrayLike] | None = None,
    start: Any = "content",
    keep_colors: KeepColors | None = None,
    optimizer: StyleOptimizer | None = None,
    step_size: float | None = None,
    steps: int | None = None,
    until_loss: float | None = None,
    scales: int = 1,
    size: int | None = None,
    preset: StylePreset | None = None,
    frame_every: int = 0,
    value_range: tuple[float, float] | None = None,
    seed: int = 0,
    memory_budget: int | None = None,
    progress: StyleProgress | None = None,
) -> StyleTransfer:
    """Find an image with one picture's content and another's style.

    Descends L = α·Σ v_l·content_l + β·Σ w_l·style_l + γ·TV by the image's pixels, which stay in
    their range. With the convention 'gatys' content_l = ½ Σ (F-P)² and style_l = Σ (G-A)² / 4N²,
    the Gram matrices divided by their positions; see `engine.style_losses` for the others.

    Args:
        content: a file's path, a `PIL.Image.Image`, or an array; see `read_image`. For a model
            whose input is (t, 1, f), a series (t, f) with values from 0 to 1, such as a sound's
            spectrogram: see `transfer_sound`.
        style: the same, or a list of them. Each picture is resized to the content's longest side.
        model: a Keras model, or a `Network` to reuse its compiled functions; None for VGG19, whose
            weights are looked for as `load_pretrained` does.
        content_layers: a layer's name, several, or names with their weights v_l; unless given the
            weights are 1 over their number. None for the paper's block5_conv2, or what
            `default_layers` finds in a network without.
        style_layers: likewise, w_l; None for the paper's block1_conv1 to block5_conv1.
        content_weight: α; 1.
        style_weight: β; None for what makes β·Σ w_l·style_l of the content 50 times what
            α·Σ v_l·content_l is of the style picture, which suits any network and size.
        tv_weight: γ, of Σ|dx| + Σ|dy|; 0.
        convention: 'gatys', 'tensorflow-tutorial' or 'johnson'.
        style_shares: what each of several styles counts; equal unless given.
        masks: for each style, where in the content it counts: (h, w) from 0 to 1.
        start: 'content', 'style', 'noise' (uniform, from the seed), or a picture.
        keep_colors: 'luminance' transfers the style's light alone, 'histogram' gives the style the
            content's mean color and covariance first (Gatys et al. 2016).
        optimizer: 'lbfgs' (L-BFGS-B with pixels bound to their range) or 'adam'.
        step_size: Adam's, in units of the range; 0.02.
        steps: how many, at each scale; 200.
        until_loss: end a scale as soon as the loss is no more than this.
        scales: of how many sizes, each twice the last, the descent is made, coarse to fine.
        size: what the content's longest side is resized to; None leaves it.
        preset: 'tensorflow-tutorial' for that tutorial's weights, terms and Adam.
        frame_every: keep the image after each so many steps, for `save_gif`; 0 keeps none.
        value_range: what 0 and 1 of the pictures are in the model's input; None for what the model
            says (networks of `load_pretrained` do), else (0, 1).
        seed: all random draws come from it.
        memory_budget: bytes that a step may take; None for what `memory.default_budget` finds.
        progress: called with (steps done, steps in all, losses): 'total', 'content', 'style' and
            'variation', weighted. None shows a bar on a terminal.

    Returns:
        The image with its trace; see `StyleTransfer`.

    Raises:
        ValueError: a picture that cannot be read, an unknown layer, an option out of its bounds, an
            image too small for the network or too large for the memory; the message says which
            size would do.
        WeightsNotFoundError: no model was given and VGG19's weights are not on this machine.
        FloatingPointError: the loss is not finite.
        StyleInterrupted: Ctrl-C; the best image so far is in its `result`.
    """
    recipe = _recipe(
        preset,
        content_weight=content_weight,
        style_weight=style_weight,
        tv_weight=tv_weight,
        convention=convention,
        optimizer=optimizer,
        step_size=step_size,
        steps=steps,
        size=size,
        until_loss=until_loss,
    )
    if scales < 1:
        raise ValueError(f"scales is at least 1, not {scales}")
    network = _network(model)
    if scales > 1 and takes_series(network):
        raise ValueError(f"{network.name} takes series, which have one scale, not {scales}")
    own_content, own_style = default_layers(network)
    if value_range is None:
        value_range = getattr(network.model, "convlens_value_range", (0.0, 1.0))
    span = check_range(value_range)
    if frame_every < 0:
        raise ValueError(f"frame_every is at least 0, not {frame_every}")
    weights = StyleWeights(
        content_layers=_layers(network, own_content if content_layers is None else content_layers),
        style_layers=_layers(network, own_style if style_layers is None else style_layers),
        content=recipe.content_weight,
        style=1.0 if recipe.style_weight is None else recipe.style_weight,
        variation=recipe.tv_weight,
        convention=recipe.convention,
    )
    given, pictures = _read(network, content, style, recipe.size, keep_colors)
    seen, styles = colored(given, pictures, keep_colors)
    task = StyleTask(
        objective=StyleObjective(network, weights, span),
        weights=weights,
        recipe=recipe,
        given=given if keep_colors == "luminance" else None,
        content=_in_channels(network, seen),
        styles=[_in_channels(network, picture) for picture in styles],
        masks=check_masks(masks, len(styles), given.shape[:2]),
        shares=check_shares(style_shares, len(styles)),
        seed=seed,
        frame_every=frame_every,
    )
    sizes = [_scaled(given.shape[:2], scales - 1 - k) for k in range(scales)]
    check_size(network, task.objective.layers, sizes[0], memory_budget)
    check_size(network, task.objective.layers, sizes[-1], memory_budget)
    if recipe.style_weight is None:
        task = task.balanced()
    return task.over(sizes, _start(start, task), progress)


def _read(
    network: Network, content: Any, style: Any, size: int | None, keep_colors: KeepColors | None
) -> tuple[Image, list[Image]]:
    """Return the content and the styles: RGB pictures, or series."""
    given = list(style) if isinstance(style, list | tuple) else [style]
    if not given:
        raise ValueError("no style was given")
    if not takes_series(network):
        return read_image(content, size=size), [read_image(s) for s in given]
    if size is not None or keep_colors is not None:
        raise ValueError(f"{network.name} takes series, which have neither size nor keep_colors")
    return read_for(network, content), [read_for(network, s) for s in given]


def _in_channels(network: Network, image: Image) -> Image:
    return image if takes_series(network) else in_channels_of(network, image)


def _recipe(preset: StylePreset | None, **given: Any) -> Recipe:
    if preset not in _PRESETS:
        known = ", ".join(repr(name) for name in _PRESETS if name is not None)
        raise ValueError(f"preset is {known} or None, not {preset!r}")
    recipe = replace(_PRESETS[preset], **{k: v for k, v in given.items() if v is not None})
    if recipe.optimizer not in STYLE_OPTIMIZERS:
        raise ValueError(f"optimizer is 'lbfgs' or 'adam', not {recipe.optimizer!r}")
    if recipe.steps < 1:
        raise ValueError(f"steps is at least 1, not {recipe.steps}")
    if not (math.isfinite(recipe.step_size) and recipe.step_size > 0):
        raise ValueError(f"step_size is a positive number, not {recipe.step_size!r}")
    return recipe


def _network(model: keras.Model | Network | None) -> Network:
    if model is None:
        from convlens.fixtures.pretrained import load_pretrained

        model = load_pretrained("VGG19", value_range=(0.0, 1.0))
    return Network.of(model)


def default_layers(network: Network) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the layers that content and style are read at unless others are named.

    The paper's where a network has them. Of any other, of its first five resolutions, the first
    convolution of each for the style, and the last of the last for the content: of VGG19 up to
    block3, block1_conv1, block2_conv1 and block3_conv1, and block3_conv4.

    Raises:
        ValueError: a network without convolutions.
    """
    if all(name in network.outputs for name in (*CONTENT_LAYERS, *STYLE_LAYERS)):
        return CONTENT_LAYERS, STYLE_LAYERS
    if not network.conv_layers:
        raise ValueError(f"{network.name} has no convolutional layer, so no style can be read")
    h, w, c = network.input_shape
    symbols = [network.outputs[name] for name in network.conv_layers]
    found = backend.shapes(lambda x: network.run(x, symbols), (1, h or 224, w or 224, c or 3))
    stages: dict[tuple[int, ...], list[str]] = {}
    for name, shape in zip(network.conv_layers, found, strict=True):
        stages.setdefault(shape[1:3], []).append(name)
    used = list(stages.values())[: len(STYLE_LAYERS)]
    return (used[-1][-1],), tuple(names[0] for names in used)


def _layers(network: Network, given: str | Sequence[str] | Mapping[str, float]) -> dict[str, float]:
    """Return layers with their weights, 1 over their number unless given."""
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, Mapping):
        given = {name: 1 / len(given) for name in given}
    return {network.find(name): float(weight) for name, weight in given.items()}


def _start(start: Any, task: StyleTask) -> Image:
    """Return what the descent begins with (h, w, c), at the full size."""
    shape = task.content.shape
    if isinstance(start, str) and start == "content":
        return task.content
    if isinstance(start, str) and start == "style":
        return resized(task.styles[0], (shape[0], shape[1]))
    if isinstance(start, str) and start == "noise":
        return np.random.default_rng(task.seed).random(shape, dtype=np.float32)
    image = read_for(task.objective.network, start)
    return resized(image, (shape[0], shape[1]))


def _scaled(size: tuple[int, ...], halvings: int) -> tuple[int, int]:
    return max(1, round(size[0] / 2**halvings)), max(1, round(size[1] / 2**halvings))
