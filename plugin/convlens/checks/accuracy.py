"""Accuracy: labeled images are classified as their labels say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtrc

from convlens.checks._classes import ClassesCheck, lens_answers
from convlens.checks._offenders import raise_offenders
from convlens.checks.check import Effort, Measures
from convlens.checks.finite_weights import assert_finite_weights
from convlens.engine.ascent.scores import class_scores
from convlens.engine.model.classes import class_layer, class_numbers
from convlens.engine.model.network import Network
from convlens.lens import Lens

# The p-value below which accuracy counts as better than guessing.
SIGNIFICANCE = 0.01


def chance(labels: ArrayLike, classes: int) -> float:
    """Return the accuracy of guessing: of a model that always answers the most frequent label.

    It is that label's share, and no less than one in `classes`.
    """
    _, counts = np.unique(np.asarray(labels), return_counts=True)
    return max(float(counts.max() / counts.sum()), 1 / classes)


def luck(right: int, count: int, share: float) -> float:
    """Return the p-value of `right` answers of `count`, for guesses with accuracy `share`."""
    return float(bdtrc(right - 1, count, share)) if right else 1.0


def assert_accuracy(
    model: keras.Model | Network,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    min_accuracy: float | None = None,
) -> float:
    """Assert that a model classifies labeled images right.

    Args:
        model: a Keras model or a `Network` with a vector of classes as its output.
        images: (n, h, w, c) in the model's own range.
        labels: the classes: whole numbers (n,) or (n, 1), or one-hot rows (n, classes).
        min_accuracy: smallest accuracy, 0 to 1. Without it, the accuracy must be better than
            guessing (binomial test, p ≤ 0.01), which a model with confused classes or lost
            weights is not.

    Returns:
        The accuracy, 0 to 1.

    Raises:
        AssertionError: the accuracy is too low; the message names the classes that are mistaken
            most often. Or a weight is not finite.
        ValueError: images of a wrong shape, labels that do not fit, an output that is no vector of
            classes, a `min_accuracy` outside 0 to 1; without `min_accuracy`, labels that cannot
            tell knowledge from guessing (too few, or all the same) and are not all answered right.
    """
    __tracebackhide__ = True
    network = Network.of(model)
    assert_finite_weights(network)
    x = network.check_images(images)
    truth = class_numbers(labels, len(x))
    if min_accuracy is not None and not 0 <= min_accuracy <= 1:
        raise ValueError(f"min_accuracy must be between 0 and 1, not {min_accuracy!r}")
    seen = _Seen.of(network, class_scores(network, x), truth, min_accuracy)
    if seen.right == len(truth):
        return seen.accuracy
    if min_accuracy is None and not seen.tells_knowledge:
        raise ValueError(
            f"{len(x)} images with these labels cannot tell knowledge from guessing: give more, of "
            "several classes, or set min_accuracy"
        )
    seen.judge()
    return seen.accuracy


class Accuracy(ClassesCheck):
    """Zero-code check, where the images have labels."""

    name = "accuracy"
    summary = "labeled images are classified as they should be"
    assertion = staticmethod(assert_accuracy)

    def layers(self, lens: Lens, effort: Effort) -> tuple[str | None, ...]:
        labeled = lens.labels is not None or lens.labels_problem is not None
        return super().layers(lens, effort) if labeled else ()

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        reason = super().reason_to_skip(lens, layer) or lens.labels_problem
        if reason is not None or lens.labels is None:
            return reason
        classes = lens.network.units(class_layer(lens.network))
        if luck(len(lens.labels), len(lens.labels), chance(lens.labels, classes)) > SIGNIFICANCE:
            reason = "too few labels, or all the same: they cannot tell knowledge from guessing"
        return _out_of_range(lens.name, lens.labels, classes) or reason

    def run(self, lens: Lens, layer: Any, effort: Effort) -> _Seen:
        answers = lens_answers(lens)
        return _Seen.of(lens.network, answers, np.asarray(lens.labels), effort.min_accuracy)

    def measures(self, seen: _Seen) -> Measures:
        return {"accuracy": seen.accuracy}

    def verdict(self, seen: _Seen) -> Measures:
        __tracebackhide__ = True
        seen.judge()
        return {}


@dataclass(frozen=True)
class _Seen:
    model: str
    truth: NDArray[Any]
    answers: NDArray[np.int64]
    classes: int
    min_accuracy: float | None

    @classmethod
    def of(
        cls,
        network: Network,
        scores: NDArray[np.float32],
        truth: NDArray[Any],
        min_accuracy: float | None,
    ) -> _Seen:
        if scores.ndim != 2 or scores.shape[1] < 2:
            raise ValueError(f"{network.name} has no two classes to tell apart")
        problem = _out_of_range(network.name, truth, scores.shape[1])
        if problem is not None:
            raise ValueError(problem)
        return cls(network.name, truth, scores.argmax(axis=1), scores.shape[1], min_accuracy)

    @property
    def right(self) -> int:
        return int((self.answers == self.truth).sum())

    @property
    def accuracy(self) -> float:
        return self.right / len(self.truth)

    @property
    def share(self) -> float:
        return chance(self.truth, self.classes)

    @property
    def tells_knowledge(self) -> bool:
        """True if a perfect score would be better than guessing."""
        return luck(len(self.truth), len(self.truth), self.share) <= SIGNIFICANCE

    def judge(self) -> None:
        __tracebackhide__ = True
        count = len(self.truth)
        if self.min_accuracy is None:
            passed = luck(self.right, count, self.share) <= SIGNIFICANCE
            wanted = f"a model that knows nothing gets about {self.share:.1%}"
        else:
            passed = self.accuracy >= self.min_accuracy
            wanted = f"at least {self.min_accuracy:.1%} are needed"
        if not passed:
            raise_offenders(
                f"{self.model} gets {self.right} of {count} labels right ({self.accuracy:.1%}); "
                f"{wanted}:",
                _mistaken(self.truth, self.answers)
                or ["every image is right, and that is not enough"],
            )


def _out_of_range(model: str, labels: NDArray[Any], classes: int) -> str | None:
    """Return the problem with labels that are no class of the model; None if all are."""
    if labels.min() >= 0 and labels.max() < classes:
        return None
    return (
        f"labels range from {labels.min()} to {labels.max()}, but {model} has classes 0 to "
        f"{classes - 1}"
    )


def _mistaken(truth: np.ndarray, answers: np.ndarray) -> list[str]:
    """Return a line for each pair of classes that is mistaken, the most frequent first."""
    pairs, counts = np.unique(
        np.stack([truth, answers], axis=1)[truth != answers], axis=0, return_counts=True
    )
    return [
        f"class {pairs[i][0]} is taken for {pairs[i][1]} in {counts[i]} of "
        f"{int((truth == pairs[i][0]).sum())} images"
        for i in np.argsort(-counts, kind="stable")
    ]
