"""The stages of a deconvnet: a stage is one layer with the layers that it reads.

A stage can be run alone: the forward values of its sources are fed to the layer, and a signal at
its output is sent down to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.model.flatten import MAX_POOLS, runs_as_keras
from convlens.engine.model.network import INPUT, Network
from convlens.engine.model.rounding import sums_products
from convlens.engine.runtime import backend

Array = NDArray[Any]
Kind = Literal["pool", "activation", "map"]
# More stages in one graph would make its memory grow, and save no time.
MAX_STAGES = 32


@dataclass(frozen=True)
class Stage:
    """One layer with the layers that it reads.

    Attributes:
        layer: name of the layer.
        sources: names of the layers that it reads and through which a signal passes; 'input' means
            the images.
        kind: 'pool' is a max-pool of its one source, 'activation' an activation of its one source,
            and 'map' everything else.
        is_simple: whether the stage is one of Keras's own layers alone, and has no kernel.
    """

    layer: str
    sources: tuple[str, ...]
    kind: Kind
    is_simple: bool


@dataclass(frozen=True)
class Noise:
    """Random values from -1 to 1 for one stage and n images.

    Attributes:
        signal: (n, …) a signal at the layer's output.
        inputs: source → (n + 2, …) outputs of the sources: zeros, n random ones, and the sum of the
            first two of these; only for the kind 'map'.
    """

    signal: Array
    inputs: dict[str, Array]


def stages_of(network: Network, layers: Sequence[str]) -> list[Stage]:
    """Return the stages of layers, in their order; only layers with a signal have a stage."""
    found = []
    for layer in layers:
        sources = tuple(s for s in network.sources(layer) if has_signal(network, s))
        if sources and has_signal(network, layer):
            kind = _kind(network, layer, sources)
            found.append(Stage(layer, sources, kind, _is_simple(network, layer)))
    return found


def has_signal(network: Network, name: str) -> bool:
    """Return whether a layer's output is of a type that has derivatives."""
    return name == INPUT or "float" in str(network.outputs[name].dtype)


def noise_of(
    network: Network, stage: Stage, shapes: Mapping[str, Sequence[int]], count: int, seed: int
) -> Noise:
    """Return random values of a stage, which depend on nothing but its place in the network.

    Args:
        network: the network.
        stage: the stage.
        shapes: shapes of the layers' outputs for one image.
        count: number of images.
        seed: seed of the random values.
    """
    draw = np.random.default_rng([seed, network.numbers[stage.layer]])

    def drawn(layer: str) -> Array:
        return 2 * draw.random((count, *shapes[layer]), dtype=np.float32) - 1

    signal, inputs = drawn(stage.layer), {}
    for source in stage.sources if stage.kind == "map" else ():
        x = drawn(source)
        inputs[source] = np.concatenate([np.zeros_like(x[:1]), x, x[:1] + x[1:2]])
    return Noise(signal, inputs)


def run_stages(
    network: Network, stages: Sequence[Stage], noise: Sequence[Noise], maps: Mapping[str, Array]
) -> Iterator[Array | None]:
    """Yield the value of each stage before its activation, for the noise's inputs.

    Args:
        network: the network.
        stages: the stages; None is yielded for those that are not of the kind 'map'.
        noise: the random values of each stage.
        maps: layer → (n, …) the outputs of the layers that the stages read.
    """
    for stage, own in zip(stages, noise, strict=True):
        if stage.kind != "map":
            yield None
            continue
        fed = {}
        for name in network.sources(stage.layer):
            if name in own.inputs:
                dtype = "float32" if name == INPUT else network.outputs[name].dtype
                fed[name] = ops.convert_to_tensor(own.inputs[name], dtype)
            else:  # numbers through which no signal passes
                given = maps[name]
                fed[name] = ops.convert_to_tensor(np.concatenate([given[:1], given, given[:1]]))
        top = network.preactivations.get(stage.layer, network.outputs[stage.layer])
        run = partial(run_layers, network, wanted=[top])
        yield backend.to_numpy(network.once(run, fed)[0])


def downward(
    network: Network, stage: Stage, values: Mapping[str, Any], signals: Sequence[Any]
) -> list[dict[str, Any]]:
    """Return the signals at a stage's sources for each of several signals at its output.

    Args:
        network: the network.
        stage: the stage.
        values: layer → (n, …) the outputs of the layers that it reads.
        signals: signals (n, …).

    Returns:
        For each signal, source → (n, …).
    """
    known = {name: values[name] for name in network.sources(stage.layer)}

    def run(given: list[Any]) -> Any:
        fed = {**known, **dict(zip(stage.sources, given, strict=True))}
        return run_layers(network, fed, [network.outputs[stage.layer]])[0]

    maps, pullback = backend.vjp(run, [known[name] for name in stage.sources], reusable=True)
    return [
        dict(zip(stage.sources, pullback(ops.cast(signal, maps.dtype)), strict=True))
        for signal in signals
    ]


def run_layers(
    network: Network,
    values: Mapping[str, Any],
    wanted: list[Any],
    taps: Mapping[str, Any] | None = None,
) -> list[Any]:
    """Return symbols' values from layers' values, with the backward pass of the deconvnet."""
    fed = {name: value for name, value in values.items() if name != INPUT}
    return network.run(values.get(INPUT), wanted, method="deconvnet", taps=taps, feed=fed)


def tensors(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Return arrays as tensors."""
    return {name: ops.convert_to_tensor(array) for name, array in arrays.items()}


def _is_simple(network: Network, layer: str) -> bool:
    call = network.call_of(layer)
    read = {id(network.outputs.get(name, network.image)) for name in network.sources(layer)}
    if any(id(tensor) not in read for tensor in call.inputs):
        return False  # there are operations, or a kernel before an activation
    own = isinstance(call.op, keras.Layer) and runs_as_keras(call.op)
    return own and not isinstance(call.op, keras.layers.Lambda) and not sums_products(call.op)


def _kind(network: Network, layer: str, sources: tuple[str, ...]) -> Kind:
    own = network.layers[layer]
    read = network.call_of(layer).inputs
    source = network.outputs.get(sources[0], network.image)
    alone = len(sources) == 1 and len(read) == 1 and read[0] is source
    if alone and layer in network.preactivations:
        return "activation"
    if alone and isinstance(own, MAX_POOLS) and runs_as_keras(own):
        return "pool"
    return "map"
