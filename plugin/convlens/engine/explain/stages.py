"""The deconvnet stage by stage: a stage is one layer with the layers that it reads.

`walk` projects signals from layers down to the pixels, and takes each stage alone as well: the
forward values of its sources are fed to the layer, and a signal at its output is sent down to them.
The whole and its parts can then be compared. The network is run in sections of neighboring stages:
first forward, when only the values between sections are kept, then downward, when one graph a
section computes all that is needed of its stages. The cost is a few passes over the network,
whatever its depth, and no more than a section's maps are in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.model.flatten import runs_as_keras
from convlens.engine.model.network import INPUT, Network
from convlens.engine.runtime import backend
from convlens.engine.runtime.tolerance import is_coarse

Array = NDArray[Any]
Kind = Literal["pool", "activation", "map"]
# A graph of more stages takes longer to optimize than two graphs of half of them.
_MAX_STAGES = 16
# Numbers in the maps of a section's stages; about fourteen arrays of that size are in memory.
_MAX_VALUES = 2**22
# Attempts to bring signals into the range of a coarse type, and the power of two for an overflow.
MAX_SCALINGS, _LARGE_POWER = 4, 12


@dataclass(frozen=True)
class Stage:
    """One layer with the layers that it reads.

    Attributes:
        layer: name of the layer.
        sources: names of the layers that it reads and through which a signal passes; 'input' means
            the images.
        kind: 'pool' is a max-pool of its one source, 'activation' an activation of its one source,
            and 'map' everything else.
    """

    layer: str
    sources: tuple[str, ...]
    kind: Kind


@dataclass(frozen=True)
class Step:
    """A stage run forward and downward, for n images.

    Attributes:
        stage: the stage.
        maps: (n, …) the layer's output.
        features: source → (n, …) its output.
        noise: (n, …) random signal at the layer's output.
        inputs: source → (n, …) random values in place of its output; only for the kind 'map'.
        forward: (n + 2, …) the layer's value before its activation for sources of 0, for `inputs`,
            and for the sum of the first two of them; None for other kinds.
        down: source → (n, …) the signal there for `noise`.
        whole: source → (n, …) the signal there for the projection's own signal.
        twice: source → (1, …) the signal there for two times the first of the projection's signals.
        nothing: source → (1, …) the signal there for a signal of zeros.
        unpooled: (n, …) the signal at the source for `maps`; None but for a max-pool.
    """

    stage: Stage
    maps: Array
    features: dict[str, Array]
    noise: Array
    inputs: dict[str, Array]
    forward: Array | None
    down: dict[str, Array]
    whole: dict[str, Array]
    twice: dict[str, Array]
    nothing: dict[str, Array]
    unpooled: Array | None


@dataclass(frozen=True)
class Arrival:
    """The projection's signal at one layer, and the sum of what its readers send.

    Attributes:
        layer: name of the layer, or 'input'.
        first_reader: name of the first of its readers, in the order of the network.
        signal: (n, …) the projection's signal at the layer's output.
        sent: (n, …) the sum of its readers' signals, each computed from the projection's signal at
            the reader's output, and of the layer's own maps where the projection starts there.
    """

    layer: str
    first_reader: str
    signal: Array
    sent: Array


@dataclass(frozen=True)
class Part:
    """One part of a walk: some stages that were computed together.

    Attributes:
        steps: the steps of the stages.
        arrivals: the signals whose last reader is among the stages.
        failed: the one layer of the part if it raised an error, None otherwise.
        error: that error.
    """

    steps: list[Step]
    arrivals: list[Arrival]
    failed: str | None = None
    error: Exception | None = None


def stages_of(network: Network, layers: Sequence[str]) -> list[Stage]:
    """Return the stages of layers, in their order; only layers with a signal have a stage."""
    found = []
    for layer in layers:
        sources = tuple(s for s in network.sources(layer) if _has_signal(network, s))
        if sources and _has_signal(network, layer):
            found.append(Stage(layer, sources, _kind(network, layer, sources)))
    return found


def noise_for(seed: int, number: int, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Return random numbers of a normal distribution for one stage, by its number."""
    draw = np.random.default_rng([seed, number])
    return [draw.standard_normal(shape, dtype=np.float32) for shape in shapes]


def run_forward(
    network: Network,
    stages: Sequence[Stage],
    inputs: Sequence[Mapping[str, Array]],
    maps: Mapping[str, Array],
) -> Iterator[Array]:
    """Yield the forward values of each stage of the kind 'map', as in `Step.forward`.

    Args:
        network: the network.
        stages: the stages.
        inputs: source → (n, …) random values in place of its output, for each stage.
        maps: layer → (n, …) the outputs of all layers that the stages read.
    """
    for first in range(0, len(stages), _MAX_STAGES):
        part = stages[first : first + _MAX_STAGES]
        names = {name for stage in part for name in network.sources(stage.layer)}
        values = _tensors({name: maps[name] for name in sorted(names)})
        given = [_tensors(x) for x in inputs[first : first + _MAX_STAGES]]

        key = ("stages forward", tuple(stage.layer for stage in part))
        run = network.compiled(key, lambda part=part: partial(_all_forward, network, part))
        yield from map(backend.to_numpy, run(values, given))


def walk(
    network: Network,
    images: NDArray[np.float32],
    layers: Sequence[str],
    starts: Collection[str],
    seed: int = 0,
) -> Iterator[Part]:
    """Project layers' maps down to the pixels, and run each stage alone.

    The projection starts at those of `starts` that no other layer reads, with their maps as signal,
    and again at those that no signal reaches for an image, because a ReLU did not let it pass.

    Args:
        network: the network.
        images: (n, h, w, c), two or more.
        layers: names of layers in the order of the network, with all that they depend on.
        starts: names of layers where the projection may start.
        seed: seed of the random values.

    A layer that raises an error has no step. It sends no signal, so that the layers below can still
    be examined.

    Yields:
        The stages part by part, from the last to the first.
    """
    yield from _Walk(network, images, layers, seed).run(layers, starts)


@dataclass(frozen=True)
class _Section:
    """Neighboring stages that are computed by one graph.

    Attributes:
        layers: all layers of the section, in the order of the network.
        stages: their stages.
        entries: layers of earlier sections that they read.
        exits: those of its layers that later sections read.
        starts: those of its layers where the projection may start.
    """

    layers: tuple[str, ...]
    stages: tuple[Stage, ...]
    entries: tuple[str, ...]
    exits: tuple[str, ...]
    starts: tuple[str, ...]


class _Walk:
    def __init__(
        self,
        network: Network,
        images: NDArray[np.float32],
        layers: Sequence[str],
        seed: int,
    ) -> None:
        self.network = network
        self.count = len(images)
        self.seed = seed
        self.shapes = _shapes(network, layers, images.shape)
        self.stages = {stage.layer: stage for stage in stages_of(network, layers)}
        self.readers: dict[str, list[str]] = {}
        for stage in self.stages.values():
            for source in stage.sources:
                self.readers.setdefault(source, []).append(stage.layer)
        self.numbers = {name: i for i, name in enumerate(network.outputs)}
        self.values: dict[str, Any] = {INPUT: ops.convert_to_tensor(images)}
        # The signal at each layer that is still to come, and what its readers sent so far.
        self.signals: dict[str, Array] = {}
        self.sent: dict[str, Array] = {}

    def sections(
        self, groups: Sequence[Sequence[str]], starts: Collection[str], read: Collection[str] = ()
    ) -> list[_Section]:
        """Return the section of each group of layers; `read` are layers that are read elsewhere."""
        entries = [_entries(self.network, group) for group in groups]
        found = []
        for i, group in enumerate(groups):
            later = {*read, *(name for each in entries[i + 1 :] for name in each)}
            found.append(
                _Section(
                    tuple(group),
                    tuple(self.stages[name] for name in group if name in self.stages),
                    entries[i],
                    tuple(name for name in group if name in later),
                    tuple(name for name in group if name in starts),
                )
            )
        return found

    def groups(self, layers: Sequence[str]) -> list[list[str]]:
        """Divide layers into groups that fit into one graph and into memory."""
        groups: list[list[str]] = [[]]
        values = 0
        for name in layers:
            size = self.count * math.prod(self.shapes[name])
            if groups[-1] and (len(groups[-1]) == _MAX_STAGES or values + size > _MAX_VALUES):
                groups.append([])
                values = 0
            groups[-1].append(name)
            values += size
        return groups

    def run(self, layers: Sequence[str], starts: Collection[str]) -> Iterator[Part]:
        """Run all layers; the last part has the arrival at the images."""
        sections = self.sections(self.groups(layers), starts)
        for section in sections[:-1]:
            self.forward(section)
        yield from self.descend(sections)
        yield Part([], self.arrivals([INPUT]))

    def descend(self, sections: Sequence[_Section]) -> Iterator[Part]:
        """Run sections from the last to the first."""
        for section in reversed(sections):
            try:
                steps = self.downward(section)
            except Exception as error:  # of any type, raised by a layer of the user's own
                if len(section.layers) > 1:
                    yield from self.one_by_one(section)
                else:
                    name = section.layers[0]
                    yield Part([], self.arrivals([name]), name, error)
            else:
                yield Part(steps, self.arrivals(section.layers))
            for name in section.exits:
                self.values.pop(name, None)

    def one_by_one(self, section: _Section) -> Iterator[Part]:
        """Run the layers of a section each alone, to find the one that raises an error."""
        alone = [[name] for name in section.layers]
        sections = self.sections(alone, section.starts, section.exits)
        for each in sections[:-1]:
            self.forward(each)
        yield from self.descend(sections)

    def forward(self, section: _Section) -> None:
        """Compute the values that later sections need."""
        if not section.exits:
            return
        network = self.network

        def build() -> Callable[..., Any]:
            wanted = [network.outputs[name] for name in section.exits]
            return lambda values: _run(network, values, wanted)

        run = network.compiled(("section forward", section.layers, section.exits), build)
        results = run(self.entry_values(section))
        self.values.update(zip(section.exits, results, strict=True))

    def entry_values(self, section: _Section) -> dict[str, Any]:
        """Return the values that a section reads; the images tell how many there are."""
        return {name: self.values[name] for name in dict.fromkeys((INPUT, *section.entries))}

    def downward(self, section: _Section) -> list[Step]:
        """Project the signals through a section, and run its stages."""
        self.scale(_factor_to_one(self.signals.values()))
        noise, inputs = {}, {}
        for stage in section.stages:
            noise[stage.layer], inputs[stage.layer] = self.noise(stage)
        values = self.entry_values(section)
        run = self.network.compiled(
            ("section downward", section, tuple(self.shapes[name] for name in section.layers)),
            lambda: partial(_section_downward, self.network, section, self.shapes),
        )

        def attempt(gains: Mapping[str, Array]) -> dict[str, Any]:
            signals = {name: self.signal(name) for name in section.exits if name in self.readers}
            given = (
                values,
                *map(_tensors, (signals, gains, noise)),
                [*map(_tensors, inputs.values())],
            )
            found: dict[str, Any] = keras.tree.map_structure(backend.to_numpy, run(*given))
            return found

        gains, found = self.within_range(section, attempt)
        self.collect(section, gains, found)
        features = {**keras.tree.map_structure(backend.to_numpy, values), **found["maps"]}
        return [
            _step(stage, features, noise[stage.layer], inputs[stage.layer], found["steps"][i])
            for i, stage in enumerate(section.stages)
        ]

    def noise(self, stage: Stage) -> tuple[Array, dict[str, Array]]:
        """Return a stage's random signal and random inputs, which depend on its number alone."""
        names = [stage.layer, *(stage.sources if stage.kind == "map" else ())]
        signal, *inputs = noise_for(
            self.seed,
            self.numbers[stage.layer],
            [(self.count, *self.shapes[name]) for name in names],
        )
        return signal, dict(zip(names[1:], inputs, strict=True))

    def within_range(
        self, section: _Section, attempt: Callable[[Mapping[str, Array]], dict[str, Any]]
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return how much of each start's own maps is projected, for each image, and the results.

        In float16 small signals lose their bits and large ones overflow; a power of two as a
        factor changes nothing else.
        """
        ends = [name for name in section.starts if name not in self.readers]
        gains = {n: np.full(self.count, float(n in ends), np.float32) for n in section.starts}
        scalings = MAX_SCALINGS if self.is_coarse(section) else 0
        while True:
            found = attempt(gains)
            silent = {
                name: (gain == 0) & ~_flat(found["signals"][name]).any(axis=1)
                for name, gain in gains.items()
            }
            if any(each.any() for each in silent.values()):
                gains = {name: np.where(silent[name], 1, g) for name, g in gains.items()}
                continue
            if not scalings:
                return gains, found
            factor = factor_to_range(found["signals"].values())
            if factor == 1:
                return gains, found
            scalings -= 1
            gains = {name: gain * factor for name, gain in gains.items()}
            self.scale(factor)

    def is_coarse(self, section: _Section) -> bool:
        return any(is_coarse(self.network.rounding(name).precision) for name in section.layers)

    def scale(self, factor: float) -> None:
        """Multiply all signals that are still to come by a power of two."""
        for signals in (self.signals, self.sent):
            for name in signals:
                signals[name] = signals[name] * np.float32(factor)

    def collect(
        self, section: _Section, gains: Mapping[str, Array], found: Mapping[str, Any]
    ) -> None:
        """Add what a section sends to the signals of the layers that it reads."""
        for name in section.entries:
            if name in found["signals"]:
                _add(self.signals, name, found["signals"][name])
        for name, gain in gains.items():
            if gain.any():
                maps = found["maps"][name]
                _add(self.sent, name, maps * gain.reshape(-1, *[1] * (maps.ndim - 1)))
        for results in found["steps"]:
            for source, signals in results["down"].items():
                _add(self.sent, source, signals[self.count : 2 * self.count])
        self.signals.update((n, found["signals"][n]) for n in section.layers if n in self.readers)

    def signal(self, name: str) -> Array:
        """Return the signal at a layer so far; zeros if no reader sent one."""
        nothing = np.zeros((self.count, *self.shapes[name]), np.float32)
        return self.signals.get(name, nothing)

    def arrivals(self, names: Iterable[str]) -> list[Arrival]:
        """Return the arrivals at layers whose readers have all had their turn."""
        found = []
        for name in names:
            if name in self.readers:
                signal = self.signal(name)
                sent = self.sent.pop(name, np.zeros_like(signal))
                self.signals.pop(name, None)
                found.append(Arrival(name, self.readers[name][0], signal, sent))
        return found


def _step(
    stage: Stage,
    features: Mapping[str, Array],
    noise: Array,
    inputs: dict[str, Array],
    results: Mapping[str, Any],
) -> Step:
    """Split the results of `_section_downward` for one stage."""
    n = len(noise)
    parts = {
        source: np.split(signals, [n, 2 * n, 2 * n + 1, 2 * n + 2])
        for source, signals in results["down"].items()
    }
    down, whole, twice, nothing, unpooled = (
        {source: part[i] for source, part in parts.items()} for i in range(5)
    )
    return Step(
        stage,
        features[stage.layer],
        {source: features[source] for source in stage.sources},
        noise,
        inputs,
        results.get("forward"),
        down,
        whole,
        twice,
        nothing,
        unpooled[stage.sources[0]] if stage.kind == "pool" else None,
    )


def _section_downward(
    network: Network,
    section: _Section,
    shapes: Mapping[str, tuple[int, ...]],
    values: dict[str, Any],
    signals: dict[str, Any],
    gains: dict[str, Any],
    noise: dict[str, Any],
    inputs: list[dict[str, Any]],
) -> dict[str, Any]:
    """Project signals through a section, and run each of its stages forward and downward.

    Args:
        network: the network.
        section: the section.
        shapes: shape of each layer's output for one image.
        values: values of the layers that the section reads.
        signals: signals at the section's exits.
        gains: (n,) factors of the own maps of the section's starts, which are signals too.
        noise: the random signal at each stage's layer.
        inputs: the random inputs of each stage.

    Returns:
        'maps' and 'signals' by layer; 'steps' in the order of the stages, each with the 'forward'
        values and the signals 'down' at each source: for the noise, the projection's signal, twice
        the first of it, zeros, and the maps of a max-pool, one after another.
    """
    entries = [name for name in section.entries if _has_signal(network, name)]
    tapped = [name for name in section.layers if _has_signal(network, name)]
    count = ops.shape(values[INPUT])[0]
    taps = [ops.zeros((count, *shapes[name]), dtype=network.outputs[name].dtype) for name in tapped]

    def forward(given: list[Any]) -> list[Any]:
        fed = {**values, **dict(zip(entries, given[: len(entries)], strict=True))}
        added = dict(zip(tapped, given[len(entries) :], strict=True))
        return _run(network, fed, [network.outputs[name] for name in section.layers], added)

    results, pullback = backend.vjp(forward, [*(values[name] for name in entries), *taps])
    maps = dict(zip(section.layers, results, strict=True))
    started = {
        name: maps[name] * _broadcast(ops.cast(gain, maps[name].dtype), maps[name])
        for name, gain in gains.items()
    }
    begun: dict[str, Any] = {}
    for part in (signals, started):
        for name, signal in part.items():
            more = ops.cast(signal, maps[name].dtype)
            begun[name] = begun[name] + more if name in begun else more
    cotangents = [begun.get(name) for name in section.layers]
    sent = dict(zip([*entries, *tapped], pullback(cotangents), strict=True))
    known = {**values, **maps}
    steps = []
    for stage, given in zip(section.stages, inputs, strict=True):
        own = sent[stage.layer]
        parts = [ops.cast(noise[stage.layer], own.dtype), own, 2 * own[:1], ops.zeros_like(own[:1])]
        if stage.kind == "pool":
            parts.append(maps[stage.layer])
        steps.append({"down": _downward(network, stage, known, ops.concatenate(parts))})
        if stage.kind == "map":
            steps[-1]["forward"] = _forward(network, stage, known, given)
    return {"maps": maps, "signals": sent, "steps": steps}


def _downward(
    network: Network, stage: Stage, values: Mapping[str, Any], signals: Any
) -> dict[str, Any]:
    """Return the signals at a stage's sources for signals at its output, k times n and 2 more."""

    def repeated(x: Any) -> Any:
        parts = [x, x, x[:1], x[1:2]]
        return ops.concatenate([*parts, x] if stage.kind == "pool" else parts)

    read = network.sources(stage.layer)
    known = {name: repeated(values[name]) for name in read}

    def forward(given: list[Any]) -> Any:
        fed = {**known, **dict(zip(stage.sources, given, strict=True))}
        return _run(network, fed, [network.outputs[stage.layer]])[0]

    maps, pullback = backend.vjp(forward, [known[name] for name in stage.sources])
    sent = pullback(ops.cast(signals, maps.dtype))
    return dict(zip(stage.sources, sent, strict=True))


def _all_forward(
    network: Network,
    stages: Sequence[Stage],
    values: Mapping[str, Any],
    inputs: Sequence[Mapping[str, Any]],
) -> list[Any]:
    return [_forward(network, s, values, x) for s, x in zip(stages, inputs, strict=True)]


def _forward(
    network: Network, stage: Stage, values: Mapping[str, Any], inputs: Mapping[str, Any]
) -> Any:
    """Return `Step.forward` for a stage of the kind 'map'."""
    fed = {}
    for name in network.sources(stage.layer):
        if name in inputs:
            x = inputs[name]
            x = ops.concatenate([ops.zeros_like(x[:1]), x, x[:1] + x[1:2]])
            fed[name] = ops.cast(x, values[name].dtype)
        else:
            x = values[name]
            fed[name] = ops.concatenate([x[:1], x, x[:1]])
    top = network.preactivations.get(stage.layer, network.outputs[stage.layer])
    return _run(network, fed, [top])[0]


def _run(
    network: Network,
    values: Mapping[str, Any],
    wanted: list[Any],
    taps: Mapping[str, Any] | None = None,
) -> list[Any]:
    """Return symbols' values from layers' values, with the backward pass of the deconvnet."""
    fed = {name: value for name, value in values.items() if name != INPUT}
    return network.run(values.get(INPUT), wanted, method="deconvnet", taps=taps, feed=fed)


def _shapes(
    network: Network, layers: Sequence[str], shape: tuple[int, ...]
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each layer's output for one image of a batch of `shape`."""
    symbols = [network.outputs[name] for name in layers]
    shapes = [tuple(symbol.shape[1:]) for symbol in symbols]
    if any(side is None for each in shapes for side in each):
        found = backend.shapes(lambda x: network.run(x, symbols), shape)
        shapes = [each[1:] for each in found]
    return {INPUT: tuple(shape[1:]), **dict(zip(layers, shapes, strict=True))}


def _kind(network: Network, layer: str, sources: tuple[str, ...]) -> Kind:
    own = network.layers[layer]
    read = network.call_of(layer).inputs
    source = network.outputs.get(sources[0], network.image)
    alone = len(sources) == 1 and len(read) == 1 and read[0] is source
    if alone and layer in network.preactivations:
        return "activation"
    if alone and isinstance(own, keras.layers.MaxPooling2D) and runs_as_keras(own):
        return "pool"
    return "map"


def _has_signal(network: Network, name: str) -> bool:
    """Return whether a layer's output is of a type that has derivatives."""
    return name == INPUT or "float" in str(network.outputs[name].dtype)


def _entries(network: Network, layers: Sequence[str]) -> tuple[str, ...]:
    """Return what layers read and do not compute themselves."""
    own = set(layers)
    read = dict.fromkeys(source for name in layers for source in network.sources(name))
    return tuple(source for source in read if source not in own)


def _tensors(arrays: Mapping[str, Array]) -> dict[str, Any]:
    return {name: ops.convert_to_tensor(array) for name, array in arrays.items()}


def _broadcast(factors: Any, like: Any) -> Any:
    return ops.reshape(factors, (-1, *[1] * (len(like.shape) - 1)))


def _add(signals: dict[str, Array], name: str, more: Array) -> None:
    signals[name] = signals[name] + more if name in signals else more


def _flat(array: Array) -> Array:
    return array.reshape(len(array), -1)


def _factor_to_one(signals: Iterable[Array]) -> float:
    """Return the power of two that brings the largest of signals near 1."""
    largest = max((float(np.abs(s).max()) for s in signals), default=0.0)
    return 2.0 ** -round(math.log2(largest)) if 0 < largest < math.inf else 1.0


def factor_to_range(signals: Iterable[Array]) -> float:
    """Return the power of two that brings the largest and smallest signals equally far from 1."""
    sizes = [float(np.abs(signal).max()) for signal in signals]
    known = [size for size in sizes if size != 0]  # NaN stays
    if not known:
        return 1.0
    if not np.isfinite(known).all():
        return 2.0**-_LARGE_POWER
    return 2.0 ** -round((math.log2(min(known)) + math.log2(max(known))) / 2)
