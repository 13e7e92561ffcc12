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
# Entries of a matrix that are measured at a time.
_BLOCK = 2**17
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
    scale = max(float(np.abs(given).max()), _FLOOR)
    want = None if rows is None else inner_products(rows) / divisor
    lengths = np.sqrt(np.maximum(np.diagonal(given).astype(np.float64), 0))
    found = [_measure_rows(given, part, lengths, want) for part in row_blocks(len(given))]
    worst = max(found, key=lambda block: block.excess)
    i, j = worst.at
    even = max(block.even_error for block in found) / scale
    return MeasuredMatrix(
        number,
        scale,
        max(block.asymmetry for block in found) / scale,
        _lowest_eigenvalue(given, scale, even, tol),
        worst.excess / scale,
        worst.at,
        float(abs(given[i, j])),
        float(lengths[i] * lengths[j]),
        None if want is None else _against(given, scale, want, found),
    )


def row_blocks(count: int) -> list[slice]:
    """Return the rows of a matrix (count, count) in blocks that fit a processor's cache."""
    step = max(1, _BLOCK // count)
    return [slice(start, start + step) for start in range(0, count, step)]


@dataclass(frozen=True)
class _Block:
    """Measurements of some rows of a matrix."""

    asymmetry: float
    excess: float
    at: tuple[int, int]  # the entry with the largest excess
    even_error: float  # the largest difference of (G + Gᵀ)/2 and the features'; infinite without
    error: float  # the largest difference of G and the features'; NaN counts as the largest
    error_at: tuple[int, int]


def _measure_rows(
    given: NDArray[Any],
    rows: slice,
    lengths: NDArray[np.float64],
    want: NDArray[np.float64] | None,
) -> _Block:
    g, other = (part.astype(np.float64) for part in (given[rows], given[:, rows].T))
    excess = np.abs(g) - lengths[rows, None] * lengths
    i, j = _largest(excess)
    even_error = error = np.inf
    at = (0, 0)
    if want is not None:
        even_error = float(np.abs((g + other) / 2 - want[rows]).max())
        difference = np.abs(g - want[rows])
        at = _largest(difference)
        error = float(difference[at])
    return _Block(
        float(np.abs(g - other).max()),
        float(excess[i, j]),
        (rows.start + i, j),
        even_error,
        error,
        (rows.start + at[0], at[1]),
    )


def _against(
    given: NDArray[Any], scale: float, want: NDArray[np.float64], found: list[_Block]
) -> Reference:
    # NaN, which features may have, never passes.
    worst = max(found, key=lambda block: np.inf if np.isnan(block.error) else block.error)
    return Reference(
        float(np.trace(given, dtype=np.float64)),
        float(np.trace(want)),
        worst.error / scale,
        worst.error_at,
        float(given[worst.error_at]),
        float(want[worst.error_at]),
    )


def _largest(values: NDArray[np.float64]) -> tuple[int, int]:
    i, j = np.unravel_index(int(values.argmax()), values.shape)
    return int(i), int(j)


def _lowest_eigenvalue(
    given: NDArray[Any], scale: float, even_error: float, tol: float
) -> float | None:
    """Return the smallest eigenvalue of (G + Gᵀ)/2 over `scale`.

    Args:
        given: G.
        scale: max|G|.
        even_error: the largest difference of (G + Gᵀ)/2 and FᵀF over the divisor, over `scale`;
            infinity without features.
        tol: the tolerance.

    Returns:
        None for a large matrix with no eigenvalue below -c·tol.
    """
    c = len(given)
    # FᵀF has no negative eigenvalue, and a change of each entry by at most e moves the eigenvalues
    # by at most c·e (Weyl).
    if c > _FEW_CHANNELS and even_error <= tol:
        return None
    g = given.astype(np.float64)
    g = (g + g.T) / 2
    with one_blas_thread():
        if c > _FEW_CHANNELS and _is_positive(g + c * tol * scale * np.eye(c)):
            return None
        return float(np.linalg.eigvalsh(g)[0]) / scale


def _is_positive(g: NDArray[np.float64]) -> bool:
    """Return whether a symmetric matrix is positive definite: if it has a Cholesky factor."""
    try:
        np.linalg.cholesky(g)
    except np.linalg.LinAlgError:
        return False
    return True
