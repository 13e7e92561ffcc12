"""A Keras model as one of two models side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convlens.compare.forward import Forward
from convlens.compare.runtime import BATCH, Arithmetic, Step, Values
from convlens.compare.walk import layer_names
from convlens.engine.model.network import INPUT, Network
from convlens.engine.runtime import backend
from convlens.engine.runtime.tolerance import coarsest, precision_of

_ARITHMETIC: Mapping[str, Arithmetic] = {"float16": "float16", "bfloat16": "bfloat16"}


class KerasModel:
    """A Keras model whose tensors are its layers' outputs; see `Runtime`."""

    channels_first = False
    steps: Mapping[str, Step] = {}
    notes: tuple[str, ...] = ()

    def __init__(self, network: Network) -> None:
        self.network = network
        self.title = f"Keras {keras.__version__} on {keras.backend.backend()}"
        self.arithmetic: Arithmetic = _ARITHMETIC.get(
            coarsest(precision_of(t.dtype) for call in network.all_calls for t in call.outputs),
            "float32",
        )
        self.input_shape = network.input_shape
        names = layer_names(network)
        self._names: dict[int, str] = {id(network.image): INPUT}
        for call in network.all_calls:
            for t in call.outputs:
                own = network.outputs.get(names[id(t)])
                inner = "" if t is own else f"/{len(self._names)}"
                self._names[id(t)] = f"{names[id(t)]}{inner}"
        self.output_names = tuple(self._names[id(t)] for t in network.results)
        self.sources: Mapping[str, tuple[str, ...]] = {
            self._names[id(t)]: tuple(
                self._names[id(each)] for each in call.inputs if id(each) in self._names
            )
            for call in network.all_calls
            for t in call.outputs
        }

    def hold(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Do nothing: the network has values of its own, see `Network`."""

    def outputs(self, images: NDArray[Any]) -> list[Values]:
        """Return the outputs as `model.predict` computes them."""
        given = [np.asarray(v) for v in self.network.inputs_for(np.asarray(images, np.float32))]
        model = self.network.model
        if backend.compiles_operations() or self.network.is_channels_first:
            found = [
                keras.tree.flatten(
                    model.predict(
                        given if len(given) > 1 else given[0], batch_size=BATCH, verbose=0
                    )
                )
            ]
        else:
            # The same step without a graph, which takes longer to trace than these images to run.
            found = []
            for start in range(0, len(images), BATCH):
                part = [x[start : start + BATCH] for x in given]
                result = model(part if len(part) > 1 else part[0], training=False)
                found.append(keras.tree.flatten(result))
        return [
            np.concatenate([np.asarray(backend.to_numpy(v), np.float32) for v in each])
            for each in zip(*found, strict=True)
        ]

    def tensors(self, images: NDArray[Any]) -> dict[str, Values]:
        """Return the values of all layers and operations."""
        return {
            self._names[key]: np.asarray(backend.to_numpy(value), np.float32)
            for key, value, _ in Forward(self.network).follow(images)
            if len(value.shape) > 1
        }
