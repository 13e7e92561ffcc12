"""The limits of what a healthy training changes; see docs/retrained-models.md."""

from __future__ import annotations

from dataclasses import dataclass

from convlens.compare.retrained.statistics import above


@dataclass(frozen=True)
class Limits:
    """The limits of what a healthy training changes.

    Trainings differ where neither is right, so an old model's errors widen the limits.

    Attributes:
        min_agreement: share of images that both models answer alike; the old model's errors lower
            it. Without labels, twice the rest may change of a class.
        overall: share of all images that may be lost, besides half of the old model's errors.
        by_class: share of a class's images that may be lost, besides twice the errors.
        significance: the p-value above which a loss of a class, and a change of answers, count as
            chance.
        overall_significance: the same of a loss over all images; two healthy trainings are not
            equally good.
        explained: R² of an output.
        is_given: whether the agreement was asked for, and so holds as it is, whatever the errors
            of the old model and chance.
    """

    min_agreement: float = 0.95
    overall: float = 0.01
    by_class: float = 0.05
    significance: float = 0.01
    overall_significance: float = 0.001
    explained: float = 0.6
    is_given: bool = False

    def agreement(self, errors: float) -> float:
        """Return the limit of the agreement, beside an old model of a share of errors."""
        return max(0.0, self.min_agreement - (0 if self.is_given else errors))

    def agrees(self, changed: int, images: int, least: float) -> bool:
        """Return whether the share of images answered alike is not clearly below its limit."""
        if self.is_given:
            return changed <= (1 - least) * images + 1e-9
        return above(changed, images, 1 - least) > self.significance

    def loses(self, net: int, images: int, p_value: float, errors: float) -> bool:
        """Return whether more images were lost than gained, beyond a healthy share and chance."""
        share = self.overall + errors / 2
        return net > share * images and p_value <= self.overall_significance

    def of_class(self, errors: float | None) -> float:
        """Return the share of a class's images that may be lost; of changed ones without labels."""
        return 2 * (1 - self.min_agreement) if errors is None else self.by_class + 2 * errors

    def loses_class(self, net: int, images: int, p_value: float, errors: float | None) -> bool:
        """Return whether more of a class was lost, beyond a healthy share and chance."""
        return net > self.of_class(errors) * images and p_value <= self.significance
