"""The variance that the steps of a TFLite file must cause, carried along its operations.

It starts at tensors whose values are known. Each operation takes its inputs' variance on, and adds
that of its own steps: a step's square over 12 of its result, of a constant times the square of the
other factor, and of a kernel's weights times the sum of the squared inputs under the kernel. In
dynamic range, an operation with a kernel rounds its input to 8 bits by itself. Of a tensor on the
way, the part of its values that is beyond its range counts, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.compare.runtime import Step, Values
from convlens.compare.tflite import CONV, DENSE, DEPTHWISE, Geometry, TFLiteModel
from convlens.engine.runtime import backend

Array = NDArray[np.float64]
# Operations that take variance on by more than 1.
_WITH_SLOPE = ("MUL", "SQUARED_DIFFERENCE", "RSQRT")
# Fused activation (none, ReLU) → whether its tensor's low and high end are ends of the range alone.
_FREE_ENDS: Mapping[int, tuple[bool, bool]] = {0: (True, True), 1: (False, True)}
# Operations whose result can be beyond the range that their tensor has.
_EXACT: Mapping[str, Callable[[Array, Array], Array]] = {"MUL": np.multiply, "ADD": np.add}


class ExplainedNoise:
    """The variance between a tensor and the known ones that it is computed from."""

    def __init__(self, model: TFLiteModel, tensor: str, known: frozenset[str]) -> None:
        """Note the operations.

        Args:
            model: the TFLite model.
            tensor: name of the tensor.
            known: names of the tensors whose values are taken as they are.
        """
        self._model = model
        self._names = model.graph.names
        self._tensor = self._names.index(tensor)
        self._order = sorted(model.graph.between(tensor, known), key=model.graph.place)

    def variance(self, held: Mapping[str, Values]) -> Array:
        """Return the variance of each value of the tensor.

        Args:
            held: all tensors (n, …) of some images.

        Returns:
            (2, n, …): that of the weights' and constants' steps, and that of the values' steps.
        """
        found: dict[int, Array] = {}
        for i in self._order:
            if self._names[i] not in held:
                continue  # a number without axes
            kind, inputs = self._model.graph.makers.get(i, ("", []))
            shape = held[self._names[i]].shape
            total = np.zeros((2, *shape))
            if i in self._model.graph.geometries:
                total += self._of_kernel(i, kind, inputs, found, held)
            else:
                for k in inputs:
                    own = self._of_input(k, found)
                    if own is not None:
                        total += aligned(own, shape) * self._slope(i, k, held)
            step = self._model.steps.get(self._names[i])
            if step is not None:
                total[1] += float(step.scale.max()) ** 2 / 12
            if step is not None and i != self._tensor:
                total[1] += self._clipped(i, step, held)
            found[i] = total
        return found[self._tensor]

    def _clipped(self, i: int, step: Step, held: Mapping[str, Values]) -> Array | float:
        """Return the squared part of a result that is beyond the ends of its range."""
        graph = self._model.graph
        kind, inputs = graph.makers.get(i, ("", []))
        low, high = _FREE_ENDS.get(graph.activations.get(i, 0), (False, False))
        shape = held[self._names[i]].shape
        if i in graph.geometries:
            x, weights, *bias = (self._value(k, held) for k in inputs)
            exact = filtered(kind, x, weights, graph.geometries[i]) + sum(bias)
            exact = exact.reshape(shape)
        elif kind in _EXACT:
            values = [aligned(self._value(k, held)[None], shape)[0] for k in inputs]
            exact = _EXACT[kind](*values[:2])
        else:
            return 0.0
        own_low, own_high = step.low if low else -np.inf, step.high if high else np.inf
        beyond: Array = (exact - np.clip(exact, own_low, own_high)) ** 2
        return beyond

    def _value(self, i: int, held: Mapping[str, Values]) -> Array:
        value = held.get(self._names[i])
        return np.asarray(self._model.constant(i) if value is None else value, np.float64)

    def _of_input(self, i: int, found: Mapping[int, Array]) -> Array | None:
        """Return the variance of an operation's input; None where it has none."""
        if i in found or self._model.graph.depends_on_images(i):
            return found.get(i)
        step = self._model.steps.get(self._names[i])
        return None if step is None else np.array([float(step.scale.max()) ** 2 / 12, 0.0])

    def _slope(self, i: int, k: int, held: Mapping[str, Values]) -> Array | float:
        """Return the squared derivative of an operation's result by one of its inputs."""
        kind, inputs = self._model.graph.makers[i]
        if kind not in _WITH_SLOPE:
            return 1.0
        result = np.asarray(held[self._names[i]], np.float64)
        values = [aligned(self._value(j, held)[None], result.shape)[0] for j in inputs]
        if kind == "MUL":
            own = inputs.index(k)
            return math.prod(v**2 for j, v in enumerate(values) if j != own)
        if kind == "SQUARED_DIFFERENCE":
            return 4 * (values[0] - values[1]) ** 2
        return (result**3 / 2) ** 2

    def _of_kernel(
        self,
        i: int,
        kind: str,
        inputs: list[int],
        found: Mapping[int, Array],
        held: Mapping[str, Values],
    ) -> Array:
        """Return the variance behind an operation with a kernel, without its result's step."""
        geometry = self._model.graph.geometries[i]
        shape = held[self._names[i]].shape
        x, step = held[self._names[inputs[0]]], self._model.steps.get(self._names[inputs[1]])
        total = np.zeros((2, *shape))
        weights = self._model.constant(inputs[1])
        if step is not None:
            taps = tap_sums(kind, np.square(x), weights.shape, geometry)
            total[0] += (step.scale**2 / 12 * taps).reshape(shape)
            if self._names[inputs[0]] not in self._model.steps:
                channels = np.moveaxis(weights, -1 if kind == DEPTHWISE else 0, 0)
                squares = np.square(channels, dtype=np.float64).reshape(len(channels), -1)
                rounding = input_step(kind, x, weights.shape[-1]) ** 2 / 12
                own = rounding * squares.sum(axis=1)
                middle = () if kind == DENSE else (1,) * (len(shape) - 2)
                total[1] += own.reshape(shape if kind == DENSE else (-1, *middle, shape[-1]))
        inner = found.get(inputs[0])
        if inner is not None:
            for own, variance in zip(total, inner, strict=True):
                if variance.any():
                    own += filtered(kind, variance, weights**2, geometry).reshape(shape)
        return total


def tap_sums(
    kind: str, squares: NDArray[Any], kernel: tuple[int, ...], geometry: Geometry
) -> Array:
    """Return the sum of the squared inputs under the kernel, for each value of the result.

    Args:
        kind: the operation.
        squares: the squared inputs (n, h, w, c).
        kernel: shape of the kernel, as the file has it.
        geometry: strides, padding and dilation.
    """
    if kind == DENSE:
        rows = squares.reshape(-1, kernel[-1]).sum(axis=1, dtype=np.float64)
        return np.repeat(rows[:, None], kernel[0], axis=1)
    channels = squares.shape[-1]
    if kind == CONV:
        groups = channels // kernel[-1]
        squares = squares.reshape(*squares.shape[:-1], groups, -1).sum(axis=-1)
        ones = np.ones((*kernel[1:3], groups, 1), np.float32)
    else:
        ones = np.ones((*kernel[1:3], channels, kernel[-1] // channels), np.float32)
    found = backend.to_numpy(ops.depthwise_conv(squares, ones, **geometry.options))
    wanted = kernel[0] if kind == CONV else kernel[-1]
    return np.repeat(np.asarray(found, np.float64), wanted // found.shape[-1], axis=-1)


def filtered(kind: str, x: Array, kernel: NDArray[Any], geometry: Geometry) -> Array:
    """Return what a kernel makes of its input, or of its variance if the weights are squared."""
    x, kernel = x.astype(np.float32), kernel.astype(np.float32)
    if kind == DENSE:
        return np.asarray(x.reshape(-1, kernel.shape[-1]) @ kernel.T, np.float64)
    if kind == CONV:
        found = ops.conv(x, np.moveaxis(kernel, 0, -1), **geometry.options)
    else:
        kernel = kernel.reshape(*kernel.shape[1:3], x.shape[-1], -1)
        found = ops.depthwise_conv(x, kernel, **geometry.options)
    return np.asarray(backend.to_numpy(found), np.float64)


def input_step(kind: str, x: NDArray[Any], width: int) -> Array:
    """Return the step of an input that is rounded to 8 bits by its range.

    Args:
        kind: the operation.
        x: the input (n, …, c).
        width: values of a row of a dense operation, each of which has a range of its own.

    Returns:
        (n, 1), or (rows, 1) of a dense operation.
    """
    rows = x.reshape(-1, width) if kind == DENSE else x.reshape(len(x), -1)
    high, low = rows.max(axis=1, keepdims=True), rows.min(axis=1, keepdims=True)
    step: Array = (np.maximum(high, 0) - np.minimum(low, 0)).astype(np.float64) / 255
    return step


def aligned(values: Array, shape: tuple[int, ...]) -> Array:
    """Return values (k, …) in a shape (k, *shape), as means where positions do not fit."""
    if values[0].size == math.prod(shape):
        return values.reshape(len(values), *shape)
    own = values.reshape(len(values), *[1] * (len(shape) + 1 - values.ndim), *values.shape[1:])
    fits = own.ndim == len(shape) + 1
    if fits and all(a in (1, b) for a, b in zip(own.shape[1:], shape, strict=True)):
        return np.broadcast_to(own, (len(values), *shape))
    several = values.ndim > 2 and len(values[0]) == shape[0]
    if several and values.shape[-1] == shape[-1]:
        mean = values.reshape(len(values), shape[0], -1, shape[-1]).mean(axis=2)
        return np.broadcast_to(
            mean.reshape(len(values), shape[0], *[1] * (len(shape) - 2), shape[-1]),
            (len(values), *shape),
        )
    mean = values.reshape(len(values), -1).mean(axis=1)
    return np.broadcast_to(mean.reshape(-1, *[1] * len(shape)), (len(values), *shape))
