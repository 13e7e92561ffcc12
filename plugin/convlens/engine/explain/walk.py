"""A walk down all stages of a network, with the deconvnet's projection and each stage alone.

The network is run in sections of neighboring stages: first forward, when only the values between
sections are kept, then downward, when all that is needed of a section's stages is computed. The
cost is a few passes over the network, whatever its depth, and no more than a section's maps are in
memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.explain.stages import (
    MAX_STAGES,
    Array,
    Noise,
    Stage,
    downward,
    has_signal,
    noise_of,
    run_layers,
    run_stages,
    stages_of,
    tensors,
)
from convlens.engine.model.network import INPUT, Network
from convlens.engine.runtime import backend
from convlens.engine.runtime.tolerance import is_coarse

# Numbers in the maps of a section's stages; about fourteen arrays of that size are in memory.
_MAX_VALUES = 2**22
# Attempts to bring signals into the range of a coarse type, and the power of two for an overflow.
MAX_SCALINGS, _LARGE_POWER = 4, 12


@dataclass(frozen=True)
class Step:
    """A stage run forward and downward, for n images.

    Attributes:
        stage: the stage.
        maps: (n, …) the layer's output.
        features: source → (n, …) its output.
        noise: the random values.
        forward: (n + 2, …) the layer's value before its activation for the noise's inputs; None but
            for the kind 'map'.
        down: source → (n, …) the signal there for the noise's signal.
        whole: source → (n, …) the signal there for the projection's own signal.
        doubled: source → (n, …) the signal there for two times the projection's signal of the
            images 0, 2, …, and zeros for the others.
        unpooled: (n, …) the signal at the source for `maps`; None but for a max-pool.
    """

    stage: Stage
    maps: Array
    features: dict[str, Array]
    noise: Noise
    forward: Array | None
    down: dict[str, Array]
    whole: dict[str, Array]
    doubled: dict[str, Array]
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

    A layer that raises an error has no step. It sends no signal, so that the layers below can still
    be examined.

    Args:
        network: the network.
        images: (n, h, w, c), two or more.
        layers: names of layers in the order of the network, with all that they depend on.
        starts: names of layers where the projection may start.
        seed: seed of the random values.

    Yields:
        The stages part by part, from the last to the first.
    """
    yield from _Walk(network, images, layers, seed).run(layers, starts)


@dataclass(frozen=True)
class _Section:
    """Neighboring stages that are computed together.

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
        self.values: dict[str, Any] = {INPUT: ops.convert_to_tensor(images)}
        # The projection's signals at the layers that are still to come, and the sum of what their
        # readers, each alone, sent there.
        self.signals: dict[str, Array] = {}
        self.sent: dict[str, Array] = {}

    def run(self, layers: Sequence[str], starts: Collection[str]) -> Iterator[Part]:
        """Run all layers; the last part has the arrival at the images."""
        sections = self.sections(self.groups(layers), starts)
        for section in sections[:-1]:
            self.forward(section)
        yield from self.descend(sections)
        yield Part([], self.arrivals([INPUT]))

    def groups(self, layers: Sequence[str]) -> list[list[str]]:
        """Divide layers into groups that fit into memory."""
        groups: list[list[str]] = [[]]
        values = 0
        for name in layers:
            size = self.count * math.prod(self.shapes[name])
            if groups[-1] and (len(groups[-1]) == MAX_STAGES or values + size > _MAX_VALUES):
                groups.append([])
                values = 0
            groups[-1].append(name)
            values += size
        return groups

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

    def forward(self, section: _Section) -> None:
        """Compute the values that later sections need."""
        if not section.exits:
            return
        wanted = [self.network.outputs[name] for name in section.exits]
        run = partial(run_layers, self.network, wanted=wanted)
        results = self.network.once(run, self.entry_values(section))
        self.values.update(zip(section.exits, results, strict=True))

    def entry_values(self, section: _Section) -> dict[str, Any]:
        """Return the values that a section reads; the images tell how many there are."""
        return {name: self.values[name] for name in dict.fromkeys((INPUT, *section.entries))}

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

    def downward(self, section: _Section) -> list[Step]:
        """Project the signals through a section, and run its stages."""
        self.scale(_factor_to_one(self.signals.values()))
        noise = {
            stage.layer: noise_of(self.network, stage, self.shapes, self.count, self.seed)
            for stage in section.stages
        }
        values = self.entry_values(section)
        drawn = {n: ops.convert_to_tensor(each.signal) for n, each in noise.items()}
        # Outside of graphs TensorFlow also computes derivatives by kernels, and for strides larger
        # than the kernel oneDNN (in TensorFlow 2.20 and 2.21) then writes beyond its memory.
        run = self.network.compiled(
            ("section", section, tuple(self.shapes[name] for name in section.layers)),
            partial(_Projection, self.network, section, self.shapes),
        )

        def attempt(gains: Mapping[str, Array]) -> dict[str, Any]:
            signals = {name: self.signal(name) for name in section.exits if name in self.readers}
            factors = {name: self.for_each(name, gain) for name, gain in gains.items()}
            found: dict[str, Any] = run(values, tensors(signals), tensors(factors), drawn)
            return found

        gains, results = self.within_range(section, attempt)
        # Other stages need no graph, which takes longer to make than they take to run.
        known, signals = {**values, **results["maps"]}, results["signals"]
        simple = partial(_downward_each, self.network, [s for s in section.stages if s.is_simple])
        results["down"].update(self.network.once(simple, known, signals, drawn))
        found = keras.tree.map_structure(backend.to_numpy, results)
        self.collect(section, gains, found)
        features = {**keras.tree.map_structure(backend.to_numpy, values), **found["maps"]}
        forward = run_stages(self.network, section.stages, list(noise.values()), features)
        return [
            self.step(stage, noise[stage.layer], features, found["down"][stage.layer], value)
            for stage, value in zip(section.stages, forward, strict=True)
        ]

    def within_range(
        self, section: _Section, attempt: Callable[[Mapping[str, Array]], dict[str, Any]]
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return how much of each start's own maps is projected, for each image, and the results.

        In float16 small signals lose their bits and large ones overflow; a power of two as a
        factor changes nothing else.
        """
        ends = [name for name in section.starts if name not in self.readers]
        gains = {n: np.full(self.count, float(n in ends), np.float32) for n in section.starts}
        coarse = any(is_coarse(self.network.rounding(n).precision) for n in section.layers)
        scalings = MAX_SCALINGS if coarse else 0
        while True:
            found = attempt(gains)
            silent = {
                name: (gain == 0) & ~_by_image(found["signals"][name]).any(axis=1)
                for name, gain in gains.items()
            }
            if any(each.any() for each in silent.values()):
                gains = {name: np.where(silent[name], 1, gain) for name, gain in gains.items()}
                continue
            signals = map(backend.to_numpy, found["signals"].values())
            factor = factor_to_range(signals) if scalings else 1.0
            if factor == 1:
                return gains, found
            scalings -= 1
            gains = {name: gain * factor for name, gain in gains.items()}
            self.scale(factor)

    def scale(self, factor: float) -> None:
        """Multiply all signals that are still to come by a power of two."""
        if factor != 1:
            for signals in (self.signals, self.sent):
                signals.update((n, s * np.float32(factor)) for n, s in signals.items())

    def collect(
        self, section: _Section, gains: Mapping[str, Array], found: Mapping[str, Any]
    ) -> None:
        """Add what a section sends to the signals of the layers that it reads."""
        signals = found["signals"]
        for name in section.entries:
            if name in signals:
                _add(self.signals, name, signals[name])
        self.signals.update((name, signals[name]) for name in section.layers if name in signals)
        for name, gain in gains.items():
            if gain.any():
                _add(self.sent, name, found["maps"][name] * self.for_each(name, gain))
        for _, whole, *_ in found["down"].values():
            for source, sent in whole.items():
                _add(self.sent, source, sent)

    def step(
        self,
        stage: Stage,
        noise: Noise,
        features: Mapping[str, Array],
        down: Sequence[dict[str, Array]],
        value: Array | None,
    ) -> Step:
        """Return a stage's step, from the results of `_Projection`."""
        first, whole, doubled = down[:3]
        return Step(
            stage,
            features[stage.layer],
            {source: features[source] for source in stage.sources},
            noise,
            value,
            first,
            whole,
            doubled,
            down[3][stage.sources[0]] if stage.kind == "pool" else None,
        )

    def signal(self, name: str) -> Array:
        """Return the signal at a layer so far; zeros if no reader sent one."""
        if name in self.signals:
            return self.signals[name]
        return np.zeros((self.count, *self.shapes[name]), np.float32)

    def for_each(self, name: str, factors: Array) -> Array:
        """Return a factor (n,) of each image in the shape that multiplies a layer's maps."""
        return factors.astype(np.float32).reshape(-1, *[1] * len(self.shapes[name]))

    def arrivals(self, names: Iterable[str]) -> list[Arrival]:
        """Return the arrivals at layers whose readers have all had their turn."""
        found = []
        for name in names:
            signal, sent = self.signal(name), self.sent.pop(name, None)
            self.signals.pop(name, None)
            if name in self.readers:
                sent = np.zeros_like(signal) if sent is None else sent
                found.append(Arrival(name, self.readers[name][0], signal, sent))
        return found


@dataclass(frozen=True)
class _Projection:
    """The projection of signals through a section, which `Network.compiled` traces.

    Attributes:
        network: the network.
        section: the section.
        shapes: shape of each layer's output for one image.
    """

    network: Network
    section: _Section
    shapes: Mapping[str, tuple[int, ...]]

    def __call__(
        self,
        values: dict[str, Any],
        signals: dict[str, Any],
        gains: dict[str, Any],
        noise: dict[str, Any],
    ) -> dict[str, Any]:
        """Project signals through the section, and through each stage alone that is not simple.

        Args:
            values: values of the layers that the section reads.
            signals: signals at the section's exits.
            gains: (n, 1, …) factors of the own maps of the section's starts, which are signals too.
            noise: the random signal at each stage's layer.

        Returns:
            'maps', 'signals' and 'down' by layer; the last as `_downward_each` returns it.
        """
        maps, pullback = self.forward(values)
        sent = pullback(self.begun(maps, signals, gains))
        stages = [stage for stage in self.section.stages if not stage.is_simple]
        down = _downward_each(self.network, stages, {**values, **maps}, sent, noise)
        return {"maps": maps, "signals": sent, "down": down}

    def forward(
        self, values: dict[str, Any]
    ) -> tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]:
        """Return the maps of the section's layers, and the function that projects signals.

        That function takes the signals at the layers, and returns those at them and the entries.
        """
        network, layers = self.network, self.section.layers
        entries = [name for name in self.section.entries if has_signal(network, name)]
        tapped = [name for name in layers if has_signal(network, name)]
        count = values[INPUT].shape[0]

        def run(given: list[Any]) -> list[Any]:
            fed = {**values, **dict(zip(entries, given[: len(entries)], strict=True))}
            taps = dict(zip(tapped, given[len(entries) :], strict=True))
            return run_layers(network, fed, [network.outputs[name] for name in layers], taps)

        taps = [ops.zeros((count, *self.shapes[n]), dtype=network.outputs[n].dtype) for n in tapped]
        results, pullback = backend.vjp(run, [*(values[name] for name in entries), *taps])

        def project(signals: dict[str, Any]) -> dict[str, Any]:
            sent = pullback([signals.get(name) for name in layers])
            return dict(zip([*entries, *tapped], sent, strict=True))

        return dict(zip(layers, results, strict=True)), project

    @staticmethod
    def begun(
        maps: dict[str, Any], signals: dict[str, Any], gains: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the signals that begin in the section: those at its exits, and its own maps."""
        found = {name: ops.cast(signal, maps[name].dtype) for name, signal in signals.items()}
        for name, gain in gains.items():
            own = maps[name] * ops.cast(gain, maps[name].dtype)
            found[name] = found[name] + own if name in found else own
        return found


def _downward_each(
    network: Network,
    stages: Sequence[Stage],
    values: Mapping[str, Any],
    signals: Mapping[str, Any],
    noise: Mapping[str, Any],
) -> dict[str, list[dict[str, Any]]]:
    """Return by layer the signals that each stage alone sends to its sources.

    They are those for the noise, for the projection's signal, for that signal doubled or zero as in
    `Step.doubled`, and for the maps of a max-pool.
    """
    found = {}
    for stage in stages:
        own = signals[stage.layer]
        doubling = np.resize(np.array([2, 0], np.float32), own.shape[0])
        factors = ops.cast(doubling.reshape(-1, *[1] * (len(own.shape) - 1)), own.dtype)
        parts = [ops.cast(noise[stage.layer], own.dtype), own, own * factors]
        if stage.kind == "pool":
            parts.append(values[stage.layer])
        found[stage.layer] = downward(network, stage, values, parts)
    return found


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


def _entries(network: Network, layers: Sequence[str]) -> tuple[str, ...]:
    """Return what layers read and do not compute themselves."""
    own = set(layers)
    read = dict.fromkeys(source for name in layers for source in network.sources(name))
    return tuple(source for source in read if source not in own)


def _by_image(signal: Any) -> Array:
    found = backend.to_numpy(signal)
    return found.reshape(len(found), -1)


def _add(signals: dict[str, Array], name: str, more: Array) -> None:
    signals[name] = signals[name] + more if name in signals else more


def _factor_to_one(signals: Iterable[Array]) -> float:
    """Return the power of two that brings the largest of signals near 1."""
    largest = max((float(np.abs(s).max()) for s in signals), default=0.0)
    return 2.0 ** -round(math.log2(largest)) if 0 < largest < math.inf else 1.0


def factor_to_range(signals: Iterable[Array]) -> float:
    """Return the power of two that brings the largest and smallest signals equally far from 1."""
    sizes = [float(np.abs(signal).max()) for signal in signals]
    known = [size for size in sizes if size != 0]
    if not known:
        return 1.0
    if not np.isfinite(known).all():
        return 2.0**-_LARGE_POWER
    return 2.0 ** -round((math.log2(min(known)) + math.log2(max(known))) / 2)
