"""The rounding in a network: the precision of each value, and a run with coarser products.

An accelerator may round the factors of float32 products to fewer bits. A network can be run as on
such a machine: every layer and operation that sums products gets rounded inputs and rounded
kernels. The change of its values is the difference that another precision makes to this network.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from convlens.engine.model.flatten import Call
from convlens.engine.runtime import backend, tolerance
from convlens.engine.runtime.tolerance import Rounding

# Operations of a functional graph that sum products; their classes are not public.
_PRODUCTS = ("Matmul", "Dot", "Einsum", "Tensordot", "Conv", "ConvTranspose", "DepthwiseConv")
_MORE_PRODUCTS = ("SeparableConv", "Inner", "Vdot", "DotProductAttention")
_SUMMING_LAYERS = (keras.layers.Dot, keras.layers.Attention, keras.layers.AdditiveAttention)


@dataclass(frozen=True)
class Coarse:
    """Products of a coarser machine, simulated.

    Attributes:
        bits: number of significant bits of each factor, 2 to 24.
        scale: scalar tensor; factors are multiplied by it before they are rounded, and divided by
            it afterwards, so that another scale gives other errors of the same size.
    """

    bits: int
    scale: Any

    def inputs(self, values: Any) -> Any:
        """Return the arguments of a call, with their floating-point tensors rounded."""
        return keras.tree.map_structure(self._rounded, values)

    def kernels(self, variables: Iterable[Any]) -> AbstractContextManager[Any]:
        """Return a context in which kernels are read with their values rounded."""
        pairs = [(v, self._rounded(ops.convert_to_tensor(v))) for v in variables if _is_kernel(v)]
        return keras.StatelessScope(state_mapping=pairs)

    def _rounded(self, value: Any) -> Any:
        if not (backend.is_tensor(value) and _is_float(value)):
            return value
        scale = ops.cast(self.scale, value.dtype)
        return backend.rounded(value * scale, self.bits) / scale


def sums_products(op: Any) -> bool:
    """Return whether a layer or an operation sums products, as a convolution does."""
    if isinstance(op, keras.layers.Layer):
        return isinstance(op, _SUMMING_LAYERS) or any(len(v.shape) > 1 for v in op.variables)
    return type(op).__name__ in _PRODUCTS + _MORE_PRODUCTS


def roundings(calls: Iterable[Call]) -> dict[int, Rounding]:
    """Return the rounding of each symbolic tensor, by its id; inputs have none and are left out."""
    found: dict[int, Rounding] = {}
    for call in calls:
        before = Rounding.join(found.get(id(t), Rounding()) for t in call.inputs)
        for symbol in call.outputs:
            precision = _precision(call.own_op, symbol)
            if sums_products(call.own_op):
                precision = tolerance.of_products(precision)
            counts = sums_products(call.own_op) or tolerance.is_coarse(precision)
            found[id(symbol)] = before.after(precision, counts)
    return found


def _precision(op: Any, symbol: Any) -> str:
    """Return the precision in which an operation computes a symbolic tensor."""
    policy = getattr(op, "dtype_policy", None)
    mode = getattr(policy, "quantization_mode", None)
    if mode is not None:
        return "int4" if mode in ("int4", "gptq", "awq") else "int8"
    dtype = str(getattr(op, "compute_dtype", None) or symbol.dtype)
    return tolerance.coarsest(["float64", tolerance.precision_of(dtype)])


def _is_kernel(variable: Any) -> bool:
    return len(variable.shape) > 1 and _is_float(variable)


def _is_float(value: Any) -> bool:
    return "float" in keras.backend.standardize_dtype(value.dtype)
