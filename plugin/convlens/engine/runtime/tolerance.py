"""The one tolerance: the largest difference that rounding alone makes between two computations.

Every check and every comparison asks this module. The answer depends on three things:

- the precision of the coarsest computation below a value. A precision is the name of a type, such
  as 'bfloat16', or 'tensorfloat32': accelerators may round the factors of float32 products to it;
- the number of computations, one after another, that rounded: their errors are independent, so
  they grow with its square root;
- the number of terms in a sum: its rounding grows with the square root, too.

Results are never more exact than float32 here, because sketches and signals are float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.engine.runtime import backend

TF32 = "tensorfloat32"
# Significant bits, with the implicit first one. int8 stands for values that are quantized.
_BITS = {
    "float64": 53,
    "float32": 24,
    TF32: 11,
    "float16": 11,
    "bfloat16": 8,
    "int8": 7,
    "float8_e4m3fn": 4,
    "float8_e5m2": 3,
    "int4": 3,
}
# Backends, threads, batch sizes and other orders of sums differ by up to 2e-6 in float32.
_ACTIVATIONS = 5e-5
# Two products and their stored result are three roundings; a few such differences are allowed for.
_ROUNDINGS = 4.0


@dataclass(frozen=True)
class Rounding:
    """The rounding behind a value.

    Attributes:
        precision: precision of the coarsest computation below the value.
        depth: number of computations on the longest path that rounded to less than float32, or
            that sum products.
    """

    precision: str = "float32"
    depth: int = 0

    def after(self, precision: str, rounds: bool) -> Rounding:
        """Return the rounding after one more computation; `rounds` says whether it counts."""
        return Rounding(coarsest([self.precision, precision]), self.depth + rounds)

    @staticmethod
    def join(inputs: Iterable[Rounding]) -> Rounding:
        """Return the rounding of a computation's inputs taken together."""
        known = list(inputs)
        return Rounding(
            coarsest(each.precision for each in known),
            max((each.depth for each in known), default=0),
        )


def unit_roundoff(precision: str) -> float:
    """Return the largest relative error of rounding a number, such as 2⁻²⁴ for float32.

    Raises:
        ValueError: an unknown precision.
    """
    if precision not in _BITS:
        raise ValueError(f"precision must be one of {', '.join(_BITS)}, not {precision!r}")
    return 2.0 ** -_BITS[precision]


def significant_bits(precision: str) -> int:
    """Return the number of bits that a precision keeps of a number, the first one included."""
    unit_roundoff(precision)
    return _BITS[precision]


def precision_name(precision: str) -> str:
    """Return the name of a precision for messages."""
    return "TF32" if precision == TF32 else precision


def coarsest(precisions: Iterable[str]) -> str:
    """Return the coarsest of the precisions; 'float32' if none is coarser than it."""
    return max(precisions, key=unit_roundoff, default="float32")


def is_coarse(precision: str) -> bool:
    """Return whether a precision is coarser than float32."""
    return unit_roundoff(precision) > unit_roundoff("float32")


def precision_of(dtype: Any) -> str:
    """Return the precision of a NumPy or Keras type; whole numbers are exact, as in float64."""
    name = str(getattr(dtype, "name", dtype))
    return name if name in _BITS and name not in ("int8", "int4") else "float64"


def of_products(precision: str) -> str:
    """Return the precision to which this machine rounds the factors of products."""
    factors = backend.settings()["products"] if precision == "float32" else precision
    return coarsest([precision, str(factors)])


def activation_tolerance(rounding: Rounding | str) -> float:
    """Return the tolerance for activations of the same network, in units of their size."""
    found = Rounding(rounding, 1) if isinstance(rounding, str) else rounding
    error = _ROUNDINGS * unit_roundoff(found.precision) * math.sqrt(max(1, found.depth))
    return max(_ACTIVATIONS, error)


def stage_tolerance(rounding: Rounding | str) -> float:
    """Return the tolerance for one layer computed in two ways, in units of its largest value."""
    precision = rounding if isinstance(rounding, str) else rounding.precision
    return _fine(precision, 168) + _coarse(precision)


def sum_tolerance(precision: str, terms: int = 0) -> float:
    """Return the tolerance for sums of products, in units of the largest sum.

    For float32 it is 1.2e-5 (a hundred times its ε), and 4·√terms·ε more: 9,216 terms of VGG19's
    first layer measured 0.8·√terms. Terms of a coarser type are summed in float32.
    """
    return _fine(precision, 200 + 8 * math.sqrt(terms)) + _coarse(precision)


def cosine_tolerance(precision: str) -> float:
    """Return the largest 1 - cosine of two equal maps, one of them scaled.

    The errors are at right angles to the maps, so that the cosine falls with their square.
    """
    found = precision if is_coarse(precision) else coarsest([precision])
    error = unit_roundoff(found) if is_coarse(found) else 0.0
    return _fine(precision, 20) + 6 * error**2


def as_floats(array: Any) -> NDArray[Any]:
    """Return an array with float32 in place of the coarser types, most of which NumPy ignores."""
    given = np.asarray(array)
    if is_coarse(precision_of(given.dtype)):
        return given.astype(np.float32)
    return given


def _fine(precision: str, roundings: float) -> float:
    exact = "float64" if precision == "float64" else "float32"
    return roundings * unit_roundoff(exact)


def _coarse(precision: str) -> float:
    return _ROUNDINGS * unit_roundoff(precision) if is_coarse(precision) else 0.0
