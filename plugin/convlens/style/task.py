"""Run a prepared style transfer at one or more sizes, and return its result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convlens.engine.ascent.colors import luminance, with_luminance
from convlens.engine.runtime.progress import progress_bar
from convlens.pictures.photographs import resized
from convlens.style.descent import (
    Descent,
    OnStep,
    StopDescent,
    StyleOptimizer,
    descend_adam,
    descend_lbfgs,
)
from convlens.style.inputs import fitted_to
from convlens.style.losses import Convention
from convlens.style.objective import StyleObjective, StyleTargets, StyleWeights

# Called with (steps done, total steps, weighted losses by name: 'total' and its parts).
StyleProgress = Callable[[int, int, Mapping[str, float]], None]
# Ratio of style to content in the default style weight. At 50 the objects of a scene are clearly
# visible in the texture of a painting.
BALANCE = 50.0


@dataclass(frozen=True)
class Recipe:
    """Options of a style transfer: set by presets, overridden by arguments."""

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


@dataclass(frozen=True)
class StyleTransfer:
    """A picture in another picture's style, with the details of its computation.

    Attributes:
        image: (h, w, c) float32 with values in [0, 1].
        optimized: (h, w, c) the image that the loss was measured on. It differs from `image` only
            if the content's colors were restored afterwards.
        start: (h, w, c) the start image.
        content: (h, w, c) the content as used in the loss.
        styles: the styles as used in the loss, (h, w, c) each.
        shares: (styles,) the share of each style; they sum to 1.
        masks: for each style a mask (h, w, 1) of the region that it applies to; empty without
            masks.
        model: the model's name.
        value_range: input values of the model that correspond to 0 and 1.
        weights: the layers, the convention and the weights of the terms.
        trace: (k, terms) the unweighted terms in the order of `names`, at the start and after each
            step.
        optimizer: 'lbfgs' or 'adam'.
        evaluations: number of evaluations of the loss and its gradient.
        seed: seed of all random draws.
        frames: intermediate images (h, w, c) at this scale, if `frame_every` was given.
        coarser: the results at the smaller scales, from the smallest on.
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
        """Number of steps taken at this scale."""
        return len(self.trace) - 1

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the terms: 'content:<layer>', 'style:<layer>' and 'variation'."""
        return self.weights.names

    @property
    def losses(self) -> dict[str, NDArray[np.float64]]:
        """The weighted sums (k,): 'total', and its parts 'content', 'style' and 'variation'."""
        return _sums(self.trace, self.weights)


class StyleInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a style transfer.

    Attributes:
        result: the image with the lowest loss so far, at the current scale.
    """

    def __init__(self, result: StyleTransfer) -> None:
        super().__init__(f"the best image of {result.steps} steps is in this exception's .result")
        self.result = result


@dataclass(frozen=True)
class StyleTask:
    """A prepared style transfer, to be run at one or more sizes.

    Attributes:
        given: the content (h, w, 3) whose colors are restored in the result; None to restore none.
        content, styles, masks: the inputs at full size, in the form that the network takes.
        whole: the targets at full size if already computed, else None.
    """

    objective: StyleObjective
    weights: StyleWeights
    recipe: Recipe
    given: NDArray[np.float32] | None
    content: NDArray[np.float32]
    styles: list[NDArray[np.float32]]
    masks: list[NDArray[np.float32]]
    shares: NDArray[np.float32]
    seed: int
    frame_every: int
    whole: StyleTargets | None = None

    def balanced(self) -> StyleTask:
        """Return the task with a style weight that balances style and content."""
        size = (self.content.shape[0], self.content.shape[1])
        targets = self.targets(self.content)
        content, style = (
            [name.startswith(kind) for name in self.weights.names] for kind in ("content", "style")
        )

        def weighted(image: NDArray[np.float32]) -> NDArray[np.float64]:
            return self.objective.measure(image[None], targets) * self.weights.by_term

        need = weighted(self.content)[style].sum()
        apart = sum(
            share * weighted(resized(picture, size))[content].sum()
            for share, picture in zip(self.shares, self.styles, strict=True)
        )
        if not (np.isfinite([apart, need]).all() and apart > 0 and need > 0):
            return self  # a loss is 0, or not finite: then the descent raises
        weights = replace(self.weights, style=float(BALANCE * apart / need))
        objective = StyleObjective(self.objective.network, weights, self.objective.value_range)
        return replace(self, weights=weights, objective=objective, whole=targets)

    def run_scales(
        self,
        sizes: Sequence[tuple[int, int]],
        start: NDArray[np.float32],
        progress: StyleProgress | None,
    ) -> StyleTransfer:
        """Descend at each size (h, w) in turn, from `start` (h, w, c)."""
        x = start
        results: list[StyleTransfer] = []
        title = f"{self.objective.network.name} style"
        with _progress(progress, title, self.weights) as report:
            for number, size in enumerate(sizes):

                def on_step(descent: Descent, before: int = number * self.recipe.steps) -> None:
                    report(before, self.recipe.steps * len(sizes), descent)

                results.append(self.run(resized(x, size), on_step, tuple(results)))
                x = results[-1].optimized
        return results[-1]

    def targets(self, content: NDArray[np.float32]) -> StyleTargets:
        """Return the targets for a resized content (h, w, c)."""
        size = (content.shape[0], content.shape[1])
        styles, masks = self.resized_inputs(size)
        return self.objective.targets(
            content[None], [s[None] for s in styles], self.shares, [m[None] for m in masks]
        )

    def resized_inputs(
        self, size: tuple[int, int]
    ) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Return the styles and the masks resized for a content of `size` (h, w)."""
        styles = [fitted_to(self.objective.network, s, max(size)) for s in self.styles]
        return styles, [resized(m, size) for m in self.masks]

    def run(
        self,
        start: NDArray[np.float32],
        on_step: OnStep,
        coarser: tuple[StyleTransfer, ...],
    ) -> StyleTransfer:
        """Descend from `start` (h, w, c) at its own size."""
        size = (start.shape[0], start.shape[1])
        content = resized(self.content, size)
        styles, masks = self.resized_inputs(size)
        whole = self.whole if content is self.content else None
        targets = self.targets(content) if whole is None else whole
        descent = Descent(start[None], start[None])
        frames: list[NDArray[np.float32]] = []

        def after_step(descent: Descent) -> None:
            if self.frame_every:
                if len(frames) == 0:
                    frames.append(start)
                if (len(descent.trace) - 1) % self.frame_every == 0:
                    frames.append(descent.image[0])
            on_step(descent)
            if self.recipe.until_loss is not None and descent.loss <= self.recipe.until_loss:
                raise StopDescent

        def result(image: NDArray[np.float32]) -> StyleTransfer:
            return StyleTransfer(
                image=self._restore_colors(image),
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
            self.descend(targets, descent, after_step)
        except StopDescent:
            return result(descent.image[0])
        except KeyboardInterrupt:
            if not descent.trace:
                raise
            raise StyleInterrupted(result(descent.best[0])) from None
        return result(descent.image[0])

    def _restore_colors(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an image (h, w, c) with the content's colors restored if they are to be kept."""
        if self.given is None:
            return image
        light = image if image.shape[-1] == 1 else luminance(image)
        return with_luminance(resized(self.given, (image.shape[0], image.shape[1])), light)

    def descend(self, targets: StyleTargets, descent: Descent, on_step: OnStep) -> None:
        """Take the steps of the chosen optimizer."""
        recipe = self.recipe
        if recipe.optimizer == "lbfgs":
            descend_lbfgs(self.objective, targets, descent, recipe.steps, on_step)
            return
        descend_adam(
            self.objective,
            targets,
            descent,
            recipe.steps,
            on_step,
            step_size=recipe.step_size,
            beta1=recipe.beta1,
            beta2=0.999,
            epsilon=recipe.epsilon,
        )


def _sums(terms: NDArray[np.float32], weights: StyleWeights) -> dict[str, NDArray[np.float64]]:
    """Return weighted sums of terms (k, terms): 'total', 'content', 'style' and 'variation'."""
    weighted = terms * weights.by_term
    kinds = [name.partition(":")[0] for name in weights.names]
    parts = {
        kind: weighted[:, [k == kind for k in kinds]].sum(axis=1) for kind in dict.fromkeys(kinds)
    }
    return {"total": weighted.sum(axis=1), **parts}


@contextmanager
def _progress(
    given: StyleProgress | None, title: str, weights: StyleWeights
) -> Iterator[Callable[[int, int, Descent], None]]:
    """Provide a callback with arguments (steps at earlier sizes, total steps, descent)."""

    def losses(descent: Descent) -> dict[str, float]:
        sums = _sums(descent.trace[-1][None], weights)
        return {name: float(value[0]) for name, value in sums.items()}

    if given is not None:
        yield lambda before, total, descent: given(
            before + len(descent.trace) - 1, total, losses(descent)
        )
        return
    with progress_bar(title, "steps") as show:
        yield lambda before, total, descent: show(
            before + len(descent.trace) - 1,
            total,
            " ".join(f"{name} {value:.3g}" for name, value in losses(descent).items()),
        )
