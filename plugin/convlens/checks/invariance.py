"""Invariance: a class keeps its probability when the image is moved, scaled or rotated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convlens.checks._offenders import raise_offenders
from convlens.checks.finite import assert_finite
from convlens.engine.explain.invariance import Invariance
from convlens.engine.runtime.tolerance import stage_tolerance

# Difference of the features of the same images, computed twice in batches of the same size.
_TOLERANCE = stage_tolerance("float32")


@dataclass(frozen=True)
class InvarianceShares:
    """Results at each amount within the range.

    Attributes:
        amounts: (a,) amounts that were judged.
        recognized: (a,) share of the images whose class kept its probability.
        distances: layer → (a,) median relative distance of the features.
    """

    amounts: NDArray[np.float64]
    recognized: NDArray[np.float64]
    distances: dict[str, NDArray[np.float32]]


def assert_invariant(
    curves: Invariance,
    within: tuple[float, float],
    *,
    probability: float = 0.5,
    fraction: float = 0.9,
    distance: Mapping[str, float] | None = None,
) -> InvarianceShares:
    """Assert that classes keep their probability, and features change little, within a range.

    At each amount in the range, at least `fraction` of the images must give their class at least
    `probability`, and for each layer in `distance` the median over the images of ‖f(Tx) - f(x)‖ /
    ‖f(x)‖ must not exceed its limit. The transformation is checked too: the amount that changes
    nothing must give a distance of 0, and any other amount must change the images.

    Args:
        curves: the result of `invariance`.
        within: (smallest, largest) amount that is judged.
        probability: smallest probability of the class.
        fraction: share of the images that must keep this probability, 0 to 1.
        distance: layer → largest median relative distance.

    Returns:
        The results at each amount; see `InvarianceShares`.

    Raises:
        AssertionError: a curve exceeds its limits, a value is not finite, or the transformation
            changed nothing.
        ValueError: the range has no measured amount that changes the image, or a layer was not
            measured.
    """
    __tracebackhide__ = True
    low, high = within
    name = f"{curves.model} under {curves.transformation}"
    strangers = [layer for layer in distance or {} if layer not in curves.distances]
    if strangers:
        raise ValueError(f"{name}: the features of layer {strangers[0]!r} were not measured")
    still = _changes_nothing(curves)
    judged = np.flatnonzero((curves.amounts >= low) & (curves.amounts <= high))
    if not (~still[judged]).any():
        raise ValueError(
            f"{name}: no amount from {low:g} to {high:g} was measured that changes the image; "
            f"there are {', '.join(f'{a:g}' for a in curves.amounts)}"
        )
    assert_finite({"probabilities": curves.probabilities, **curves.distances}, name=name)
    _assert_instrument(curves, still, name)
    kept = (curves.probabilities >= probability).mean(axis=1)
    offenders = [
        f"at {curves.amounts[i]:g}: {kept[i]:.0%} of the images give their class a probability of "
        f"at least {probability:g} (at least {fraction:.0%} must)"
        for i in judged
        if not kept[i] >= fraction
    ]
    medians = {layer: np.median(curves.relative(layer), axis=1) for layer in distance or {}}
    for layer, limit in (distance or {}).items():
        offenders += [
            f"at {curves.amounts[i]:g}: the features of {layer!r} change by "
            f"{medians[layer][i]:.3g} of their length (limit {limit:g})"
            for i in judged
            if not medians[layer][i] <= limit
        ]
    raise_offenders(f"{name} is not invariant from {low:g} to {high:g}:", offenders)
    return InvarianceShares(
        curves.amounts[judged], kept[judged], {k: v[judged] for k, v in medians.items()}
    )


def _changes_nothing(curves: Invariance) -> NDArray[np.bool_]:
    if curves.transformation == "scale":
        return curves.amounts == 1
    if curves.transformation == "rotation":
        return curves.amounts % 360 == 0
    return curves.amounts == 0


def _assert_instrument(curves: Invariance, still: NDArray[np.bool_], name: str) -> None:
    __tracebackhide__ = True
    offenders = []
    moved = curves.image_distances.max(axis=1)
    for i, amount in enumerate(curves.amounts):
        if not still[i] and moved[i] == 0:
            offenders.append(f"{amount:g} changed no image")
        if still[i]:
            worst = max(float(curves.relative(layer)[i].max()) for layer in curves.distances)
            if moved[i] > 0 or not worst <= _TOLERANCE:
                offenders.append(
                    f"{amount:g} must change nothing, but changes features by {worst:.3g}"
                )
    raise_offenders(f"{name}: the transformation is wrong:", offenders)
