"""Images that are classified as their labels say."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtrc

from convlens.checks._offenders import raise_offenders
from convlens.checks.finite import assert_finite_weights
from convlens.engine.ascent.scores import class_scores
from convlens.engine.model.network import Network

# How likely as many right answers may be for a model that knows nothing.
SIGNIFICANCE = 0.01


def chance(labels: ArrayLike, classes: int) -> float:
    """Return the share of labels that a model gets right that gives always the same answer.

    It is the commonest label's share, and no less than one in `classes`.
    """
    _, counts = np.unique(np.asarray(labels), return_counts=True)
    return max(float(counts.max() / counts.sum()), 1 / classes)


def luck(right: int, count: int, share: float) -> float:
    """Return how likely `right` or more of `count` answers are right by chance (binomial)."""
    return float(bdtrc(right - 1, count, share)) if right else 1.0


def assert_accuracy(
    model: keras.Model | Network,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    least: float | None = None,
) -> float:
    """Assert that a model classifies labeled images right.

    Args:
        model: a Keras model or a `Network` with a vector of classes as its output.
        images: (n, h, w, c) in the model's own range.
        labels: (n,) whole numbers of the classes.
        least: the smallest accuracy, 0 to 1; without it, more must be right than a model that
            knows nothing would get with a probability of 1 %: what a model with confused classes
            or lost weights does not reach.

    Returns:
        The accuracy, 0 to 1.

    Raises:
        AssertionError: too few are right, with the classes that are mistaken most; a weight is not
            finite.
        ValueError: images of a wrong shape, labels that do not fit, an output that is no vector of
            classes, a `least` outside 0 to 1; without `least`, labels that cannot tell knowledge
            from luck (too few, or all the same).
    """
    __tracebackhide__ = True
    network = Network.of(model)
    assert_finite_weights(network)
    x = network.check_images(images)
    truth = np.asarray(labels)
    if truth.shape != (len(x),) or truth.dtype.kind not in "iu":
        raise ValueError(
            f"{len(x)} images need {len(x)} whole numbers as labels, not {truth.dtype} "
            f"{truth.shape}"
        )
    if least is not None and not 0 <= least <= 1:
        raise ValueError(f"least is a share from 0 to 1, not {least!r}")
    scores = class_scores(network, x)
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(f"{network.name} has no two classes to tell apart")
    if truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise ValueError(
            f"labels range from {truth.min()} to {truth.max()}, but {network.name} has classes 0 "
            f"to {scores.shape[1] - 1}"
        )
    answers = scores.argmax(axis=1)
    right = int((answers == truth).sum())
    share = chance(truth, scores.shape[1])
    if least is None:
        if luck(len(x), len(x), share) > SIGNIFICANCE:
            raise ValueError(
                f"{len(x)} images with these labels cannot tell knowledge from luck: give more, of "
                "several classes, or state the least accuracy"
            )
        passed = luck(right, len(x), share) <= SIGNIFICANCE
        wanted = f"a model that knows nothing gets about {share:.1%}"
    else:
        passed = right / len(x) >= least
        wanted = f"at least {least:.1%} are needed"
    if not passed:
        raise_offenders(
            f"{network.name} gets {right} of {len(x)} labels right ({right / len(x):.1%}); "
            f"{wanted}:",
            _mistaken(truth, answers) or ["every image is right, and that is not enough"],
        )
    return right / len(x)


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
