"""Neural style transfer (Gatys et al. 2015): one picture's content in another's style."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.engine import backend
from convlens.engine.colors import grey_like, luminance, match_colors, with_luminance
from convlens.engine.memory import bytes_an_image, default_budget
from convlens.engine.network import Network
from convlens.engine.options import check_range
from convlens.engine.progress import Progress, progress_to
from convlens.engine.style_descent import (
    STYLE_OPTIMIZERS,
    Descent,
    Reached,
    StyleOptimizer,
    descend_adam,
    descend_lbfgs,
)
from convlens.engine.style_losses import Convention
from convlens.engine.style_objective import StyleObjective, StyleTargets, StyleWeights
from convlens.photographs import fitted, read_image, resized

if TYPE_CHECKING:
    import keras

    Layers = str | Sequence[str] | Mapping[str, float] | None

CONTENT_LAYERS = ("block5_conv2",)
STYLE_LAYERS = ("block1_conv1", "block2_conv1", "block3_conv1", "block4_conv1", "block5_conv1")
# How far a result goes from the content to the style: at 50 the objects of a scene are plain to see
# in the texture of a painting.
_BALANCE = 50.0
KeepColors = Literal["luminance", "histogram"]
StylePreset = Literal["tensorflow-tutorial"]


@dataclass(frozen=True)
class _Recipe:
    """What presets set and arguments override."""

    convention: Convention = "gatys"
    content_weight: float = 1.0
    style_weight: float | None = None
    tv_weight: float = 0.0
    optimizer: StyleOptimizer = "lbfgs"
    step_size: float = 0.02
    beta1: float = 0.9
    epsilon: float = 1e-8
    steps: int = 200
    size: int | None = None
    until_loss: float | None = None


_PRESETS: dict[str | None, _Recipe] = {
    None: _Recipe(),
    "tensorflow-tutorial": _Recipe(
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


@dataclass(frozen=True)
class StyleTransfer:
    """A picture in another's style, and how it was found.

    Attributes:
        image: (h, w, c) float32 with values from 0 to 1.
        optimized: the image that the loss was measured on: `image`, but for colours that were kept
            afterwards.
        start: (h, w, c) what the descent began with.
        content: (h, w, c) the content as the loss saw it.
        styles: the styles, (h, w, c) each, likewise.
        shares: (styles,) what each style counts; they sum to 1.
        masks: for each style (h, w, 1), where it counts; empty without.
        model: the model's name.
        value_range: what 0 and 1 are in the model's input.
        weights: the layers, the convention, and what each term of the loss counts.
        trace: (k, terms) each term of `names`, not weighted, at the start and after each step.
        optimizer: 'lbfgs' or 'adam'.
        evaluations: how often the loss and its gradient were computed.
        seed: what the random draws came from.
        frames: images (h, w, c) on the way, at this scale, where they were asked for.
        coarser: the results at the smaller scales that this one began with.
    """

    image: NDArray[np.float32]
    optimized: NDArray[np.float32]
    start: NDArray[np.float32]
    content: NDArray[np.float32]
    styles: tuple[NDArray[np.float32], ...]
    shares: NDArray[np.float32]
    masks: tuple[NDArray[np.float32], ...]
    model: str
    value_range: tuple[float, float]
    weights: StyleWeights
    trace: NDArray[np.float32]
    optimizer: StyleOptimizer
    evaluations: int
    seed: int
    frames: tuple[NDArray[np.float32], ...] = ()
    coarser: tuple[StyleTransfer, ...] = ()

    @property
    def steps(self) -> int:
        """How many steps were taken at this scale."""
        return len(self.trace) - 1

    @property
    def names(self) -> tuple[str, ...]:
        """The terms: 'content:<layer>', 'style:<layer>', 'variation'."""
        return self.weights.names

    @property
    def losses(self) -> dict[str, NDArray[np.float64]]:
        """The weighted sums (k,): 'total', and its parts 'content', 'style' and 'variation'."""
        weighted = self.trace * self.weights.by_term
        kinds = [name.partition(":")[0] for name in self.names]
        parts = {
            kind: weighted[:, [k == kind for k in kinds]].sum(axis=1)
            for kind in dict.fromkeys(kinds)
        }
        return {"total": weighted.sum(axis=1), **parts}


class StyleInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a style transfer.

    Attributes:
        result: the image with the least loss so far, at the scale that was under way.
    """

    def __init__(self, result: StyleTransfer) -> None:
        super().__init__(f"the best image of {result.steps} steps is in this exception's .result")
        self.result = result


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
    progress: Progress | None = None,
) -> StyleTransfer:
    """Find an image with one picture's content and another's style.

    Descends L = α·Σ v_l·content_l + β·Σ w_l·style_l + γ·TV by the image's pixels, which stay in
    their range. With the convention 'gatys' content_l = ½ Σ (F-P)² and style_l = Σ (G-A)² / 4N²,
    the Gram matrices divided by their positions; see `engine.style_losses` for the others.

    Args:
        content: a file's path, a `PIL.Image.Image`, or an array; see `read_image`.
        style: the same, or a list of them. Each is resized to the content's longest side.
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
            content's mean colour and covariance first (Gatys et al. 2016).
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
        progress: called with (steps done, steps in all). None shows a bar on a terminal.

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
    given = read_image(content, size=recipe.size)
    pictures = [read_image(s) for s in (style if isinstance(style, list | tuple) else [style])]
    if not pictures:
        raise ValueError("no style was given")
    seen, pictures = _colored(given, pictures, keep_colors)
    task = _Task(
        objective=StyleObjective(network, weights, span),
        weights=weights,
        recipe=recipe,
        given=given if keep_colors == "luminance" else None,
        content=_for_network(network, seen),
        styles=[_for_network(network, p) for p in pictures],
        masks=_masks(masks, len(pictures), given.shape[:2]),
        shares=_shares(style_shares, len(pictures)),
        seed=seed,
        frame_every=frame_every,
    )
    sizes = [_scaled(given.shape[:2], scales - 1 - k) for k in range(scales)]
    _check_size(network, task.objective.layers, sizes[0], memory_budget)
    _check_size(network, task.objective.layers, sizes[-1], memory_budget)
    if recipe.style_weight is None:
        task = task.balanced()
    x = _start(start, task)
    results: list[StyleTransfer] = []
    with progress_to(progress, f"{network.name} style", "steps") as report:
        for number, at in enumerate(sizes):

            def told(descent: Descent, before: int = number * recipe.steps) -> None:
                report(before + len(descent.trace) - 1, recipe.steps * scales)

            results.append(task.run(resized(x, at), told, tuple(results)))
            x = results[-1].optimized
    return results[-1]


@dataclass(frozen=True)
class _Task:
    """A transfer, to be run at one size after the other.

    Attributes:
        given: the content (h, w, 3) whose colours the result gets back; None where it does not.
        content, styles, masks: at the full size, as the network takes them.
    """

    objective: StyleObjective
    weights: StyleWeights
    recipe: _Recipe
    given: NDArray[np.float32] | None
    content: NDArray[np.float32]
    styles: list[NDArray[np.float32]]
    masks: list[NDArray[np.float32]]
    shares: NDArray[np.float32]
    seed: int
    frame_every: int

    def balanced(self) -> _Task:
        """Return the task with the style weighed against the content."""
        size = self.content.shape[:2]
        targets = self.targets(self.content)
        at_content = self.objective.measure(self.content[None], targets) * self.weights.by_term
        content, style = (
            [name.startswith(kind) for name in self.weights.names] for kind in ("content", "style")
        )
        apart = sum(
            share
            * (
                self.objective.measure(resized(picture, size)[None], targets) * self.weights.by_term
            )[content].sum()
            for share, picture in zip(self.shares, self.styles, strict=True)
        )
        need = at_content[style].sum()
        if not (np.isfinite([apart, need]).all() and apart > 0 and need > 0):
            return self  # nothing to weigh it against, or weights that the descent will refuse
        weights = replace(self.weights, style=float(_BALANCE * apart / need))
        objective = StyleObjective(self.objective.network, weights, self.objective.value_range)
        return replace(self, weights=weights, objective=objective)

    def targets(self, content: NDArray[np.float32]) -> StyleTargets:
        """Return the targets for the content (h, w, c) at some size."""
        size = (content.shape[0], content.shape[1])
        styles, masks = self.at(size)
        return self.objective.targets(
            content[None], [s[None] for s in styles], self.shares, [m[None] for m in masks]
        )

    def at(
        self, size: tuple[int, int]
    ) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Return the styles and the masks for a content of some size."""
        styles = [resized(s, fitted(s.shape[:2], max(size))) for s in self.styles]
        return styles, [resized(m, size) for m in self.masks]

    def run(
        self,
        start: NDArray[np.float32],
        report: Callable[[Descent], None],
        coarser: tuple[StyleTransfer, ...],
    ) -> StyleTransfer:
        """Descend from `start` (h, w, c), at its size."""
        size = (start.shape[0], start.shape[1])
        content = resized(self.content, size)
        styles, masks = self.at(size)
        targets = self.targets(content)
        descent = Descent(start[None], start[None])
        frames: list[NDArray[np.float32]] = []

        def told(descent: Descent) -> None:
            if self.frame_every:
                if len(frames) == 0:
                    frames.append(start)
                if (len(descent.trace) - 1) % self.frame_every == 0:
                    frames.append(descent.image[0])
            report(descent)
            if self.recipe.until_loss is not None and descent.loss <= self.recipe.until_loss:
                raise Reached

        def result(image: NDArray[np.float32]) -> StyleTransfer:
            given = None if self.given is None else resized(self.given, size)
            light = image if image.shape[-1] == 1 else luminance(image)
            return StyleTransfer(
                image=image if given is None else with_luminance(given, light),
                optimized=image,
                start=start,
                content=content,
                styles=tuple(styles),
                shares=self.shares,
                masks=tuple(masks),
                model=self.objective.network.name,
                value_range=self.objective.value_range,
                weights=self.weights,
                trace=np.stack(descent.trace),
                optimizer=self.recipe.optimizer,
                evaluations=descent.evaluations,
                seed=self.seed,
                frames=tuple(frames),
                coarser=coarser,
            )

        try:
            self.descend(targets, descent, told)
        except Reached:
            return result(descent.image[0])
        except KeyboardInterrupt:
            if not descent.trace:
                raise
            raise StyleInterrupted(result(descent.best[0])) from None
        return result(descent.image[0])

    def descend(
        self, targets: StyleTargets, descent: Descent, report: Callable[[Descent], None]
    ) -> None:
        recipe = self.recipe
        if recipe.optimizer == "lbfgs":
            descend_lbfgs(self.objective, targets, descent, recipe.steps, report)
            return
        descend_adam(
            self.objective,
            targets,
            descent,
            recipe.steps,
            report,
            step_size=recipe.step_size,
            beta1=recipe.beta1,
            beta2=0.999,
            epsilon=recipe.epsilon,
        )


def _recipe(preset: StylePreset | None, **given: Any) -> _Recipe:
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


def _colored(
    content: NDArray[np.float32], styles: list[NDArray[np.float32]], keep: KeepColors | None
) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """Return content and styles in the colours in which they are compared."""
    if keep is None:
        return content, styles
    if keep == "histogram":
        return content, [match_colors(s, content) for s in styles]
    if keep == "luminance":
        grey = np.repeat(luminance(content), 3, axis=-1)
        return grey, [grey_like(s, content) for s in styles]
    raise ValueError(f"keep_colors is 'luminance', 'histogram' or None, not {keep!r}")


def _for_network(network: Network, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an RGB image (h, w, 3) with the channels that a network takes."""
    channels = network.input_shape[-1]
    if channels not in (1, 3):
        raise ValueError(f"{network.name} takes {channels} channels, where pictures have 1 or 3")
    return image if channels == 3 else luminance(image)


def _shares(given: Sequence[float] | None, styles: int) -> NDArray[np.float32]:
    shares = np.ones(styles) if given is None else np.asarray(given, np.float64)
    if shares.shape != (styles,):
        raise ValueError(f"style_shares has shape {shares.shape} for {styles} styles")
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise ValueError(f"style_shares are numbers from 0, not all 0, not {list(shares)}")
    return (shares / shares.sum()).astype(np.float32)


def _masks(
    given: Sequence[ArrayLike] | None, styles: int, size: tuple[int, ...]
) -> list[NDArray[np.float32]]:
    if given is None:
        return []
    if len(given) != styles:
        raise ValueError(f"{len(given)} masks were given for {styles} styles")
    masks = []
    for number, array in enumerate(given):
        mask = np.asarray(array, np.float32)
        if mask.ndim != 2:
            raise ValueError(f"mask {number} has shape {mask.shape}; a mask is (h, w)")
        if not (np.isfinite(mask).all() and mask.min() >= 0 and 0 < mask.max() <= 1):
            raise ValueError(f"mask {number} has values from 0 to 1, and not 0 everywhere")
        masks.append(resized(mask[..., None], (size[0], size[1])))
    return masks


def _start(start: Any, task: _Task) -> NDArray[np.float32]:
    """Return what the descent begins with (h, w, c), at the full size."""
    shape = task.content.shape
    if isinstance(start, str) and start == "content":
        return task.content
    if isinstance(start, str) and start == "style":
        return resized(task.styles[0], (shape[0], shape[1]))
    if isinstance(start, str) and start == "noise":
        return np.random.default_rng(task.seed).random(shape, dtype=np.float32)
    image = _for_network(task.objective.network, read_image(start))
    return resized(image, (shape[0], shape[1]))


def _scaled(size: tuple[int, ...], halvings: int) -> tuple[int, int]:
    return max(1, round(size[0] / 2**halvings)), max(1, round(size[1] / 2**halvings))


def _check_size(
    network: Network, layers: tuple[str, ...], size: tuple[int, int], budget: int | None
) -> None:
    """Hold a size (h, w) against what the network takes, and against the memory.

    Raises:
        ValueError: another size than the network's only one, one at which a layer has no position
            left, or one that takes more memory than the budget; it says which would do.
    """
    h, w, _ = network.input_shape
    if (h, w) not in ((None, None), size):
        raise ValueError(f"{network.name} takes images of {h}×{w} alone, not {size[0]}×{size[1]}")
    c = int(network.input_shape[-1] or 3)
    if not _fits(network, layers, (*size, c)):
        least = next(
            (s for s in range(min(size), 1025) if _fits(network, layers, (s, s, c))), "another size"
        )
        raise ValueError(
            f"an image of {size[0]}×{size[1]} is too small for {network.name} up to layer "
            f"{layers[-1]!r}: at least {least}×{least} is needed"
        )
    need = bytes_an_image(network, layers, (*size, c))
    budget = default_budget() if budget is None else budget
    if need > budget:
        longest = int(max(size) * math.sqrt(budget / need))
        raise ValueError(
            f"a step at {size[0]}×{size[1]} takes about {need / 2**30:.1f} GiB, and "
            f"{budget / 2**30:.1f} GiB are free: size={longest} would fit"
        )


def _fits(network: Network, layers: tuple[str, ...], shape: tuple[int, ...]) -> bool:
    """Return whether every layer has a position left for an image of `shape` (h, w, c)."""
    symbols = [network.outputs[name] for name in layers]
    try:
        found = backend.shapes(lambda x: network.run(x, symbols), (1, *shape))
    except ValueError:
        return False
    return all(side > 0 for s in found for side in s)
