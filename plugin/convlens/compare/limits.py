"""The limits of two models' differences, by the arithmetic of the coarser one.

They were measured on healthy pairs; see docs/converted-models.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from convlens.compare.runtime import Arithmetic
from convlens.compare.walk import MATCH

_ORDER: tuple[Arithmetic, ...] = ("float32", "float16", "bfloat16", "dynamic range", "int8")


@dataclass(frozen=True)
class Limits:
    """The least signal-to-noise ratios of healthy pairs, in dB.

    Attributes:
        layer: of a layer that is computed from the other model's own inputs.
        channel: of the worst channel of such a layer.
        output: of the models' outputs, to which all layers add. Below it the reason is looked
            for; outputs whose layers all agree are explained, and pass down to `DAMAGED`.
        clean: of a counterpart in the walk.
        noise_alone: whether the ratio of a layer says too little, and its noise must be explained.
            Elsewhere a layer passes by its ratio, or by noise that is known to be explained.
    """

    layer: float
    channel: float
    output: float
    clean: float
    noise_alone: bool = False


# Least signal-to-noise ratio of outputs, in dB: below, the error has twice the power of the signal.
DAMAGED = -3.0

# Outputs: most healthy pairs have 70 dB at least in float32 and 17 in float16. Of bfloat16 none was
# measured; its layers are 18 dB coarser than float16's.
LIMITS: Mapping[Arithmetic, Limits] = {
    "float32": Limits(90, 80, 60, 90),
    "float16": Limits(45, 35, 10, 45),
    "bfloat16": Limits(27, 17, DAMAGED, 27),
    "dynamic range": Limits(15, 5, DAMAGED, MATCH),
    "int8": Limits(MATCH, 0, DAMAGED, MATCH, noise_alone=True),
}


def coarser(first: Arithmetic, second: Arithmetic) -> Arithmetic:
    """Return the coarser of two kinds of arithmetic."""
    return max(first, second, key=_ORDER.index)
