"""Residuals of the deconvnet: each comparison of a stage with the network's forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.checks._unpool import Windows
from convlens.engine.explain.stages import Noise, Stage
from convlens.engine.model.network import Network

Array = NDArray[Any]
_TINY = float(np.finfo(np.float64).tiny)


class Residuals:
    """The residuals of one run of the check, and what is wrong.

    Attributes:
        tol: the relative tolerance.
        found: (layer, comparison) → relative error.
        shapes: number of shapes that were compared.
        offenders: a line for each comparison that failed.
    """

    def __init__(self, network: Network, tol: float) -> None:
        self.network = network
        self.tol = tol
        self.found: dict[tuple[str, str], float] = {}
        self.shapes = 0
        self.offenders: list[str] = []

    def same_shape(self, start: str, name: str, found: Array, forward: Array) -> bool:
        """Compare the shape of a signal from `start` at a layer with that of the layer's maps."""
        self.shapes += 1
        if found.shape != forward.shape:
            self.fail(
                f"from {start!r}: the reconstruction at {name!r} has shape {found.shape}, "
                f"the forward pass {forward.shape}"
            )
        return found.shape == forward.shape

    def stage(
        self,
        stage: Stage,
        features: Array,
        noise: Noise,
        forward: Array | None,
        down: Mapping[str, Array],
    ) -> None:
        """Compare a stage's signals for noise with its forward pass.

        Args:
            stage: the stage.
            features: (n, …) the output of its first source.
            noise, forward, down: see `Step`.
        """
        first = down[stage.sources[0]]
        if stage.kind == "pool":
            switched = windows_of(self.network, stage).unpool(features, noise.signal)
            self.compare((stage.layer, "switches"), first, switched)
        elif stage.kind == "activation":
            if self.network.relu_bound(stage.layer) is not None:
                self.compare((stage.layer, "ReLU"), first, np.maximum(noise.signal, 0))
        elif forward is not None:
            self.adjoint(stage, noise, forward, down)

    def pooling(self, stage: Stage, maps: Array, unpooled: Array) -> None:
        """Compare pool(unpool(p)) with p, where `pools_back` allows it."""
        again = windows_of(self.network, stage).pool(unpooled, maps.shape[1:-1])
        self.compare((stage.layer, "pool(unpool)"), again, maps)

    def adjoint(
        self,
        stage: Stage,
        noise: Noise,
        forward: Array,
        down: Mapping[str, Array],
    ) -> None:
        """Compare ⟨A(x), y⟩ with ⟨x, D(y)⟩ where the forward pass g is affine, A(x) = g(x) - g(0).

        Here the noise's inputs are x, its signal is y, `down` is D(y), and `forward` is g.
        """
        signal = noise.signal
        if stage.layer in self.network.preactivations:
            if self.network.activation_name(stage.layer) != "relu":
                return
            signal = np.maximum(signal, 0)
        zero = forward[0]
        bend, large = _bend(forward)
        # A(x) is rounded in units of A(x) + A(0).
        if bend > max(1e-3, 4 * self.tol * (1 + float(np.abs(zero).max()) / large)):
            return  # not linear
        errors, sums = [], []
        for k, y in enumerate(signal):
            upward, rounded = _product(forward[k + 1] - zero, y)
            # The rounding of a sum of products whose errors are independent. The product of the
            # norms is as much larger as the maps are large, and would hide any error in half
            # precision.
            rounded += _product(zero, y)[1]
            downward = 0.0
            for source, x in noise.inputs.items():
                product, squares = _product(x[k + 1], down[source][k])
                downward, rounded = downward + product, rounded + squares
            errors.append(abs(upward - downward) / max(rounded**0.5, _TINY))
            sums.append((upward, downward))
        k = int(np.argmax(errors))
        self.note(
            (stage.layer, "adjoint"),
            float(errors[k]),
            f"filtering is not the adjoint: ⟨A(x), y⟩ = {sums[k][0]:.6g} but "
            f"⟨x, D(y)⟩ = {sums[k][1]:.6g} for image {k}",
            allowed=self.tol + 4 * bend,
        )

    def nothing(self, start: str, name: str, signal: Array) -> None:
        """Check that a signal of zeros at `start` gives zeros at a layer beneath."""
        worst = float(np.abs(signal).max())
        self.note((name, "zero"), worst, f"zero at {start!r} gives {worst:.6g} at {name!r}")

    def scaled(self, name: str, twice: Array, once: Array) -> None:
        """Check that twice the signal gives twice the reconstruction at a layer."""
        # A power of two, by which floating point scales without rounding: a softmax, on its way
        # down, takes nearly equal numbers from each other.
        self.compare((name, "scale"), twice, 2 * once)

    def chained(self, reader: str, whole: Array, sent: Array) -> None:
        """Compare the whole projection's signal with that of its stages, where `reader` reads."""
        self.compare((reader, "chain"), whole, sent)

    def compare(self, stage: tuple[str, str], found: Array, want: Array) -> None:
        """Record the largest difference, relative to the largest value."""
        difference = np.abs(found - want)
        at = np.unravel_index(int(difference.argmax()), difference.shape)
        size = max(float(np.abs(want).max()), _TINY)
        residual = float(difference[at]) / size
        self.note(
            stage,
            residual,
            ""
            if residual <= self.tol
            else f"found {found[at]:.6g}, expected {want[at]:.6g} at {tuple(map(int, at))}; "
            f"{int((difference > self.tol * size).sum())} of {difference.size} values differ",
        )

    def note(
        self, stage: tuple[str, str], residual: float, problem: str, allowed: float | None = None
    ) -> None:
        """Record a residual, and the problem if it is larger than allowed, or NaN."""
        self.found[stage] = max(residual, self.found.get(stage, 0.0))
        if not residual <= (self.tol if allowed is None else allowed):
            self.fail(f"{stage[0]} ({stage[1]}): {problem}")

    def fail(self, problem: str) -> None:
        """Record a problem once."""
        if problem not in self.offenders:
            self.offenders.append(problem)


def windows_of(network: Network, stage: Stage) -> Windows:
    """Return the windows of a max-pool; one of each frame has windows of one frame."""
    pool = network.layers[stage.layer]
    frames = (1,) * (len(network.positions(stage.layer)) - len(pool.pool_size))
    return Windows((*frames, *pool.pool_size), (*frames, *pool.strides), pool.padding)


def pools_back(network: Network, stage: Stage, maps: Array) -> bool:
    """Return whether pool(unpool(p)) = p for a max-pool's maps p.

    This needs windows apart, and nothing below the zeros between the switches.
    """
    return windows_of(network, stage).apart and not (maps < 0).any()


def _bend(forward: Array) -> tuple[float, float]:
    """Return how far A(x1 + x2) is from A(x1) + A(x2), of its largest value, and that value."""
    zero = forward[0]
    both = forward[-1] - zero
    large = max(float(np.abs(both).max()), _TINY)
    apart = both - (forward[1] - zero) - (forward[2] - zero)
    return float(np.abs(apart).max()) / large, large


def _product(a: Array, b: Array) -> tuple[float, float]:
    """Return the sum of the products of two arrays' elements, and the sum of their squares."""
    products = (a * b).ravel()
    return float(products.sum(dtype=np.float64)), float(np.vdot(products, products))
