"""The noise of integer models: what is found over what their steps explain.

A rounded value is off by a uniform error, whose variance is the step's square over 12. The steps of
a layer's output and of its weights add up to the noise that it must have; a layer with much more
has a fault. (Widrow & Kollár 2008, Quantization Noise.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.compare.runtime import Kernel, Step
from convlens.compare.walk import Row
from convlens.engine.model.flatten import DEPTHWISE, PLAIN, Call
from convlens.engine.runtime import backend

# Largest ratios of healthy networks: 2.1 of a layer and 16 of a channel, of 1,704 layers.
MAX_RATIO, MAX_CHANNEL_RATIO = 3.0, 20.0
# The noise of float32 arithmetic, as a share of the mean square.
_FLOAT_NOISE = 1e-10


class Quantized(Protocol):
    """A model whose steps are known, as a `Runtime` that can tell how a tensor was computed."""

    steps: Mapping[str, Step]

    def kernels(self, tensor: str, known: frozenset[str]) -> list[Kernel]:
        """Return the kernels of the operations between a tensor and known ones, in order."""
        ...

    def inner_steps(self, tensor: str, known: frozenset[str]) -> list[float]:
        """Return the steps of the tensors between a tensor and known ones."""
        ...


@dataclass(frozen=True)
class Noise:
    """The noise of an integer layer.

    Attributes:
        ratio: noise found over noise explained; about 1, or less.
        worst_channel: channel with the largest ratio.
        channel_ratio: its ratio.
        saturated: share of values at the ends of the tensor's range.
        by_weights: share of the explained noise that the weights' steps make.
    """

    ratio: float
    worst_channel: int
    channel_ratio: float
    saturated: float
    by_weights: float

    @property
    def passed(self) -> bool:
        """True if the steps explain the noise."""
        return self.ratio <= MAX_RATIO and self.channel_ratio <= MAX_CHANNEL_RATIO

    def __str__(self) -> str:
        return (
            f"noise {self.ratio:.3g} times what its steps explain (limit {MAX_RATIO:g}), worst "
            f"channel {self.worst_channel} ({self.channel_ratio:.3g} times, limit "
            f"{MAX_CHANNEL_RATIO:g}), {self.saturated:.1%} of its values at an end of their range"
        )


class NoiseTally:
    """Sums of found and explained noise by channel, over images."""

    def __init__(self, row: Row, model: Quantized, known: frozenset[str]) -> None:
        """Prepare the sums of a layer.

        Args:
            row: the layer and its counterpart.
            model: the integer model.
            known: the tensors that are counterparts of layers.
        """
        self._row = row
        self._step = model.steps.get(row.pair.tensor)
        others = known - {row.pair.tensor}
        self._kernels = model.kernels(row.pair.tensor, others)
        inner = model.inner_steps(row.pair.tensor, others)
        own = [] if self._step is None else [float(self._step.scale.max())]
        self._rounding = sum(step**2 for step in (*inner, *own)) / 12
        self._sums: NDArray[np.float64] | None = None
        self._seen = 0
        self._saturated = 0

    def add(self, expected: NDArray[Any], actual: NDArray[Any], values: Mapping[int, Any]) -> None:
        """Add the values of some images.

        Args:
            expected, actual: (n, …, c).
            values: the values that the layer was computed from, by the id of their symbol.
        """
        error = (np.asarray(actual, np.float64) - expected) ** 2
        weights, inputs = self._kernel_noise(values, expected.shape)
        floor = _FLOAT_NOISE * float(np.mean(np.square(expected, dtype=np.float64)))
        free = np.ones(error.shape, bool)
        if self._step is not None:
            half = float(self._step.scale.max()) / 2
            low, high = self._step.low + half, self._step.high - half
            # A value at an end of the range is no fault where it should be there, or beyond.
            free = (actual > low) & (actual < high) | (expected > low) & (expected < high)
        rows = [
            np.where(free, each, 0).reshape(-1, error.shape[-1]).sum(axis=0)
            for each in (error, weights, inputs + self._rounding + floor)
        ]
        sums = np.stack(rows)
        self._sums = sums if self._sums is None else self._sums + sums
        self._seen += free.size
        self._saturated += int(free.size - free.sum())

    def noise(self) -> Noise:
        """Return the noise over all images so far."""
        assert self._sums is not None
        found, weights, rounding = self._sums
        explained = np.maximum(weights + rounding, np.finfo(np.float64).tiny)
        ratios = found / explained
        ratios = np.where(np.isfinite(ratios), ratios, np.inf)
        worst = int(np.argmax(ratios))
        total = float(explained.sum())
        return Noise(
            float(found.sum()) / total,
            worst,
            float(ratios[worst]),
            self._saturated / max(self._seen, 1),
            float(weights.sum()) / total,
        )

    def _kernel_noise(
        self, values: Mapping[int, Any], shape: tuple[int, ...]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the variances in the layer's shape that the steps make.

        Returns:
            that of the weights' steps, and that of inputs which operations round by themselves.
        """
        weights, inputs = np.zeros(shape), np.zeros(shape)
        calls = [call for call in self._row.calls if _has_kernel(call)]
        for call, kernel in zip(calls, self._kernels, strict=False):
            x = values[id(call.inputs[0])]
            squares = tap_squares(call, x)
            if squares.shape[1:-1] != shape[1:-1] or kernel.step.size not in (1, shape[-1]):
                continue
            weights += kernel.step**2 / 12 * squares
            if kernel.squares is not None:
                inputs += input_step(call, x) ** 2 / 12 * kernel.squares
        return weights, inputs


def tap_squares(call: Call, x: Any) -> NDArray[np.float64]:
    """Return the sum of the squared inputs of each output of a layer with a kernel.

    Returns:
        (n, …, 1), or (n, …, c) for a depthwise convolution.
    """
    square = ops.cast(x, "float32") ** 2
    op = call.op
    if isinstance(op, keras.layers.Dense):
        return np.asarray(backend.to_numpy(ops.sum(square, axis=-1, keepdims=True)), np.float64)
    if isinstance(op, DEPTHWISE):
        ones = ops.ones(tuple(op.kernel.shape))
        found = ops.depthwise_conv(
            square, ones, op.strides, op.padding, dilation_rate=op.dilation_rate
        )
    else:
        ones = ops.ones((*op.kernel_size, x.shape[-1] // op.groups, op.groups))
        found = ops.conv(square, ones, op.strides, op.padding, dilation_rate=op.dilation_rate)
        found = ops.repeat(found, op.filters // op.groups, axis=-1)
    return np.asarray(backend.to_numpy(found), np.float64)


def input_step(call: Call, x: Any) -> NDArray[np.float64]:
    """Return the step of a layer's input that is rounded to 8 bits by its range.

    Args:
        call: the layer.
        x: its input (n, …, c).

    Returns:
        (n, 1, …, 1); (n, …, 1) for a dense layer, each of whose rows has a range of its own.
    """
    values = np.asarray(backend.to_numpy(x), np.float64)
    axes = -1 if isinstance(call.op, keras.layers.Dense) else tuple(range(1, values.ndim))
    high, low = values.max(axis=axes, keepdims=True), values.min(axis=axes, keepdims=True)
    step: NDArray[np.float64] = (np.maximum(high, 0) - np.minimum(low, 0)) / 255
    return step


def _has_kernel(call: Call) -> bool:
    first = getattr(call.op, "data_format", "") == "channels_first"
    return isinstance(call.op, (*PLAIN, *DEPTHWISE, keras.layers.Dense)) and not first


def known_tensors(rows: Sequence[Row]) -> frozenset[str]:
    """Return the tensors that are counterparts of layers."""
    return frozenset(row.pair.tensor for row in rows)
