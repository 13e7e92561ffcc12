"""Gradient ascent: it raises each unit's activation, and more than random steps do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convlens.checks._offenders import raise_offenders
from convlens.checks.check import Column, Effort, Figures, LayerCheck, Measures
from convlens.checks.finite import assert_finite
from convlens.checks.finite_weights import assert_finite_weights
from convlens.drawings import draw_curves, draw_maximized
from convlens.engine.ascent.maximize import Maximization
from convlens.engine.ascent.objectives import places_of
from convlens.engine.ascent.plan import AscentPlan
from convlens.engine.ascent.ranges import ceilings, spreads, tops
from convlens.engine.ascent.scores import BATCH, objective_values
from convlens.engine.ascent.search import highest_without_gradient
from convlens.engine.model.network import Network
from convlens.engine.runtime.tolerance import Rounding, activation_tolerance
from convlens.lens import Lens

# The defaults of `assert_activation_increases`.
_GAIN, _OVER_CONTROL, _TOLERANCE = 0.1, 2.0, 0.02
# Smallest rounding, relative to the activation: the ascent measures in batches of other sizes.
_MIN_ROUNDING = 1e-4
# An ascent that has taken this share of the room below the ceiling has arrived, whatever the
# control reached.
_ARRIVED = 0.9
# A search without gradient that finds no more than this share of the unit's range above the last
# image finds nothing.
_NOTHING = 0.02
# So many units of a layer, or half of them, are few.
_FEW = 4
# One draw of random steps may fall anywhere; the best of a few says what chance can do.
_CONTROLS = 8


@dataclass(frozen=True)
class AscentGain:
    """Activations measured again, unit by unit.

    Attributes:
        units: (n,) unit numbers.
        start, final: (n,) activations of the first and the last images.
        control: (n,) the highest activations after random steps of the same length from the same
            start, of several draws.
        spread: (n,) standard deviations of the activations over random images.
        ceiling: (n,) the largest values of the units' activation; infinite without a bound.
        top: (n,) the largest values of the units, given the ReLU that they read; likewise.
        searched: (n,) the highest activations that the control and a search without gradient found,
            on known images and near the last one, for units that rose too little; infinite for the
            others. A search ends once it has found more than the last image by `slack`.
        rounding: rounding of the layer's activations, relative to their size.
        result: the ascent that was measured.
        model: the model's name.
        plan: the plan of the ascent; None for one that was not planned.
    """

    units: NDArray[np.int64]
    start: NDArray[np.float32]
    final: NDArray[np.float32]
    control: NDArray[np.float32]
    spread: NDArray[np.float32]
    ceiling: NDArray[np.float32]
    top: NDArray[np.float32]
    searched: NDArray[np.float32]
    rounding: float
    result: Maximization
    model: str
    plan: AscentPlan | None = None

    @property
    def gain(self) -> NDArray[np.float32]:
        """The rise of each unit's activation."""
        return self.final - self.start

    @property
    def room(self) -> NDArray[np.float32]:
        """The distance of each unit's start from its ceiling or top."""
        return np.minimum(self.ceiling, self.top) - self.start

    @property
    def own_range(self) -> NDArray[np.float32]:
        """The spread of each unit, or its room if that is less."""
        return np.minimum(self.spread, self.room)

    @property
    def live(self) -> NDArray[np.bool_]:
        """True for units that differ between random images."""
        return self.spread > self.rounding * np.abs(self.final)

    @property
    def failing(self) -> list[int]:
        """The numbers of the units that rose too little, though they are not dead.

        None where they are so many that the number of steps is not the reason.
        """
        weak = np.isfinite(self.searched) & ~self.nothing_to_climb & self.live
        found = [int(i) for i in np.flatnonzero(weak)]
        return found if len(found) <= max(_FEW, len(self.units) // 2) else []

    @property
    def nothing_to_climb(self) -> NDArray[np.bool_]:
        """True for units that rose too little, but for which no image is known that is higher."""
        return self.searched <= self.final + self.slack

    @property
    def slack(self) -> NDArray[np.float32]:
        """A rise of each unit that is none: a small share of its own range, and rounding."""
        slack = _NOTHING * self.own_range + self.rounding * np.abs(self.final)
        return slack.astype(np.float32)


def assert_activation_increases(
    model: keras.Model | Network,
    result: Maximization,
    *,
    gain: float = _GAIN,
    over_control: float = _OVER_CONTROL,
    tol: float = _TOLERANCE,
    seed: int = 0,
) -> AscentGain:
    """Assert that each unit's activation rose by a stated gain, and more than by chance.

    The activations are measured here again, on the images themselves. For each unit, with s the
    activation of the start, f that of the final image, r the highest one after as many random
    steps of the same length from the same start in several draws, σ the standard deviation of the
    unit's activation over random images and c the ceiling of its activation function (6 for ReLU6,
    1 for tanh, infinite for ReLU), or of its weights where it reads a ReLU: f - s ≥ gain·min(σ,
    c - s), and f - s > over_control·(r - s) unless f has taken nine tenths of the room c - s. A
    unit that does not is searched without gradient: over noise, textures and plain colors, and near
    its final image in both directions of periodic patterns. If none of them exceeds f by 2 % of
    min(σ, c - s), it has nothing to climb, and passes. The result's trace must say the same as the
    measurement, to `tol` of the rise and rounding.

    Args:
        model: the model, or its `Network`, that `result` was found for.
        result: the result of `maximize`.
        gain: smallest rise, as a share of the unit's own spread or room.
        over_control: factor by which the rise must exceed the control's.
        tol: largest difference between the trace and the measurement, as a share of the rise.
        seed: seed of the control's steps and of the random images.

    Returns:
        The activations; see `AscentGain`.

    Raises:
        AssertionError: a unit did not rise, is dead, rose no more than by chance, or has a trace
            that is not its activation; the model, layer, unit and numbers are named.
        ValueError: images of a wrong shape, an unknown layer or unit.
    """
    __tracebackhide__ = True
    network = Network.of(model)
    assert_finite_weights(network)
    _assert_measurable(network.name, result)
    measured = _measure(network, result, seed, gain=gain, over_control=over_control)
    _judge(measured, gain, over_control, tol)
    return measured


class Ascent(LayerCheck):
    """Zero-code check: an ascent for the units of one layer."""

    name = "ascent"
    summary = "gradient ascent raises each filter's activation, and more than by chance"
    assertion = staticmethod(assert_activation_increases)
    min_steps = 20
    columns = (
        Column("ascent gain (min, median)", "{gain_min:.3g}, {gain_median:.3g}"),
        Column("ascents", "{maximized} of {units} units, {steps} steps, {size}"),
    )

    def run(self, lens: Lens, layer: Any, effort: Effort) -> AscentGain:
        plan = effort.plan(lens, layer)
        result = effort.maximize(lens, layer)
        with lens.sharing():
            seen = _measure(lens.network, result, 0, plan)
            longer = effort.maximize_longer(lens, layer, result, seen.failing)
            return seen if longer is result else _measure(lens.network, longer, 0, plan)

    def measures(self, seen: AscentGain) -> Measures:
        trace = seen.result.trace
        gain = trace[-1] - trace[0]
        return {
            **plan_measures(seen.plan),
            "maximized": len(seen.units),
            "gain_min": float(gain.min()),
            "gain_median": float(np.median(gain)),
            "nothing_to_climb": int((seen.nothing_to_climb & seen.live).sum()),
        }

    def verdict(self, seen: AscentGain) -> Measures:
        __tracebackhide__ = True
        _assert_measurable(seen.model, seen.result)
        _judge(seen)
        return {}

    def figures(self, lens: Lens, layer: Any, seen: Any) -> Figures:
        # After Ctrl-C it is an exception, which knows no plan.
        plan = seen.plan if isinstance(seen, AscentGain) else None
        middle = None if plan is None else plan.shown
        return {
            "filters": lambda: draw_maximized(
                seen.result, lens.network.units(layer), middle=middle
            ),
            "ascent": lambda: draw_curves(seen.result),
        }


def _assert_measurable(model: str, result: Maximization) -> None:
    __tracebackhide__ = True
    if not len(result.units):
        raise AssertionError(f"{result.model} layer {result.layer!r}: no unit was maximized")
    title = f"{model} layer {result.layer!r}: the ascent"
    assert_finite({"images": result.images, "start": result.start}, name=title)


def plan_measures(plan: AscentPlan | None) -> Measures:
    """Return the numbers of a plan: units of the layer, steps, and the images' size."""
    if plan is None:
        return {}
    size = "×".join(map(str, plan.size))
    return {"units": plan.count, "steps": plan.steps, "size": size}


def _measure(
    network: Network,
    result: Maximization,
    seed: int,
    plan: AscentPlan | None = None,
    gain: float = _GAIN,
    over_control: float = _OVER_CONTROL,
) -> AscentGain:
    objectives = result.objectives
    shared = None if plan is None else plan.graph_layers

    start, final, *controls = _values(network, result, seed, shared)
    given = _range_of(result)
    places, _ = places_of(network, objectives)
    behind = Rounding.join(network.rounding(place.layer) for place in places)
    seen = AscentGain(
        units=result.units,
        start=start,
        final=final,
        control=np.max(controls, axis=0),
        spread=spreads(network, objectives, result.images.shape[1:], given, seed, shared),
        ceiling=ceilings(network, objectives),
        top=tops(network, objectives),
        searched=np.full(len(objectives), np.inf, np.float32),
        rounding=max(_MIN_ROUNDING, activation_tolerance(behind)),
        result=result,
        model=network.name,
        plan=plan,
    )
    weak = np.array([bool(_shortfall(seen, i, gain, over_control)) for i in range(len(objectives))])
    seen.searched[weak] = np.maximum(seen.control, seen.start)[weak]
    unknown = np.flatnonzero(seen.nothing_to_climb)
    if len(unknown):
        found = highest_without_gradient(
            network,
            [objectives[i] for i in unknown],
            result.images[unknown],
            given,
            seed,
            shared,
            enough=(seen.final + seen.slack)[unknown],
        )
        seen.searched[unknown] = np.maximum(seen.searched[unknown], found)
    return seen


def _values(
    network: Network, result: Maximization, seed: int, shared: Sequence[str] | None
) -> NDArray[np.float32]:
    """Return the activations of the first, the last and the controls' images, (k, n)."""
    made: list[Callable[[], NDArray[np.float32]]] = [
        lambda: result.start,
        lambda: result.images,
        *(partial(random_steps, result, [seed, k]) for k in range(_CONTROLS)),
    ]
    # As many at once as fill a batch: calls for single images take long.
    together = max(1, BATCH // len(result.images))
    rows = []
    for first in range(0, len(made), together):
        images = np.concatenate([make() for make in made[first : first + together]])
        rows.append(objective_values(network, result.objectives, images, shared))
    return np.concatenate(rows).reshape(len(made), -1)


def _range_of(result: Maximization) -> tuple[float, float]:
    """Return the pixels' range; without one they are not clipped, and the start says it."""
    return result.value_range or (float(result.start.min()), float(result.start.max()))


def _judge(
    seen: AscentGain,
    gain: float = _GAIN,
    over_control: float = _OVER_CONTROL,
    tol: float = _TOLERANCE,
) -> None:
    __tracebackhide__ = True
    result, units = seen.result, seen.units
    offenders: list[tuple[float, str]] = []
    for i, label in enumerate(result.labels):
        if problem := _problem(seen, i, gain, over_control, tol):
            offenders.append((float(seen.gain[i]), f"unit {label} {problem}"))
    offenders.sort(key=lambda pair: pair[0] if np.isfinite(pair[0]) else -np.inf)
    raise_offenders(
        f"{seen.model} layer {result.layer!r}: the ascent of {len(offenders)} of {len(units)} "
        f"units failed (gain {gain:g}, {over_control:g} times the control):",
        [text for _, text in offenders],
    )


def _problem(seen: AscentGain, i: int, gain: float, over_control: float, tol: float) -> str | None:
    """Return what is wrong with one unit's ascent, or None."""
    s, f, r = float(seen.start[i]), float(seen.final[i]), float(seen.control[i])
    spread = float(seen.spread[i])
    numbers = f"{s:.6g} → {f:.6g}"
    if not np.isfinite([s, f, r, spread]).all():
        return f"its activation is not finite: {numbers}"
    rounding = seen.rounding * max(abs(s), abs(f))
    saturated = float(seen.ceiling[i]) - s <= rounding
    if s == f == r and not saturated and spread <= rounding:
        return f"is dead: {s:.6g} at the start, at the end and after random steps"
    shortfall = _shortfall(seen, i, gain, over_control)
    if shortfall and not seen.nothing_to_climb[i]:
        return shortfall
    first, last = (float(v) for v in seen.result.trace[[0, -1], i])
    if not max(abs(first - s), abs(last - f)) <= tol * (f - s) + rounding:
        return (
            f"{numbers}, but its trace says {first:.6g} → {last:.6g}: it was not measured on "
            "these images"
        )
    return None


def _shortfall(seen: AscentGain, i: int, gain: float, over_control: float) -> str | None:
    """Return how one unit rose too little, or None."""
    s, f, r = float(seen.start[i]), float(seen.final[i]), float(seen.control[i])
    room, need = float(seen.room[i]), gain * float(seen.own_range[i])
    if room <= seen.rounding * max(abs(s), abs(f)):
        return None
    numbers = f"{s:.6g} → {f:.6g}"
    if not (f - s >= need and f > s):
        return f"{numbers}: rose by {f - s:.3g}, at least {need:.3g} is needed"
    if f - s < _ARRIVED * room and not f - s > over_control * (r - s):
        return f"{numbers}: random steps of the same length reach {r:.6g}"
    return None


def random_steps(result: Maximization, seed: int | list[int] = 0) -> NDArray[np.float32]:
    """Return images (n, h, w, c): the start after random steps as long as the ascent's.

    Each image takes as many steps as the ascent did, each in a random direction and of the
    ascent's mean L2 length; k such steps are one of √k times the length. It stays in the same range
    of values.
    """
    draw = np.random.default_rng(np.append(seed, 0xC0))
    step = draw.standard_normal(result.start.shape, dtype=np.float32)
    norm = np.sqrt((step * step).sum(axis=tuple(range(1, step.ndim)), keepdims=True))
    length = (result.path_length / np.sqrt(result.steps_taken)).astype(np.float32)
    moved = result.start + length.reshape(norm.shape) * step / norm
    return moved if result.value_range is None else np.clip(moved, *result.value_range)
