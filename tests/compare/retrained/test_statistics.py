"""McNemar's test and the calibration error, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from convlens.compare.retrained.statistics import above, calibration_error, mcnemar


@pytest.mark.parametrize(
    ("lost", "gained", "p_value"),
    [(0, 0, 1), (0, 9, 1), (1, 0, 0.5), (5, 0, 1 / 32), (3, 1, 5 / 16), (2, 2, 11 / 16)],
)
def test_mcnemar(lost, gained, p_value):
    assert mcnemar(lost, gained) == pytest.approx(p_value)


def test_the_tail_of_a_binomial():
    assert above(1, 2, 0.25) == pytest.approx(7 / 16)
    assert above(0, 2, 0.25) == 1


def test_calibration():
    sure = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    assert calibration_error(sure, np.array([0, 0, 1, 1])) == pytest.approx(0.175)
    # 0.9 is right once of two; 0.8 is in a bin of its own, and 0.7 too.
    assert calibration_error(sure, np.array([0, 1, 1, 0])) == pytest.approx(
        (2 * 0.4 + 0.2 + 0.7) / 4
    )
    assert calibration_error(np.eye(2), np.array([0, 1])) == 0
