"""The cost of a layer's ascent, and the image sizes on which it can climb."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from convlens.engine.model.flops import call_flops
from convlens.engine.model.network import Network
from convlens.engine.model.receptive_field import Reach, reaches
from convlens.engine.model.shapes import Shape

Size = tuple[int, ...]

# Writing one value takes as long as about this many operations of a matrix product: the memory
# bounds normalizations, activations and their gradients.
OPERATIONS_A_VALUE = 100
# Tracing and compiling one call, with its gradient, takes as long as about this many operations.
_OPERATIONS_A_TRACE = 1.5e9
# A picture shows twice the receptive field, and at least this many pixels along a side.
_FIELDS, _PIXELS = 2, 64
# What maps see of the padding shows at an image's edges, in at most this share of a side each.
_EDGE = 1 / 8
# Where maps see it from further inside than this share, no part of an image is free of it.
_SEEN = 1 / 4
# The smallest canvas leaves every map this many positions along a side, and has so many pixels.
_MIN_POSITIONS, _MIN_PIXELS = 2, 32


@dataclass(frozen=True)
class Canvas:
    """The sizes of the images on which units can be climbed.

    Attributes:
        whole: size of the whole image along each side, (h, w).
        free: True if the layers below take images of another size, and give maps of that size.
        least, most: the smallest and the largest size that is worthwhile.
            The largest may exceed the whole by the edges that pictures leave out.
        stride: distance in pixels of the positions of the coarsest map below. Sizes differ from
            the whole by multiples of it, so that windows and strides fit as they do there.
        edge: width in pixels of the image's edges in which maps see their padding.
    """

    whole: Size
    free: bool
    least: Size
    most: Size
    stride: Size
    edge: Size

    def __or__(self, other: Canvas) -> Canvas:
        """Return the sizes that serve two layers."""
        return Canvas(
            self.whole,
            self.free and other.free,
            *(
                tuple(map(max, a, b))
                for a, b in (
                    (self.least, other.least),
                    (self.most, other.most),
                    (self.stride, other.stride),
                    (self.edge, other.edge),
                )
            ),
        )

    def shown(self, size: Size) -> Size:
        """Return the size of the middle of images that is seen without their edges."""
        if not self.free:
            return size
        return tuple(
            min(whole, side - 2 * min(edge, int(side * _EDGE)))
            for side, edge, whole in zip(size, self.edge, self.whole, strict=True)
        )

    def size(self, level: float) -> Size:
        """Return a size between the smallest, at level 0, and the largest, at level 1."""
        if not self.free:
            return self.whole
        return tuple(
            _snapped(round(a * (b / a) ** level), a, whole, stride)
            for a, b, whole, stride in zip(
                self.least, self.most, self.whole, self.stride, strict=True
            )
        )


def _snapped(wanted: int, least: int, whole: int, stride: int) -> int:
    """Return the smallest side of at least `wanted` that differs from the whole by strides."""
    return max(least, whole - (whole - wanted) // stride * stride)


class Costs:
    """The operations of a network's passes, and the canvases of its layers.

    A pass costs the operations of its matrix products, and more for each value that is written:
    depthwise convolutions, normalizations and activations take time too.
    """

    def __init__(self, network: Network, shape: tuple[int, ...]) -> None:
        """Count.

        Args:
            network: the network.
            shape: (*positions, c) of the whole image.
        """
        self.network = network
        self.shape = shape
        self._number = {id(call): i for i, call in enumerate(network.graph)}
        self._calls: dict[str, frozenset[int]] = {}
        self._canvases: dict[str, Canvas] = {}

    @cached_property
    def _each(self) -> list[float]:
        """The operations of each call in a forward pass of one whole image."""
        shapes = self.network.shapes(self.shape)
        return [
            call_flops(call, shapes)
            + OPERATIONS_A_VALUE
            * sum(math.prod(n or 1 for n in shapes[id(t)]) for t in call.outputs)
            for call in self.network.graph
        ]

    @property
    def forward(self) -> float:
        """Operations of a forward pass of the whole network."""
        return sum(self._each)

    def calls(self, layer: str) -> frozenset[int]:
        """Return the numbers of the calls that compute a layer."""
        if layer not in self._calls:
            self._calls[layer] = frozenset(self._number[id(c)] for c in self.network.calls(layer))
        return self._calls[layer]

    def of(self, calls: Iterable[int]) -> float:
        """Return the operations of some calls in a forward pass of one whole image."""
        return sum(self._each[i] for i in calls)

    @staticmethod
    def tracing(count: int) -> float:
        """Return how many operations could be done while `count` calls are traced."""
        return _OPERATIONS_A_TRACE * count

    def canvas(self, layer: str) -> Canvas:
        """Return the sizes of the images on which a layer's units can be climbed."""
        if layer not in self._canvases:
            self._canvases[layer] = self._find_canvas(layer)
        return self._canvases[layer]

    def _find_canvas(self, layer: str) -> Canvas:
        whole = self.shape[:-1]
        output = self.network.outputs[layer]
        if id(output) in self._fixed:
            return Canvas(whole, False, whole, whole, (1,) * len(whole), (0,) * len(whole))
        reach, least = self._reaches[id(output)], self._least[id(output)]
        edge = self._edge(layer)
        most = [
            _snapped(max(_PIXELS, _FIELDS * field), 1, side, stride)
            if max(_PIXELS, _FIELDS * field) < side
            else _snapped(side + 2 * margin, 1, side, stride)
            for field, side, stride, margin in zip(
                reach.size, whole, least.stride, edge, strict=True
            )
        ]
        most = list(map(max, most, least.size))
        return Canvas(whole, True, least.size, tuple(most), least.stride, edge)

    def _edge(self, layer: str) -> Size:
        """Return how far from the image's edges a layer's map sees the padding, in pixels."""
        whole = self.shape[:-1]
        if len(self.network.outputs[layer].shape) < len(whole) + 2:
            return (0,) * len(whole)
        starts = map(round, self._reaches[id(self.network.outputs[layer])].start)
        return tuple(
            max(0, min(-start, int(side * _EDGE))) if -start <= side * _SEEN else 0
            for start, side in zip(starts, whole, strict=True)
        )

    @cached_property
    def _reaches(self) -> dict[int, Reach]:
        return reaches(self.network, self.network.shapes(self.shape))

    @cached_property
    def _fixed(self) -> set[int]:
        """The tensors, by id, that need the whole image, found by a trial with half of it.

        An operation below does not take the other size, or gives a map of the same size as before.
        """
        *sides, c = self.shape
        full = self.network.shapes(self.shape)
        half = self.network.shapes((*(max(1, side // 2) for side in sides), c))
        reached, fixed = {id(self.network.image)}, set[int]()
        for call in self.network.graph:
            inputs = {id(t) for t in call.inputs}
            if not inputs & reached:
                continue
            for t in call.outputs:
                reached.add(id(t))
                if inputs & fixed or id(t) not in half or _is_kept(full[id(t)], half[id(t)]):
                    fixed.add(id(t))
        return fixed

    @cached_property
    def _least(self) -> dict[int, _Least]:
        """The smallest canvas of each tensor, by its id."""
        whole = self.shape[:-1]
        shapes = self.network.shapes(self.shape)
        start = _Least(tuple(min(_MIN_PIXELS, side) for side in whole), (1,) * len(whole))
        found = {id(self.network.image): start}
        for call in self.network.graph:
            below = [found[id(t)] for t in call.inputs if id(t) in found]
            for t in call.outputs:
                if not below:
                    continue
                least = start
                for other in below:
                    least |= other
                if len(shapes[id(t)]) == len(whole) + 2 and id(t) in self._reaches:
                    least |= _Least.of(shapes[id(t)], self._reaches[id(t)], whole)
                found[id(t)] = least
        return found


@dataclass(frozen=True)
class _Least:
    size: Size
    stride: Size

    @classmethod
    def of(cls, shape: Shape, reach: Reach, whole: Size) -> _Least:
        """Return the smallest canvas for a map, which may be a single position."""
        sizes, strides = [], []
        for n, stride, side in zip(shape[1:-1], reach.stride, whole, strict=True):
            step = max(1, math.ceil(stride)) if n is not None and n > 1 else 1
            spare = max(0, (n or 1) - _MIN_POSITIONS)
            sizes.append(max(1, side - spare * step) if step > 1 or spare else 1)
            strides.append(step)
        return cls(tuple(sizes), tuple(strides))

    def __or__(self, other: _Least) -> _Least:
        return _Least(
            tuple(map(max, self.size, other.size)), tuple(map(max, self.stride, other.stride))
        )


def _is_kept(full: Shape, half: Shape) -> bool:
    """Return whether a map is as large for an image of half the size, and not a single position."""
    positions = [n or 1 for n in full[1:-1]]
    return math.prod(positions) > 1 and list(half[1:-1]) == list(full[1:-1])
