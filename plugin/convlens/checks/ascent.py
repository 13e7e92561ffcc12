"""Gradient ascent: it raises each unit's activation, and more than random steps do."""

from __future__ import annotations

from dataclasses import dataclass
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
from convlens.engine.ascent.scores import objective_values
from convlens.engine.model.network import Network
from convlens.engine.runtime.tolerance import Rounding, activation_tolerance
from convlens.lens import Lens

# Smallest tolerance for a trace: the ascent measures in batches of other sizes.
_TRACE = 1e-3


@dataclass(frozen=True)
class AscentGain:
    """Activations measured again, unit by unit.

    Attributes:
        units: (n,) unit numbers.
        start, final: (n,) activations of the first and the last images.
        control: (n,) activations after random steps of the same length from the same start.
        result: the ascent that was measured.
        model: the model's name.
        tol: tolerance for the trace, in units of the layer's largest activation.
    """

    units: NDArray[np.int64]
    start: NDArray[np.float32]
    final: NDArray[np.float32]
    control: NDArray[np.float32]
    result: Maximization
    model: str
    tol: float

    @property
    def gain(self) -> NDArray[np.float32]:
        """The rise of each unit's activation."""
        return self.final - self.start


def assert_activation_increases(
    model: keras.Model | Network,
    result: Maximization,
    *,
    gain: float = 0.1,
    over_control: float = 2.0,
    tol: float | None = None,
    seed: int = 0,
) -> AscentGain:
    """Assert that each unit's activation rose by a stated gain, and more than by chance.

    The activations are measured here again, on the images themselves. For each unit, with s the
    activation of the start, f that of the final image and r that after as many random steps of the
    same length from the same start: f - s ≥ gain·max(|s|, 10⁻³·max|f|), the maximum over the
    units of the layer, and f - s > over_control·(r - s). The result's trace must
    say the same as the measurement, to `tol` of the layer's largest activation.

    Args:
        model: the model, or its `Network`, that `result` was found for.
        result: the result of `maximize`.
        gain: smallest rise, relative to the start.
        over_control: factor by which the rise must exceed the control's.
        tol: largest difference between the trace and the measurement; by the precision of the
            layers unless given, at least 1e-3.
        seed: seed of the control's steps.

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
    measured = _measure(network, result, seed)
    _judge(measured, gain, over_control, tol)
    return measured


class Ascent(LayerCheck):
    """Zero-code check: an ascent for the units of one layer."""

    name = "ascent"
    summary = "gradient ascent raises each filter's activation, and more than by chance"
    assertion = staticmethod(assert_activation_increases)
    columns = (Column("ascent gain (min, median)", "{gain_min:.3g}, {gain_median:.3g}"),)

    def run(self, lens: Lens, layer: Any, effort: Effort) -> AscentGain:
        units = effort.choose(lens.network.units(layer))
        return _measure(lens.network, effort.maximize(lens, layer, units), seed=0)

    def measures(self, seen: AscentGain) -> Measures:
        trace = seen.result.trace
        gain = trace[-1] - trace[0]
        return {
            "maximized": len(seen.units),
            "gain_min": float(gain.min()),
            "gain_median": float(np.median(gain)),
        }

    def verdict(self, seen: AscentGain) -> Measures:
        __tracebackhide__ = True
        _assert_measurable(seen.model, seen.result)
        _judge(seen)
        return {}

    def figures(self, lens: Lens, layer: Any, seen: Any) -> Figures:
        return {
            "filters": lambda: draw_maximized(seen.result),
            "ascent": lambda: draw_curves(seen.result),
        }


def _assert_measurable(model: str, result: Maximization) -> None:
    __tracebackhide__ = True
    if not len(result.units):
        raise AssertionError(f"{result.model} layer {result.layer!r}: no unit was maximized")
    title = f"{model} layer {result.layer!r}: the ascent"
    assert_finite({"images": result.images, "start": result.start}, name=title)


def _measure(network: Network, result: Maximization, seed: int) -> AscentGain:
    start, final, control = (
        objective_values(network, result.objectives, images)
        for images in (result.start, result.images, random_steps(result, seed))
    )
    places, _ = places_of(network, result.objectives)
    rounding = Rounding.join(network.rounding(place.layer) for place in places)
    tol = max(_TRACE, activation_tolerance(rounding))
    return AscentGain(result.units, start, final, control, result, network.name, tol)


def _judge(
    seen: AscentGain, gain: float = 0.1, over_control: float = 2.0, tol: float | None = None
) -> None:
    __tracebackhide__ = True
    result, units = seen.result, seen.units
    tol = seen.tol if tol is None else tol
    size = float(np.abs(seen.final).max())
    offenders: list[tuple[float, str]] = []
    for i, label in enumerate(result.labels):
        s, f, r = float(seen.start[i]), float(seen.final[i]), float(seen.control[i])
        numbers = f"{s:.6g} → {f:.6g}"
        need = gain * max(abs(s), 1e-3 * size)
        if not np.isfinite([s, f, r]).all():
            problem = f"its activation is not finite: {numbers}"
        elif s == f == r == 0:
            problem = "is dead: 0 at the start, at the end and after random steps"
        elif not f - s >= need:
            problem = f"{numbers}: rose by {f - s:.3g}, at least {need:.3g} is needed"
        elif not f - s > over_control * (r - s):
            problem = f"{numbers}: random steps of the same length reach {r:.6g}"
        elif not _agrees(result, i, (s, f), tol * size):
            problem = (
                f"{numbers}, but its trace says {result.trace[0, i]:.6g} → "
                f"{result.trace[-1, i]:.6g}: it was not measured on these images"
            )
        else:
            continue
        offenders.append((f - s, f"unit {label} {problem}"))
    offenders.sort(key=lambda pair: pair[0] if np.isfinite(pair[0]) else -np.inf)
    raise_offenders(
        f"{seen.model} layer {result.layer!r}: the ascent of {len(offenders)} of {len(units)} "
        f"units failed (gain {gain:g}, {over_control:g} times the control):",
        [text for _, text in offenders],
    )


def random_steps(result: Maximization, seed: int = 0) -> NDArray[np.float32]:
    """Return images (n, h, w, c): the start after random steps as long as the ascent's.

    Each image takes as many steps as the ascent did, each in a random direction and of the
    ascent's mean L2 length, and stays in the same range of values.
    """
    draw = np.random.default_rng([seed, 0xC0])
    x = result.start.astype(np.float32)
    length = (result.path_length / result.steps).astype(np.float32)[:, None, None, None]
    for _ in range(result.steps):
        step = draw.standard_normal(x.shape, dtype=np.float32)
        norm = np.sqrt((step * step).sum(axis=(1, 2, 3), keepdims=True))
        x = x + length * step / norm
        if result.value_range is not None:
            x = np.clip(x, *result.value_range)
    return x


def _agrees(result: Maximization, i: int, measured: tuple[float, float], tol: float) -> bool:
    claimed = result.trace[[0, -1], i]
    return bool(np.abs(claimed - np.asarray(measured)).max() <= tol)
