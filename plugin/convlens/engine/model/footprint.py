"""Estimate the memory that a pass through a network needs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from convlens.engine.model.network import Network
from convlens.engine.runtime import backend

# The forward and backward pass hold the maps, their gradients and the convolutions' workspace.
# Measured for float32 on a CPU: 5 bytes a value on VGG19, 1.4 on ResNet50.
_BYTES_A_VALUE = 8


def bytes_an_image(network: Network, layers: Sequence[str], shape: tuple[int, ...]) -> int:
    """Return the approximate bytes of one image's forward and backward pass up to some layers.

    Args:
        network: the network.
        layers: names of the layers at which the passes end.
        shape: shape of the image, (h, w, c).
    """
    below = list(dict.fromkeys(name for layer in layers for name in network.below(layer)))
    symbols = [network.outputs[name] for name in below]
    shapes = [tuple(s.shape[1:]) for s in symbols]
    if any(side is None for s in shapes for side in s):
        found = backend.shapes(lambda x: network.run(x, symbols), (1, *shape))
        shapes = [s[1:] for s in found]
    return _BYTES_A_VALUE * (math.prod(shape) + sum(math.prod(s) for s in shapes))
