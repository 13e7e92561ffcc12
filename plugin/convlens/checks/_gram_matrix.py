"""One Gram matrix, held against the properties of Gram matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.engine.runtime.products import inner_products, one_blas_thread

# Matrices of up to as many channels have their eigenvalues computed, which takes c³ operations;
# larger ones only where nothing else shows that none of them is negative.
_FEW_CHANNELS = 256
_FLOOR = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Reference:
    """A matrix G beside FᵀF over the divisor.

    Attributes:
        trace: the trace of G.
        energy: ‖F‖² over the divisor.
        error: the largest |G - FᵀF/divisor| over max|G|.
        at: the entry where it is.
        found, want: the two values there.
    """

    trace: float
    energy: float
    error: float
    at: tuple[int, int]
    found: float
    want: float

    @property
    def trace_error(self) -> float:
        """The difference of trace and energy, relative to the energy."""
        return abs(self.trace - self.energy) / max(self.energy, _FLOOR)


@dataclass(frozen=True)
class MeasuredMatrix:
    """One matrix's deviations from the properties of Gram matrices, relative to max|G|.

    Attributes:
        number: the matrix's number.
        scale: max|G|.
        asymmetry: the largest |G - Gᵀ|.
        lowest: the smallest eigenvalue; None where it is known to be above the limit.
        excess: the largest excess of |G_ij| over √(G_ii·G_jj); 0 or less without any.
        at: the entry where that is.
        entry, bound: |G_ij| and √(G_ii·G_jj) there.
        reference: the matrix beside that of the features; None without features.
    """

    number: int
    scale: float
    asymmetry: float
    lowest: float | None
    excess: float
    at: tuple[int, int]
    entry: float
    bound: float
    reference: Reference | None


def measure_matrix(
    number: int,
    given: NDArray[Any],
    rows: NDArray[Any] | None,
    divisor: int,
    tol: float,
) -> MeasuredMatrix:
    """Measure a matrix.

    Args:
        number: its number, for messages.
        given: (c, c), finite.
        rows: (positions, c) the features that it was made from; None without features.
        divisor: the number by which their products were divided.
        tol: the tolerance relative to max|G|; an eigenvalue may lie below 0 by c times as much.
    """
    g = given.astype(np.float64)
    scale = max(float(np.abs(g).max()), _FLOOR)
    want = None if rows is None else inner_products(rows) / divisor
    lengths = np.sqrt(np.maximum(np.diagonal(g), 0))
    excess = np.abs(g) - np.outer(lengths, lengths)
    i, j = _largest(excess)
    return MeasuredMatrix(
        number,
        scale,
        float(np.abs(g - g.T).max()) / scale,
        _lowest_eigenvalue((g + g.T) / 2, scale, want, tol),
        float(excess[i, j]) / scale,
        (i, j),
        float(abs(g[i, j])),
        float(lengths[i] * lengths[j]),
        None if want is None else _against(g, scale, want),
    )


def _against(g: NDArray[np.float64], scale: float, want: NDArray[np.float64]) -> Reference:
    difference = np.abs(g - want)
    i, j = _largest(difference)
    return Reference(
        float(np.trace(g)),
        float(np.trace(want)),
        float(difference[i, j]) / scale,
        (i, j),
        float(g[i, j]),
        float(want[i, j]),
    )


def _largest(values: NDArray[np.float64]) -> tuple[int, int]:
    i, j = np.unravel_index(int(values.argmax()), values.shape)
    return int(i), int(j)


def _lowest_eigenvalue(
    g: NDArray[np.float64], scale: float, want: NDArray[np.float64] | None, tol: float
) -> float | None:
    """Return the smallest eigenvalue of a symmetric matrix over `scale`.

    Returns:
        None for a large matrix with no eigenvalue below -c·tol.
    """
    c = len(g)
    with one_blas_thread():
        if c > _FEW_CHANNELS:
            # FᵀF has no negative eigenvalue, and a change of each entry by at most e moves the
            # eigenvalues by at most c·e (Weyl).
            if want is not None and np.abs(g - want).max() <= tol * scale:
                return None
            if _is_positive(g + c * tol * scale * np.eye(c)):
                return None
        return float(np.linalg.eigvalsh(g)[0]) / scale


def _is_positive(g: NDArray[np.float64]) -> bool:
    """Return whether a symmetric matrix is positive definite: if it has a Cholesky factor."""
    try:
        np.linalg.cholesky(g)
    except np.linalg.LinAlgError:
        return False
    return True
