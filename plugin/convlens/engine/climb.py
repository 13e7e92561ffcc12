"""The compiled ascent of a layer's units."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine import backend
from convlens.engine.network import Network
from convlens.engine.objective import Objective, measure
from convlens.engine.regularizers import image_norm, total_variation
from convlens.engine.steps import OptimizerName, optimizer


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


class Climb:
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
        self.objective = Objective(network, layer)
        self.key = ("ascent", layer, options, value_range)
        self.measure = measure(network, layer)

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

    def climbed(self, images: Any, pick: Any, silent: Any | None) -> Any:
        """Return each unit's activation, less the regularisers, (n,)."""
        value = self.objective.to_climb(images, pick, silent)
        if self.options.norm_weight:
            value = value - self.options.norm_weight * image_norm(images)
        if self.options.tv_weight:
            value = value - self.options.tv_weight * total_variation(images)
        return value

    def loop(self, waking: bool) -> Callable[..., Any]:
        """Return the segment to compile.

        It takes the carry, the units' one-hot rows, which units were silent when the segment
        began, the shifts and the number of the first step, and returns the carry.
        """
        options, rule = self.options, self.rule
        low, high = self.value_range
        slots = slice(2, 2 + rule.slots)
        rolled = options.jitter > 0

        def segment(carry: list[Any], pick: Any, silent: Any, shifts: Any, first: Any) -> list[Any]:
            def body(i: Any, carry: list[Any]) -> list[Any]:
                x, length, state = carry[0], carry[1], carry[slots]
                seen = ops.roll(x, shifts[i], axis=(1, 2)) if rolled else x
                value, pullback = backend.vjp(
                    lambda x: self.climbed(x, pick, silent if waking else None), seen
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


def _normalised(gradient: Any, options: AscentOptions) -> Any:
    """Return each image's gradient at a length that does not depend on the network's scale."""
    total = ops.sum(ops.square(gradient), axis=(1, 2, 3), keepdims=True)
    if options.optimizer == "rmsprop":  # keras-vis: unit L2 length over the whole image
        return gradient / (ops.sqrt(total) + 1e-20)
    pixels = float(np.prod(gradient.shape[1:]))
    return gradient / (ops.sqrt(total / pixels) + 1e-20)
