"""How style transfer descends its loss: Adam, or L-BFGS within the range of the pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.ascent.optimizers import adam
from convlens.style.objective import StyleObjective, StyleTargets

StyleOptimizer = Literal["lbfgs", "adam"]
STYLE_OPTIMIZERS: tuple[StyleOptimizer, ...] = ("lbfgs", "adam")
# Scipy's default is 10 pairs of steps and gradients; more are no better on these losses.
_MEMORY = 10
# Between bounds L-BFGS-B first tries x - gradient whole, so the loss is scaled to make that a step
# of this root mean square, in units of the range.
_FIRST_STEP = 0.02


class Reached(Exception):  # noqa: N818
    """Raised by a report to end a descent where it is."""


@dataclass
class Descent:
    """A descent that is under way.

    Attributes:
        image: (1, h, w, c) where it is.
        best: the image with the least loss so far.
        trace: the terms (terms,) at the start and after each step, not weighted.
        evaluations: how often the loss and its gradient were computed.
        loss, least: the loss at `image` and at `best`.
    """

    image: NDArray[np.float32]
    best: NDArray[np.float32]
    trace: list[NDArray[np.float32]] = field(default_factory=list)
    evaluations: int = 0
    loss: float = np.inf
    least: float = np.inf

    def note(self, image: Any, terms: NDArray[np.float32], loss: float) -> None:
        """Take down an iterate (a tensor or an array) and its terms."""
        if not np.isfinite(loss):
            raise FloatingPointError(
                "the loss of the style transfer is not finite: the model has weights that are not "
                "(assert_finite tells which), or the terms count too much"
            )
        self.trace.append(terms)
        self.image, self.loss = image, loss
        if loss < self.least:
            self.least, self.best = loss, image


Report = Callable[[Descent], None]


def descend_adam(
    objective: StyleObjective,
    targets: StyleTargets,
    descent: Descent,
    steps: int,
    report: Report,
    *,
    step_size: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> None:
    """Take Adam's steps (Kingma & Ba 2015), each followed by clipping to [0, 1].

    Args:
        objective: what is descended.
        targets: what it is held against.
        descent: brought forward in place.
        steps: how many.
        report: called after each.
        step_size, beta1, beta2, epsilon: Adam's; the step is in units of the range.
    """
    weights = ops.convert_to_tensor(objective.weights)

    def step(
        targets: StyleTargets, image: Any, state: list[Any], i: Any, weights: Any
    ) -> tuple[Any, ...]:
        terms, gradient = objective.slope(image, targets, weights)
        move, state = adam(-gradient, state, i, step_size, beta1, beta2, epsilon)
        return ops.clip(image + move, 0.0, 1.0), state, terms

    run = objective.compiled("style adam", (step_size, beta1, beta2, epsilon), step, targets)
    image = ops.convert_to_tensor(descent.image)
    state = [ops.zeros_like(image), ops.zeros_like(image)]
    for i in range(steps):
        new, state, terms = run(image, state, ops.convert_to_tensor(np.int32(i)), weights)
        _note(objective, descent, image, terms)
        descent.evaluations += 1
        image = new
        report(descent)
    _note(objective, descent, image, objective.measure(image, targets))
    report(descent)


def descend_lbfgs(
    objective: StyleObjective,
    targets: StyleTargets,
    descent: Descent,
    steps: int,
    report: Report,
) -> None:
    """Take steps of L-BFGS-B (Byrd et al. 1995) with the pixels bound to [0, 1].

    Scipy's, whose line search (Moré & Thuente 1994) ends where the strong Wolfe conditions hold.
    Its own arithmetic on the host takes a twentieth of VGG19's passes. It ends early where no lower
    loss is found.
    """
    from scipy.optimize import Bounds, minimize
    from threadpoolctl import threadpool_limits

    weights = ops.convert_to_tensor(objective.weights)
    run = objective.compiled(
        "style slope",
        None,
        lambda targets, *args: objective.slope(args[0], targets, args[1]),
        targets,
    )
    shape = descent.image.shape
    seen: dict[str, Any] = {"scale": None}

    def loss(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        image = x.reshape(shape).astype(np.float32)
        terms, gradient = run(ops.convert_to_tensor(image), weights)
        values: NDArray[np.float32] = ops.convert_to_numpy(terms)
        total = _total(objective, values)
        descent.evaluations += 1
        seen.update(x=x.copy(), image=image, terms=values, total=total)
        if not descent.trace:
            descent.note(image, values, total)
        slope = ops.convert_to_numpy(gradient).reshape(-1).astype(np.float64)
        if seen["scale"] is None:
            size = float(np.sqrt(np.mean(slope**2)))
            seen["scale"] = _FIRST_STEP / size if size > 0 else 1.0
        return total * seen["scale"], slope * seen["scale"]

    def after(x: NDArray[np.float64]) -> None:
        if not np.array_equal(x, seen["x"]):
            loss(x)
        descent.note(seen["image"], seen["terms"], seen["total"])
        report(descent)

    # The threads of scipy's BLAS wait for more by spinning, which takes a core from the network's
    # passes: with one thread these were 15 % quicker on two cores.
    with threadpool_limits(1, user_api="blas"):
        minimize(
            loss,
            descent.image.reshape(-1).astype(np.float64),
            jac=True,
            method="L-BFGS-B",
            bounds=Bounds(0.0, 1.0),
            callback=after,
            options={
                "maxiter": steps,
                "maxfun": 20 * steps,
                "maxcor": _MEMORY,
                "ftol": 0.0,
                "gtol": 0.0,
            },
        )


def _note(objective: StyleObjective, descent: Descent, image: Any, terms: Any) -> None:
    values: NDArray[np.float32] = ops.convert_to_numpy(terms)
    descent.note(ops.convert_to_numpy(image), values, _total(objective, values))


def _total(objective: StyleObjective, terms: NDArray[np.float32]) -> float:
    return float(np.dot(objective.weights.astype(np.float64), terms.astype(np.float64)))
