"""The statistics of two models' answers: McNemar's test, and the calibration error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

_BINS = 15


def mcnemar(lost: int, gained: int) -> float:
    """Return the p-value of McNemar's exact test that images were lost, and not only exchanged.

    Of the images on which one model alone is right, as many should be the old one's as the new
    one's. The test is one-sided: a gain gives a p-value near 1 (McNemar 1947).

    Args:
        lost: number of images that were right before and are wrong now.
        gained: number of images that were wrong before and are right now.
    """
    return above(lost, lost + gained, 0.5)


def above(count: int, of: int, share: float) -> float:
    """Return the probability of at least `count` of `of` events, each with probability `share`."""
    return float(bdtrc(count - 1, of, share)) if count else 1.0


def calibration_error(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Return the expected calibration error, 0 to 1, in 15 bins of equal width (Guo et al. 2017).

    It is the mean distance between the probability of an answer and the share of right answers of
    about that probability.

    Args:
        probabilities: (n, classes).
        truth: (n,) the classes.
    """
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    gaps = np.zeros(_BINS)
    np.add.at(gaps, bins, sure - right)
    return float(np.abs(gaps).sum() / len(truth))
