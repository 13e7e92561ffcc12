"""Minimization of the style-transfer loss: Adam, or L-BFGS with bounds on the pixels."""

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
# Number of stored pairs of steps and gradients: scipy's default; more do not help on these losses.
_MEMORY = 10
# L-BFGS-B first tries the step x - gradient, so the loss is scaled to give this step this root mean
# square, in units of the range.
_FIRST_STEP = 0.02


class StopDescent(Exception):  # noqa: N818
    """Raised by a callback to stop a descent at the current image."""


@dataclass
class Descent:
    """The state of a descent.

    Attributes:
        image: (1, h, w, c) the current image.
        best: (1, h, w, c) the image with the lowest loss so far.
        trace: the unweighted terms (terms,) at the start and after each step.
        evaluations: number of evaluations of the loss and its gradient.
        loss, min_loss: the loss of `image` and of `best`.
    """

    image: NDArray[np.float32]
    best: NDArray[np.float32]
    trace: list[NDArray[np.float32]] = field(default_factory=list)
    evaluations: int = 0
    loss: float = np.inf
    min_loss: float = np.inf

    def record(self, image: Any, terms: NDArray[np.float32], loss: float) -> None:
        """Record an iterate (a tensor or an array) with its terms and its loss."""
        if not np.isfinite(loss):
            raise FloatingPointError(
                "the loss of the style transfer is not finite: the model has weights that are not "
                "(find them with assert_finite), or the weights of the terms are too large"
            )
        self.trace.append(terms)
        self.image, self.loss = image, loss
        if loss < self.min_loss:
            self.min_loss, self.best = loss, image


OnStep = Callable[[Descent], None]


def descend_adam(
    objective: StyleObjective,
    targets: StyleTargets,
    descent: Descent,
    steps: int,
    on_step: OnStep,
    *,
    step_size: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> None:
    """Take steps of Adam (Kingma & Ba 2015), each followed by clipping to [0, 1].

    Args:
        objective: the loss to minimize.
        targets: the targets of the loss.
        descent: state of the descent, updated in place.
        steps: number of steps.
        on_step: callback, called after each step.
        step_size, beta1, beta2, epsilon: parameters of Adam; the step size is in units of the
            range.
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
        _record(objective, descent, image, terms)
        descent.evaluations += 1
        image = new
        on_step(descent)
    _record(objective, descent, image, objective.measure(image, targets))
    on_step(descent)


def descend_lbfgs(
    objective: StyleObjective,
    targets: StyleTargets,
    descent: Descent,
    steps: int,
    on_step: OnStep,
) -> None:
    """Take steps of scipy's L-BFGS-B (Byrd et al. 1995), with the pixels bounded to [0, 1].

    Its line search (Moré & Thuente 1994) ends when the strong Wolfe conditions hold. Its own
    arithmetic on the host takes a twentieth of the time of VGG19's passes. It stops early if it
    finds no lower loss.

    Args:
        objective: the loss to minimize.
        targets: the targets of the loss.
        descent: state of the descent, updated in place.
        steps: maximum number of steps.
        on_step: callback, called after each step.
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
            descent.record(image, values, total)
        slope = ops.convert_to_numpy(gradient).reshape(-1).astype(np.float64)
        if seen["scale"] is None:
            size = float(np.sqrt(np.mean(slope**2)))
            seen["scale"] = _FIRST_STEP / size if size > 0 else 1.0
        return total * seen["scale"], slope * seen["scale"]

    def after(x: NDArray[np.float64]) -> None:
        if not np.array_equal(x, seen["x"]):
            loss(x)
        descent.record(seen["image"], seen["terms"], seen["total"])
        on_step(descent)

    # The threads of scipy's BLAS wait for work by spinning, which takes a core from the network's
    # passes. With one BLAS thread these were 15 % faster on two cores.
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


def _record(objective: StyleObjective, descent: Descent, image: Any, terms: Any) -> None:
    values: NDArray[np.float32] = ops.convert_to_numpy(terms)
    descent.record(ops.convert_to_numpy(image), values, _total(objective, values))


def _total(objective: StyleObjective, terms: NDArray[np.float32]) -> float:
    return float(np.dot(objective.weights.astype(np.float64), terms.astype(np.float64)))
