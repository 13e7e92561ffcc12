"""Feature maps of a few images for all convolutions, from one graph, within a memory budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.model.network import Network
from convlens.engine.runtime import backend
from convlens.engine.runtime.lru_cache import LRUCache

_BUDGET = 2**28

Maps = dict[str, NDArray[Any]]


class MapStore:
    """Feature maps of convolutions for a few images, kept in blocks of consecutive layers.

    One forward pass of the images computes the maps of a block. So a run through all layers, one
    after another, costs as many passes as there are blocks.
    """

    def __init__(self, network: Network, images: NDArray[np.float32]) -> None:
        """Start without maps.

        Args:
            network: the network.
            images: (n, h, w, c), checked by `Network.check_images`.
        """
        self._network, self._images = network, images
        self._layers = tuple(name for name in network.conv_layers if network.reaches(name))
        self._kept: LRUCache[Any, Maps] = LRUCache(_BUDGET + _BUDGET // 4, _bytes)

    @property
    def nbytes(self) -> int:
        """The memory of all maps that are kept."""
        return sum(map(_bytes, self._kept.values()))

    def __contains__(self, layer: str) -> bool:
        """Return whether a layer is a convolution that the images reach."""
        return layer in self._layers

    def maps(self, layer: str, numbers: Sequence[int]) -> NDArray[Any]:
        """Return a layer's maps (n, h, w, c) for the images of some numbers; do not change them."""
        images = tuple(numbers)
        block = next(block for block in self._blocks(len(images)) if layer in block)
        return self._kept.get((images, block), lambda: self._compute(images, block))[layer]

    def _blocks(self, images: int) -> list[tuple[str, ...]]:
        """Return the layers in blocks whose maps of so many images fit the budget."""
        positions = math.prod(self._images.shape[1:-1])
        blocks: list[list[str]] = [[]]
        free = _BUDGET
        for name in self._layers:
            shape = self._network.outputs[name].shape[1:]
            values = math.prod(shape) if None not in shape else positions * shape[-1]
            taken = 4 * values * images
            if blocks[-1] and taken > free:
                blocks.append([])
                free = _BUDGET
            blocks[-1].append(name)
            free -= taken
        return [tuple(block) for block in blocks]

    def _compute(self, numbers: tuple[int, ...], block: tuple[str, ...]) -> Maps:
        # The graph of all layers serves every block: another one would take longer to trace than
        # this one takes to run. One image at a time, as it returns the maps of all layers.
        network, layers = self._network, self._layers

        def build() -> Callable[..., Any]:
            tensors = [network.outputs[name] for name in layers]
            return lambda batch: network.run(batch, tensors)

        run = network.compiled(("maps", layers), build)
        found: Maps = {}
        for i, number in enumerate(numbers):
            values = run(ops.convert_to_tensor(self._images[number : number + 1]))
            for name, value in zip(layers, values, strict=True):
                if name in block:
                    own = backend.to_numpy(value)
                    whole = found.setdefault(
                        name, np.empty((len(numbers), *own.shape[1:]), own.dtype)
                    )
                    whole[i] = own[0]
        return found


def _bytes(maps: Maps) -> int:
    return sum(each.nbytes for each in maps.values())
