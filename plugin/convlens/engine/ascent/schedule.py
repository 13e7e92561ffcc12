"""The step sizes and random transformations of an ascent's steps.

A compiled loop takes them as arguments, in blocks of one length, so that another number of steps,
step size or schedule compiles nothing anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.ascent.options import AscentOptions

BLOCK = 256
# An ascent ends after this share of its steps, and this many at least, without a change.
_PATIENCE, _MIN_PATIENCE = 0.1, 5

# Steps that refine an image are this share of `step_size`.
_GENTLE = 0.05

# A lowered threshold of a ReLU unit rises from the mean of its pre-activations to 2 standard
# deviations above it. Then it is the ReLU's own, unless the unit is still silent.
_LAST_REACH, _OWN = 2.0, 1e6


@dataclass(frozen=True)
class Schedule:
    """The draws of all steps.

    Attributes:
        rates: (steps,) the step sizes.
        reaches: (steps,) how far the threshold of a ReLU unit is lowered; see `Scores.to_climb`.
        settled: (steps,) True once the objective is the activation of the image itself: neither
            is the image transformed at random, nor a threshold lowered.
        shifts: (steps, sides) the rolls along each side, in pixels.
        matrices: (steps, sides, sides) the resampling matrices; None if images are not resampled.
    """

    rates: NDArray[np.float32]
    reaches: NDArray[np.float32]
    settled: NDArray[np.bool_]
    shifts: NDArray[np.int32]
    matrices: NDArray[np.float32] | None

    @classmethod
    def of(
        cls, options: AscentOptions, size: tuple[int, ...], seed: int, gentle: bool = False
    ) -> Schedule:
        """Return the schedule of an ascent on images of a size, (h, w).

        It depends on the share of the steps that are done, so a short ascent goes through the same
        phases as a long one: large steps on transformed images first, which find the pattern, and
        small steps on the image itself last, which refine it. The step size falls along half a
        cosine from `step_size` to `last_step` of it. A gentle ascent has the second phase alone.
        """
        done = np.arange(options.steps) / options.steps
        fall = options.last_step + (1 - options.last_step) * (1 + np.cos(np.pi * done)) / 2
        strength = np.clip(1 - done / options.fade, 0, 1) if options.fade else np.ones_like(done)
        waking = options.waking
        if gentle:
            fall, strength, waking = _GENTLE * fall, np.zeros_like(done), 0.0
        reaches = np.where(done < waking, _LAST_REACH * done / max(waking, 1e-9), _OWN)
        transforms = options.transforms
        moved = strength * transforms.strength(size) > 0
        return cls(
            rates=(options.step_size * fall).astype(np.float32),
            reaches=reaches.astype(np.float32),
            settled=(done >= waking) & ~moved,
            shifts=transforms.shifts(size, strength, seed),
            matrices=transforms.matrices(strength, seed, len(size))
            if transforms.resamples
            else None,
        )

    @property
    def patience(self) -> int:
        """The number of steps without a change after which an ascent ends."""
        return max(_MIN_PATIENCE, math.ceil(_PATIENCE * len(self.rates)))

    def block(self, number: int) -> list[Any]:
        """Return the draws of a block of `BLOCK` steps as tensors, zeros after the last step."""
        parts: list[NDArray[Any]] = [self.rates, self.reaches, self.settled, self.shifts]
        if self.matrices is not None:
            parts.append(self.matrices)
        first = number * BLOCK
        padded = []
        for part in parts:
            rows = part[first : first + BLOCK]
            full = np.zeros((BLOCK, *part.shape[1:]), part.dtype)
            full[: len(rows)] = rows
            padded.append(ops.convert_to_tensor(full))
        return padded
