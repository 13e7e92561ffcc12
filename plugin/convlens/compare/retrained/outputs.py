"""Each output of the old model, as far as the outputs of the new one tell it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from convlens.compare.retrained.answers import Answers

# A class that the old model answers less often gives no number to judge.
MIN_ANSWERS = 10
# Images for each coefficient of a regression.
_PER_COEFFICIENT = 5


@dataclass(frozen=True)
class OutputChange:
    """An output of the old model, a class, and what the new model's outputs tell of it.

    Attributes:
        output: its number.
        explained: R², the share of its variance over the images that a linear function of the new
            model's outputs gives, on images that the function was not fitted to. 1 is all.
        partner: number of the new model's output that goes with it, where each goes with one.
        correlation: their correlation.
    """

    output: int
    explained: float
    partner: int
    correlation: float


def compare_outputs(
    new: Answers, old: Answers, truth: NDArray[np.int64] | None
) -> tuple[OutputChange, ...]:
    """Return the outputs that can be judged: of classes that the old model answers 10 times.

    There are none where the images are too few for a regression on all outputs. The images are
    those that the old model answers right, for its errors need not be told; without labels, the
    half of each class of which it is surest.

    Args:
        new, old: answers for the same images.
        truth: (n,) the classes of the images, or None.
    """
    chosen = _surest(old) if truth is None else old.classes == truth
    before, now = old.probabilities[chosen], new.probabilities[chosen]
    count = np.bincount(old.classes[chosen], minlength=old.count)
    judged = np.flatnonzero(count >= MIN_ANSWERS)
    if len(before) < 2 * _PER_COEFFICIENT * (now.shape[1] + 1) or len(judged) < 2:
        return ()
    explained = _explained(now, before[:, judged])
    match = _correlations(before[:, judged], now)
    rows, columns = linear_sum_assignment(-match)
    partner = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    return tuple(
        OutputChange(int(unit), float(explained[i]), partner[i], float(match[i, partner[i]]))
        for i, unit in enumerate(judged)
    )


def _surest(answers: Answers) -> NDArray[np.bool_]:
    """Return which images are in the half of their class with the largest probabilities."""
    sure = answers.probabilities.max(axis=1)
    found = np.zeros(len(sure), bool)
    for number in np.unique(answers.classes):
        own = np.flatnonzero(answers.classes == number)
        found[own[np.argsort(-sure[own], kind="stable")[: -(-len(own) // 2)]]] = True
    return found


def _explained(inputs: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return R² of each column of `wanted`, predicted in each half of the rows from the other."""
    rows = np.hstack([inputs, np.ones((len(inputs), 1))])
    # By chance: classes may alternate.
    half = np.random.default_rng(0).permutation(len(rows)) % 2 == 1
    squares = np.zeros(wanted.shape[1])
    for own in (half, ~half):
        found = np.linalg.lstsq(rows[~own], wanted[~own], rcond=1e-6)[0]
        squares += ((rows[own] @ found - wanted[own]) ** 2).sum(axis=0)
    total = ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0)
    return 1 - squares / np.maximum(total, np.finfo(np.float64).tiny)


def _correlations(first: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the correlation of each column of one with each of the other; 0 for a constant."""
    a, b = (v - v.mean(axis=0) for v in (first, other))
    norms = np.outer(np.linalg.norm(a, axis=0), np.linalg.norm(b, axis=0))
    found: NDArray[np.float64] = np.divide(
        a.T @ b, norms, out=np.zeros_like(norms), where=norms > 0
    )
    return found
