"""The result of holding a retrained model beside the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convlens.compare.retrained.churn import Churn, ClassChange
from convlens.compare.retrained.hidden import LayerSimilarity
from convlens.compare.retrained.limits import Limits
from convlens.compare.retrained.outputs import OutputChange
from convlens.compare.retrained.weights import LayerFinding

MAX_SHOWN = 10
# A loss is one of the model as a whole if more than this share of the classes fail, as many where
# none of them lost this share of its images, or where those that fail have less than this of it.
_SPREAD = 0.5
# Features of the last hidden layer are as damaged where their CKA is below this.
_DAMAGED = 0.75


@dataclass(frozen=True)
class Retraining:
    """A retrained model beside the one before.

    Attributes:
        new, old: the models' names.
        limits: the limits.
        churn: images whose answers changed.
        outputs: the old model's outputs, as far as the new one's tell them; empty where there are
            too few images.
        weights: layers of the new model that lost their training.
        hidden: the similarity of hidden layers, which judges nothing; empty where a model is none
            of Keras's.
        answers: (old, new) the classes (n,) that the models answer.
        class_names: names of the classes, where they are known.
    """

    new: str
    old: str
    limits: Limits
    churn: Churn
    outputs: tuple[OutputChange, ...]
    weights: tuple[LayerFinding, ...]
    hidden: tuple[LayerSimilarity, ...]
    answers: tuple[NDArray[np.int64], NDArray[np.int64]]
    class_names: Sequence[str] = ()

    @property
    def lost_outputs(self) -> tuple[OutputChange, ...]:
        """The outputs below the limit, the worst first."""
        lost = [each for each in self.outputs if not each.explained >= self.limits.explained]
        return tuple(sorted(lost, key=lambda each: each.explained))

    @property
    def outputs_passed(self) -> bool:
        """True if the outputs are told, and every layer kept its training."""
        return not self.lost_outputs and not self.weights

    @property
    def passed(self) -> bool:
        """True if nothing was lost."""
        return self.churn.passed and self.outputs_passed

    @property
    def is_spread(self) -> bool:
        """True if a loss is one of the model as a whole, and not of some classes.

        It is one of the whole where a layer explains it, unless most of a class is lost.
        """
        failing, half = self.churn.failing, _SPREAD * len(self.churn.classes)
        mild = all(x.net < _SPREAD * x.images for x in failing)
        if mild and (self.weights or len(failing) >= max(2, half)):
            return True
        if len(failing) > max(1, half):
            return True
        total = len(self.churn.lost) - len(self.churn.gained)
        return not self.churn.keeps and sum(x.net for x in failing) < _SPREAD * total

    @property
    def led_by_layer(self) -> bool:
        """True if the verdict is on a layer that lost its training."""
        return bool(self.weights) and (self.churn.passed or self.is_spread)

    @property
    def verdict(self) -> str:
        """The loss in a sentence; that nothing was lost, where that is so."""
        if not self.churn.passed:
            return self.churn_verdict
        if not self.outputs_passed:
            return self.outputs_verdict
        return f"{self.new} answers as {self.old} does, and no class or layer was lost"

    @property
    def churn_verdict(self) -> str:
        """The answers that changed, in a sentence."""
        found, failing = self.churn, self.churn.failing
        if failing and not self.is_spread:
            return f"{self.new} lost {self._lost(failing[0])}{self._more(failing[1:])}"
        if failing or not found.keeps:
            losing = sum(len(each.lost) > each.gained for each in found.classes)
            what = f"{len(found.lost)} of {found.images} images"
            lost = (
                f"lost {what} and gained {len(found.gained)}"
                if found.labeled
                else f"answers {what} otherwise than {self.old}"
            )
            where = f"spread over {losing} of {len(found.classes)} classes"
            return f"{self.new} {lost}, {where}{self._whole_cause()}"
        return (
            f"{self.new} answers {1 - found.agreement:.1%} of {found.images} images otherwise than "
            f"{self.old}: they agree on {found.agreement:.1%} (limit {found.min_agreement:.1%})"
        )

    @property
    def outputs_verdict(self) -> str:
        """The outputs or layers that were lost, in a sentence."""
        if self.weights:
            return f"{self._first_layer()} of {self.new} {self._first_finding()}"
        worst = self.lost_outputs[0]
        rest = f", and {len(self.lost_outputs) - 1} more" if len(self.lost_outputs) > 1 else ""
        return (
            f"the outputs of {self.new} no longer tell {self.title(worst.output)} of {self.old}: "
            f"R² {worst.explained:.2f} (limit {self.limits.explained:g}){rest}"
        )

    @property
    def message(self) -> str:
        """The verdict and what is behind it, one finding per line."""
        lines = [self.verdict]
        if not self.churn.passed:
            lines += self._churn_lines()
        if not self.outputs_passed:
            lines += self._outputs_lines()
        lines += [f"  {self.numbers}", f"  usually: {self.explanation}"]
        return "\n".join(lines)

    @property
    def numbers(self) -> str:
        """Agreement, accuracy and calibration in a line."""
        found = self.churn
        parts = [
            f"agreement {found.agreement:.1%} of {found.images} images (limit "
            f"{found.min_agreement:.1%})"
        ]
        if found.accuracy is not None and found.calibration is not None:
            parts += [
                f"accuracy {found.accuracy[0]:.1%} → {found.accuracy[1]:.1%}",
                f"right before and wrong now {len(found.lost)}, the reverse {len(found.gained)} "
                f"(McNemar p = {found.p_value:.2g})",
                f"calibration error {found.calibration[0]:.3f} → {found.calibration[1]:.3f}",
            ]
        else:
            parts.append("no labels, so right means the old model's answer")
        return "; ".join(parts)

    @property
    def explanation(self) -> str:
        """The usual cause of the loss, and what to do."""
        failing = self.churn.failing
        if not self.churn.passed and failing and not self.is_spread:
            which = self._named([each.number for each in failing])
            return (
                f"the new training set has fewer or other images of {which}, or labels them "
                "otherwise: look at them there"
            )
        if self.led_by_layer:
            return (
                "the layer was not trainable, or a step behind the training changed its weights: "
                "see which, or repeat the training without it"
            )
        if not self.churn.keeps or failing:
            return "the training ended early, or its recipe changed: compare the curves of its loss"
        if not self.churn.passed:
            return (
                "the data or the recipe changed: look at the images that are answered otherwise; "
                "if that is meant, lower the limit (min_agreement, --convlens-agreement)"
            )
        return "the class is answered by chance or not at all: look at its images and probabilities"

    @property
    def wrong_now(self) -> tuple[int, ...]:
        """The numbers of the images that were lost, those of the classes that failed first."""
        first = [number for each in self.churn.failing for number in each.lost]
        return tuple(dict.fromkeys([*first, *self.churn.lost]))

    def title(self, number: int) -> str:
        """Return a class's number, and its name where it is known."""
        name = self.class_names[number] if len(self.class_names) > number else str(number)
        return f"class {number}" if name == str(number) else f"class {number} ({name})"

    def _lost(self, change: ClassChange) -> str:
        gained = f" and gained {change.gained}" if change.gained else ""
        balance = f"{len(change.lost)}{gained} of {change.images} images"
        return f"{self.title(change.number)}, {balance}: {change.finding}"

    def _more(self, others: Sequence[ClassChange]) -> str:
        return f"; also {self._named([each.number for each in others])}" if others else ""

    def _named(self, numbers: Sequence[int]) -> str:
        shown = [self.title(number) for number in numbers[:MAX_SHOWN]]
        more = len(numbers) - MAX_SHOWN
        return ", ".join(shown) + (f" and {more} more" if more > 0 else "")

    def _first_layer(self) -> str:
        return f"layer {self.weights[0].layer!r}"

    def _first_finding(self) -> str:
        more = len(self.weights) - 1
        rest = f", and {more} more layer{'s' * (more > 1)}" if more else ""
        return f"lost its training: {self.weights[0].finding}{rest}"

    def _whole_cause(self) -> str:
        """Return a clause on the cause of a loss of the model as a whole; "" for none.

        It is a layer, or that the new model is less sure, as one that was trained less.
        """
        if self.weights:
            return f": {self._first_layer()} {self._first_finding()}"
        before, now = self.churn.confidence
        if 1 - now <= 2 * (1 - before):
            return ""
        return (
            f", and is less sure (mean probability {before:.3f} → {now:.3f}), as by a training "
            "that ended early"
        )

    def _churn_lines(self) -> list[str]:
        found = self.churn
        lines = [f"  {self._lost(each)}" for each in found.failing[1:MAX_SHOWN]]
        if len(found.failing) > MAX_SHOWN:
            lines.append(f"  and {len(found.failing) - MAX_SHOWN} more classes")
        wrong = self.wrong_now
        shown = ", ".join(map(str, wrong[:MAX_SHOWN]))
        more = f" and {len(wrong) - MAX_SHOWN} more" if len(wrong) > MAX_SHOWN else ""
        what = "wrong now" if found.labeled else "answered otherwise"
        return [*lines, f"  {what}: images {shown}{more}"]

    def _outputs_lines(self) -> list[str]:
        told = 1 if self.led_by_layer else 0
        lines = [f"  layer {each.layer!r}: {each.finding}" for each in self.weights[told:MAX_SHOWN]]
        lines += [
            f"  {self.title(each.output)}: R² {each.explained:.2f} (limit "
            f"{self.limits.explained:g})"
            for each in self.lost_outputs[:MAX_SHOWN]
        ]
        dense = self.last_hidden
        if dense is not None and dense.cka < _DAMAGED:
            lines.append(
                f"  gross damage: the features of {dense.layer!r} have CKA {dense.cka:.2f}"
            )
        return lines

    @property
    def last_hidden(self) -> LayerSimilarity | None:
        """The last layer before the outputs; None where no hidden layers are compared."""
        return self.hidden[-2] if len(self.hidden) > 1 else None
