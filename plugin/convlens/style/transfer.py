"""Neural style transfer: render one picture's content in another's style (Gatys et al. 2015)."""

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

    Minimizes L = α·Σ v_l·content_l + β·Σ w_l·style_l + γ·TV over the image's pixels, which stay in
    their range. In the convention 'gatys', content_l = ½ Σ (F-P)² and style_l = Σ (G-A)² / 4N²,
    with Gram matrices divided by the number of positions; see `convlens.style.losses` for the
    others.

    Args:
        content: a file's path, a `PIL.Image.Image`, or an array; see `read_image`. For a model with
            input (t, 1, f), a series (t, f) with values in [0, 1], such as a sound's spectrogram;
            see `transfer_sound`.
        style: a picture given like the content, or a list of pictures. Each is resized to the
            content's longest side.
        model: a Keras model, or a `Network` to reuse its compiled functions; None for VGG19, with
            weights found by `load_pretrained`.
        content_layers: a layer's name, a list of names, or names with their weights v_l; without
            weights each counts 1 over their number. None for the paper's block5_conv2, or, in
            other networks, the layers of `default_layers`.
        style_layers: layers with weights w_l, given like `content_layers`; None for the paper's
            block1_conv1 to block5_conv1.
        content_weight: α; by default 1.
        style_weight: β. None for a weight that suits any network and size: it makes β·Σ w_l·style_l
            of the content picture 50 times α·Σ v_l·content_l of the style picture.
        tv_weight: γ, the weight of Σ|dx| + Σ|dy|; by default 0.
        convention: 'gatys', 'tensorflow-tutorial' or 'johnson'.
        style_shares: relative share of each of several styles; by default equal.
        masks: for each style a mask (h, w) of the content's region that it applies to, with values
            in [0, 1].
        start: 'content', 'style', 'noise' (uniform, from the seed), or a picture.
        keep_colors: 'luminance' transfers only the style's luminance; 'histogram' first gives the
            style the content's mean color and color covariance (Gatys et al. 2016).
        optimizer: 'lbfgs' (L-BFGS-B with bounded pixels) or 'adam'.
        step_size: step size of Adam in units of the range; by default 0.02.
        steps: number of steps at each scale; by default 200.
        until_loss: stop a scale when the loss is at most this value.
        scales: number of image sizes, from coarse to fine, each twice the last.
        size: length to which the content's longest side is resized; None keeps the size.
        preset: 'tensorflow-tutorial' for that tutorial's weights, terms and Adam.
        frame_every: number of steps between images kept in `frames`, for `save_gif`; 0 keeps none.
        value_range: input values of the model that correspond to the pictures' 0 and 1; None for
            the range that the model declares (as networks of `load_pretrained` do), else (0, 1).
        seed: seed of all random draws.
        memory_budget: limit in bytes for one step; None for `memory.default_budget`.
        progress: callback, called with (steps done, total steps, weighted losses by name: 'total',
            'content', 'style' and 'variation'). None shows a progress bar on a terminal.

    Returns:
        The image with its trace; see `StyleTransfer`.

    Raises:
        ValueError: a picture that cannot be read, an unknown layer, an option out of its bounds, an
            image too small for the network or too large for the memory; the message gives a valid
            size.
        WeightsNotFoundError: no model was given and VGG19's weights are not on this machine.
        FloatingPointError: the loss is not finite.
        StyleInterrupted: Ctrl-C; its `result` holds the best image so far.
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
        raise ValueError(f"scales must be at least 1, not {scales}")
    network = _network(model)
    network.check_takes_pictures()
    if scales > 1 and takes_series(network):
        raise ValueError(f"scales must be 1 for the series that {network.name} takes, not {scales}")
    own_content, own_style = default_layers(network)
    if value_range is None:
        value_range = getattr(network.model, "convlens_value_range", (0.0, 1.0))
    span = check_range(value_range)
    if frame_every < 0:
        raise ValueError(f"frame_every must be at least 0, not {frame_every}")
    weights = StyleWeights(
        content_layers=_layer_weights(
            network, own_content if content_layers is None else content_layers
        ),
        style_layers=_layer_weights(network, own_style if style_layers is None else style_layers),
        content=recipe.content_weight,
        style=1.0 if recipe.style_weight is None else recipe.style_weight,
        variation=recipe.tv_weight,
        convention=recipe.convention,
    )
    given, pictures = _read_inputs(network, content, style, recipe.size, keep_colors)
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
    sizes = [_scaled_size(given.shape[:2], scales - 1 - k) for k in range(scales)]
    check_size(network, task.objective.layers, sizes[0], memory_budget)
    check_size(network, task.objective.layers, sizes[-1], memory_budget)
    if recipe.style_weight is None:
        task = task.balanced()
    return task.run_scales(sizes, _start_image(start, task), progress)


def _read_inputs(
    network: Network, content: Any, style: Any, size: int | None, keep_colors: KeepColors | None
) -> tuple[Image, list[Image]]:
    """Read the content and the styles: RGB pictures, or series."""
    given = list(style) if isinstance(style, list | tuple) else [style]
    if not given:
        raise ValueError("style must be a picture or a list of at least one, not an empty list")
    if not takes_series(network):
        return read_image(content, size=size), [read_image(s) for s in given]
    if size is not None or keep_colors is not None:
        raise ValueError(f"{network.name} takes series: leave out size and keep_colors")
    return read_for(network, content), [read_for(network, s) for s in given]


def _in_channels(network: Network, image: Image) -> Image:
    return image if takes_series(network) else in_channels_of(network, image)


def _recipe(preset: StylePreset | None, **given: Any) -> Recipe:
    if preset not in _PRESETS:
        known = ", ".join(repr(name) for name in _PRESETS if name is not None)
        raise ValueError(f"preset must be {known} or None, not {preset!r}")
    recipe = replace(_PRESETS[preset], **{k: v for k, v in given.items() if v is not None})
    if recipe.optimizer not in STYLE_OPTIMIZERS:
        raise ValueError(f"optimizer must be 'lbfgs' or 'adam', not {recipe.optimizer!r}")
    if recipe.steps < 1:
        raise ValueError(f"steps must be at least 1, not {recipe.steps}")
    if not (math.isfinite(recipe.step_size) and recipe.step_size > 0):
        raise ValueError(f"step_size must be a positive number, not {recipe.step_size!r}")
    return recipe


def _network(model: keras.Model | Network | None) -> Network:
    if model is None:
        from convlens.fixtures.pretrained import load_pretrained

        model = load_pretrained("VGG19", value_range=(0.0, 1.0))
    return Network.of(model)


def default_layers(network: Network) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the default content layers and style layers.

    These are the paper's layers if the network has them. In other networks, the style layers are
    the first convolutions of the first five resolutions, and the content layer is the last
    convolution of the last of these. Example: VGG19 up to block3 gives block1_conv1, block2_conv1
    and block3_conv1 for the style, and block3_conv4 for the content.

    Raises:
        ValueError: a network without convolutions.
    """
    if all(name in network.outputs for name in (*CONTENT_LAYERS, *STYLE_LAYERS)):
        return CONTENT_LAYERS, STYLE_LAYERS
    if not network.conv_layers:
        raise ValueError(f"{network.name} has no convolutional layer to compare styles at")
    h, w, c = network.input_shape
    symbols = [network.outputs[name] for name in network.conv_layers]
    found = backend.shapes(lambda x: network.run(x, symbols), (1, h or 224, w or 224, c or 3))
    stages: dict[tuple[int, ...], list[str]] = {}
    for name, shape in zip(network.conv_layers, found, strict=True):
        stages.setdefault(shape[1:3], []).append(name)
    used = list(stages.values())[: len(STYLE_LAYERS)]
    return (used[-1][-1],), tuple(names[0] for names in used)


def _layer_weights(
    network: Network, given: str | Sequence[str] | Mapping[str, float]
) -> dict[str, float]:
    """Return layers with their weights; the default weight is 1 over their number."""
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, Mapping):
        given = {name: 1 / len(given) for name in given}
    return {network.find(name): float(weight) for name, weight in given.items()}


def _start_image(start: Any, task: StyleTask) -> Image:
    """Return the start image (h, w, c), at the full size."""
    shape = task.content.shape
    if isinstance(start, str) and start == "content":
        return task.content
    if isinstance(start, str) and start == "style":
        return resized(task.styles[0], (shape[0], shape[1]))
    if isinstance(start, str) and start == "noise":
        return np.random.default_rng(task.seed).random(shape, dtype=np.float32)
    image = read_for(task.objective.network, start)
    return resized(image, (shape[0], shape[1]))


def _scaled_size(size: tuple[int, ...], halvings: int) -> tuple[int, int]:
    return max(1, round(size[0] / 2**halvings)), max(1, round(size[1] / 2**halvings))
