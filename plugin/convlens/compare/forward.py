"""Run a network call by call, so that any value on the way can be read and replaced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.model.flatten import Call, is_convolution, is_symbolic
from convlens.engine.model.network import Network
from convlens.engine.model.quick import quick_calls


class Forward:
    """The calls of a network, one by one and without a graph, which takes long to trace."""

    def __init__(self, network: Network) -> None:
        self.network = network
        # A quick convolution or dense layer has a quick gradient, for which its kernel is copied.
        self._quick = quick_calls(
            call
            for call in network.all_calls
            if not (is_convolution(call.op) or isinstance(call.op, keras.layers.Dense))
        )

    def compute(self, call: Call, values: Mapping[int, Any]) -> list[Any] | None:
        """Return the results of a call; None where an input has no value yet.

        Args:
            call: a call of the network.
            values: values by the id of their symbol.
        """
        if any(id(t) not in values for t in call.inputs):
            return None
        quick = self._quick.get(id(call))
        if quick is not None:
            return [quick(values[id(call.inputs[0])])]
        args, kwargs = keras.tree.map_structure(
            lambda t: values[id(t)] if is_symbolic(t) else t, (call.args, call.kwargs)
        )
        return call.compute(args, kwargs)

    def follow(self, images: NDArray[Any]) -> Iterator[tuple[int, Any, dict[int, Any]]]:
        """Yield the id and the value of each symbol, and all values so far, in order.

        A value that the caller replaces in the mapping before the next step goes on to the layers
        behind it.

        Args:
            images: images (n, h, w, c).
        """
        image = self.network.image
        values = self.network.first_values(ops.cast(ops.convert_to_tensor(images), image.dtype))
        yield id(image), values[id(image)], values
        for call in self.network.all_calls:
            results = self.compute(call, values)
            if results is None:
                continue
            for symbol, value in zip(call.outputs, results, strict=True):
                values[id(symbol)] = value
                yield id(symbol), value, values


def as_tensor(value: NDArray[Any], symbol: Any) -> Any:
    """Return an array as a tensor of a symbol's type."""
    return ops.cast(ops.convert_to_tensor(np.ascontiguousarray(value)), symbol.dtype)
