"""Activation maximization: find images that excite units by gradient ascent on the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.engine.ascent.climb import Climb
from convlens.engine.ascent.objectives import Objective
from convlens.engine.ascent.optimizers import OptimizerName
from convlens.engine.ascent.options import Preset, ascent_options, check_range
from convlens.engine.ascent.parametrization import Basis
from convlens.engine.ascent.rounds import Climbed, Rounds
from convlens.engine.model.network import Network, Units
from convlens.engine.model.targets import output_of
from convlens.engine.runtime.memory import default_budget
from convlens.engine.runtime.progress import Progress, progress_to


@dataclass(frozen=True)
class Maximization:
    """Images that excite units, with the rise of their activations.

    Attributes:
        images: (n, h, w, c) float32, one image for each objective.
        start: (n, h, w, c) the images at the start of the ascent.
        model: the model's name.
        layer: the layer's name; the names of several layers are joined by ' + '.
        units: (n,) the unit of each image; the objective's number if it is not a single unit.
        objectives: (n,) the maximized objectives.
        trace: (k, n) each objective's value, measured without jitter and regularizers. The value
            of a unit is the mean of its feature map, or its score before the softmax. The first
            row belongs to `start`; the last to `images`, the best ones that were measured.
        trace_steps: (k,) number of steps taken before each row of `trace`.
        steps_taken: (n,) number of steps of each image, in both ascents of one that was climbed
            twice. An ascent ends before its last step if no
            unit of its batch rises any more.
        path_length: (n,) sum of the L2 lengths of the steps.
        value_range: the pixels' range (low, high); None if the pixels were not clipped.
        basis: parametrization of the ascent, 'pixel' or 'fourier'.
        seed: seed of all random draws.
        model_range: (low, high) of the pixels that the model takes.
        preset: the recipe that was asked for; None for the default.
    """

    images: NDArray[np.float32]
    start: NDArray[np.float32]
    model: str
    layer: str
    units: NDArray[np.int64]
    objectives: tuple[Objective, ...]
    trace: NDArray[np.float32]
    trace_steps: NDArray[np.int64]
    steps_taken: NDArray[np.int64]
    path_length: NDArray[np.float32]
    value_range: tuple[float, float] | None
    basis: Basis
    seed: int
    model_range: tuple[float, float] = (0.0, 1.0)
    preset: Preset | None = None

    @property
    def steps(self) -> int:
        """Largest number of steps taken."""
        return int(self.trace_steps[-1])

    @property
    def labels(self) -> list[str]:
        """A short label of each image: its unit's number, or its objective."""
        return [
            str(u) if _is_unit(o) else str(o)
            for u, o in zip(self.units, self.objectives, strict=True)
        ]

    def of_layer(self, layer: str) -> Maximization:
        """Return the images of one layer's units, of a result for single units of several layers.

        Args:
            layer: the layer's name.
        """
        own = [i for i, o in enumerate(self.objectives) if o.terms[0].layer == layer]
        return replace(
            self,
            layer=layer,
            units=np.array([self.objectives[i].terms[0].direction for i in own], np.int64),
            objectives=tuple(self.objectives[i] for i in own),
            trace=self.trace[:, own],
            images=self.images[own],
            start=self.start[own],
            steps_taken=self.steps_taken[own],
            path_length=self.path_length[own],
        )

    def with_longer(self, index: NDArray[np.int64], longer: Maximization) -> Maximization:
        """Return a copy in which some images are those of longer ascents that ended higher.

        Args:
            index: (m,) numbers of the images.
            longer: the longer ascents of these units, with at most as many rows in the trace.
        """
        rows = np.minimum(np.arange(len(self.trace)), len(longer.trace) - 1)
        higher = longer.trace[-1] > self.trace[-1, index]
        at = index[higher]
        arrays = {
            name: getattr(self, name).copy()
            for name in ("images", "start", "trace", "steps_taken", "path_length")
        }
        arrays["trace"][:, at] = longer.trace[rows][:, higher]
        for name in ("images", "start", "steps_taken", "path_length"):
            arrays[name][at] = getattr(longer, name)[higher]
        steps = np.maximum(self.trace_steps, longer.trace_steps[rows]) if len(at) else None
        return replace(self, trace_steps=self.trace_steps if steps is None else steps, **arrays)


class AscentInterrupted(KeyboardInterrupt):
    """Ctrl-C ended an ascent.

    Attributes:
        result: the finished objectives; if none had finished, the first chunk of objectives after
            the steps taken so far.
    """

    def __init__(self, result: Maximization) -> None:
        super().__init__(
            f"{len(result.units)} images of {result.model} layer {result.layer!r} after "
            f"{result.steps} steps are in this exception's .result"
        )
        self.result = result


def maximize(
    model: keras.Model | Network,
    layer: str | Objective | Sequence[Objective] | None = None,
    units: Units = None,
    *,
    steps: int | None = None,
    step_size: float | None = None,
    optimizer: OptimizerName | None = None,
    basis: Basis | None = None,
    decorrelate: bool | None = None,
    jitter: float | None = None,
    scale: tuple[float, float] | None = None,
    rotation: float | None = None,
    norm_weight: float | None = None,
    tv_weight: float | None = None,
    images_per_unit: int = 1,
    diversity_weight: float | None = None,
    clip: bool | None = None,
    keep_best: bool | None = None,
    preset: Preset | None = None,
    seed: int = 0,
    seed_images: ArrayLike | None = None,
    restart_images: ArrayLike | None = None,
    restart_all: bool = False,
    value_range: tuple[float, float] | None = None,
    size: tuple[int, ...] | None = None,
    graph_layers: Sequence[str] | None = None,
    checkpoints: int = 10,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> Maximization:
    """Find one image for each unit that maximizes the unit's mean activation.

    All units are one batch in a compiled loop: z ← z + step(∇/‖∇‖). ∇ is the gradient with respect
    to the image's parameters z of activation - norm_weight·norm(x) - tv_weight·TV(x), with the
    activation taken at the transformed image (Erhan et al. 2009; Simonyan et al. 2013; Olah et al.
    2017). A softmax or sigmoid of the model's output is replaced by linear. Steps shrink and the
    transformations fade out on the way. The threshold of a ReLU unit is lowered at first, for the
    gradient comes only from the positions above it; a unit that is silent everywhere is raised by
    its largest pre-activation. A unit that was silent at the start, or did not rise, starts again
    from an image that excites it; if it still does not rise, it climbs on by small steps. The best
    image that was measured is returned.

    If a `tf.distribute` strategy of TensorFlow or a `DataParallel` distribution of Keras is active
    when the `Network` is created, the batch is spread over its devices.

    Args:
        model: a Keras model, or a `Network` to reuse its compiled functions.
        layer: a layer's name; None for the model's output, whose units are the classes; or one or
            more `Objective`s: units, positions, directions, and weighted sums of them.
        units: channel or class numbers; None for all units of the layer.
        steps: number of steps; by default 300 (200 with 'keras-vis').
        step_size: size of the first steps in units of the parameters; by default 30 % of the range
            for pixels and 0.05 for the other parametrizations. It falls to almost 0 along half a
            cosine. With 'keras-vis' all steps are of size 1.
        optimizer: 'adam', 'rmsprop' or 'sgd'; each gets a normalized gradient.
        basis: 'pixel', or 'fourier' to optimize Fourier coefficients weighted by 1/frequency.
        decorrelate: optimize in decorrelated colors of natural images; needs 3 channels.
        jitter: largest random roll of the image before each gradient, in either direction: a
            number of pixels (an int, or 1 and more), or a fraction of the side, truncated to
            pixels. It fades out over the first half of the steps.
        scale: (min, max) of the random factor that enlarges the image before each gradient.
        rotation: largest random rotation before each gradient, in degrees, in either direction.
        norm_weight: weight of the L6 norm; see `regularizers.image_norm`.
        tv_weight: weight of the total variation; see `regularizers.total_variation`.
        images_per_unit: number of images for each unit or objective, from different starts;
            `diversity_weight` keeps them different.
        diversity_weight: weight of the diversity term: the objective loses its absolute value,
            times this weight, times the mean cosine similarity of the Gram matrices of the unit's
            images; by default 2.
        clip: whether the pixels stay in `value_range`.
        keep_best: False to return the last iterate instead of the best one, which is the checkpoint
            with the highest activation, measured as in `Maximization.trace`. With 'keras-vis' it
            is the image after the step whose penalized objective, before the step, was the highest.
        preset: 'keras-vis' for the recipe of that library: RMSProp without a learning rate, both
            weights 10, jitter that is never undone, no clipping.
            'feature-visualization' for that of Olah et al. 2017: Fourier basis, decorrelated
            colors, jitter, random scale (0.9 to 1.1) and rotation (10°).
        seed: seed of all random draws. The start noise of unit u comes from (seed, u), so that an
            image does not depend on the other units of the call.
        seed_images: start images: one image (h, w, c), or one for each image to find (n, h, w, c),
            such as an earlier result's `images`, to refine them in a second pass. None for noise
            around the middle of the range.
        restart_images: further images (n, h, w, c) from which a unit that did not rise may start
            again, beside noise of many kinds, textures, and images made from its gradient. Not used
            with `seed_images`.
        restart_all: True to climb every unit a second time, from the image among these that excites
            it most, and to keep the better result: a few per cent higher for some units, at twice
            the cost. Not used with `seed_images`.
        value_range: (low, high) of the pixels that the model takes; None for the range that the
            model declares (as networks of `load_pretrained` do), else (0, 1).
        size: (h, w) of the images; None for the model's own. Another size is possible where the
            layers below take it, as convolutions do and dense layers of a flattened map do not. A
            model of any size requires it.
        graph_layers: layers that share one compiled graph, the maximized one among them. An ascent
            of each of them then compiles nothing anew, but computes all of them. Not used with
            several images for a unit.
        checkpoints: number of measurements of the activations along the ascent; the best image is
            one of those that were measured.
        memory_budget: limit in bytes for a batch; more units run in several batches of equal size.
            None for `memory.default_budget`.
        progress: callback, called with (steps done, total steps) about once a second. None shows a
            progress bar on a terminal.

    Returns:
        The images with their trace; see `Maximization`.

    Raises:
        ValueError: an unknown layer, a unit out of range, seed images of a wrong shape, an empty
            value range, an option out of its bounds.
        AscentInterrupted: Ctrl-C; its `result` holds the finished images.

    Example:
        >>> from convlens.fixtures.mnist_cnn import load_mnist_cnn
        >>> result = maximize(load_mnist_cnn(), "conv2d_1", [0, 5], steps=20)
        >>> result.images.shape, result.trace.shape
        ((2, 28, 28, 1), (11, 2))
    """
    network = Network.of(model)
    if value_range is None:
        value_range = getattr(network.model, "convlens_value_range", (0.0, 1.0))
    low, high = check_range(value_range)
    if images_per_unit < 1:
        raise ValueError(f"images_per_unit must be at least 1, not {images_per_unit}")
    goals = _find_goals(network, layer, units, images_per_unit)
    options = ascent_options(
        preset,
        (low, high),
        network.input_shape[-1],
        steps=steps,
        step_size=step_size,
        optimizer=optimizer,
        basis=basis,
        decorrelate=decorrelate,
        jitter=jitter,
        scale=scale,
        rotation=rotation,
        norm_weight=norm_weight,
        tv_weight=tv_weight,
        diversity_weight=diversity_weight,
        clip=clip,
        keep_best=keep_best,
    )
    space = options.parametrization
    if seed_images is not None:
        z = space.encode(_check_seed_images(network, seed_images, len(goals.objectives)))
    else:
        shape = _image_shape(network, size, goals.objectives)
        z = np.stack([space.start(shape, np.random.default_rng([seed, *d])) for d in goals.draws])
    further = _check_restart_images(restart_images, z.shape[1:])
    shared = graph_layers if images_per_unit == 1 else None
    climb = Climb(network, goals.objectives, options, seed, max(1, checkpoints), shared)
    rounds = Rounds(
        climb,
        copies=images_per_unit,
        groups=goals.groups if images_per_unit > 1 and options.diversity_weight else None,
        budget=default_budget() if memory_budget is None else memory_budget,
    )
    try:
        with progress_to(progress, f"{network.name} {goals.layer}", "steps") as report:
            climbed = rounds.first(z, report)
            if seed_images is None:
                climbed = rounds.again(climbed, further, restart_all, report)
                climbed = rounds.gently(climbed, report)
    except KeyboardInterrupt:
        finished = rounds.finished()
        if finished is None:
            raise
        raise AscentInterrupted(_result(climb, goals, finished)) from None
    return _result(climb, goals, climbed)


@dataclass(frozen=True)
class _Goals:
    """The goals of an ascent, one entry for each image; `draws` seeds the start noise."""

    layer: str
    objectives: tuple[Objective, ...]
    units: NDArray[np.int64]
    groups: NDArray[np.int32]
    draws: list[tuple[int, ...]]


def _find_goals(
    network: Network,
    layer: str | Objective | Sequence[Objective] | None,
    units: Units,
    copies: int,
) -> _Goals:
    if layer is None or isinstance(layer, str):
        name = output_of(network, layer)
        numbers = network.check_units(name, units)
        objectives = [Objective.unit(name, int(u)) for u in numbers]
        each = numbers.tolist()
    else:
        objectives = [layer] if isinstance(layer, Objective) else list(layer)
        if not objectives:
            raise ValueError("no objective was given")
        if units is not None:
            raise ValueError(
                "units can be given only with a layer's name: an objective names its own units"
            )
        layers = dict.fromkeys(
            output_of(network, term.layer) for o in objectives for term in o.terms
        )
        name = " + ".join(layers)
        each = [o.terms[0].direction if _is_unit(o) else i for i, o in enumerate(objectives)]
        single = all(_is_unit(o) for o in objectives) and len(layers) == 1
        numbers = np.array(each if single else range(len(objectives)), np.int64)
    return _Goals(
        layer=name,
        objectives=tuple(o for o in objectives for _ in range(copies)),
        units=np.repeat(numbers, copies),
        groups=np.repeat(np.arange(len(numbers), dtype=np.int32), copies),
        draws=[(int(u), k) if k else (int(u),) for u in each for k in range(copies)],
    )


def _is_unit(objective: Objective) -> bool:
    """Return whether an objective is one unit's mean activation."""
    term = objective.terms[0]
    plain = isinstance(term.direction, int) and term.position is None and term.weight == 1
    return plain and len(objective.terms) == 1


def _check_seed_images(network: Network, seed_images: ArrayLike, count: int) -> NDArray[np.float32]:
    given = np.asarray(seed_images)
    given = network.check_batch(given)
    if len(given) not in (1, count):
        raise ValueError(f"seed_images must hold 1 or {count} images, not {len(given)}")
    return np.repeat(given, count, axis=0) if len(given) == 1 else given


def _image_shape(
    network: Network, size: tuple[int, ...] | None, objectives: Sequence[Objective]
) -> tuple[int, ...]:
    *sides, c = network.input_shape
    own = tuple(side for side in sides if side is not None)
    if c is None:
        raise ValueError(f"{network.name} does not declare the number of channels of its images")
    if size is not None and len(size) != len(sides):
        raise ValueError(f"size must have {len(sides)} numbers, one for each side, not {size}")
    if len(own) < len(sides):
        if size is None:
            form = {1: "(t,)", 2: "(h, w)", 3: "(d, h, w)"}[len(sides)]
            raise ValueError(f"{network.name} takes images of any size: give size={form}")
        return (*size, c)
    if size is not None and tuple(size) != own:
        known = network.shapes((*size, c))
        for layer in dict.fromkeys(
            output_of(network, t.layer) for o in objectives for t in o.terms
        ):
            if id(network.outputs[layer]) not in known:
                raise ValueError(
                    f"size must be {own}, the only size for which {network.name} layer "
                    f"{layer!r} can be computed, not {size}"
                )
        return (*size, c)
    return (*own, c)


def _check_restart_images(given: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the images to start again from beside the plain ones, (n, *positions, c)."""
    if given is None:
        return np.zeros((0, *shape), np.float32)
    images = np.asarray(given)
    if images.shape[1:] != shape:
        raise ValueError(
            f"restart_images must be of the shape of the images to find, {shape}, "
            f"not {images.shape[1:]}"
        )
    if not np.isfinite(images).all():
        raise ValueError("restart_images hold values that are not finite (NaN or infinity)")
    return images.astype(np.float32)


def _result(climb: Climb, goals: _Goals, climbed: Climbed) -> Maximization:
    n, space = len(climbed.images), climb.space
    return Maximization(
        images=climbed.images,
        start=climbed.start,
        model=climb.network.name,
        layer=goals.layer,
        units=goals.units[:n],
        objectives=goals.objectives[:n],
        trace=climbed.trace,
        trace_steps=climbed.trace_steps,
        steps_taken=climbed.steps_taken,
        path_length=climbed.path_length,
        value_range=space.value_range if space.clip else None,
        basis=space.basis,
        seed=climb.seed,
        model_range=space.value_range,
        preset=climb.options.preset,
    )
