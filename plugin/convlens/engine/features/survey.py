"""The survey: all that is asked of a network's activations over images, from one pass.

One graph runs the whole network on a batch of images and summarizes every layer's maps where they
are, so that the cost grows with the network's depth, and the memory with one batch. A second pass
looks again at what the first one leaves in doubt: where a layer's sum is not finite, and at filters
that may be duplicates, which are compared in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.features.accumulate import ChannelAccumulator, summarize_range
from convlens.engine.features.buckets import ChannelBuckets, summarize_channels
from convlens.engine.features.filters import (
    Duplicates,
    FilterStatistics,
    Judged,
    duplicates_among,
    images_differ,
)
from convlens.engine.features.not_finite import NotFinite
from convlens.engine.features.sketch import Sketches, Sketching, summarize_maps
from convlens.engine.model.activation import activation_behind
from convlens.engine.model.network import Network
from convlens.engine.model.targets import output_of, tensor_of
from convlens.engine.runtime.batches import batch_within, each_batch, equal_batches, even_size
from convlens.engine.runtime.tolerance import cosine_tolerance

# Bytes of all maps that are read of a batch. Few of them are in memory at a time.
_BUDGET = 2**28


@dataclass(frozen=True)
class Wanted:
    """A request of what a survey is to find.

    Attributes:
        filters: layers whose filters are summarized.
        finite: layers whose outputs are examined for NaN and infinite values.
        scores: whether the scores of the model's classes are wanted.
        seed: seed of the sketches of all layers; None for no sketches.
    """

    filters: tuple[str, ...] = ()
    finite: tuple[str, ...] = ()
    scores: bool = False
    seed: int | None = None

    @classmethod
    def all_of(cls, network: Network, seed: int | None) -> Wanted:
        """Return all that there is to see of a network."""
        try:
            output_of(network, None)
        except ValueError:
            scores = False
        else:
            scores = True
        return cls(
            tuple(name for name in network.conv_layers if network.reaches(name)),
            tuple(name for name, layer in network.layers.items() if layer.weights),
            scores,
            seed,
        )

    def covers(self, other: Wanted) -> bool:
        """Return whether all that another survey is asked for is wanted here too."""
        return (
            set(other.filters) <= set(self.filters)
            and set(other.finite) <= set(self.finite)
            and (self.scores or not other.scores)
            and other.seed in (None, self.seed)
        )


@dataclass(frozen=True)
class Survey:
    """Results of a pass over images.

    Attributes:
        filters: layer → the statistics of its filters. Layers in `broken` are left out.
        broken: layer → its first unit whose activations are NaN or infinite.
        not_finite: layer → its values that are not finite, for all layers that were examined.
        scores: (n, classes) the scores before the softmax; None if they were not asked for.
        sketches: the sketches of all layers; None if they were not asked for.
    """

    filters: dict[str, FilterStatistics]
    broken: dict[str, int]
    not_finite: dict[str, NotFinite]
    scores: NDArray[np.float32] | None
    sketches: Sketches | None


def survey_network(
    network: Network, x: NDArray[np.float32], wanted: Wanted, *, tol: float | None = None
) -> Survey:
    """Run a network over images once, in batches, and return what is wanted.

    Args:
        network: the network.
        x: (n, h, w, c), checked by `Network.check_images`.
        wanted: what to gather.
        tol: largest 1 - cosine of duplicate filters; by each layer's precision unless given.

    Raises:
        ValueError: an unknown layer; scores of a model without classes.
    """
    seen = _Pass(network, wanted)
    seen.run(x)
    bad = _not_finite(network, x, seen.in_doubt)
    units = {name: seen.broken_unit(name, bad) for name in wanted.filters}
    differ = images_differ(x)
    judged = {name: seen.judged(name, differ) for name, unit in units.items() if unit is None}
    found = _duplicates(network, x, judged, seen, tol)
    values = {name: bad.get(id(network.outputs[name])) for name in wanted.finite}
    return Survey(
        {name: each.statistics(found[name]) for name, each in judged.items()},
        {name: unit for name, unit in units.items() if unit is not None},
        {name: found for name, found in values.items() if found is not None and found.count},
        seen.scores,
        seen.sketches,
    )


@dataclass(frozen=True)
class _Tap:
    """A tensor whose values are summarized.

    Attributes:
        tensor: the symbolic tensor.
        buckets: whether the buckets of its channels are wanted.
        range: whether the range of its values at each position is wanted.
    """

    tensor: Any
    buckets: bool
    range: bool

    def summarize(self, value: Any) -> dict[str, Any]:
        """Return the summary of a batch, in a graph."""
        x = ops.cast(value, "float32")
        # A sum is finite only if each value is. That of finite values may overflow.
        found = summarize_channels(x) if self.buckets else {"total": ops.sum(x)}
        return {**found, **summarize_range(x)} if self.range else found


class _Gathered:
    """The summaries of a tensor's values so far."""

    def __init__(self, tap: _Tap) -> None:
        self.maps = ChannelAccumulator()
        self.buckets = ChannelBuckets()
        self.in_doubt = False  # whether a value may be NaN or infinite
        self._tap = tap

    def add(self, summary: Mapping[str, NDArray[Any]], new: int) -> None:
        """Add the summary of a batch of which the first `new` images count."""
        self.in_doubt |= not np.isfinite(summary["squares" if self._tap.buckets else "total"]).all()
        if self._tap.buckets:
            self.buckets.add(summary, new)
        if self._tap.range:
            self.maps.add_summary(summary, new)


class _Pass:
    """The first pass: one graph for all that is wanted."""

    def __init__(self, network: Network, wanted: Wanted) -> None:
        self._network, self._wanted = network, wanted
        outputs = {name: network.outputs[network.find(name)] for name in wanted.filters}
        self._behind = {name: activation_behind(network, name) for name in wanted.filters}
        self._own = {name: id(tensor) for name, tensor in outputs.items()}
        self._judged = {
            name: outputs[name] if activation is None else activation.tensor
            for name, activation in self._behind.items()
        }
        examined = [network.outputs[network.find(name)] for name in wanted.finite]
        ranged = {id(tensor) for tensor in self._judged.values()}
        compared = set(self._own.values())
        tensors = {id(t): t for t in [*examined, *outputs.values(), *self._judged.values()]}
        self._taps = [_Tap(t, key in compared, key in ranged) for key, t in tensors.items()]
        self._found = {key: _Gathered(tap) for key, tap in zip(tensors, self._taps, strict=True)}
        self._scores: list[NDArray[np.float32]] = []
        self._sketching = None if wanted.seed is None else Sketching(network, wanted.seed)

    def run(self, x: NDArray[np.float32]) -> None:
        """Run the network on all images."""
        network, taps, wanted = self._network, self._taps, self._wanted
        seed = wanted.seed or 0
        scores = [tensor_of(network, output_of(network, None))] if wanted.scores else []
        sketching = self._sketching
        maps, results = ([], []) if sketching is None else (sketching.maps, sketching.results)
        tensors = [*(tap.tensor for tap in taps), *scores, *maps, *results]

        # What is compiled is kept, so it may not hold what is gathered.
        def build() -> Callable[..., Any]:
            def summarize(batch: Any) -> Any:
                values = iter(network.run(batch, tensors))
                found = [tap.summarize(next(values)) for tap in taps]
                last = [ops.cast(next(values), "float32") for _ in scores]
                sketch = [summarize_maps(next(values), seed) for _ in maps]
                return found, last, sketch, [*values]

            return summarize

        behind = tuple(activation and activation.name for activation in self._behind.values())
        run = network.compiled(("survey", wanted, behind), build)
        for batch, new in equal_batches(x, batch_within(_BUDGET, tensors, x)):
            found, last, sketch, outputs = run(ops.convert_to_tensor(batch))
            for gathered, summary in zip(self._found.values(), found, strict=True):
                gathered.add({key: ops.convert_to_numpy(v) for key, v in summary.items()}, new)
            self._scores += [ops.convert_to_numpy(v)[:new] for v in last]
            if sketching is not None:
                sketching.add(sketch, outputs, new)

    @property
    def in_doubt(self) -> list[Any]:
        """The tensors with values that may be NaN or infinite."""
        return [tap.tensor for tap in self._taps if self._found[id(tap.tensor)].in_doubt]

    def broken_unit(self, name: str, bad: Mapping[int, NotFinite]) -> int | None:
        """Return the first unit of a layer, or behind it, that is not finite; None if all are."""
        units = (bad[key].unit for key in (self._own[name], id(self._judged[name])) if key in bad)
        return next((unit for unit in units if unit is not None), None)

    def judged(self, name: str, differ: bool) -> Judged:
        """Return what a layer's filters are judged by."""
        tensor, activation = self._judged[name], self._behind[name]
        behind = None if activation is None else str(activation)
        return Judged(name, self._found[id(tensor)].maps, behind, str(tensor.dtype), differ)

    def suspects(self, name: str, alive: NDArray[np.bool_], tol: float) -> NDArray[np.int64]:
        """Return the units of a layer that may be duplicates."""
        return self._found[self._own[name]].buckets.suspects(alive, tol)

    @property
    def scores(self) -> NDArray[np.float32] | None:
        """The scores (n, classes); None if they were not asked for."""
        return np.concatenate(self._scores) if self._scores else None

    @property
    def sketches(self) -> Sketches | None:
        """The sketches; None if they were not asked for."""
        return None if self._sketching is None else self._sketching.sketches()


def _not_finite(
    network: Network, x: NDArray[np.float32], tensors: list[Any]
) -> dict[int, NotFinite]:
    """Return the values of symbolic tensors that are not finite, by the tensors' ids."""
    found = {id(tensor): NotFinite() for tensor in tensors}
    done = 0
    ids = ("values", *found)
    for maps in _each_batch(network, x, tensors, ids, lambda values: values):
        for key, values in zip(found, maps, strict=True):
            found[key] = found[key].then(NotFinite.of(values), done)
        done += len(maps[0])
    return found


def _duplicates(
    network: Network,
    x: NDArray[np.float32],
    judged: Mapping[str, Judged],
    seen: _Pass,
    tol: float | None,
) -> dict[str, Duplicates]:
    """Return each layer's pairs of duplicates: those in doubt are computed again, in float64."""
    limits = {
        name: cosine_tolerance(network.rounding(name).precision) if tol is None else tol
        for name in judged
    }
    units = {n: seen.suspects(n, ~each.dead, limits[n]) for n, each in judged.items()}
    units = {name: chosen for name, chosen in units.items() if len(chosen)}
    exact = _exact_products(network, x, units)
    return {
        name: duplicates_among(exact[name], units[name], limits[name]) if name in units else ()
        for name in judged
    }


def _exact_products(
    network: Network, x: NDArray[np.float32], units: Mapping[str, NDArray[np.int64]]
) -> dict[str, ChannelAccumulator]:
    """Return the activations of some units of layers, with products in float64."""
    found = {name: ChannelAccumulator(products=True) for name in units}
    tensors = [network.outputs[name] for name in units]

    def chosen(values: list[Any]) -> list[Any]:
        pairs = zip(values, units.values(), strict=True)
        return [ops.cast(ops.take(v, of, axis=-1), "float32") for v, of in pairs]

    key = ("units", *((name, tuple(of.tolist())) for name, of in units.items()))
    for maps in _each_batch(network, x, tensors, key, chosen):
        for accumulator, values in zip(found.values(), maps, strict=True):
            accumulator.add(values)
    return found


def _each_batch(
    network: Network,
    x: NDArray[np.float32],
    tensors: list[Any],
    key: Any,
    choose: Callable[[list[Any]], list[Any]],
) -> Iterator[list[NDArray[Any]]]:
    """Yield parts of the values of tensors for one batch of images after the other."""
    if tensors:
        run = network.compiled(key, lambda: lambda batch: choose(network.run(batch, tensors)))
        size = even_size(len(x), batch_within(_BUDGET, tensors, x))
        yield from each_batch(run, x, size)
