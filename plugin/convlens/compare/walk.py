"""Walk through a network in its order, and find each layer's counterpart among another's tensors.

Each layer is computed from the other model's own tensors where its inputs are matched, so that
differences do not pile up, and the first layer that differs does not make those behind it differ.
Layers without a counterpart that run into a matched one were fused with it: they are its group.
"""

from __future__ import annotations

import hashlib
import math
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.compare.forward import Forward, as_tensor
from convlens.compare.structure import Sources, Structure, View
from convlens.compare.tensors import Pair, Tensors, named_after
from convlens.engine.model.flatten import Call
from convlens.engine.model.network import INPUT, PREDICTIONS, Network
from convlens.engine.runtime import backend

# A tensor with less in common is no counterpart of a layer.
MATCH = 10.0
# Layers that may be fused, and layers that are followed to see whether a pairing is right.
_MAX_CHAIN, _HORIZON = 6, 10
_FORCED_LAYERS, _NEAREST = 4, 6
# Of two pairings of one tensor that differ by less, the earlier layer has it.
_SAME = 0.5


# The number of a call, its symbol, and the symbol's value.
_Link = tuple[int, Any, Any]


@dataclass(frozen=True)
class Row:
    """A layer with a counterpart, and the layers that are fused with it.

    Attributes:
        symbol: the layer's symbolic value.
        layer: name of the layer.
        group: names of the layers between this value and those that it is computed from.
        calls: the calls of the group, in order.
        pair: the counterpart.
    """

    symbol: Any
    layer: str
    group: tuple[str, ...]
    calls: tuple[Call, ...]
    pair: Pair


class Walk:
    """The rows of a network, found on a few images."""

    def __init__(
        self,
        forward: Forward,
        images: NDArray[Any],
        tensors: Tensors,
        clean: float,
        outputs: Sequence[str],
        sources: Sources,
    ) -> None:
        """Walk through a network.

        Args:
            forward: the network that gives the order and the names.
            images: a few images (n, h, w, c).
            tensors: the other model's tensors for them.
            clean: signal-to-noise ratio in dB of a counterpart without a fault.
            outputs: names of the other model's outputs, in the order of the network's.
            sources: the other model's graph.
        """
        self._forward = forward
        self.network = network = forward.network
        self._tensors = tensors
        self._clean = clean
        self._coarse = clean <= MATCH
        self._structure = Structure(sources, tensors.is_copy)
        self._view = self._structure.view(())
        self._calls = network.all_calls
        self._readers: dict[int, list[Call]] = {}
        for call in self._calls:
            for symbol in {id(t): t for t in call.inputs}.values():
                self._readers.setdefault(id(symbol), []).append(call)
        self._makers = {id(t): call for call in self._calls for t in call.outputs}
        self._results = {id(t) for t in network.results}
        self._roles = {id(t): name for t, name in zip(network.results, outputs, strict=False)}
        self.names = layer_names(network)
        self._forced: dict[int, Pair] = {}
        self.pairs: dict[int, Pair] = {}
        # What each symbol with a counterpart is, computed from the other model's tensors.
        self.expected: dict[int, Any] = {}
        # Such values, as bytes → the counterpart: a converter may compute equal layers once.
        self._equal: dict[bytes, str] = {}
        self._last = -1  # place of the last counterpart in the order of computation
        # The last results of each call, and the values that they were computed from.
        self._computed: dict[int, tuple[list[Any], list[Any]]] = {}
        # The last value of a symbol, the counterparts that were known, and the nearest tensor.
        self._nearest_of: dict[int, tuple[Any, View, Pair | None]] = {}
        values: dict[int, Any] = network.first_values(ops.convert_to_tensor(images))
        self._start(values)
        for i, call in enumerate(self._calls):
            results = self._compute(call, values)
            if results is None:
                continue
            for symbol, value in zip(call.outputs, results, strict=True):
                self._take(i, symbol, value, values)

    def rows(self) -> list[Row]:
        """Return the layers with a counterpart, in the network's order."""
        found = []
        if id(self.network.image) in self.pairs:
            pair = self.pairs[id(self.network.image)]
            found.append(Row(self.network.image, INPUT, (INPUT,), (), pair))
        taken: set[int] = set()
        place = {id(call): i for i, call in enumerate(self._calls)}
        for call in self._calls:
            for symbol in call.outputs:
                if id(symbol) not in self.pairs:
                    continue
                group, ahead = {id(call): call}, list(call.inputs)
                while ahead:
                    source = ahead.pop()
                    maker = self._makers.get(id(source))
                    free = id(source) not in self.pairs and maker is not None
                    if free and maker is not None and id(maker) not in taken | group.keys():
                        group[id(maker)] = maker
                        ahead += maker.inputs
                taken |= group.keys()
                calls = tuple(sorted(group.values(), key=lambda c: place[id(c)]))
                names = dict.fromkeys(self.names[id(t)] for c in calls for t in c.outputs)
                found.append(
                    Row(symbol, self.names[id(symbol)], tuple(names), calls, self.pairs[id(symbol)])
                )
        return found

    def _start(self, values: dict[int, Any]) -> None:
        """Use the images as the other model has them, which may be quantized."""
        image = self.network.image
        nearest = self._nearest(values[id(image)])
        if nearest is not None and nearest.snr >= MATCH:
            self._pair(image, nearest, values[id(image)], values)

    def _take(self, i: int, symbol: Any, value: Any, values: dict[int, Any]) -> None:
        """Keep the value of a symbol: the counterpart's if there is one."""
        values[id(symbol)] = value
        pair = self._forced.get(id(symbol))
        if pair is None and _is_compared(value):
            pair = self._choose(i, symbol, value, values)
        if pair is not None:
            self._pair(symbol, pair, value, values)

    def _pair(self, symbol: Any, pair: Pair, value: Any, values: MutableMapping[int, Any]) -> None:
        self.pairs[id(symbol)] = pair
        self.expected[id(symbol)] = value
        self._equal[_content(self._shown(value))] = pair.tensor
        self._last = self._tensors.order[pair.tensor]
        self._view = self._structure.view({each.tensor for each in self.pairs.values()})
        found = self._tensors.value(pair, tuple(value.shape))
        values[id(symbol)] = as_tensor(found, symbol)

    def _choose(self, i: int, symbol: Any, value: Any, values: dict[int, Any]) -> Pair | None:
        """Return a symbol's counterpart; None where it has none of its own."""
        best = self._best(symbol, value)
        if best is not None and best.snr >= self._clean and not self._coarse:
            return best
        chain = [(i, symbol, value)]
        clean = best is not None and best.snr >= self._clean
        if clean and not self._may_be_alike(symbol):
            return best
        for link in self._behind(i, symbol, value, values):
            found = self._best(*link[1:])
            if found is not None and best is not None and clean:
                # In coarse arithmetic, a value before a layer that changes little is near, too.
                if found.tensor == best.tensor and found.snr > best.snr + _SAME:
                    return None
                if found.tensor != best.tensor and found.snr >= self._clean:
                    break
            elif found is not None:
                if self._coarse and self._is_from_chain(found, link, chain, values):
                    break
                if found.snr >= self._clean:
                    return None
            chain.append(link)
        return best if clean else self._resynchronize(chain, values)

    def _may_be_alike(self, symbol: Any) -> bool:
        """Return whether a layer behind a symbol may have a result of the same size."""
        own = tuple(symbol.shape[1:])
        read = [t for reader in self._readers.get(id(symbol), []) for t in reader.outputs]
        shapes = [tuple(t.shape[1:]) for t in read]
        unknown = any(None in shape for shape in (own, *shapes))
        return unknown or math.prod(own) in [math.prod(shape) for shape in shapes]

    def _best(self, symbol: Any, value: Any) -> Pair | None:
        """Return the nearest tensor; in coarse arithmetic, of those that the graph allows, if any.

        There likeness alone is no proof: in fine arithmetic it is, also where a graph has
        other connections.
        """
        before = self._nearest_of.get(id(symbol))
        if before is not None and before[0] is value and before[1] is self._view:
            return before[2]
        best = next(iter(self._likely(symbol, self._shown(value))), None)
        self._nearest_of[id(symbol)] = value, self._view, best
        return best

    def _likely(self, symbol: Any, shown: NDArray[Any]) -> list[Pair]:
        """Return the tensors that a symbol's value may be, the first of which is taken."""
        if self._coarse:
            partners = self._partners(symbol, shown)
            return self._tensors.nearest(shown, among=partners or None)
        found = self._tensors.alike(shown)
        clean = [pair for pair in found if pair.snr >= self._clean]
        if len(clean) < 2:
            return found
        # The graph decides between copies.
        partners = self._partners(symbol, shown, [pair.tensor for pair in clean])
        return [pair for pair in clean if pair.tensor in partners] or found

    def _is_from_chain(
        self, found: Pair, link: _Link, chain: list[_Link], values: Mapping[int, Any]
    ) -> bool:
        """Return whether a later layer's counterpart is computed from a tensor of a chain.

        Then the chain was not fused with the later layer, though coarse arithmetic left little of
        its tensor: from that tensor, the later layer is nearer to its counterpart.

        Args:
            found: the nearest tensor to the later layer, which is computed from the chain's end.
            link: the later layer.
            chain: the layers before it, none of which has a clean counterpart.
            values: all values before the chain.
        """
        partners = self._partners(chain[0][1], self._shown(chain[0][2]))
        between = partners & self._view.between(found.tensor)
        if found.tensor in partners or not between:
            return False
        options = [
            (own, pair)
            for own in chain
            for pair in self._tensors.nearest(self._shown(own[2]), among=between)
        ]
        (i, symbol, value), pair = max(options, key=lambda option: option[1].snr)
        value = as_tensor(self._tensors.value(pair, tuple(value.shape)), symbol)
        behind = self._behind(i, symbol, value, values)
        nearer = next((result for _, own, result in behind if own is link[1]), None)
        return nearer is not None and (
            self._tensors.snr(found, self._shown(nearer)) > found.snr + _SAME
        )

    def _nearest(self, value: Any) -> Pair | None:
        found = self._tensors.nearest(self._shown(value))
        return found[0] if found else None

    def _shown(self, value: Any) -> NDArray[Any]:
        """Return a value for the images by which tensors are found."""
        return backend.to_numpy(value)[: self._tensors.searched]

    def _partners(
        self, symbol: Any, shown: NDArray[Any], names: Iterable[str] | None = None
    ) -> set[str]:
        """Return the tensors of the right size that are computed from what a symbol is.

        The counterpart of a symbol with the same value is among them.

        Args:
            symbol: the symbol.
            shown: its value for the images of the search.
            names: tensors of that size that are asked for; None for all.
        """
        inputs = self._inputs(symbol)
        names = self._tensors.of_size(shown[0].size) if names is None else names
        found = {name for name in names if self._view.origins(name) == inputs}
        equal = self._equal.get(_content(shown))
        return found if equal is None or not shown.any() else found | {equal}

    def _inputs(self, symbol: Any) -> frozenset[str]:
        """Return the counterparts that a symbol is computed from, without another one between."""
        found, seen, ahead = set(), {id(symbol)}, [symbol]
        while ahead:
            maker = self._makers.get(id(ahead.pop()))
            for source in () if maker is None else maker.inputs:
                pair = self.pairs.get(id(source))
                if pair is not None:
                    found.add(self._structure.original(pair.tensor))
                elif id(source) not in seen:
                    seen.add(id(source))
                    ahead.append(source)
        return frozenset(found)

    def _behind(
        self, i: int, symbol: Any, value: Any, values: Mapping[int, Any]
    ) -> Iterator[_Link]:
        """Yield the symbols behind one that alone read each other, with their values.

        At the end of them come several readers of one symbol that need nothing else: a converter
        may have fused it with each, such as a ReLU that stands in several places.
        """
        known: ChainMap[int, Any] = ChainMap({id(symbol): value}, dict(values))
        for _ in range(_MAX_CHAIN - 1):
            readers = self._readers.get(id(symbol), [])
            if id(symbol) in self._results or not readers:
                return
            if len(readers) > 1:
                alone = [r for r in readers if all(id(t) in known for t in r.inputs)]
                yield from (link for r in alone if (link := self._link(r, i, known)) is not None)
                return
            self._fill(readers[0], known)
            link = self._link(readers[0], i, known)
            if link is None:
                return
            i, symbol, value = link
            known[id(symbol)] = value
            yield link

    def _link(self, call: Call, after: int, values: Mapping[int, Any]) -> _Link | None:
        """Return a call's only result; None where it has several, or one that is not compared."""
        results = self._compute(call, values) if len(call.outputs) == 1 else None
        if results is None or not _is_compared(results[0]):
            return None
        i = next(k for k in range(after + 1, len(self._calls)) if self._calls[k] is call)
        return i, call.outputs[0], results[0]

    def _fill(self, call: Call, values: MutableMapping[int, Any]) -> None:
        """Add the inputs of a call that the walk has not reached, as those of a concatenation."""
        for symbol in call.inputs:
            maker = self._makers.get(id(symbol))
            if id(symbol) in values or maker is None:
                continue
            self._fill(maker, values)
            results = self._compute(maker, values)
            for t, value in zip(maker.outputs, results or [], strict=results is not None):
                values[id(t)] = value

    def _compute(self, call: Call, values: Mapping[int, Any]) -> list[Any] | None:
        """Return the results of a call, those of the last time if its inputs are the same."""
        inputs = [values.get(id(t)) for t in call.inputs]
        before = self._computed.get(id(call))
        if before is not None and all(a is b for a, b in zip(before[0], inputs, strict=True)):
            return before[1]
        results = self._forward.compute(call, values)
        if results is not None:
            self._computed[id(call)] = inputs, results
        return results

    def _resynchronize(self, chain: list[_Link], values: Mapping[int, Any]) -> Pair | None:
        """Pair one of the next layers so that most layers behind it match.

        Returns:
            The counterpart of the chain's first symbol; None where a later one gets it.
        """
        options = []
        for depth, (i, symbol, value) in enumerate(chain[:_FORCED_LAYERS]):
            name = self.names[id(symbol)]
            shown = self._shown(value)
            partners = self._partners(symbol, shown)
            if self._coarse and partners:  # a tensor of another branch is no candidate
                candidates = self._tensors.nearest(shown, _NEAREST, partners)
            else:
                candidates = self._tensors.candidates(shown, _NEAREST, name, self._last, partners)
            known = {**values, **_own(chain[:depth])}
            scores = self._followed(i, symbol, candidates, value, known)
            for pair, score in zip(candidates, scores, strict=True):
                role = self._roles.get(id(symbol)) == pair.tensor
                named = named_after(pair.tensor, name)
                partner = pair.tensor in partners
                # In fine arithmetic a low ratio is a fault, which begins at the earliest layer; in
                # coarse arithmetic it may be noise, and the ratio tells which layer a tensor is of.
                early = 0 if self._coarse else -depth
                rank = (score, role, partner, named, pair.snr >= MATCH, early)
                options.append((rank, symbol, pair))
        if not options:
            return None
        rank, _, best = max(options, key=lambda option: (option[0], option[2].snr))
        symbol, pair = next(
            (symbol, pair)
            for own, symbol, pair in options
            if own == rank and pair.tensor == best.tensor and pair.snr >= best.snr - _SAME
        )
        if symbol is chain[0][1]:
            return pair
        self._forced[id(symbol)] = pair
        return None

    def _followed(
        self, i: int, symbol: Any, pairs: Sequence[Pair], value: Any, values: Mapping[int, Any]
    ) -> list[int]:
        """Return how many of the layers behind a symbol match with each of some counterparts.

        Args:
            i: the symbol's place in the order of computation.
            symbol: the symbol.
            pairs: its counterparts.
            value: its value.
            values: all values before it.
        """
        # Several at a time, as one batch, which takes no more values than the walk itself has.
        count = max(1, len(value) // self._tensors.searched)
        found: list[int] = []
        for start in range(0, len(pairs), count):
            some = pairs[start : start + count]
            found += self._followed_together(i, symbol, some, tuple(value.shape), values)
        return found

    def _followed_together(
        self,
        i: int,
        symbol: Any,
        pairs: Sequence[Pair],
        shape: tuple[int, ...],
        values: Mapping[int, Any],
    ) -> list[int]:
        """Return what `_followed` returns: the images of all counterparts are one batch."""
        shown = min(self._tensors.searched, shape[0])
        batch = np.concatenate([self._tensors.value(pair, shape)[:shown] for pair in pairs])
        known = {id(symbol): as_tensor(batch, symbol)}
        behind, counts, seen = {id(symbol)}, [0] * len(pairs), 0
        origins = [self._structure.original(pair.tensor) for pair in pairs]
        for call in self._calls[i + 1 :]:
            if seen == _HORIZON:
                break
            if not any(id(t) in behind for t in call.inputs):
                continue
            for t in call.inputs:
                if id(t) in values and id(t) not in known:
                    known[id(t)] = _repeated(values[id(t)], shape[0], shown, len(pairs))
            results = self._forward.compute(call, known)
            if results is None:
                continue
            seen += 1
            for result, own in zip(call.outputs, results, strict=True):
                behind.add(id(result))
                known[id(result)] = own
                if not _is_compared(own) or len(own) != len(batch):
                    continue
                parts = np.split(backend.to_numpy(own), len(pairs))
                for k, part in enumerate(parts):
                    best = next(iter(self._tensors.nearest(part)), None)
                    if best is not None and best.snr >= self._clean:
                        counts[k] += self._structure.original(best.tensor) != origins[k]
                        parts[k] = self._tensors.value(best, (-1, *part.shape[1:]))[: len(part)]
                known[id(result)] = as_tensor(np.concatenate(parts), result)
        return counts


def layer_names(network: Network) -> dict[int, str]:
    """Return the layer of each symbol, by its id; that of the reader for operations outside."""
    names = {id(t): name for name, t in network.preactivations.items()}
    names.update((id(t), name) for name, t in network.outputs.items())
    names[id(network.image)] = INPUT
    for call in reversed(network.all_calls):
        own = next((names[id(t)] for t in call.outputs if id(t) in names), PREDICTIONS)
        for t in call.outputs:
            names.setdefault(id(t), own)
        for t in call.inputs:
            names.setdefault(id(t), own)
    return names


def _own(chain: Sequence[_Link]) -> dict[int, Any]:
    return {id(symbol): value for _, symbol, value in chain}


def _repeated(value: Any, images: int, shown: int, times: int) -> Any:
    """Return a value for the first images, several times; one that has no images as it is."""
    if not len(value.shape) or value.shape[0] != images:
        return value
    return ops.concatenate([value[:shown]] * times)


def _content(value: NDArray[Any]) -> bytes:
    """Return a digest of an array's shape and bytes."""
    made = hashlib.sha256(str(value.shape).encode())
    made.update(np.ascontiguousarray(value).tobytes())
    return made.digest()


def _is_compared(value: Any) -> bool:
    """Return whether a value is one of numbers that depend on images."""
    return len(value.shape) > 1 and "float" in str(value.dtype)
