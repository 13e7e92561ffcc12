"""Gram matrices: symmetric, positive semi-definite, and independent of position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.checks._gram_matrix import MeasuredMatrix, measure_matrix
from convlens.checks._offenders import raise_offenders
from convlens.checks.check import Column, Effort, Figures, LayerCheck, Measures
from convlens.drawings import draw_gram
from convlens.engine.features.gram import Divisor, gram_divisor, gram_matrix
from convlens.engine.runtime import tolerance
from convlens.lens import Lens

_FLOOR = np.finfo(np.float64).tiny
# Multiplications for all Gram matrices of a layer, which bound the number of images; and the least
# that a matrix costs, in multiplications for each of its entries.
_WORK, _LEAST = 2**30, 256
# Images whose positions are permuted.
_PERMUTED = 2


@dataclass(frozen=True)
class GramResiduals:
    """Deviations of Gram matrices from their properties, relative to their largest entry.

    Attributes:
        asymmetry: the largest |G - Gᵀ|.
        negative: distance of the smallest eigenvalue below 0; None for more than 256 channels
            whose eigenvalues are known to be within rounding without being computed.
        cauchy_schwarz: the largest excess of |G_ij| over √(G_ii·G_jj).
        trace: |trace(G) - ‖F‖²/divisor| over ‖F‖²/divisor; None where no features were given.
        reference: the largest |G - FᵀF/divisor|, likewise.
    """

    asymmetry: float
    negative: float | None
    cauchy_schwarz: float
    trace: float | None = None
    reference: float | None = None

    @property
    def worst(self) -> float:
        """The largest deviation."""
        return max(v for v in vars(self).values() if v is not None)


@dataclass(frozen=True)
class GramInvariance:
    """Deviations of a Gram function from its invariances, relative to the largest entry.

    Attributes:
        permutation: the change of G when the positions are permuted.
        scale: the difference of G(aF) and a²·G(F).
    """

    permutation: float
    scale: float


def assert_gram_symmetric(
    gram: ArrayLike,
    features: ArrayLike | None = None,
    *,
    divisor: Divisor = "none",
    tol: float | None = None,
    name: str = "Gram matrix",
) -> GramResiduals:
    """Assert that Gram matrices are symmetric, positive semi-definite, and those of the features.

    G must be square and finite with |G - Gᵀ| ≤ tol·max|G|, no eigenvalue below -tol·max|G|·c, and
    |G_ij|² ≤ G_ii·G_jj (Cauchy-Schwarz). With features, trace(G) = ‖F‖²/divisor and G = FᵀF/divisor
    as well; the second also catches channels mixed with positions, which leaves the trace alone.

    Args:
        gram: (c, c) or (n, c, c).
        features: (n, *positions, c), or (*positions, c) for one matrix, that the matrices were
            made from.
        divisor: what FᵀF was divided by, as in `gram_matrix`.
        tol: relative to max|G|; for float32 1.2e-5 unless given, and more where features have many
            positions to sum over, for coarser types, and where the machine rounds the factors of
            products.
        name: what to call the matrix in the message.

    Returns:
        The residuals; see `GramResiduals`.

    Raises:
        AssertionError: a property does not hold.
        ValueError: an array that is not (n, c, c), features that do not fit, an unknown divisor.
    """
    __tracebackhide__ = True
    given = np.asarray(gram)
    matrices = _square(given, name)
    maps = None if features is None else tolerance.as_floats(features)
    rows, by = (None, 1) if maps is None else _rows(maps, given.shape, divisor)
    tol = _tolerance(given, rows) if tol is None else tol
    if not np.isfinite(matrices).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(matrices))[0])
        raise AssertionError(f"{name} is not finite: entry {at} is {matrices[at]}")
    # One matrix at a time: those of 2048 channels take 32 MiB each.
    found = [
        measure_matrix(k, g, None if rows is None else rows[k], by, tol)
        for k, g in enumerate(matrices)
    ]
    raise_offenders(
        f"{name} of {matrices.shape[-1]} units is no Gram matrix (tolerance {tol:g}):",
        [
            *_worst_entries(matrices, found, tol),
            *_negative(found, tol * matrices.shape[-1]),
            *_too_large(found, tol),
            *_against_features(found, divisor, by, tol),
        ],
    )
    return _residuals(found)


def assert_gram_invariant(
    features: ArrayLike,
    gram: Callable[[NDArray[Any]], Any] = gram_matrix,
    *,
    scale: float = 2.5,
    seed: int = 0,
    tol: float | None = None,
    name: str = "Gram function",
) -> GramInvariance:
    """Assert that a Gram function ignores where things are, and is quadratic in the features.

    G of spatially permuted features must be the same, and G(aF) = a²·G(F).

    Args:
        features: (n, *positions, c), with more than one position.
        gram: the function under test, from (n, *positions, c) to (n, c, c).
        scale: the a.
        seed: of the permutation.
        tol: relative to max|G|; by the precision and the number of positions unless given.
        name: what to call the function in the message.

    Returns:
        The residuals; see `GramInvariance`.

    Raises:
        AssertionError: an invariance does not hold, or all features are zero.
        ValueError: features that are not (n, *positions, c) with several positions.
    """
    __tracebackhide__ = True
    f = tolerance.as_floats(features)
    positions = int(np.prod(f.shape[1:-1]))
    if f.ndim < 3 or positions < 2:
        raise ValueError(
            f"features must be (n, *positions, c) with two positions or more, not {f.shape}"
        )
    order = np.random.default_rng(seed).permutation(positions)
    made = np.asarray(gram(f))
    tol = _tolerance(made, f) if tol is None else tol
    size = float(np.max([np.abs(matrix).max() for matrix in made]))
    if not (np.isfinite(size) and size > 0):
        raise AssertionError(f"{name}: max|G| is {size}; give features that are not all 0")
    permuted = np.asarray(gram(f.reshape(len(f), positions, -1)[:, order].reshape(f.shape)))
    by_permutation = _largest_difference(permuted, made, 1) / size
    del permuted
    scaled = np.asarray(gram((f * scale).astype(f.dtype)))
    by_scale = _largest_difference(scaled, made, scale**2) / (scale**2 * size)
    offenders = []
    if not by_permutation <= tol:
        offenders.append(
            f"permuting the {positions} positions changes it by {by_permutation:.3g} of max|G|: "
            "it depends on where things are"
        )
    if not by_scale <= tol:
        offenders.append(
            f"G({scale:g}·F) differs from {scale**2:g}·G(F) by {by_scale:.3g} of max|G|"
        )
    raise_offenders(f"{name} is not invariant (tolerance {tol:g}):", offenders)
    return GramInvariance(by_permutation, by_scale)


class Gram(LayerCheck):
    """Zero-code check of the Gram matrices of one layer's feature maps."""

    name = "gram"
    summary = "Gram matrices are symmetric, positive semi-definite and free of position"
    assertion = staticmethod(assert_gram_symmetric)
    columns = (Column("Gram residual", "{gram_residual:.1e}"),)
    max_images = 8

    def run(self, lens: Lens, layer: Any, effort: Effort) -> tuple[str, NDArray[Any], NDArray[Any]]:
        maps = lens.maps(layer, range(min(self.max_images, len(lens.images))))
        maps = maps[: _affordable(maps.shape)]
        title = f"{lens.name} layer {layer!r}: Gram matrix"
        return title, maps, gram_matrix(maps)

    def verdict(self, seen: tuple[str, NDArray[Any], NDArray[Any]]) -> Measures:
        __tracebackhide__ = True
        title, maps, gram = seen
        residual = assert_gram_symmetric(gram, maps, name=title).worst
        if np.prod(maps.shape[1:-1]) > 1:
            # Of the images that excite the layer most, as the others may leave it at 0.
            excited = np.argsort(-np.trace(gram, axis1=1, axis2=2), kind="stable")[:_PERMUTED]
            invariance = assert_gram_invariant(maps[excited], name=title)
            residual = max(residual, *vars(invariance).values())
        return {"gram_residual": residual}

    def figures(self, lens: Lens, layer: Any, seen: Any) -> Figures:
        return {"gram": lambda: draw_gram(lens, layer, seen[2][0])}


def _affordable(shape: tuple[int, ...]) -> int:
    """Return the number of images, 2 or more, whose Gram matrices are not too much work."""
    positions, c = int(np.prod(shape[1:-1])), shape[-1]
    return max(2, _WORK // (c * c * max(positions, _LEAST)))


def _largest_difference(found: NDArray[Any], expected: NDArray[Any], factor: float) -> float:
    """Return the largest |found - factor·expected|, in float64, of one matrix after another."""
    pairs = zip(found, expected, strict=True)
    return float(
        np.max(
            [np.abs(a.astype(np.float64) - factor * b.astype(np.float64)).max() for a, b in pairs]
        )
    )


def _square(given: NDArray[Any], name: str) -> NDArray[Any]:
    """Return matrices as (n, c, c)."""
    g = given[None] if given.ndim == 2 else given
    if g.ndim != 3 or g.shape[1] != g.shape[2] or not g.size:
        raise ValueError(f"{name} has shape {given.shape}; (c, c) or (n, c, c) is needed")
    return g


def _rows(f: NDArray[Any], shape: tuple[int, ...], divisor: Divisor) -> tuple[NDArray[Any], int]:
    """Return features as (n, positions, c), and the number that stands for the divisor.

    Args:
        f: (n, *positions, c), or (*positions, c) for one matrix.
        shape: shape of the matrices, (c, c) or (n, c, c).
        divisor: name of the divisor.
    """
    one = len(shape) == 2 or shape[0] == 1
    f = f[None] if one and (f.ndim == 2 or len(f) != 1) else f
    if f.ndim < 3 or (len(shape) == 3 and len(f) != shape[0]) or f.shape[-1] != shape[-1]:
        raise ValueError(f"features {f.shape} do not fit Gram matrices {shape}")
    return f.reshape(len(f), -1, f.shape[-1]), gram_divisor(f.shape, divisor)


def _tolerance(gram: NDArray[Any], features: NDArray[Any] | None = None) -> float:
    """Return the tolerance for a Gram matrix's type, and for the positions that it sums over.

    Args:
        gram: the matrices.
        features: (n, *positions, c) what they were made from.
    """
    positions = 0 if features is None else int(np.prod(features.shape[1:-1]))
    precision = tolerance.of_products(tolerance.precision_of(gram.dtype))
    return tolerance.sum_tolerance(precision, positions)


def _residuals(found: Sequence[MeasuredMatrix]) -> GramResiduals:
    lowest = [m.lowest for m in found if m.lowest is not None]
    references = [m.reference for m in found if m.reference is not None]
    return GramResiduals(
        max(m.asymmetry for m in found),
        max(0.0, -min(lowest)) if lowest else None,
        max(0.0, *(m.excess for m in found)),
        max(r.trace_error for r in references) if references else None,
        max(r.error for r in references) if references else None,
    )


def _worst_entries(
    matrices: NDArray[Any], found: Sequence[MeasuredMatrix], tol: float
) -> list[str]:
    entries = []
    for m in found:
        if not m.asymmetry <= tol:
            g = matrices[m.number].astype(np.float64)
            difference = np.triu(np.abs(g - g.T) / m.scale, k=1)
            for i, j in np.argwhere(difference > tol):
                line = (
                    f"matrix {m.number}: G[{i},{j}] = {g[i, j]:.6g} but G[{j},{i}] = {g[j, i]:.6g}"
                )
                entries.append((float(difference[i, j]), line))
    return [line for _, line in sorted(entries, key=lambda entry: -entry[0])]


def _negative(found: Sequence[MeasuredMatrix], limit: float) -> list[str]:
    lowest, k = min(((m.lowest, m.number) for m in found if m.lowest is not None), default=(0.0, 0))
    if lowest >= -limit:
        return []
    scale = found[k].scale
    return [
        f"matrix {k} is not positive semi-definite: its smallest eigenvalue is "
        f"{lowest * scale:.6g}, where {-limit * scale:.3g} is rounding"
    ]


def _too_large(found: Sequence[MeasuredMatrix], tol: float) -> list[str]:
    worst = max(found, key=lambda m: m.excess)
    if worst.excess <= tol:
        return []
    i, j = worst.at
    return [
        f"matrix {worst.number}: |G[{i},{j}]| = {worst.entry:.6g} exceeds √(G[{i},{i}]·G[{j},{j}]) "
        f"= {worst.bound:.6g}"
    ]


def _against_features(
    found: Sequence[MeasuredMatrix], divisor: Divisor, by: int, tol: float
) -> list[str]:
    pairs = [(m.number, m.reference) for m in found if m.reference is not None]
    if not pairs:
        return []
    offenders = []
    k, r = max(pairs, key=lambda pair: _nan_last(pair[1].trace_error))
    if not r.trace_error <= tol:
        offenders.append(
            f"matrix {k}: its trace is {r.trace:.6g}, but ‖F‖² over the divisor {divisor!r} "
            f"({by}) is {r.energy:.6g}: {r.trace / max(r.energy, _FLOOR):.6g} times too much"
        )
    k, r = max(pairs, key=lambda pair: _nan_last(pair[1].error))
    if not r.error <= tol:
        mixed = (
            "; the trace is right, so channels may be mixed with positions in a reshape"
            if r.trace_error <= tol
            else ""
        )
        offenders.append(
            f"matrix {k}: G[{r.at[0]},{r.at[1]}] = {r.found:.6g}, but FᵀF over the divisor gives "
            f"{r.want:.6g}{mixed}"
        )
    return offenders


def _nan_last(error: float) -> float:
    """Return an error by which the largest is found; NaN, which never passes, is the largest."""
    return np.inf if np.isnan(error) else error
