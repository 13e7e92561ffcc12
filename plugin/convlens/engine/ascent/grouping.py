"""Groups of layers whose ascents share one compiled graph.

A graph that computes all of a group's layers is traced once for the group, which saves time where
tracing is slow; but each ascent then computes the other layers too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from convlens.engine.ascent.canvas import Costs

# An ascent costs at most this many times as much as with a graph of its own.
_MAX_WASTE = 1.5


def groups_of(
    costs: Costs, layers: Sequence[str], spent: Mapping[str, float]
) -> list[tuple[str, ...]]:
    """Return layers in groups, so that tracing and the waste together cost least.

    Neighbors in the given order may share a graph if all or none of them need the whole image.

    Args:
        costs: costs of the network.
        layers: the layers, in the order of the network.
        spent: the operations that each layer's ascents cost on their own.
    """
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(layers) + 1):
        options = []
        for first, cost in _candidates(costs, layers, end, spent):
            options.append((best[first][0] + cost, first))
        best.append(min(options))
    groups, end = [], len(layers)
    while end:
        first = best[end][1]
        groups.append(tuple(layers[first:end]))
        end = first
    return groups[::-1]


def _candidates(
    costs: Costs, layers: Sequence[str], end: int, spent: Mapping[str, float]
) -> list[tuple[int, float]]:
    """Return the first members of possible groups that end before a layer, and their costs."""
    found = []
    union: set[int] = set()
    free = costs.canvas(layers[end - 1]).free
    total, members = 0.0, list[tuple[float, float]]()
    for first in range(end - 1, -1, -1):
        layer = layers[first]
        calls = costs.calls(layer)
        own = costs.of(calls)
        total += costs.of(calls - union)
        union |= calls
        members.append((own, spent[layer]))
        if costs.canvas(layer).free != free or total > _MAX_WASTE * min(c for c, _ in members):
            break
        waste = sum(spending * (total / cost - 1) for cost, spending in members)
        found.append((first, costs.tracing(len(union)) + waste))
    return found
