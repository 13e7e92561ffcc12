"""Activation maximisation: images that excite units, by gradient ascent on the pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.engine.climb import Climb, ascent_options
from convlens.engine.network import Network, Units
from convlens.engine.objective import output_of
from convlens.engine.steps import OptimizerName

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
    name = output_of(network, layer)
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
    climb = Climb(network, name, options, (low, high), seed, max(1, checkpoints))
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
