"""Pair the layers of a network with those of its baseline, whatever their names are now.

Keras numbers the layers that have no name of their own anew for each model, so that a rebuilt
network has other names. Three ways to pair are tried: by name, by place, and an alignment of the
two lists of layers, for a network with layers added or removed. The way in which most layers agree
counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from convlens.baselines.provenance import Provenance
from convlens.baselines.record import Record

Pairs = list[tuple[str, str]]
_NUMBERED = re.compile(r"_\d+(?=$|[.:])")


def pair_layers(expected: Record, actual: Record, agree: Callable[[str, str], bool]) -> Pairs:
    """Return pairs of layer names (expected, actual), in the order of the network.

    Args:
        expected, actual: record of the baseline and record of the network.
        agree: returns whether a layer of the baseline agrees with one of the network.
    """
    old, new = expected.layers, actual.layers
    if list(old) == list(new):
        return list(zip(old, new, strict=True))
    ways: list[Callable[[], Pairs]] = [lambda: [(name, name) for name in new if name in old]]
    if [sketch.shape for sketch in old.values()] == [sketch.shape for sketch in new.values()]:
        ways.append(lambda: list(zip(old, new, strict=True)))
    ways.append(lambda: _align(expected, actual))
    best: Pairs = []
    best_rank = (-1, -1)
    for way in ways:
        pairs = way()
        agreeing = sum(agree(*pair) for pair in pairs)
        if agreeing == len(old) == len(new):
            return pairs
        rank = (agreeing, sum(old[a].kind == new[b].kind for a, b in pairs))
        if rank > best_rank:
            best, best_rank = pairs, rank
    return best


def _align(expected: Record, actual: Record) -> Pairs:
    """Return the pairs that keep the order of both lists and are most alike together."""
    old, new = list(expected.layers), list(actual.layers)
    likeness = np.zeros((len(old), len(new)))
    for i, a in enumerate(old):
        for j, b in enumerate(new):
            likeness[i, j] = _likeness(expected, actual, a, b)
    # best[i, j] is the greatest sum for the layers from i and j on.
    best = np.zeros((len(old) + 1, len(new) + 1))
    for i in reversed(range(len(old))):
        for j in reversed(range(len(new))):
            paired = best[i + 1, j + 1] + likeness[i, j] if likeness[i, j] else 0.0
            best[i, j] = max(paired, best[i + 1, j], best[i, j + 1])
    pairs, i, j = [], 0, 0
    while i < len(old) and j < len(new):
        if likeness[i, j] and best[i, j] == best[i + 1, j + 1] + likeness[i, j]:
            pairs.append((old[i], new[j]))
            i, j = i + 1, j + 1
        elif best[i, j] == best[i + 1, j]:
            i += 1
        else:
            j += 1
    return pairs


def _likeness(expected: Record, actual: Record, old: str, new: str) -> float:
    """Return how much speaks for two layers being the same one; 0 for layers of other types."""
    if expected.layers[old].kind != actual.layers[new].kind:
        return 0.0

    def same(name: str) -> bool:
        before = expected.provenance.get(name, {}).get(old)
        return before is not None and before == actual.provenance.get(name, {}).get(new)

    return (
        1.0
        + 8.0 * same("weights")
        + 4.0 * (old == new)
        + 2.0 * (_without_numbers(old) == _without_numbers(new))
        + 2.0 * same("settings")
        + 2.0 * (expected.layers[old].shape == actual.layers[new].shape)
    )


def _without_numbers(name: str) -> str:
    """Return a layer's name without the numbers that Keras adds, such as in 'conv2d_4'."""
    return _NUMBERED.sub("", name)


def renamed(provenance: Provenance, actual: Provenance, pairs: Pairs) -> Provenance:
    """Return the provenance of a baseline with the names that its layers have now.

    Layers that are not paired, because they only pass values, have the name of the first unpaired
    layer with the same settings.
    """
    names = dict(pairs)
    taken = set(names.values())
    now = actual.get("settings", {})
    for old, mark in provenance.get("settings", {}).items():
        if old in names:
            continue
        free = [name for name, own in now.items() if own == mark and name not in taken]
        if free:
            names[old] = old if old in free else free[0]
            taken.add(names[old])
    changed = {
        key: {names.get(layer, layer): value for layer, value in provenance.get(key, {}).items()}
        for key in ("weights", "settings", "precision", "marks")
    }
    return {**provenance, **changed}
