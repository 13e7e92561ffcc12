"""Find the activation behind a layer: the ReLU or the like through which alone it is read.

A convolution's activation may be fused into it, or be a layer of its own, often behind a batch
normalization. The layer is found by what the operations compute on random numbers, not by their
names: operations between, such as pooling or scaling, keep channels apart, and an activation
changes each number on its own, by a curve.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.model.flatten import Call, bound_of
from convlens.engine.model.network import Network

_FREE_SIZE = 8
# Sizes of the random numbers: the largest passes a ReLU behind a bias of -100, and fits float16.
_SIZES = 1.0, 1e2, 1e4
_SPIKE = 2e4
# Largest share of a channel that a straight line may leave unexplained. Rounding to bfloat16
# leaves 0.002, a leaky ReLU with a slope of 0.3 leaves 0.3.
_BENT = 0.02


@dataclass(frozen=True)
class Activation:
    """The activation through which alone a layer is read.

    Attributes:
        tensor: its symbolic output, with the layer's channels.
        before: symbolic value on which it acts, likewise.
        name: the name of its layer, or of its operation where it is no layer.
        relu: True for a ReLU or ReLU6.
    """

    tensor: Any
    before: Any
    name: str
    relu: bool

    def __str__(self) -> str:
        return f"its {'ReLU' if self.relu else 'activation'} {self.name!r}"


def activation_behind(network: Network, layer: str) -> Activation | None:
    """Return the last activation through which alone a layer is read; None if there is none.

    The operations from the layer to the activation must keep channels apart, and nothing else may
    read the layer, nor a value between: with a second reader, such as a residual connection, a unit
    that the activation silences still reaches the network's output. The activation of another
    convolution is that convolution's own.
    """
    ways = list(_only_ways(network, layer))
    names = {id(t): name for name, t in network.outputs.items()}
    if not ways:
        return None
    own = network.outputs[layer]
    given = _numbers(own)
    feed = {layer: ops.cast(given, own.dtype)}
    values = network.run(None, [own, *(t for _, t in ways)], feed=feed)
    before, *later = (ops.convert_to_numpy(ops.cast(v, "float32")) for v in values)
    kept = _kept_channels(given.shape[-1])
    found, source = None, own
    for (call, tensor), after in zip(ways, later, strict=True):
        apart = np.array_equal(after[0][..., kept], after[1][..., kept])
        if not (apart and np.isfinite(after).all()):
            break
        if _is_pointwise(before, after) and _is_bent(before, after):
            name = names.get(id(tensor), getattr(call.op, "name", type(call.op).__name__))
            found = Activation(tensor, source, name, bound_of(call) is not None)
        before, source = after, tensor
    return found


def _only_ways(network: Network, layer: str) -> Iterator[tuple[Call, Any]]:
    """Yield each later tensor that depends on a layer alone and without which nothing reads it.

    They have the layer's number of channels and of axes.
    """
    own = network.outputs[layer]
    readers: dict[int, float] = {id(t): math.inf for t in network.results}
    for call in network.graph:
        for key in {id(t) for t in call.inputs}:
            readers[key] = readers.get(key, 0) + 1
    others = _convolutions(network, layer)
    made = {id(own)}
    pending = {id(own): readers.get(id(own), 0)}
    for call in network.graph:
        read = {id(t) for t in call.inputs} & made
        if not read:
            continue
        if any(id(t) not in made for t in call.inputs) or len(call.outputs) != 1:
            return
        for key in read:
            pending[key] -= 1
        (tensor,) = call.outputs
        if id(tensor) in others or not _is_like(tensor, own):
            return
        made.add(id(tensor))
        pending[id(tensor)] = readers.get(id(tensor), 0)
        if [key for key, count in pending.items() if count] == [id(tensor)]:
            yield call, tensor


def _convolutions(network: Network, layer: str) -> set[int]:
    """Return the ids of what the other convolutions compute."""
    return {
        id(values[name])
        for name in network.conv_layers
        for values in (network.outputs, network.preactivations)
        if name != layer and name in values
    }


def _is_like(tensor: Any, own: Any) -> bool:
    return len(tensor.shape) == len(own.shape) and tensor.shape[-1] == own.shape[-1]


def _numbers(own: Any) -> NDArray[np.float32]:
    """Return random maps (n, …, c).

    The second differs from the first in some channels, and the third in one position. Then come
    maps of each size, whose numbers are all positive or all negative, as a pool keeps them.
    """
    shape = tuple(_FREE_SIZE if side is None else side for side in own.shape[1:])
    draw = np.random.default_rng(0)
    # Large maps repeat a smaller one, in all but the one position.
    small = (*(min(side, _FREE_SIZE) for side in shape[:-1]), shape[-1])
    signed = draw.uniform(-_SIZES[-1], _SIZES[-1], (3, *small))
    kept = _kept_channels(shape[-1])
    signed[1][..., kept] = signed[0][..., kept]
    signed[2] = signed[0]
    sizes = [sign * size * draw.uniform(0.2, 1, small) for size in _SIZES for sign in (-1, 1)]
    found = np.concatenate([signed, sizes]).astype(np.float32)
    for axis, side in enumerate(shape[:-1], start=1):
        found = found.take(np.arange(side) % found.shape[axis], axis=axis)
    found[2][tuple(side // 2 for side in shape[:-1])] = _SPIKE
    return found


def _kept_channels(count: int) -> NDArray[np.bool_]:
    """Return which channels the first two maps have in common: a random half."""
    return np.random.default_rng(1).permutation(count) >= (count + 1) // 2


def _is_pointwise(before: NDArray[np.float32], after: NDArray[np.float32]) -> bool:
    """Return whether a changed number changes no other number than its own result."""
    if before.shape != after.shape:
        return False
    return not ((after[2] != after[0]) & (before[2] == before[0])).any()


def _few_rows(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the channels (rows, c) at the first positions of each map, which the others repeat."""
    corner = tuple(slice(_FREE_SIZE) for _ in maps.shape[1:-1])
    return maps[(slice(None), *corner)].reshape(-1, maps.shape[-1])


def _is_bent(before: NDArray[np.float32], after: NDArray[np.float32]) -> bool:
    """Return whether a channel's results are no straight line of the numbers before."""
    x, y = (_few_rows(v).astype(np.float64) for v in (before, after))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    slope = (x * y).sum(axis=0) / np.maximum((x * x).sum(axis=0), np.finfo(np.float64).tiny)
    left, whole = np.linalg.norm(y - slope * x, axis=0), np.linalg.norm(y, axis=0)
    return bool((left > _BENT * whole).any())
