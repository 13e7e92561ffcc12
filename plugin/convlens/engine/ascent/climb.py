"""Compiled gradient ascent of a chunk of objectives, in slices short enough to interrupt."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
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
from convlens.engine.ascent.schedule import BLOCK, Schedule
from convlens.engine.ascent.scores import Scores
from convlens.engine.ascent.transforms import resample, roll
from convlens.engine.model.network import Network
from convlens.engine.model.quick import quick_calls
from convlens.engine.runtime import backend

# Ctrl-C takes effect between two slices, so a slice should take at most this long.
_SLICE_SECONDS = 1.0
# A smaller change, as a share of the value, is none.
_CHANGE = 1e-5


@dataclass
class Chunk:
    """The state of an ascent.

    Attributes:
        carry: the parameters (n, h, w, c), the path lengths (n,), the state of `_Rest`, and the
            optimizer's; where the climbed iterate is kept, also its parameters and value.
        trace: the objectives' values (n,) at each checkpoint.
        trace_steps: the number of steps taken before each checkpoint.
        taken: number of steps taken.
        ended: True once no step is left, or no unit rises any more.
        best: the parameters of the best checkpoint of each image.
        best_values: the objectives' values (n,) there; empty before the first checkpoint.
        keeps_best: whether the best checkpoint is the result, and not the last iterate.
    """

    carry: list[Any]
    trace: list[NDArray[np.float32]] = field(default_factory=list)
    trace_steps: list[int] = field(default_factory=list)
    taken: int = 0
    ended: bool = False
    best: Any = None
    best_values: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    keeps_best: bool = False


class Climb:
    """Gradient ascent of a list of objectives, one image each, in chunks."""

    def __init__(
        self,
        network: Network,
        objectives: Sequence[Objective],
        options: AscentOptions,
        seed: int,
        checkpoints: int,
        graph_layers: Sequence[str] | None = None,
    ) -> None:
        self.network = network
        self.options = options
        self.space = options.parametrization
        self.seed = seed
        self.scores = Scores(network, objectives, graph_layers)
        self.rule = optimizer(options.optimizer)
        stride = math.ceil(options.steps / checkpoints)
        self.stops = [*range(stride, options.steps, stride), options.steps]

    def begin(self, z: NDArray[np.float32]) -> Chunk:
        """Return the state of an ascent that starts at the parameters z (n, h, w, c)."""
        x = ops.convert_to_tensor(z)
        n = len(z)
        state = [ops.zeros_like(x) for _ in range(self.rule.slots)]
        climbed = self.options.kept == "climbed"
        best = [x, ops.full((n,), -np.inf, dtype="float32")] if climbed else []
        return Chunk([x, ops.zeros((n,), dtype="float32"), *_Rest.new(n), *state, *best])

    def run(
        self,
        chunk: Chunk,
        index: NDArray[np.int64],
        groups: NDArray[np.int32] | None,
        on_progress: Callable[[int], None],
        gentle: bool = False,
        across: bool = False,
    ) -> None:
        """Take all steps of an ascent.

        Args:
            chunk: a new ascent, as `begin` returns it; updated in place.
            index: numbers of its objectives, (n,).
            groups: (n,) group numbers; images of one group are kept different. None for no groups.
            on_progress: callback, called with the number of steps taken after each slice.
            gentle: True for small steps on the images themselves; see `Schedule.of`.
            across: True to lead units with a pit in their activation, as swish has, to its right
                side, against their gradient.
        """
        weights = [ops.convert_to_tensor(w[index]) for w in self.scores.weights]
        apart = [] if groups is None else [ops.convert_to_tensor(groups)]
        size = tuple(chunk.carry[0].shape[1:-1])
        schedule = Schedule.of(self.options, size, self.seed, gentle)
        rolls = max(self.options.transforms.reach(size)) > 0
        factors = ops.convert_to_tensor(np.asarray(self.options.factors, np.float32))
        wakes = self.scores.may_wake[index] & (across | ~self.scores.has_gradient)
        segment = self.compiled(self.scores.wakes(index), bool(apart), rolls)
        wakes = ops.convert_to_tensor(wakes)
        # The image with the highest activation of its own is the one that is least kept apart.
        chunk.keeps_best = self.options.kept == "measured" and not apart
        self.record_values(chunk, index)
        count = 1
        for stop in self.stops:
            while chunk.taken < stop and not chunk.ended:
                begin = time.perf_counter()
                block, first = divmod(chunk.taken, BLOCK)
                count = min(count, stop - chunk.taken, BLOCK - first)
                span = [
                    ops.convert_to_tensor(np.int32(i))
                    for i in (chunk.taken, first, count, schedule.patience)
                ]
                draws = schedule.block(block)
                carry = segment(chunk.carry, weights, wakes, apart, factors, draws, span)
                taken = int(ops.max(carry[_Rest.TAKEN]))  # which waits until a device has finished
                chunk.carry, chunk.ended = carry, taken < chunk.taken + count
                chunk.taken = taken
                on_progress(self.options.steps if chunk.ended else taken)
                # A clock that a test has stopped measures 0 seconds.
                seconds = max(time.perf_counter() - begin, 1e-6)
                count = max(1, int(_SLICE_SECONDS * count / seconds))
            self.record_values(chunk, index)
        chunk.ended = True
        self.finish(chunk, index)

    def finish(self, chunk: Chunk, index: NDArray[np.int64]) -> None:
        """Put the iterate to return in place, and its own values at the end of the trace."""
        if chunk.taken > chunk.trace_steps[-1]:
            self.record_values(chunk, index)
        if chunk.keeps_best:
            chunk.carry[0] = chunk.best
            chunk.trace[-1] = chunk.best_values
        elif self.options.kept == "climbed":
            chunk.carry[0] = chunk.carry[-2]
            del chunk.trace[-1], chunk.trace_steps[-1]
            self.record_values(chunk, index)

    def images(self, chunk: Chunk) -> NDArray[np.float32]:
        """Return the current images (n, h, w, c)."""
        return ops.convert_to_numpy(self.space.decode(chunk.carry[0]))

    def record_values(self, chunk: Chunk, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Append the objectives' values to the trace; return each place's share, (n, places)."""
        z = chunk.carry[0]
        shares = self.scores.measure(self.space.decode(z), index)
        values = shares.sum(axis=1)
        if chunk.keeps_best:
            if not len(chunk.best_values):
                chunk.best, chunk.best_values = z, values
            else:
                better = values > np.nan_to_num(chunk.best_values, nan=-np.inf)
                chunk.best = ops.where(_by_image(better, z), z, chunk.best)
                chunk.best_values = np.where(better, values, chunk.best_values)
        chunk.trace.append(values)
        chunk.trace_steps.append(chunk.taken)
        return shares

    def compiled(self, waking: bool, apart: bool, rolls: bool) -> Callable[..., Any]:
        scores, options = self.scores, self.options
        key = ("ascent", scores.places, scores.single, options.structure, waking, apart, rolls)
        return self.network.compiled(key, lambda: self.segment(waking, rolls), batched=4)

    def penalized_values(
        self,
        z: Any,
        weights: Any,
        wakes: Any | None,
        apart: Any,
        reach: Any,
        factors: Any,
        shift: Any | None,
        matrix: list[Any],
        functions: Mapping[int, Callable[[Any], Any]],
    ) -> Any:
        """Return each image's objective minus the regularizers, (n,)."""
        options = self.options
        x = self.space.decode(z)
        seen = x if shift is None else roll(x, shift)
        if matrix:
            seen = resample(seen, matrix[0])
        maps, shares = self.scores.to_climb(
            seen, weights, wakes, reach, whole=bool(apart), functions=functions
        )
        value = ops.sum(shares, axis=1)
        norm_weight, tv_weight, diversity_weight = (factors[i] for i in range(3))
        if apart:
            size = ops.stop_gradient(ops.abs(value))
            value = value - diversity_weight * size * sibling_similarity(maps, apart[0])
        if options.norm_weight:
            value = value - norm_weight * image_norm(x)
        if options.tv_weight:
            value = value - tv_weight * total_variation(x)
        return value

    def segment(self, waking: bool, rolls: bool) -> Callable[..., Any]:
        """Return the loop to compile.

        Its arguments are the carry, the weights of each place, the shares that may wake, the
        groups, the factors of the regularizers, a block of the schedule, and four numbers: the
        first step's in the ascent and in the block, the number of steps to take, and the number
        of steps without a change after which it ends. It returns the new carry.
        """
        options, rule, space = self.options, self.rule, self.space
        slots = slice(_Rest.END, _Rest.END + rule.slots)

        def run(
            carry: list[Any],
            weights: Any,
            wakes: Any,
            apart: Any,
            factors: Any,
            draws: list[Any],
            span: list[Any],
        ) -> list[Any]:
            functions = quick_calls(self.scores.calls())

            def body(k: Any, carry: list[Any]) -> list[Any]:
                rate, reach, settled, shift, *matrix = (rows[span[1] + k] for rows in draws)
                z, length, state = carry[0], carry[1], carry[slots]
                if rolls and not options.undo_jitter:
                    z = roll(z, shift)
                undone = shift if rolls and options.undo_jitter else None
                value, pullback = backend.vjp(
                    lambda z: self.penalized_values(
                        z,
                        weights,
                        wakes if waking else None,
                        apart,
                        reach,
                        factors,
                        undone,
                        matrix,
                        functions,
                    ),
                    z,
                )
                gradient = _normalized(pullback(ops.ones_like(value)), options)
                step, state = rule.step(gradient, state, span[0] + k, rate)
                new = space.constrain(z + step)
                moved = space.decode(new) - space.decode(z)
                length = length + ops.sqrt(ops.sum(ops.square(moved), axis=_inner_axes(moved)))
                out = [new, length, *_Rest.after(carry, value, settled), *state]
                if options.kept == "climbed":
                    better = value > carry[-1]
                    out.append(ops.where(_by_image(better, new), new, carry[-2]))
                    out.append(ops.where(better, value, carry[-1]))
                return out

            def going(carry: list[Any]) -> Any:
                return ops.any(carry[_Rest.IDLE] < span[3])

            result: list[Any] = backend.repeat(span[2], body, carry, going)
            return result

        return run


class _Rest:
    """The part of the carry that says when an ascent is at its end.

    For each image: its value before the last step, the number of steps for which the value has
    neither risen nor fallen, and the number of steps taken. A value that goes up and down is no
    end: the steps are still too large for the top, and fall.
    """

    LAST, IDLE, TAKEN, END = 2, 3, 4, 5

    @staticmethod
    def new(n: int) -> list[Any]:
        """Return the state of n images at the start."""
        zero = ops.zeros((n,), dtype="int32")
        return [ops.full((n,), -np.inf, dtype="float32"), zero, zero]

    @classmethod
    def after(cls, carry: list[Any], value: Any, settled: Any) -> list[Any]:
        """Return the state after a step.

        Args:
            carry: the carry before the step.
            value: (n,) the objectives' values before the step.
            settled: True if the images are no longer transformed at random.
        """
        last, idle, taken = carry[cls.LAST : cls.END]
        still = ops.abs(value - last) <= _CHANGE * ops.abs(value)
        waits = ops.logical_and(settled, still)
        return [value, ops.where(waits, idle + 1, ops.zeros_like(idle)), taken + 1]


def _normalized(gradient: Any, options: AscentOptions) -> Any:
    """Return each image's gradient over its root mean square: the network's scale drops out."""
    axes = _inner_axes(gradient)
    if options.optimizer == "rmsprop":  # exactly as keras-vis does
        mean = ops.mean(ops.square(gradient), axis=axes, keepdims=True)
        return gradient / (ops.sqrt(mean) + 1e-7)
    # Divided by its maximum first: the squares of a small gradient would be 0 in float32.
    gradient = gradient / (ops.max(ops.abs(gradient), axis=axes, keepdims=True) + 1e-30)
    mean = ops.mean(ops.square(gradient), axis=axes, keepdims=True)
    return gradient / (ops.sqrt(mean) + 1e-20)


def _inner_axes(images: Any) -> tuple[int, ...]:
    """Return the axes within an image, of images (n, *positions, c)."""
    return tuple(range(1, len(images.shape)))


def _by_image(flags: Any, images: Any) -> Any:
    """Return flags (n,) as (n, 1, …), one for each of images (n, *positions, c)."""
    return flags[(slice(None), *(None for _ in _inner_axes(images)))]
