"""A unit's own range: its spread over random images, and the ceiling of its activation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.ascent.objectives import Objective
from convlens.engine.ascent.scores import Scores
from convlens.engine.ascent.starts import common_starts
from convlens.engine.model.flatten import (
    AVERAGE_POOLS,
    DEPTHWISE,
    GLOBAL_POOLS,
    MAX_POOLS,
    PADDINGS,
    PLAIN,
    runs_as_keras,
)
from convlens.engine.model.network import Network
from convlens.engine.model.targets import output_of, tensor_of
from convlens.engine.runtime import backend

# Layers whose outputs are inputs, means of inputs, or 0.
_KEEP_THE_RANGE = (
    *(*PADDINGS, *MAX_POOLS, *AVERAGE_POOLS, *GLOBAL_POOLS),
    keras.layers.Flatten,
    keras.layers.Dropout,
)


def spreads(
    network: Network,
    objectives: Sequence[Objective],
    shape: tuple[int, ...],
    value_range: tuple[float, float],
    seed: int = 0,
    graph_layers: Sequence[str] | None = None,
) -> NDArray[np.float32]:
    """Return the standard deviation of each objective's value over random images, (n,).

    Args:
        network: the network.
        objectives: n objectives.
        shape: (*positions, c) of the images.
        value_range: (low, high) of their pixels.
        seed: seed of the images, the first part of `common_starts`.
        graph_layers: layers that share a compiled graph; see `Scores`.
    """
    images, *_ = common_starts(shape, value_range, seed)
    return Scores(network, objectives, graph_layers).table([images]).std(axis=1)


def ceilings(network: Network, objectives: Sequence[Objective]) -> NDArray[np.float32]:
    """Return the largest value that the activation of each objective's unit can take, (n,).

    It is infinite where the activation is not bounded, such as ReLU, where there is none, and for
    objectives that are not a unit with a positive weight. Whether an activation is bounded is read
    from its values at large inputs.
    """
    return _of_units(
        network, objectives, lambda name: np.full(network.units(name), _ceiling(network, name))
    )


def tops(network: Network, objectives: Sequence[Objective]) -> NDArray[np.float32]:
    """Return the largest value of each objective's unit, given the ReLU that its layer reads, (n,).

    A unit with negative weights alone has its largest value where the ReLU is 0. It is infinite
    where the weights and the ReLU set no bound, and for objectives that are not a unit with a
    positive weight.
    """
    return _of_units(network, objectives, lambda name: _from_inputs(network, name))


def _of_units(
    network: Network, objectives: Sequence[Objective], find: Callable[[str], NDArray[Any]]
) -> NDArray[np.float32]:
    """Return a bound of each objective from those of its layer's units; infinity for others."""
    found: dict[str, NDArray[Any]] = {}
    out = np.full(len(objectives), np.inf, np.float32)
    for i, objective in enumerate(objectives):
        term = objective.terms[0]
        if len(objective.terms) == 1 and isinstance(term.direction, int) and term.weight > 0:
            layer = output_of(network, term.layer)
            if layer not in found:
                found[layer] = find(layer)
            out[i] = term.weight * found[layer][term.direction]
    return out


def _from_inputs(network: Network, layer: str) -> NDArray[np.float64]:
    """Return the largest value of each unit, given the range of what the layer reads."""
    infinite = np.full(network.units(layer), np.inf)
    before = network.preactivations.get(layer)
    linear = before is None or tensor_of(network, layer) is before
    tensor = network.outputs[layer] if before is None else before
    call = next(c for c in network.graph if any(t is tensor for t in c.outputs))
    op = call.op
    known = (*PLAIN, *DEPTHWISE, keras.layers.Dense)
    if type(op) not in known or not runs_as_keras(op) or getattr(op, "groups", 1) != 1:
        return infinite
    bound = _bound_below(network, call.inputs[0])
    if bound is None or not (linear or network.relu_bound(layer) is not None):
        return infinite
    kernel = backend.to_numpy(op.kernel).astype(np.float64)
    if isinstance(op, DEPTHWISE):
        kernel = kernel.reshape(*kernel.shape[:-2], 1, -1)
    positive = np.maximum(kernel, 0).sum(axis=tuple(range(kernel.ndim - 1)))
    top = np.multiply(positive, bound, out=np.zeros_like(positive), where=positive > 0)
    if op.use_bias:
        top = top + backend.to_numpy(op.bias)
    return top if linear else np.maximum(top, 0.0)


def _bound_below(network: Network, tensor: Any) -> float | None:
    """Return the bound of the ReLU that a tensor comes from, through pools and paddings.

    Returns:
        Infinity for a ReLU without a bound; None for a tensor that comes from something else.
    """
    names = {id(t): name for name, t in network.outputs.items()}
    makers = {id(t): call for call in network.graph for t in call.outputs}
    while True:
        name = names.get(id(tensor))
        bound = None if name is None else network.relu_bound(name)
        if bound is not None:
            return bound
        call = makers.get(id(tensor))
        if call is None or not isinstance(call.op, _KEEP_THE_RANGE) or not runs_as_keras(call.op):
            return None
        tensor = call.inputs[0]


def _ceiling(network: Network, layer: str) -> float:
    before = network.preactivations.get(layer)
    if before is None or tensor_of(network, layer) is before:
        return math.inf
    *_, call = network.calls(layer)
    top = []
    for size in (1e3, 1e4):
        # Large in one channel only: a softmax of equal inputs would be 1 over their number.
        x = np.zeros((1,) * (len(before.shape) - 1) + (before.shape[-1],), np.float32)
        x[..., 0] = size
        top.append(float(ops.convert_to_numpy(call.op(ops.cast(x, before.dtype))).flat[0]))
    return top[1] if top[0] == top[1] else math.inf
