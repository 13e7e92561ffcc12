"""The limits of what a healthy training changes; see docs/retrained-models.md."""

from __future__ import annotations

from dataclasses import dataclass

from convlens.compare.retrained.statistics import above


@dataclass(frozen=True)
class Limits:
    """The limits of what a healthy training changes.

    Attributes:
        min_agreement: share of images that both models answer alike, where all answers are right.
        overall: share of all images that may be lost.
        by_class: share of a class's images that may be lost.
        significance: the p-value above which a loss counts as chance.
        explained: R² of an output.
        is_given: whether the agreement was asked for, and so holds as it is, whatever the errors
            of the old model and chance.
    """

    min_agreement: float = 0.95
    overall: float = 0.01
    by_class: float = 0.05
    significance: float = 0.01
    explained: float = 0.6
    is_given: bool = False

    def agreement(self, accuracy: float | None) -> float:
        """Return the limit of the agreement, beside an old model of an accuracy, 0 to 1.

        Trainings differ where neither is right, so an old model's errors lower it.
        """
        errors = 0.0 if accuracy is None or self.is_given else 1 - accuracy
        return max(0.0, self.min_agreement - errors)

    def agrees(self, changed: int, images: int, least: float) -> bool:
        """Return whether the share of images answered alike is not clearly below its limit."""
        if self.is_given:
            return changed <= (1 - least) * images + 1e-9
        return above(changed, images, 1 - least) > self.significance

    def loses(self, net: int, images: int, p_value: float, share: float) -> bool:
        """Return whether more images were lost than gained, beyond a share and beyond chance."""
        return net > share * images and p_value <= self.significance
