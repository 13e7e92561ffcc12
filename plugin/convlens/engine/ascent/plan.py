"""Plans of a network's ascents: how many units, steps and pixels within a budget of operations.

The budget comes from the network's own count of operations, never from a clock, so that the same
network always gets the same plans. It is spread over all its convolutions and its classes alike,
whichever of them a run selects. A layer that needs less than its share leaves the rest to others.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from convlens.engine.ascent.canvas import Canvas, Costs
from convlens.engine.ascent.grouping import groups_of
from convlens.engine.model.network import Network

EffortLevel = Literal["quick", "standard", "full"]

# Forward passes of one image that an ascent needs beside its steps: for the trace, the control of
# random steps and the measurements. The spread of the units needs some for a group of layers.
_PASSES_A_UNIT, _PASSES_A_GROUP = 18, 28
# Number of plans from a layer's smallest to its largest, in geometric steps.
_RUNGS = 33


@dataclass(frozen=True)
class Limits:
    """The limits of a level of effort.

    Attributes:
        passes: largest number of operations, in forward passes of the whole network; None for no
            limit. So the ascents of a small network cost a fixed multiple of a pass.
        operations: operations that are allowed to a large network, beside `large_passes` forward
            passes.
        large_passes: see `operations`.
        min_steps, max_steps: smallest and largest number of steps of an ascent.
        min_units, max_units: fewest and most units of a layer.
    """

    passes: float | None
    operations: float
    large_passes: float
    min_steps: int
    max_steps: int
    min_units: int
    max_units: int = 64

    def budget(self, forward: float, tracing: float = 0.0) -> float:
        """Return the largest number of operations for a network, infinity without a limit.

        Args:
            forward: operations of a forward pass of the whole network.
            tracing: operations that could be done while graphs are traced; a large network has
                fewer for it, but at least half.
        """
        if self.passes is None:
            return np.inf
        large = self.operations + self.large_passes * forward
        return min(self.passes * forward, max(large / 2, large - tracing))


LIMITS: dict[EffortLevel, Limits] = {
    "quick": Limits(10_000, 5e11, 12, min_steps=12, max_steps=12, min_units=1),
    "standard": Limits(32_000, 2.5e12, 50, min_steps=16, max_steps=64, min_units=1),
    "full": Limits(None, np.inf, 0, min_steps=300, max_steps=300, min_units=64),
}


@dataclass(frozen=True)
class AscentPlan:
    """The size of a layer's ascents.

    Attributes:
        layer: the layer's name.
        units: the units to climb, spread evenly over the layer.
        count: number of units that the layer has.
        steps: number of steps.
        size: size of the images along each side, (h, w).
        shown: size of their middle, which pictures show: the edges differ, for the maps see the
            padding there.
        twice: True if each unit is climbed from two starts, where that costs no more than the
            layer's share of the budget.
        graph_layers: layers of near depth that share one compiled graph, this one among them.
        affordable: number of ascents of a unit that the budget of the whole network would pay.
    """

    layer: str
    units: tuple[int, ...]
    count: int
    steps: int
    size: tuple[int, ...]
    shown: tuple[int, ...]
    twice: bool
    graph_layers: tuple[str, ...]
    affordable: float = math.inf

    def __str__(self) -> str:
        return (
            f"{len(self.units)} of {self.count} units, {self.steps} steps, "
            f"{'×'.join(map(str, self.size))}"
        )


def spread_evenly(count: int, chosen: int) -> tuple[int, ...]:
    """Return the numbers of at most `chosen` units, spread evenly over `count` units."""
    if count <= chosen:
        return tuple(range(count))
    return tuple(sorted({round(i) for i in np.linspace(0, count - 1, chosen)}))


def ascent_plans(
    network: Network, layers: Sequence[str], shape: tuple[int, ...], limits: Limits
) -> dict[str, AscentPlan]:
    """Return a plan for each of a network's layers, within one budget for all of them.

    Args:
        network: the network.
        layers: the layers, in the order of the network.
        shape: (*positions, c) of the whole image.
        limits: limits of the effort.
    """
    if not layers:
        return {}
    costs = Costs(network, shape)
    budget = limits.budget(costs.forward)
    share = budget / len(layers)

    spent = {layer: min(share, _Ladder.of(costs, (layer,), limits).costs[-1]) for layer in layers}
    groups = groups_of(costs, layers, spent)
    tracing = sum(costs.tracing(len(_union(costs, group))) for group in groups)
    ladders = [_Ladder.of(costs, group, limits) for group in groups]
    rungs = _rungs(ladders, limits.budget(costs.forward, tracing))
    return {
        plan.layer: plan
        for ladder, rung in zip(ladders, rungs, strict=True)
        for plan in ladder.plans(rung, share, budget)
    }


def _union(costs: Costs, group: Sequence[str]) -> frozenset[int]:
    return frozenset().union(*(costs.calls(layer) for layer in group))


@dataclass(frozen=True)
class _Ladder:
    """The possible plans of a group of layers, from the smallest to the largest.

    Attributes:
        group: the layers.
        counts: number of units of each layer.
        canvas: the sizes of the images.
        limits: limits of the effort.
        costs: operations of the group's ascents on each rung.
    """

    group: tuple[str, ...]
    counts: tuple[int, ...]
    canvas: Canvas
    limits: Limits
    costs: tuple[float, ...]

    @classmethod
    def of(cls, costs: Costs, group: tuple[str, ...], limits: Limits) -> _Ladder:
        canvas = costs.canvas(group[0])
        for layer in group[1:]:
            canvas |= costs.canvas(layer)
        counts = tuple(costs.network.units(layer) for layer in group)
        own = cls(group, counts, canvas, limits, ())
        forward = costs.of(_union(costs, group)) / math.prod(canvas.whole)
        made = []
        for rung in range(_RUNGS):
            units = sum(min(own.units(rung), count) for count in counts)
            passes = units * (2 * own.steps(rung) + _PASSES_A_UNIT)
            made.append((passes + _PASSES_A_GROUP) * forward * math.prod(own.size(rung)))
        return replace(own, costs=tuple(made))

    def units(self, rung: int) -> int:
        """Return the largest number of units on a rung."""
        return _between(self.limits.min_units, self.limits.max_units, rung)

    def steps(self, rung: int) -> int:
        """Return the number of steps on a rung."""
        return _between(self.limits.min_steps, self.limits.max_steps, rung)

    def size(self, rung: int) -> tuple[int, ...]:
        """Return the size of the images on a rung."""
        if self.limits.passes is None:
            return tuple(map(max, self.canvas.whole, self.canvas.most))
        return self.canvas.size(rung / (_RUNGS - 1))

    def plans(self, rung: int, share: float, budget: float) -> list[AscentPlan]:
        """Return the layers' plans on a rung, where each layer has a share of the budget."""
        units = sum(min(self.units(rung), count) for count in self.counts)
        affordable = budget * units / self.costs[rung]
        twice = rung == _RUNGS - 1 and 2 * self.costs[rung] <= share * len(self.group)
        return [
            AscentPlan(
                layer,
                spread_evenly(count, self.units(rung)),
                count,
                self.steps(rung),
                self.size(rung),
                self.canvas.shown(self.size(rung)),
                twice,
                self.group,
                affordable,
            )
            for layer, count in zip(self.group, self.counts, strict=True)
        ]


def _between(least: int, most: int, rung: int) -> int:
    """Return the number on a rung of a ladder of geometric steps from `least` to `most`."""
    return round(least * (most / least) ** (rung / (_RUNGS - 1)))


def _rungs(ladders: Sequence[_Ladder], budget: float) -> list[int]:
    """Return the rung of each ladder, so that no layer costs more than a level that fits a budget.

    Every ladder has its lowest rung at least, whatever it costs.
    """
    each = [[cost / len(ladder.group) for cost in ladder.costs] for ladder in ladders]

    def at(level: float) -> list[int]:
        return [max(0, bisect_right(costs, level) - 1) for costs in each]

    def fits(level: float) -> bool:
        rungs = zip(ladders, at(level), strict=True)
        return sum(ladder.costs[rung] for ladder, rung in rungs) <= budget

    levels = sorted({cost for costs in each for cost in costs})
    fitting = bisect_right(levels, 0, key=lambda level: 0 if fits(level) else 1)
    return at(levels[max(0, fitting - 1)])
