"""Images whose answers changed: overall, class by class, and what became of a lost class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from convlens.compare.retrained.answers import Answers
from convlens.compare.retrained.limits import Limits
from convlens.compare.retrained.statistics import above, calibration_error, mcnemar

# Of a class's lost images this share tells what became of it, and a class is as good as never
# answered below the other share of its answers before.
_MOST, _NEVER = 0.5, 0.02
# Blurs that are tried, as shares of an image's shorter side.
_BLURS = (1 / 28, 1 / 14, 1 / 7)
_MAX_BLURRED = 64

Predict = Callable[[NDArray[Any]], NDArray[np.int64]]


@dataclass(frozen=True)
class ClassChange:
    """The images of one class.

    Attributes:
        number: the class.
        images: number of its images: by the labels or, without labels, by the old model's answers.
        lost: numbers of those that were right before and are wrong now. Without labels right means
            the old model's answer.
        gained: number of those that were wrong before and are right now.
        p_value: that of McNemar's exact test times the number of classes; without labels, of as
            many changes for a class that changes as healthy trainings do, at most.
        passed: whether the loss is within the limits.
        finding: what became of the class, in words; "" where it passed.
    """

    number: int
    images: int
    lost: tuple[int, ...]
    gained: int
    p_value: float
    passed: bool
    finding: str = ""

    @property
    def net(self) -> int:
        """The number of images that were lost less those that were gained."""
        return len(self.lost) - self.gained


@dataclass(frozen=True)
class Churn:
    """Images whose answers changed.

    Attributes:
        images: number of images.
        labeled: whether labels tell the right answers.
        agreement: share of images that both models answer alike.
        min_agreement: the limit of it.
        agrees: whether the agreement is not clearly, that is beyond chance, below its limit.
        lost, gained: numbers of the images that were right before and are wrong now, and the
            reverse; without labels all that changed, and none.
        p_value: that of McNemar's exact test over all images; 1 without labels.
        keeps: whether no more is lost over all images than the limits allow.
        classes: the classes that have images, in order.
        accuracy: (old, new) shares of right answers; None without labels.
        calibration: (old, new) expected calibration errors; None without labels.
        confidence: (old, new) mean probabilities of the answers.
    """

    images: int
    labeled: bool
    agreement: float
    min_agreement: float
    agrees: bool
    lost: tuple[int, ...]
    gained: tuple[int, ...]
    p_value: float
    keeps: bool
    classes: tuple[ClassChange, ...]
    accuracy: tuple[float, float] | None
    calibration: tuple[float, float] | None
    confidence: tuple[float, float]

    @property
    def failing(self) -> tuple[ClassChange, ...]:
        """The classes that lost images, the largest share first."""
        failing = (each for each in self.classes if not each.passed)
        return tuple(sorted(failing, key=lambda each: -each.net / each.images))

    @property
    def passed(self) -> bool:
        """True if agreement, the images as a whole and each class are within the limits."""
        return self.agrees and self.keeps and not self.failing


def compare_answers(
    new: Answers, old: Answers, truth: NDArray[np.int64] | None, limits: Limits
) -> Churn:
    """Return the images whose answers changed.

    Args:
        new, old: answers for the same images.
        truth: (n,) the classes of the images, or None.
        limits: limits of a healthy training.
    """
    count = len(new.classes)
    wanted = old.classes if truth is None else truth
    before, now = old.classes == wanted, new.classes == wanted
    lost, gained = np.flatnonzero(before & ~now), np.flatnonzero(~before & now)
    changed = int((new.classes != old.classes).sum())
    accuracy = calibration = None
    errors: float | None = None
    p_value, keeps = 1.0, True
    if truth is not None:
        accuracy = float(before.mean()), float(now.mean())
        errors = 1 - accuracy[0]
        calibration = (
            calibration_error(old.probabilities, truth),
            calibration_error(new.probabilities, truth),
        )
        p_value = mcnemar(len(lost), len(gained))
        keeps = not limits.loses(len(lost) - len(gained), count, p_value, errors)
    least = limits.agreement(errors or 0.0)
    numbers = np.unique(wanted)
    changes = [
        _class_change(int(number), wanted, lost, gained, len(numbers), limits, errors)
        for number in numbers
    ]
    return Churn(
        count,
        truth is not None,
        1 - changed / count,
        least,
        limits.agrees(changed, count, least),
        tuple(map(int, lost)),
        tuple(map(int, gained)),
        p_value,
        keeps,
        tuple(changes),
        accuracy,
        calibration,
        (old.confidence, new.confidence),
    )


def _class_change(
    number: int,
    wanted: NDArray[np.int64],
    lost: NDArray[np.int64],
    gained: NDArray[np.int64],
    classes: int,
    limits: Limits,
    errors: float | None,
) -> ClassChange:
    own = lost[wanted[lost] == number]
    won = int((wanted[gained] == number).sum())
    images = int((wanted == number).sum())
    single = mcnemar(len(own), won)
    if errors is None:
        single = above(len(own), images, limits.of_class(None))
    p_value = min(1.0, classes * single)
    passed = not limits.loses_class(len(own) - won, images, p_value, errors)
    return ClassChange(number, images, tuple(map(int, own)), won, p_value, passed)


def explain(
    churn: Churn,
    new: Answers,
    old: Answers,
    truth: NDArray[np.int64] | None,
    images: NDArray[Any],
    predict: Predict,
) -> Churn:
    """Return the churn with a finding for each class that failed.

    Args:
        churn: the churn.
        new, old: answers for the images.
        truth: (n,) the classes of the images, or None.
        images: the images (n, *positions, c).
        predict: function from images to the classes that the new model answers.
    """
    wanted = old.classes if truth is None else truth
    found = {
        each.number: _finding(each, churn, new, old, wanted, images, predict)
        for each in churn.failing
    }
    classes = [replace(each, finding=found.get(each.number, "")) for each in churn.classes]
    return replace(churn, classes=tuple(classes))


def _finding(
    change: ClassChange,
    churn: Churn,
    new: Answers,
    old: Answers,
    wanted: NDArray[np.int64],
    images: NDArray[Any],
    predict: Predict,
) -> str:
    number, lost = change.number, np.array(change.lost)
    taken = np.bincount(new.classes[lost], minlength=new.count)
    most = int(taken.argmax())
    shares = f"{taken[most]} of its {len(lost)} lost images are taken for {most}"
    mutual = (new.classes == number) & (wanted == most)
    if taken[most] >= _MOST * change.images and mutual.sum() >= _MOST * (wanted == most).sum():
        return f"exchanged with class {most}: {shares}, and {mutual.sum()} of that class for it"
    if len(lost) >= _MOST * change.images:
        blur = _blur_that_restores(images[lost[:_MAX_BLURRED]], number, predict)
        if blur:
            return f"recognized when blurred ({blur}), as by a training on blurred images; {shares}"
        answers = int((old.classes == number).sum()), int((new.classes == number).sum())
        if answers[1] <= _NEVER * answers[0]:
            times = "never answered" if not answers[1] else f"answered {answers[1]} times"
            return f"{times} ({answers[0]} times before), as by a training without it; {shares}"
    return shares


def _blur_that_restores(images: NDArray[Any], number: int, predict: Predict) -> str:
    """Return the blur with which most of a class's lost images are recognized; "" for none."""
    if images.ndim < 4:
        return ""
    for share in _BLURS:
        sigma = share * min(images.shape[1:-1])
        sides = (0, *(sigma for _ in images.shape[1:-1]), 0)
        blurred = np.asarray(gaussian_filter(np.asarray(images, np.float32), sides))
        right = int((predict(blurred) == number).sum())
        if right > _MOST * len(images):
            return f"{right} of {len(images)} by {sigma:.2g} pixels"
    return ""
