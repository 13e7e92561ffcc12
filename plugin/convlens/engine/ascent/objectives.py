"""Objectives of an ascent: units, directions in activation space, and weighted sums of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.engine.model.network import Network
from convlens.engine.model.targets import output_of

Position = tuple[int, ...] | Literal["center"] | None


@dataclass(frozen=True, eq=False)
class Term:
    """One part of an objective: weight · ⟨activation vector, direction⟩.

    Attributes:
        layer: the layer's name; None for the model's output before its softmax.
        direction: a unit's number, or a vector with one entry for each unit.
        position: position of the activation vector: (row, column), 'center', or None for the mean
            over all positions.
        weight: weight of the term.
    """

    layer: str | None
    direction: int | NDArray[np.float32]
    position: Position
    weight: float = 1.0

    def __str__(self) -> str:
        layer = self.layer or "class"
        what = self.direction if isinstance(self.direction, int) else "direction"
        at = ""
        if self.position is not None:
            at = "@center" if self.position == "center" else f"@{','.join(map(str, self.position))}"
        return f"{layer}[{what}{at}]"


@dataclass(frozen=True, eq=False)
class Objective:
    """A weighted sum of activations, to be maximized by `maximize`.

    Objectives can be added, subtracted and multiplied by numbers:

        >>> both = Objective.unit("conv2d_2", 5) + 0.5 * Objective.class_score(3)
        >>> str(both)
        'conv2d_2[5] + 0.5·class[3]'

    Attributes:
        terms: the terms of the sum.
    """

    terms: tuple[Term, ...]

    @classmethod
    def unit(cls, layer: str, unit: int, position: Position = None) -> Objective:
        """Return the objective of a unit: the mean of its feature map, or its value at a position.

        Args:
            layer: the layer's name.
            unit: the unit's number.
            position: (row, column) in the feature map, 'center', or None for the mean.
        """
        return cls((Term(layer, int(unit), position),))

    @classmethod
    def class_score(cls, number: int) -> Objective:
        """Return the objective of a class: its score before the softmax."""
        return cls((Term(None, int(number), None),))

    @classmethod
    def direction(cls, layer: str, vector: ArrayLike, position: Position = None) -> Objective:
        """Return the objective ⟨f, v⟩: the projection of the activation vector f on a direction v.

        Args:
            layer: the layer's name.
            vector: the direction v (units,), not normalized.
            position: (row, column), 'center', or None for the mean over all positions.

        Raises:
            ValueError: not a vector of finite numbers, or all zeros.
        """
        v = np.asarray(vector, np.float32)
        if v.ndim != 1 or not np.isfinite(v).all() or not v.any():
            raise ValueError(
                f"a direction must be a vector of finite numbers, not all zero; got shape {v.shape}"
            )
        return cls((Term(layer, v, position),))

    def __add__(self, other: Objective) -> Objective:
        return Objective((*self.terms, *other.terms))

    def __sub__(self, other: Objective) -> Objective:
        return self + -1.0 * other

    def __neg__(self) -> Objective:
        return -1.0 * self

    def __mul__(self, factor: float) -> Objective:
        return Objective(tuple(replace(t, weight=t.weight * float(factor)) for t in self.terms))

    __rmul__ = __mul__

    def __str__(self) -> str:
        text = ""
        for term in self.terms:
            sign = "-" if term.weight < 0 else "+"
            size = "" if abs(term.weight) == 1 else f"{abs(term.weight):g}·"
            if text:
                text += f" {sign} {size}{term}"
            else:
                text = f"{'-' if sign == '-' else ''}{size}{term}"
        return text


@dataclass(frozen=True)
class Place:
    """A place to read activations: a layer, with a position or None for the mean over all."""

    layer: str
    position: tuple[int, ...] | Literal["center"] | None


def places_of(
    network: Network, objectives: Sequence[Objective]
) -> tuple[tuple[Place, ...], list[NDArray[np.float32]]]:
    """Return the places that objectives read, and their weights (n, units) at each place.

    Raises:
        ValueError: no objective, an unknown layer, a unit or position out of range, a direction
            whose length is not the layer's number of units.
    """
    if not objectives:
        raise ValueError("no objective was given")
    weights: dict[Place, NDArray[np.float32]] = {}
    for row, objective in enumerate(objectives):
        for term in objective.terms:
            layer = output_of(network, term.layer)
            place = Place(layer, _position(network, layer, term.position))
            count = network.units(layer)
            table = weights.setdefault(place, np.zeros((len(objectives), count), np.float32))
            if isinstance(term.direction, int):
                unit = int(network.check_units(layer, term.direction)[0])
                table[row, unit] += term.weight
            elif len(term.direction) != count:
                raise ValueError(
                    f"a direction in {network.name} layer {layer!r} must have {count} entries, one "
                    f"for each unit, not {len(term.direction)}"
                )
            else:
                table[row] += term.weight * term.direction
    return tuple(weights), list(weights.values())


def _position(network: Network, layer: str, position: Position) -> Position:
    if position is None:
        return None
    shape = network.outputs[layer].shape
    if len(shape) < 3:
        raise ValueError(
            f"{network.name} layer {layer!r} is a vector without positions: give position=None"
        )
    if position == "center":
        return position
    network.check_position(layer, position)
    return tuple(map(int, position))
