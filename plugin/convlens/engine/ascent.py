"""Activation maximisation: images that excite units, by gradient ascent on the pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from convlens.engine import backend
from convlens.engine.network import Network, Units
from convlens.engine.regularizers import image_norm, total_variation
from convlens.engine.steps import OptimizerName, optimizer

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Maximization:
    """Images that excite units, and how their activations rose.

    Attributes:
        images: (n, h, w, c) float32, one a unit.
        start: (n, h, w, c) the images that the ascent began with.
        model: the model's name.
        layer: the layer's name.
        units: (n,) the unit of each image.
        trace: (k, n) each unit's activation, measured without jitter and regularisers: the mean
            of its feature map, or its value before the softmax. The first row is the start's,
            the last that of `images`.
        trace_steps: (k,) how many steps had been taken at each row of `trace`.
        path_length: (n,) the sum of the L2 lengths of the steps taken.
        value_range: the pixels' range (low, high), and None where they were free to leave it.
        seed: what all random draws came from.
    """

    images: NDArray[np.float32]
    start: NDArray[np.float32]
    model: str
    layer: str
    units: NDArray[np.int64]
    trace: NDArray[np.float32]
    trace_steps: NDArray[np.int64]
    path_length: NDArray[np.float32]
    value_range: tuple[float, float] | None
    seed: int

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return int(self.trace_steps[-1])


@dataclass(frozen=True)
class AscentOptions:
    """How to climb; see `maximize` for each."""

    steps: int
    step_size: float
    optimizer: OptimizerName
    jitter: float
    undo_jitter: bool
    norm_weight: float
    tv_weight: float
    clip: bool
    keep_best: bool


def ascent_options(
    preset: Literal["keras-vis"] | None, value_range: tuple[float, float], **given: Any
) -> AscentOptions:
    """Return the preset's options, or convlens's own, with what is `given` and not None.

    Raises:
        ValueError: an unknown preset.
    """
    span = value_range[1] - value_range[0]
    if preset is None:
        chosen: dict[str, Any] = {
            "steps": 300,
            "step_size": 0.01 * span,
            "optimizer": "adam",
            "jitter": 0.05,
            "undo_jitter": True,
            "norm_weight": 0.0,
            "tv_weight": 0.0,
            "clip": True,
            "keep_best": False,
        }
    elif preset == "keras-vis":
        chosen = {
            "steps": 200,
            "step_size": 1.0,
            "optimizer": "rmsprop",
            "jitter": 0.05,
            "undo_jitter": False,
            "norm_weight": 10.0,
            "tv_weight": 10.0,
            "clip": False,
            "keep_best": True,
        }
    else:
        raise ValueError(f"preset is 'keras-vis' or None, not {preset!r}")
    chosen.update({name: value for name, value in given.items() if value is not None})
    options = AscentOptions(**chosen)
    if options.steps < 1:
        raise ValueError(f"steps is at least 1, not {options.steps}")
    if options.step_size <= 0:
        raise ValueError(f"step_size is above 0, not {options.step_size}")
    if options.jitter < 0:
        raise ValueError(f"jitter is 0 or more, not {options.jitter}")
    return options


def maximize(
    model: keras.Model | Network,
    layer: str | None = None,
    units: Units = None,
    *,
    steps: int | None = None,
    step_size: float | None = None,
    optimizer: OptimizerName | None = None,
    jitter: float | None = None,
    norm_weight: float | None = None,
    tv_weight: float | None = None,
    clip: bool | None = None,
    keep_best: bool | None = None,
    preset: Literal["keras-vis"] | None = None,
    seed: int = 0,
    seed_images: ArrayLike | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    size: tuple[int, int] | None = None,
    checkpoints: int = 10,
    memory_budget: int = 2 << 30,
    progress: Progress | None = None,
) -> Maximization:
    """Find one image for each unit that maximises the unit's mean activation.

    All units climb as one batch in a compiled loop: x ← clip(x + step(∇/‖∇‖)), with ∇ the gradient
    of activation - norm_weight·norm(x) - tv_weight·TV(x) at the jittered image (Erhan et al. 2009;
    Simonyan et al. 2013). A softmax or sigmoid of the model's output is replaced by linear. A unit
    whose ReLU is silent everywhere has no gradient; the strongest value before its ReLU is raised
    until it wakes.

    Args:
        model: a Keras model, or a `Network` to reuse its compiled functions.
        layer: its name; None for the model's output, whose units are the classes.
        units: channel or class numbers; None for all of the layer's.
        steps: how many steps; 300 (200 with the preset).
        step_size: the step in units of the pixels' range; 1 % of the range (1 with the preset).
        optimizer: 'adam', 'rmsprop' or 'sgd'.
        jitter: how far the image is rolled at random before each gradient, to either side: whole
            pixels (an int, or 1 and more), or a fraction of the side, truncated to pixels.
        norm_weight: weight of the L6 norm, see `regularizers.image_norm`.
        tv_weight: weight of the total variation, see `regularizers.total_variation`.
        clip: whether the pixels stay in `value_range`.
        keep_best: return the iterate with the best objective and not the last.
        preset: 'keras-vis' for that library's recipe: RMSProp without a learning rate, both
            weights 10, a jitter that is never undone, no clipping, the best iterate kept.
        seed: all random draws come from it: the start noise of unit u from (seed, u), so that an
            image does not depend on which other units are asked for.
        seed_images: where to start: one image (h, w, c), or one a unit (n, h, w, c), such as an
            earlier result's `images` to refine them. None for noise about the middle of the range.
        value_range: (low, high) of the pixels that the model takes.
        size: (h, w), needed by and only by a model that takes any size.
        checkpoints: how often the activations are measured on the way.
        memory_budget: bytes that the batch may take; more units are done in chunks of equal size.
        progress: called with (steps done, steps in all) after each compiled segment.

    Returns:
        The images with their trace; see `Maximization`.

    Raises:
        ValueError: an unknown layer, a unit out of range, seed images of a wrong shape, a value
            range without extent, an option out of its bounds.

    Example:
        >>> from convlens.fixtures.mnist_cnn import load_mnist_cnn
        >>> result = maximize(load_mnist_cnn(), "conv2d_1", [0, 5], steps=20)
        >>> result.images.shape, result.trace.shape
        ((2, 28, 28, 1), (11, 2))
    """
    network = Network.of(model)
    name = _target(network, layer)
    chosen = network.check_units(name, units)
    low, high = check_range(value_range)
    options = ascent_options(
        preset,
        (low, high),
        steps=steps,
        step_size=step_size,
        optimizer=optimizer,
        jitter=jitter,
        norm_weight=norm_weight,
        tv_weight=tv_weight,
        clip=clip,
        keep_best=keep_best,
    )
    start = _start_images(network, chosen, seed_images, (low, high), size, seed)
    climb = _Climb(network, name, options, (low, high), seed, max(1, checkpoints))
    chunks = np.array_split(np.arange(len(chosen)), _chunks(network, name, start, memory_budget))
    done = 0
    parts = []
    for index in chunks:

        def report(taken: int, before: int = done) -> None:
            if progress is not None:
                progress(before + taken, options.steps * len(chunks))

        parts.append(climb(start[index], chosen[index], report))
        done += options.steps
    images, trace, lengths = (list(column) for column in zip(*parts, strict=True))
    return Maximization(
        images=np.concatenate(images),
        start=start,
        model=network.name,
        layer=name,
        units=chosen,
        trace=np.concatenate(trace, axis=1),
        trace_steps=np.asarray(climb.trace_steps),
        path_length=np.concatenate(lengths),
        value_range=(low, high) if options.clip else None,
        seed=seed,
    )


def mean_activation(
    network: Network, layer: str, units: NDArray[np.int64], images: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the activation (n,) that `maximize` raises, of unit i on image i.

    The mean of the unit's feature map, or its value before the softmax; no jitter.
    """
    pick = np.eye(network.units(layer), dtype=np.float32)[units]
    measure = _measure(network, layer)
    parts = [
        ops.convert_to_numpy(
            measure(
                ops.convert_to_tensor(images[i : i + 64]), ops.convert_to_tensor(pick[i : i + 64])
            )
        )
        for i in range(0, len(images), 64)
    ]
    return np.concatenate(parts)


def class_scores(network: Network, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scores (n, classes) before the softmax of the model's output."""
    target = _target(network, None)

    def build() -> Callable[..., Any]:
        tensor = _Objective(network, target).tensors[0]
        return lambda x: network.run(x, [tensor])[0]

    scores = network.compiled(("scores", target), build)(ops.convert_to_tensor(images))
    return ops.convert_to_numpy(scores).astype(np.float32)


def _measure(network: Network, layer: str) -> Callable[..., Any]:
    return network.compiled(("measure", layer), lambda: _Objective(network, layer).measure)


class _Climb:
    """The compiled ascent of a layer's units, for chunks of them."""

    def __init__(
        self,
        network: Network,
        layer: str,
        options: AscentOptions,
        value_range: tuple[float, float],
        seed: int,
        checkpoints: int,
    ) -> None:
        self.options = options
        self.seed = seed
        self.value_range = value_range
        segment = math.ceil(options.steps / checkpoints)
        self.segments = [
            (first, min(segment, options.steps - first))
            for first in range(0, options.steps, segment)
        ]
        self.trace_steps = [0, *(first + count for first, count in self.segments)]
        self.rule = optimizer(options.optimizer, options.step_size)
        self.units = network.units(layer)
        self.network = network
        self.objective = _Objective(network, layer)
        self.key = ("ascent", layer, options, value_range)
        self.measure = _measure(network, layer)

    def __call__(
        self, start: NDArray[np.float32], units: NDArray[np.int64], report: Callable[[int], None]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return the images (n, h, w, c), the trace (k, n) and the path lengths (n,)."""
        n = len(start)
        pick = ops.convert_to_tensor(np.eye(self.units, dtype=np.float32)[units])
        x = ops.convert_to_tensor(start)
        shifts = self.shifts(start.shape[1:3])
        state = [ops.zeros_like(x) for _ in range(self.rule.slots)]
        best = [x, ops.full((n,), -np.inf, dtype="float32")] if self.options.keep_best else []
        carry = [x, ops.zeros((n,), dtype="float32"), *state, *best]
        trace = [self.measure(x, pick)]
        for first, count in self.segments:
            rolls = ops.convert_to_tensor(shifts[first : first + count])
            silent = self.objective.can_be_silent & (ops.convert_to_numpy(trace[-1]) <= 0)
            # Waking costs a tenth of a step, so that a batch that is all awake goes without.
            run = self.compiled(waking=bool(silent.any()))
            begin = ops.convert_to_tensor(np.int32(first))
            carry = run(carry, pick, ops.convert_to_tensor(silent), rolls, begin)
            trace.append(self.measure(carry[0], pick))
            report(first + count)
        images = carry[-2] if best else carry[0]
        if best:
            trace[-1] = self.measure(images, pick)
        return (
            ops.convert_to_numpy(images),
            np.stack([ops.convert_to_numpy(row) for row in trace]),
            ops.convert_to_numpy(carry[1]),
        )

    def shifts(self, size: tuple[int, int]) -> NDArray[np.int32]:
        """Return how far the image is rolled at each step, (steps, 2), both ends included."""
        jitter = self.options.jitter
        reach = [int(side * jitter) if 0 < jitter < 1 else int(jitter) for side in size]
        # One generator for the whole run, so that chunks of units are rolled alike.
        draw = np.random.default_rng([self.seed, 0x5EED])
        return np.stack(
            [draw.integers(-r, r, self.options.steps, endpoint=True) for r in reach], axis=1
        ).astype(np.int32)

    def compiled(self, waking: bool) -> Callable[..., Any]:
        return self.network.compiled((*self.key, waking), lambda: self.loop(waking))

    def loop(self, waking: bool) -> Callable[..., Any]:
        """Return the segment to compile.

        It takes the carry, the units' one-hot rows, which units were silent when the segment
        began, the shifts and the number of the first step, and returns the carry.
        """
        options, rule, objective = self.options, self.rule, self.objective
        low, high = self.value_range
        slots = slice(2, 2 + rule.slots)
        rolled = options.jitter > 0

        def segment(carry: list[Any], pick: Any, silent: Any, shifts: Any, first: Any) -> list[Any]:
            def body(i: Any, carry: list[Any]) -> list[Any]:
                x, length, state = carry[0], carry[1], carry[slots]
                seen = ops.roll(x, shifts[i], axis=(1, 2)) if rolled else x
                value, pullback = backend.vjp(
                    lambda x: objective(x, pick, silent if waking else None, options), seen
                )
                gradient = _normalised(pullback(ops.ones_like(value)), options)
                if rolled and options.undo_jitter:
                    gradient = ops.roll(gradient, -shifts[i], axis=(1, 2))
                else:
                    x = seen
                step, state = rule.step(gradient, state, first + i)
                new = ops.clip(x + step, low, high) if options.clip else x + step
                length = length + ops.sqrt(ops.sum(ops.square(new - x), axis=(1, 2, 3)))
                out = [new, length, *state]
                if options.keep_best:
                    better = value > carry[-1]
                    out.append(ops.where(better[:, None, None, None], seen, carry[-2]))
                    out.append(ops.where(better, value, carry[-1]))
                return out

            result: list[Any] = ops.fori_loop(0, ops.shape(shifts)[0], body, carry)
            return result

        return segment


class _Objective:
    """Each image's unit's activation, (n,)."""

    def __init__(self, network: Network, layer: str) -> None:
        self.network = network
        output = network.outputs[layer]
        before = network.preactivations.get(layer)
        activation = network.activation_name(layer)
        if activation in ("softmax", "sigmoid") and layer == network.output_layer:
            output, before = before, None
        self.tensors = [output, before]
        # Only a ReLU can be silent over a whole map.
        self.can_be_silent = before is not None and activation in ("relu", "relu6")

    def measure(self, images: Any, pick: Any) -> Any:
        """Return the activation itself: the mean over positions."""
        return _mean_of_unit(self.network.run(images, self.tensors[:1])[0], pick)

    def __call__(self, images: Any, pick: Any, silent: Any | None, options: AscentOptions) -> Any:
        """Return what is climbed: the activation, less the regularisers.

        Of a unit that was silent and still is, the strongest value before the ReLU is climbed.
        """
        if silent is None:
            value = self.measure(images, pick)
        else:
            maps, before = self.network.run(images, self.tensors)
            peak = _peak_of_unit(before, pick)
            value = ops.where(ops.logical_and(silent, peak <= 0), peak, _mean_of_unit(maps, pick))
        if options.norm_weight:
            value = value - options.norm_weight * image_norm(images)
        if options.tv_weight:
            value = value - options.tv_weight * total_variation(images)
        return value


def _mean_of_unit(maps: Any, pick: Any) -> Any:
    maps = ops.cast(maps, "float32")
    positions = tuple(range(1, len(maps.shape) - 1))
    means = ops.mean(maps, axis=positions) if positions else maps
    return ops.sum(means * pick, axis=-1)


def _peak_of_unit(maps: Any, pick: Any) -> Any:
    maps = ops.cast(maps, "float32")
    positions = tuple(range(1, len(maps.shape) - 1))
    peaks = ops.max(maps, axis=positions) if positions else maps
    return ops.sum(peaks * pick, axis=-1)


def _normalised(gradient: Any, options: AscentOptions) -> Any:
    """Return each image's gradient at a length that does not depend on the network's scale."""
    total = ops.sum(ops.square(gradient), axis=(1, 2, 3), keepdims=True)
    if options.optimizer == "rmsprop":  # keras-vis: unit L2 length over the whole image
        return gradient / (ops.sqrt(total) + 1e-20)
    pixels = float(np.prod(gradient.shape[1:]))
    return gradient / (ops.sqrt(total / pixels) + 1e-20)


def _target(network: Network, layer: str | None) -> str:
    if layer is not None:
        return network.find(layer)
    output = network.output_layer
    if output is None or len(network.outputs[output].shape) != 2:
        raise ValueError(f"{network.name} has no vector of classes as its output: name a layer")
    return output


def check_range(value_range: tuple[float, float]) -> tuple[float, float]:
    """Return (low, high) as floats.

    Raises:
        ValueError: not two finite numbers, the first below the second.
    """
    try:
        low, high = (float(v) for v in value_range)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"value_range is (low, high) with low < high, not {value_range!r}")
    return low, high


def _start_images(
    network: Network,
    units: NDArray[np.int64],
    seed_images: ArrayLike | None,
    value_range: tuple[float, float],
    size: tuple[int, int] | None,
    seed: int,
) -> NDArray[np.float32]:
    if seed_images is not None:
        given = np.asarray(seed_images)
        given = network.check_images(given[None] if given.ndim == 3 else given)
        if len(given) not in (1, len(units)):
            raise ValueError(f"seed_images has {len(given)} images for {len(units)} units")
        return np.repeat(given, len(units), axis=0) if len(given) == 1 else given
    h, w, c = network.input_shape
    if c is None:
        raise ValueError(f"{network.name} does not say how many channels its images have")
    if h is None or w is None:
        if size is None:
            raise ValueError(f"{network.name} takes images of any size: give size=(h, w)")
        h, w = size
    elif size is not None and size != (h, w):
        raise ValueError(f"{network.name} takes images of {h}×{w}, not size={size}")
    low, high = value_range
    start = np.empty((len(units), h, w, c), np.float32)
    for i, unit in enumerate(units):
        noise = np.random.default_rng([seed, int(unit)]).random((h, w, c))
        noise = (noise - noise.mean()) / noise.std()
        start[i] = (low + high) / 2 + 0.05 * (high - low) * noise
    return start


def _chunks(network: Network, layer: str, start: NDArray[np.float32], budget: int) -> int:
    """Return into how many chunks the units go so that each fits the memory budget."""
    h, w = start.shape[1:3]
    below = network.below(layer)
    values = start[0].size
    for name in below:
        shape = network.outputs[name].shape[1:]
        values += math.prod(s or max(h, w) for s in shape)
    # Forward, backward and their copies hold about four floats for each value of the network.
    per_unit = 16 * values
    return min(len(start), math.ceil(len(start) * per_unit / max(budget, 1)))
