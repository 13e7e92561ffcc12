"""The deconvnet: it undoes, stage by stage, the network's forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from convlens.checks._offenders import raise_offenders
from convlens.checks._unpool import unpool
from convlens.checks.check import Column, Effort, Figures, LayerCheck, Measures
from convlens.checks.finite_weights import assert_finite_weights
from convlens.drawings import draw_reconstructions
from convlens.engine.explain.deconvnet import project
from convlens.engine.features.activations import activations
from convlens.engine.model.network import INPUT, Network
from convlens.engine.runtime import backend, tolerance
from convlens.engine.runtime.tolerance import is_coarse
from convlens.lens import Lens

Project = Callable[[Network, NDArray[np.float32], str, NDArray[np.float32]], Mapping[str, Any]]
Maps = Mapping[str, NDArray[Any]]
# Attempts to bring signals into the range of a coarse type, and the power of two for an overflow.
_SCALINGS, _LARGE_POWER = 4, 12
_NEEDS_TWO = (
    "at least two images that differ are needed, to tell the switches of one from those of another"
)


@dataclass(frozen=True)
class RoundTrip:
    """The residuals of each stage of a deconvnet.

    Attributes:
        layer: the layer that the projection started from.
        residuals: stage → relative error, a stage being a layer and what was tested: 'adjoint' (of
            a linear map, with its rectification), 'switches' (of a max-pool), 'pool(unpool)',
            'ReLU', 'zero', 'scale' (homogeneity) or 'chain' (the whole is made of its stages).
        shapes: number of stages with a comparison of shapes.
        model: the model's name.
        tol: the tolerance.
        offenders: a line for each stage with another shape or value; empty where all agree.
    """

    layer: str
    residuals: dict[tuple[str, str], float]
    shapes: int
    model: str
    tol: float
    offenders: tuple[str, ...]

    @property
    def worst(self) -> float:
        """The largest residual."""
        return max(self.residuals.values(), default=0.0)

    def judge(self) -> None:
        """Assert that no stage differs.

        Raises:
            AssertionError: a stage has another shape or value; it is named with its numbers.
        """
        __tracebackhide__ = True
        raise_offenders(
            f"{self.model}: the deconvnet from layer {self.layer!r} to the pixels is wrong "
            f"(tolerance {self.tol:g}):",
            self.offenders,
        )


def assert_deconv_round_trip(
    model: keras.Model | Network,
    images: ArrayLike,
    layer: str,
    *,
    project: Project = project,
    tol: float | None = None,
    seed: int = 0,
) -> RoundTrip:
    """Assert that the deconvnet from a layer to the pixels undoes the network's forward pass.

    With D the projection, for random signals y and x: every stage has the shape of that stage's
    forward input; where the forward pass is linear (convolution, dense, batch norm, average pool),
    ⟨A(x), ReLU(y)⟩ = ⟨x, D(y)⟩, without the ReLU where the layer has none; a max-pool's D puts each
    value at its switch, and pool(D(p)) = p; a ReLU's D is ReLU; D(0) = 0; D(a·f) = a·D(f) for
    a > 0; and the whole projection is its stages one after another. Stages with other
    non-linearities, and layers that read several others, take part in all but the first of these.

    Args:
        model: a Keras model or a `Network`.
        images: (n, h, w, c) in the model's own range, at least two of which differ.
        layer: layer that the projection starts from.
        project: deconvnet under test, called as `project(network, images, layer, signal)`,
            returning the signal at each layer's output beneath and at 'input'.
        tol: relative tolerance; by the precision of the layers unless given (1e-5 for float32).
        seed: seed of the random signals.

    Returns:
        The residuals; see `RoundTrip`.

    Raises:
        AssertionError: a stage has another shape or another value; the message names it with its
            numbers.
        ValueError: an unknown layer, images of a wrong shape, or no two that differ.
    """
    __tracebackhide__ = True
    network = Network.of(model)
    assert_finite_weights(network)
    layer = network.find(layer)
    x = network.check_images(images)
    _check_images_differ(x)
    trip = _round_trip(network, x, layer, project, tol, seed)
    trip.judge()
    return trip


class Deconvnet(LayerCheck):
    """Zero-code check of the deconvnet from one layer down."""

    name = "deconvnet"
    summary = "the deconvnet undoes the network stage by stage"
    assertion = staticmethod(assert_deconv_round_trip)
    columns = (Column("deconvnet residual", "{deconvnet_residual:.1e}"),)
    max_images = 4

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        if len(lens.distinct_images(2)) < 2:
            return f"{_NEEDS_TWO}; {_number_of(lens)}: give more with --convlens-images"
        return super().reason_to_skip(lens, layer)

    def run(self, lens: Lens, layer: Any, effort: Effort) -> RoundTrip:
        few = lens.images[lens.distinct_images(self.max_images)]
        return _round_trip(lens.network, few, lens.network.find(layer), project)

    def measures(self, seen: RoundTrip) -> Measures:
        return {"stages": seen.shapes, "deconvnet_residual": seen.worst}

    def verdict(self, seen: RoundTrip) -> Measures:
        __tracebackhide__ = True
        seen.judge()
        return {}

    def figures(self, lens: Lens, layer: Any, seen: Any) -> Figures:
        return {"deconvnet": lambda: draw_reconstructions(lens, layer)}


def _check_images_differ(images: NDArray[np.float32]) -> None:
    if (images == images[:1]).all():
        raise ValueError(_NEEDS_TWO)


def _number_of(lens: Lens) -> str:
    count = len(lens.images)
    return "there is one image" if count == 1 else f"all {count} images are the same"


def _round_trip(
    network: Network,
    images: NDArray[np.float32],
    layer: str,
    project: Project,
    tol: float | None = None,
    seed: int = 0,
) -> RoundTrip:
    if tol is None:
        tol = tolerance.stage_tolerance(network.rounding(layer))
    below = network.below(layer)
    trip = _Trip(network, images, activations(network, images, below), project, tol, seed)
    signal, whole = trip.within_range(layer)
    for name in reversed(below):
        trip.check_stage(name)
    trip.check_whole(layer, signal, whole)
    trip.check_chain(layer, whole)
    return RoundTrip(layer, trip.residuals, trip.shapes, network.name, tol, tuple(trip.offenders))


class _Trip:
    """One run of the check, with its residuals and its offenders."""

    def __init__(
        self,
        network: Network,
        images: NDArray[np.float32],
        maps: Maps,
        project: Project,
        tol: float,
        seed: int,
    ) -> None:
        self.network = network
        self.images = images
        self.maps = {**maps, INPUT: images}
        self.project = project
        self.tol = tol
        self.draw = np.random.default_rng(seed)
        self.offenders: list[str] = []
        self.residuals: dict[tuple[str, str], float] = {}
        self.shapes = 0

    def down(self, layer: str, signal: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Project, and keep the stages whose shape is right."""
        found = self.project(self.network, self.images, layer, signal.astype(np.float32))
        good = {}
        for name in [INPUT, *self.network.below(layer)]:
            if name not in found:
                self.fail(f"from {layer!r}: there is no reconstruction at {name!r}")
                continue
            value = np.asarray(found[name])
            self.shapes += 1
            if value.shape != self.maps[name].shape:
                self.fail(
                    f"from {layer!r}: the reconstruction at {name!r} has shape {value.shape}, "
                    f"the forward pass {self.maps[name].shape}"
                )
            else:
                good[name] = value.astype(np.float64)
        return good

    def within_range(self, layer: str) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """Return the layer's maps as a signal, and its projections, within the range of the type.

        In float16 small signals lose their bits and large ones overflow; a power of two as a
        factor changes nothing else.
        """
        signal = self.maps[layer].astype(np.float64)
        whole = self.down(layer, signal)
        if not is_coarse(self.network.rounding(layer).precision):
            return signal, whole
        for _ in range(_SCALINGS):
            sizes = [float(np.abs(value).max()) for value in whole.values()]
            known = [size for size in sizes if size > 0]
            if not known:
                break
            if not np.isfinite(known).all():
                factor = 2.0**-_LARGE_POWER
            else:
                factor = 2.0 ** round(-(np.log2(min(known)) + np.log2(max(known))) / 2)
            if factor == 1:
                break
            signal = factor * signal
            whole = self.down(layer, signal)
        return signal, whole

    def check_stage(self, layer: str) -> None:
        """Compare the step from a layer's output to its input with the forward pass."""
        sources = self.network.sources(layer)
        if len(sources) != 1:
            return
        source = sources[0]
        y = self.noise(self.maps[layer])
        found = self.down(layer, y).get(source)
        if found is None:
            return
        original = self.network.layers[layer]
        if isinstance(original, keras.layers.MaxPooling2D):
            self.check_switches(layer, source, y, found)
        elif layer in self.network.preactivations and self.reads_preactivation(layer, source):
            if self.network.relu_bound(layer) is not None:
                self.compare((layer, "ReLU"), found, np.maximum(y, 0))
        else:
            self.check_adjoint(layer, source, y, found)

    def check_switches(self, layer: str, source: str, y: NDArray[Any], found: NDArray[Any]) -> None:
        """Compare a max-pool's unpooling with the windows of the forward pass."""
        pool = self.network.layers[layer]
        windows = (pool.pool_size, pool.strides, pool.padding)
        features, pooled = self.maps[source], self.maps[layer]
        self.compare((layer, "switches"), found, unpool(features, y, *windows))
        if pool.pool_size != pool.strides or (pooled < 0).any():
            return  # pool(unpool(p)) = p needs windows apart, and nothing below the zeros between
        back = self.down(layer, pooled).get(source)
        if back is not None:
            up = self.up(layer, source, back, self.network.outputs[layer])
            self.compare((layer, "pool(unpool)"), up, pooled)

    def check_adjoint(self, layer: str, source: str, y: NDArray[Any], found: NDArray[Any]) -> None:
        """Compare ⟨A(x), y⟩ with ⟨x, D(y)⟩ where the forward pass is affine, A(x) = g(x) - g(0)."""
        before = self.network.preactivations.get(layer)
        if before is not None:
            if self.network.activation_name(layer) != "relu":
                return
            y = np.maximum(y, 0)
        top = self.network.outputs[layer] if before is None else before
        x1, x2 = (self.noise(self.maps[source]) for _ in range(2))
        zero = self.up(layer, source, np.zeros_like(x1), top)
        a1, a2, both = (self.up(layer, source, v, top) - zero for v in (x1, x2, x1 + x2))
        tiny = np.finfo(np.float64).tiny
        large = max(float(np.abs(both).max()), tiny)
        bend = float(np.abs(both - a1 - a2).max()) / large
        # A(x) is rounded in units of A(x) + A(0).
        if bend > max(1e-3, 4 * self.tol * (1 + float(np.abs(zero).max()) / large)):
            return  # not linear
        each, positions = tuple(range(1, y.ndim)), tuple(range(1, x1.ndim))
        up, down = (a1 * y).sum(axis=each), (x1 * found).sum(axis=positions)
        # The rounding of a sum of products whose errors are independent. The product of the norms
        # is as much larger as the maps are large, and would hide any error in half precision.
        rounded_up = ((a1**2 + zero**2) * y**2).sum(axis=each)
        size = np.sqrt(rounded_up + ((x1 * found) ** 2).sum(axis=positions))
        error = np.abs(up - down) / np.maximum(size, tiny)
        k = int(np.argmax(error))
        self.note(
            (layer, "adjoint"),
            float(error[k]),
            f"filtering is not the adjoint: ⟨A(x), y⟩ = {up[k]:.6g} but ⟨x, D(y)⟩ = {down[k]:.6g} "
            f"for image {k}",
            allowed=self.tol + 4 * bend,
        )

    def check_whole(self, layer: str, f: NDArray[Any], whole: Maps) -> None:
        """Check that zero gives zero, and a scaled activation a scaled reconstruction."""
        # A power of two, by which floating point scales without rounding: a softmax, on its way
        # down, takes nearly equal numbers from each other.
        factor = 2.0
        nothing = self.down(layer, np.zeros_like(f))
        scaled = self.down(layer, factor * f)
        for name in whole:
            if name in nothing:
                worst = float(np.abs(nothing[name]).max())
                self.note((name, "zero"), worst, f"zero at {layer!r} gives {worst:.6g} at {name!r}")
            if name in scaled:
                self.compare((name, "scale"), scaled[name], factor * whole[name])

    def check_chain(self, layer: str, whole: Maps) -> None:
        """Check that the whole is made of its stages, wherever one layer alone reads another."""
        below = self.network.below(layer)
        sources = {name: self.network.sources(name) for name in below}
        for name in below:
            for source in sources[name]:
                readers = [reader for reader in below if source in sources[reader]]
                if readers == [name] and len(sources[name]) == 1 and {name, source} <= whole.keys():
                    step = self.down(name, whole[name]).get(source)
                    if step is not None:
                        self.compare((name, "chain"), whole[source], step)

    def reads_preactivation(self, layer: str, source: str) -> bool:
        """Return whether a layer is an activation alone: what it reads is its pre-activation."""
        read = self.network.outputs.get(source)
        return self.network.preactivations[layer] is read

    def up(self, layer: str, source: str, value: NDArray[Any], wanted: Any) -> NDArray[Any]:
        """Return `wanted` with a source's output replaced."""
        network = self.network

        def build() -> Callable[..., Any]:
            if source == INPUT:
                return lambda v: network.run(v, [wanted])[0]
            return lambda v: network.run(None, [wanted], feed={source: v})[0]

        forward = network.compiled(("up", layer, source, id(wanted)), build)
        result = forward(ops.convert_to_tensor(value.astype(np.float32)))
        return backend.to_numpy(result).astype(np.float64)

    def noise(self, like: NDArray[Any]) -> NDArray[Any]:
        return self.draw.standard_normal(like.shape).astype(np.float32).astype(np.float64)

    def compare(self, stage: tuple[str, str], found: NDArray[Any], want: NDArray[Any]) -> None:
        """Record the largest difference, relative to the largest value."""
        difference = np.abs(found - want)
        at = np.unravel_index(int(difference.argmax()), difference.shape)
        size = max(float(np.abs(want).max()), np.finfo(np.float64).tiny)
        where = tuple(int(i) for i in at)
        self.note(
            stage,
            float(difference[at]) / size,
            f"found {found[at]:.6g}, expected {want[at]:.6g} at {where}; "
            f"{int((difference > self.tol * size).sum())} of {difference.size} values differ",
        )

    def note(
        self, stage: tuple[str, str], residual: float, problem: str, allowed: float | None = None
    ) -> None:
        self.residuals[stage] = max(residual, self.residuals.get(stage, 0.0))
        if not residual <= (self.tol if allowed is None else allowed):
            self.fail(f"{stage[0]} ({stage[1]}): {problem}")

    def fail(self, problem: str) -> None:
        if problem not in self.offenders:
            self.offenders.append(problem)
