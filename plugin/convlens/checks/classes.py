"""Class images: the network recognizes the image that excites each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convlens.checks._classes import ClassesCheck
from convlens.checks._offenders import raise_offenders
from convlens.checks.ascent import plan_measures
from convlens.checks.check import Effort, Figures, Measures
from convlens.checks.finite import assert_finite
from convlens.checks.finite_weights import assert_finite_weights
from convlens.drawings import draw_maximized
from convlens.engine.ascent.maximize import Maximization
from convlens.engine.ascent.plan import AscentPlan
from convlens.engine.ascent.scores import class_scores
from convlens.engine.model.classes import class_layer
from convlens.engine.model.network import Network
from convlens.engine.model.saved_model import is_graph
from convlens.engine.model.targets import output_of
from convlens.lens import Lens

# The default of `assert_class_images_recognized`.
_MARGIN = 1.0


def assert_class_images_recognized(
    model: keras.Model | Network, result: Maximization, *, margin: float = _MARGIN
) -> NDArray[np.float32]:
    """Assert that each class image is classified as its class, before the softmax, by a margin.

    Probabilities differ by 1 at the most, so a margin of 1 that must be exceeded also catches a
    softmax that was left in.

    Args:
        model: the model, or its `Network`.
        result: what `maximize` returned for the model's output.
        margin: what the class's score must exceed the best other one by, in units of the score
            before the softmax.

    Returns:
        (n,) the margins.

    Raises:
        AssertionError: a class image has another class, or too small a margin, or no class image
            was given.
        ValueError: a result of another layer than the model's output.
    """
    __tracebackhide__ = True
    network = Network.of(model)
    assert_finite_weights(network)
    output = output_of(network, None)
    if result.layer != output:
        raise ValueError(
            f"class images are those of {output!r}, the output of {network.name}, "
            f"not of {result.layer!r}"
        )
    if not len(result.units):
        raise AssertionError(f"{network.name}: no class image was given")
    seen = _Seen.of(network, result)
    if seen.scores.shape[-1] < 2:
        raise ValueError(f"{network.name} has one output; a margin needs two classes or more")
    seen.judge(margin)
    return seen.margins


class Classes(ClassesCheck):
    """Zero-code check: an ascent for each class."""

    name = "classes"
    summary = "each class image is recognized as its class"
    assertion = staticmethod(assert_class_images_recognized)
    min_steps = 20
    line = (
        "classes: {classes} recognized, the closest by {margin_min:.3g} "
        "({classes} of {units} classes, {steps} steps, {size})"
    )

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        if is_graph(lens.model):
            return f"{lens.name} is a SavedModel, whose graph hides the scores before its softmax"
        return super().reason_to_skip(lens, layer)

    def run(self, lens: Lens, layer: Any, effort: Effort) -> _Seen:
        plan = effort.plan(lens, class_layer(lens.network))
        result = effort.maximize(lens, None)
        seen = _Seen.of(lens.network, result, plan)
        weak = np.flatnonzero(~(seen.margins > _MARGIN))
        longer = effort.maximize_longer(lens, None, result, weak.tolist())
        return seen if longer is result else _Seen.of(lens.network, longer, plan)

    def measures(self, seen: _Seen) -> Measures:
        return plan_measures(seen.plan)

    def verdict(self, seen: _Seen) -> Measures:
        __tracebackhide__ = True
        seen.judge(_MARGIN)
        return {"classes": len(seen.margins), "margin_min": float(seen.margins.min())}

    def figures(self, lens: Lens, layer: Any, seen: Any) -> Figures:
        count = lens.network.units(class_layer(lens.network))
        return {"classes": lambda: draw_maximized(seen.result, count)}


@dataclass(frozen=True)
class _Seen:
    model: str
    result: Maximization
    scores: NDArray[np.float32]  # (n, classes)
    plan: AscentPlan | None

    @classmethod
    def of(cls, network: Network, result: Maximization, plan: AscentPlan | None = None) -> _Seen:
        return cls(network.name, result, class_scores(network, result.images), plan)

    @property
    def own(self) -> NDArray[np.float32]:
        """The score (n,) of each image's own class."""
        return self.scores[np.arange(len(self.scores)), self.result.units]

    @property
    def others(self) -> NDArray[np.float32]:
        """The scores (n, classes) of the other classes; each image's own is -inf."""
        others = self.scores.copy()
        others[np.arange(len(others)), self.result.units] = -np.inf
        return others

    @property
    def margins(self) -> NDArray[np.float32]:
        """The margin (n,) of each image's own class over the best other one."""
        return (self.own - self.others.max(axis=1)).astype(np.float32)

    def judge(self, margin: float) -> None:
        __tracebackhide__ = True
        assert_finite({"images": self.result.images}, name=f"{self.model}: a class image")
        own, others, margins = self.own, self.others, self.margins
        best = others.argmax(axis=1)
        wrong = np.flatnonzero(~(margins > margin))
        raise_offenders(
            f"{self.model} does not recognize {len(wrong)} of {len(margins)} of its class images "
            f"(margin {margin:g}):",
            [
                f"class {self.result.units[i]}: its image scores {own[i]:.4g}, class {best[i]} "
                f"{others[i, best[i]]:.4g} (margin {margins[i]:.4g})"
                for i in wrong[np.argsort(margins[wrong])]
            ],
        )
