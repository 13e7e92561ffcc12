"""Compiled gradient ascent of a chunk of objectives, in slices short enough to interrupt."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.ascent.diversity import sibling_similarity
from convlens.engine.ascent.objectives import Objective
from convlens.engine.ascent.optimizers import optimizer
from convlens.engine.ascent.options import AscentOptions
from convlens.engine.ascent.regularizers import image_norm, total_variation
from convlens.engine.ascent.scores import Scores
from convlens.engine.ascent.transforms import resample, roll
from convlens.engine.model.network import Network
from convlens.engine.runtime import backend

# Ctrl-C takes effect between two slices, so a slice should take at most this long.
_SLICE_SECONDS = 1.0


@dataclass
class Chunk:
    """The state of an ascent.

    Attributes:
        carry: the parameters (n, h, w, c), the path lengths (n,) and the optimizer's state; with
            `keep_best` also the best parameters and their values.
        trace: the objectives' values (n,) at each checkpoint.
        trace_steps: the number of steps taken before each checkpoint.
        taken: number of steps taken.
    """

    carry: list[Any]
    trace: list[NDArray[np.float32]] = field(default_factory=list)
    trace_steps: list[int] = field(default_factory=list)
    taken: int = 0


class Climb:
    """Gradient ascent of a list of objectives, one image each, in chunks."""

    def __init__(
        self,
        network: Network,
        objectives: Sequence[Objective],
        options: AscentOptions,
        seed: int,
        checkpoints: int,
    ) -> None:
        self.network = network
        self.options = options
        self.space = options.parametrization
        self.seed = seed
        self.scores = Scores(network, objectives)
        self.rule = optimizer(options.optimizer, options.step_size)
        stride = math.ceil(options.steps / checkpoints)
        self.stops = [*range(stride, options.steps, stride), options.steps]

    def begin(self, z: NDArray[np.float32]) -> Chunk:
        """Return the state of an ascent that starts at the parameters z (n, h, w, c)."""
        x = ops.convert_to_tensor(z)
        n = len(z)
        state = [ops.zeros_like(x) for _ in range(self.rule.slots)]
        best = [x, ops.full((n,), -np.inf, dtype="float32")] if self.options.keep_best else []
        return Chunk([x, ops.zeros((n,), dtype="float32"), *state, *best])

    def run(
        self,
        chunk: Chunk,
        index: NDArray[np.int64],
        groups: NDArray[np.int32] | None,
        on_progress: Callable[[int], None],
    ) -> None:
        """Take all steps of an ascent.

        Args:
            chunk: a new ascent, as `begin` returns it; updated in place.
            index: numbers of its objectives, (n,).
            groups: (n,) group numbers; images of one group are kept different. None for no groups.
            on_progress: callback, called with the number of steps taken after each slice.
        """
        weights = self.weights(index)
        apart = [] if groups is None else [ops.convert_to_tensor(groups)]
        draws = self.random_draws(chunk.carry[0].shape[1:3])
        values = self.record_values(chunk, weights)
        count = 1
        for stop in self.stops:
            silent = self.scores.may_wake[index] & (values <= 0)
            # Waking silent units costs a tenth of a step: a batch without silent units skips it.
            segment = self.compiled(bool(silent.any()), bool(apart))
            asleep = ops.convert_to_tensor(silent)
            while chunk.taken < stop:
                begin = time.perf_counter()
                count = min(count, stop - chunk.taken)
                span = [ops.convert_to_tensor(np.int32(i)) for i in (chunk.taken, count)]
                carry = segment(chunk.carry, weights, asleep, apart, draws, span)
                float(carry[1][0])  # wait: a device may return before it has finished
                chunk.carry, chunk.taken = carry, chunk.taken + count
                on_progress(chunk.taken)
                # A clock that a test has stopped measures 0 seconds.
                taken = max(time.perf_counter() - begin, 1e-6)
                count = max(1, int(_SLICE_SECONDS * count / taken))
            values = self.record_values(chunk, weights)
        if self.options.keep_best:
            chunk.carry[0] = chunk.carry[-2]
            del chunk.trace[-1], chunk.trace_steps[-1]
            self.record_values(chunk, weights)

    def weights(self, index: NDArray[np.int64]) -> list[Any]:
        """Return the weights of some objectives, (n, units) for each place."""
        return [ops.convert_to_tensor(w[index]) for w in self.scores.weights]

    def random_draws(self, size: tuple[int, int]) -> list[Any]:
        """Return the random shifts of all steps, and the random resampling matrices if any."""
        transforms, steps = self.options.transforms, self.options.steps
        drawn: list[NDArray[Any]] = [transforms.shifts(size, steps, self.seed)]
        if transforms.resamples:
            drawn.append(transforms.matrices(steps, self.seed))
        return [ops.convert_to_tensor(d) for d in drawn]

    def images(self, chunk: Chunk) -> NDArray[np.float32]:
        """Return the current images (n, h, w, c)."""
        return ops.convert_to_numpy(self.space.decode(chunk.carry[0]))

    def record_values(self, chunk: Chunk, weights: list[Any]) -> NDArray[np.float32]:
        """Append the objectives' values to the trace; return each place's share, (n, places)."""
        images = self.space.decode(chunk.carry[0])
        values: NDArray[np.float32] = ops.convert_to_numpy(self.scores.compiled()(images, weights))
        chunk.trace.append(values.sum(axis=1))
        chunk.trace_steps.append(chunk.taken)
        return values

    def compiled(self, waking: bool, apart: bool) -> Callable[..., Any]:
        scores = self.scores
        key = ("ascent", scores.places, scores.single, self.options, waking, apart)
        return self.network.compiled(key, lambda: self.segment(waking), batched=4)

    def penalized_values(
        self, z: Any, weights: Any, silent: Any | None, apart: Any, draw: list[Any]
    ) -> Any:
        """Return each image's objective minus the regularizers, (n,)."""
        options = self.options
        x = self.space.decode(z)
        seen = roll(x, draw[0]) if options.transforms.jitter and options.undo_jitter else x
        if options.transforms.resamples:
            seen = resample(seen, draw[1])
        maps, shares = self.scores.to_climb(seen, weights, silent, whole=bool(apart))
        value = ops.sum(shares, axis=1)
        if apart:
            size = ops.stop_gradient(ops.abs(value))
            value = value - options.diversity_weight * size * sibling_similarity(maps, apart[0])
        if options.norm_weight:
            value = value - options.norm_weight * image_norm(x)
        if options.tv_weight:
            value = value - options.tv_weight * total_variation(x)
        return value

    def segment(self, waking: bool) -> Callable[..., Any]:
        """Return the loop to compile.

        Its arguments are the carry, the weights of each place, the silent parts, the groups, the
        random draws of all steps, and a pair: the number of the first step and the number of steps
        to take. It returns the new carry.
        """
        options, rule, space = self.options, self.rule, self.space
        slots = slice(2, 2 + rule.slots)

        def run(
            carry: list[Any],
            weights: Any,
            silent: Any,
            apart: Any,
            draws: list[Any],
            span: list[Any],
        ) -> list[Any]:
            def body(k: Any, carry: list[Any]) -> list[Any]:
                i = span[0] + k
                draw = [rows[i] for rows in draws]
                z, length, state = carry[0], carry[1], carry[slots]
                if options.transforms.jitter and not options.undo_jitter:
                    z = roll(z, draw[0])
                value, pullback = backend.vjp(
                    lambda z: self.penalized_values(
                        z, weights, silent if waking else None, apart, draw
                    ),
                    z,
                )
                gradient = _normalized(pullback(ops.ones_like(value)), options)
                step, state = rule.step(gradient, state, i)
                new = space.constrain(z + step)
                moved = space.decode(new) - space.decode(z)
                length = length + ops.sqrt(ops.sum(ops.square(moved), axis=(1, 2, 3)))
                out = [new, length, *state]
                if options.keep_best:
                    better = value > carry[-1]
                    out.append(ops.where(better[:, None, None, None], z, carry[-2]))
                    out.append(ops.where(better, value, carry[-1]))
                return out

            result: list[Any] = backend.repeat(span[1], body, carry)
            return result

        return run


def _normalized(gradient: Any, options: AscentOptions) -> Any:
    """Return each image's gradient, normalized so that the network's scale does not matter."""
    total = ops.sum(ops.square(gradient), axis=(1, 2, 3), keepdims=True)
    if options.optimizer == "rmsprop":  # keras-vis: unit L2 length over the whole image
        return gradient / (ops.sqrt(total) + 1e-20)
    pixels = float(np.prod(gradient.shape[1:]))
    return gradient / (ops.sqrt(total / pixels) + 1e-20)
