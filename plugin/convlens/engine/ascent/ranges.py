"""A unit's own range: its spread over random images, and the ceiling of its activation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.ascent.objectives import Objective
from convlens.engine.ascent.scores import BATCH, Scores
from convlens.engine.ascent.starts import plain_starts
from convlens.engine.model.network import Network
from convlens.engine.model.targets import output_of, tensor_of

_EVERY = 4  # one in four of the plain images says enough about a spread


def spreads(
    network: Network,
    objectives: Sequence[Objective],
    shape: tuple[int, int, int],
    value_range: tuple[float, float],
    seed: int = 0,
    graph_layers: Sequence[str] | None = None,
) -> NDArray[np.float32]:
    """Return the standard deviation of each objective's value over random images, (n,).

    Args:
        network: the network.
        objectives: n objectives.
        shape: (h, w, c) of the images.
        value_range: (low, high) of their pixels.
        seed: seed of the images; see `plain_starts`.
        graph_layers: layers that share a compiled graph; see `Scores`.
    """
    images = plain_starts(shape, value_range, seed)[::_EVERY]
    values = Scores(network, objectives, graph_layers).table(images, min(len(objectives), BATCH))
    return values.std(axis=1)


def ceilings(network: Network, objectives: Sequence[Objective]) -> NDArray[np.float32]:
    """Return the largest value that the activation of each objective's unit can take, (n,).

    It is infinite where the activation is not bounded, such as ReLU, where there is none, and for
    objectives that are not a unit with a positive weight. Whether an activation is bounded is read
    from its values at large inputs.
    """
    found: dict[str, float] = {}
    out = np.full(len(objectives), np.inf, np.float32)
    for i, objective in enumerate(objectives):
        term = objective.terms[0]
        if len(objective.terms) == 1 and isinstance(term.direction, int) and term.weight > 0:
            layer = output_of(network, term.layer)
            if layer not in found:
                found[layer] = _ceiling(network, layer)
            out[i] = term.weight * found[layer]
    return out


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
