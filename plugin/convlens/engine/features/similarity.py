"""Local similarity of two images: the worst tile, and the structural similarity index (SSIM)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

TILE = 8
_WINDOW = 7
# The constants of the structural similarity, for pixels in units of their range.
C1, C2 = 0.01**2, 0.03**2


def worst_tile(
    expected: NDArray[np.float64], actual: NDArray[np.float64]
) -> tuple[float, tuple[int, int]]:
    """Return the largest root mean square difference in an 8×8 tile, and the tile's center.

    Tiles at all positions are compared, so that no small change is split between two tiles.

    Args:
        expected, actual: (h, w, c), in units of the pixels' range.
    """
    square = np.square(actual - expected).mean(axis=-1)
    means = uniform_filter(square, (min(TILE, square.shape[0]), min(TILE, square.shape[1])))
    row, column = np.unravel_index(int(means.argmax()), means.shape)
    # The running sum of the filter can turn zeros into small negative numbers.
    return float(np.sqrt(max(0.0, means.max()))), (int(row), int(column))


def structural_similarity(
    expected: NDArray[np.float64], actual: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the structural similarity around each pixel, (h, w) (Wang et al. 2004).

    Computed in 7×7 windows of equal weights, with K₁ = 0.01 and K₂ = 0.03, and averaged over
    channels.

    Args:
        expected, actual: (h, w, c), in units of the pixels' range.
    """
    size = (min(_WINDOW, expected.shape[0]), min(_WINDOW, expected.shape[1]), 1)

    def blurred(values: NDArray[np.float64]) -> NDArray[np.float64]:
        smooth: NDArray[np.float64] = uniform_filter(values, size, mode="reflect")
        return smooth

    a, b = blurred(expected), blurred(actual)
    var_a = blurred(expected**2) - a**2
    var_b = blurred(actual**2) - b**2
    both = blurred(expected * actual) - a * b
    ratio = (2 * a * b + C1) * (2 * both + C2) / ((a**2 + b**2 + C1) * (var_a + var_b + C2))
    similarity: NDArray[np.float64] = ratio.mean(axis=-1)
    return similarity
