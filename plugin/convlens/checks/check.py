"""The interface of a check: one property of a model, or of one of its layers.

A check is run once for each layer that it concerns. `run` does the work, `verdict` judges what was
seen, and `figures` draws it afterwards; so nothing is computed twice, and no picture can change a
verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from convlens.checks._reached import reason_unreached
from convlens.checks.finite_weights import assert_finite_weights
from convlens.engine.ascent.maximize import AscentInterrupted, Maximization
from convlens.engine.ascent.objectives import Objective
from convlens.engine.ascent.options import Preset
from convlens.engine.ascent.plan import AscentPlan, EffortLevel, spread_evenly
from convlens.engine.runtime.progress import ItemProgress
from convlens.lens import Lens

if TYPE_CHECKING:
    from convlens.pictures import Figure

# Units about to fail are climbed in this many times the steps.
_LONGER, _LONGER_LEAST = 4, 1.5
# They may take so many times the operations of all planned ascents.
_BUDGETS = 3
# So many units of layers that share a graph are climbed at once: in such a batch a step takes about
# half as long for each image.
_TOGETHER = 8

Measures = Mapping[str, float | int | str]
Figures = Mapping[str, "Callable[[], Figure]"]


@dataclass(frozen=True)
class Effort:
    """The options of a run that decide what a check does, and how much of it.

    Attributes:
        level: how much work the ascents may take: 'quick', 'standard' or 'full'; see
            `Lens.plan_ascent`.
        steps: number of steps of each ascent and style transfer; None for what the level plans for
            the layer, and 300 steps of a transfer.
        units: largest number of units of a layer that are maximized, spread evenly over it; None
            for what the level plans.
        seed: seed of all random draws.
        preset: recipe of each ascent, as for `maximize`.
        memory: bytes that an ascent's batch may take; None for a share of what is free.
        min_accuracy: share of labeled images that must be classified right, 0 to 1; None for
            better than guessing.
        content: file of the content picture of a style transfer; None for no style transfer.
        styles: files of its style pictures.
        progress: callback with (steps done, steps in all); None shows a bar on a terminal.
    """

    level: EffortLevel = "standard"
    steps: int | None = None
    units: int | None = None
    seed: int = 0
    preset: Preset | None = None
    memory: int | None = None
    min_accuracy: float | None = None
    content: str | None = None
    styles: tuple[str, ...] = ()
    progress: ItemProgress | None = None

    def plan(self, lens: Lens, layer: str | None) -> AscentPlan:
        """Return the plan of a layer's ascents; the class scores' for the layer None."""
        plan = lens.plan_ascent(layer, self.level)
        if self.units is not None:
            plan = replace(plan, units=spread_evenly(plan.count, self.units))
        return plan if self.steps is None else replace(plan, steps=self.steps)

    def maximize(
        self, lens: Lens, layer: str | None, units: Sequence[int] | None = None
    ) -> Maximization:
        """Return images that excite a layer's units, or the classes for the layer None.

        Args:
            lens: the model and its images.
            layer: the layer's name, or None.
            units: the units; None for those of the plan.
        """
        plan = self.plan(lens, layer)
        checkpoints = min(10, max(3, plan.steps // 6))
        plans = [] if layer is None or units is not None else self._companions(lens, plan)
        if len(plans) < 2 or not lens.is_shared:
            chosen = plan.units if units is None else units
            return self._climb(lens, layer, plan, checkpoints, units=chosen)
        goals = [Objective.unit(each.layer, unit) for each in plans for unit in each.units]
        key = ("ascents", replace(self, progress=None), tuple(each.layer for each in plans))
        try:
            found = lens.once(key, lambda: self._climb(lens, goals, plan, checkpoints))
        except AscentInterrupted as stop:
            raise AscentInterrupted(stop.result.of_layer(plan.layer)) from None
        return found.of_layer(plan.layer)

    def _companions(self, lens: Lens, plan: AscentPlan) -> list[AscentPlan]:
        """Return the plans of the layers that are climbed at once with a layer, its own included.

        They are neighbors of one graph, the same whichever of them is asked for.
        """
        batch: list[AscentPlan] = []
        for layer in plan.graph_layers:
            if layer not in lens.conv_layers:
                continue
            batch.append(self.plan(lens, layer))
            if sum(len(each.units) for each in batch) > _TOGETHER:
                if any(each.layer == plan.layer for each in batch[:-1]):
                    return batch[:-1]
                del batch[:-1]
        return batch if any(each.layer == plan.layer for each in batch) else [plan]

    def maximize_longer(
        self, lens: Lens, layer: str | None, result: Maximization, weak: Sequence[int]
    ) -> Maximization:
        """Return a result in which units about to fail were climbed in more steps, and twice.

        A plan may give a large network too few to judge, and the gradient of the start noise may
        lead to a low summit. Nothing is done where the number of steps was asked for, or where
        these ascents would take many times as many operations as all planned ones.

        Args:
            lens: the model and its images.
            layer: the layer's name, or None, as for `maximize`.
            result: the result of `maximize`.
            weak: the numbers of the images of these units.
        """
        if self.steps is not None or not len(weak):
            return result
        plan = self.plan(lens, layer)
        paid = _BUDGETS * plan.affordable / len(weak)
        times = min(_LONGER, paid)
        if times < _LONGER_LEAST:
            return result
        longer = replace(plan, steps=int(times * plan.steps), twice=2 * times <= paid)
        index = np.asarray(weak, np.int64)
        units = [int(u) for u in result.units[index]]
        found = self._climb(lens, layer, longer, len(result.trace) - 1, units=units)
        return result.with_longer(index, found)

    def _climb(
        self,
        lens: Lens,
        goals: str | Sequence[Objective] | None,
        plan: AscentPlan,
        checkpoints: int,
        units: Sequence[int] | None = None,
    ) -> Maximization:
        return lens.maximize(
            goals,
            units,
            steps=plan.steps,
            size=plan.size,
            restart_all=plan.twice,
            graph_layers=plan.graph_layers,
            checkpoints=checkpoints,
            seed=self.seed,
            preset=self.preset,
            memory_budget=self.memory,
            progress=self.progress,
        )


@dataclass(frozen=True)
class Column:
    """A column of the table that ends a run, with a line for each layer.

    Attributes:
        title: the head of the column.
        cell: a format string of the check's measures, such as ``"{gain_min:.3g}"``. A layer that
            lacks one of them gets a dash.
    """

    title: str
    cell: str


class Check:
    """One property. Subclass `LayerCheck` or `ModelCheck`.

    Attributes:
        name: name in item ids, as in ``mnist_cnn::ascent[conv2d_1]``, and in reports.
        summary: what holds, in a sentence without a full stop.
        assertion: the function for tests without the zero-code run; None where there is none.
        columns: columns that it adds to the table that ends a run.
        line: format string of the measures for a line below that table, for a whole model.
        needs_finite_weights: whether NaN or infinite weights are reported in place of the check.
        min_steps: steps of an ascent below which a failure says nothing of the model.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    assertion: ClassVar[Callable[..., Any] | None] = None
    columns: ClassVar[tuple[Column, ...]] = ()
    line: ClassVar[str] = ""
    needs_finite_weights: ClassVar[bool] = True
    min_steps: ClassVar[int] = 0

    def layers(self, lens: Lens, effort: Effort) -> tuple[str | None, ...]:
        """Return the layers that get an item; None stands for the model as a whole."""
        raise NotImplementedError

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        """Return the reason why the check cannot apply, or None where it can."""
        return None

    def too_little(self, effort: Effort) -> str:
        """Return why a failure says nothing, as too few steps were asked for; else ""."""
        if effort.steps is None or effort.steps >= self.min_steps:
            return ""
        steps = "step is" if effort.steps == 1 else "steps are"
        return (
            f"{effort.steps} {steps} too few to judge the model: at least {self.min_steps} are "
            "needed; leave --convlens-steps out for as many as the layer needs"
        )

    def run(self, lens: Lens, layer: Any, effort: Effort) -> Any:
        """Do the work, once, and return everything that the verdict and the figures need."""
        raise NotImplementedError

    def measures(self, seen: Any) -> Measures:
        """Return the numbers that are known whatever the verdict, so that a failure has them."""
        return {}

    def verdict(self, seen: Any) -> Measures:
        """Judge what `run` returned, and return further numbers.

        Raises:
            AssertionError: the property does not hold.
        """
        raise NotImplementedError

    def figures(self, lens: Lens, layer: Any, seen: Any) -> Figures:
        """Return figures by name, each made when it is called, after the verdict.

        Args:
            lens: the model and its images.
            layer: the item's layer.
            seen: the result of `run`; or, after Ctrl-C, the exception that holds what was finished.
        """
        return {}


class LayerCheck(Check):
    """A property of each convolution that the images reach; override `layers` for others."""

    def layers(self, lens: Lens, effort: Effort) -> tuple[str | None, ...]:
        return lens.conv_layers

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        """Return a reason where the layer depends on held inputs alone, and not on the images."""
        return None if layer is None else reason_unreached(lens.network, layer)


class ModelCheck(Check):
    """A property of the model as a whole."""

    def layers(self, lens: Lens, effort: Effort) -> tuple[str | None, ...]:
        return (None,)


def run_check(check: Check, lens: Lens, layer: str | None, effort: Effort) -> Any:
    """Run a check once, after the weights were found finite, and return what it saw.

    Raises:
        AssertionError: a weight is not finite; the message names its layer.
    """
    __tracebackhide__ = True
    if check.needs_finite_weights:
        lens.once(assert_finite_weights, lambda: assert_finite_weights(lens.network))
    return check.run(lens, layer, effort)
