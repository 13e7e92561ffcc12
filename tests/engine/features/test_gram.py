"""Gram matrices and their divisors."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from convlens import gram_matrix

F = np.random.default_rng(2).standard_normal((2, 4, 5, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("divisor", "by"), [("none", 1), ("positions", 20), ("positions*channels", 60)]
)
def test_it_is_the_sum_over_positions(divisor, by):
    expected = np.einsum("nhwi,nhwj->nij", F, F) / by
    np.testing.assert_allclose(gram_matrix(F, divisor), expected, rtol=1e-5, atol=1e-6)


def test_half_precision_does_not_overflow():
    gram = gram_matrix(np.full((1, 64, 64, 2), 100, np.float16))
    assert gram.dtype == np.float32
    np.testing.assert_array_equal(gram, np.full((1, 2, 2), 64 * 64 * 1e4))


def test_a_tensor_gives_a_tensor():
    gram = gram_matrix(ops.convert_to_tensor(F))
    assert not isinstance(gram, np.ndarray)
    np.testing.assert_allclose(gram, gram_matrix(F), rtol=1e-6)


def test_an_unknown_divisor_and_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="divisor must be one of 'none'"):
        gram_matrix(F, "pixels")
    with pytest.raises(ValueError, match=r"shape \(n, \*positions, c\), not \(5, 3\)"):
        gram_matrix(F[0, 0])
