"""The deconvnet: it undoes, stage by stage, the network's forward pass."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.checks._black_box import BlackBox, Project
from convlens.checks._offenders import raise_offenders
from convlens.checks._residuals import Residuals, pools_back
from convlens.checks.check import Column, Effort, Figures, LayerCheck, Measures
from convlens.checks.finite_weights import assert_finite_weights
from convlens.drawings import draw_reconstructions
from convlens.engine.explain.deconvnet import project
from convlens.engine.explain.walk import Step, walk
from convlens.engine.model.network import Network
from convlens.engine.runtime import tolerance
from convlens.lens import Lens

_own_project = project
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

    @classmethod
    def of(cls, layer: str, found: Residuals) -> RoundTrip:
        """Return the result for a layer."""
        offenders = tuple(found.offenders)
        return cls(layer, found.found, found.shapes, found.network.name, found.tol, offenders)

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


_Result = RoundTrip | Exception


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
    forward input; where the forward pass is linear (convolution, dense, batch norm, average pool,
    addition), ⟨A(x), ReLU(y)⟩ = ⟨x, D(y)⟩, without the ReLU where the layer has none; a max-pool's
    D puts each value at its switch, and pool(D(p)) = p; a ReLU's D is ReLU; D(0) = 0;
    D(a·f) = a·D(f) for a > 0; and the whole projection is its stages one after another. Stages with
    other non-linearities take part in all but the second of these. So do layers that read several
    others, where the deconvnet is not convlens's own.

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
    residuals = Residuals(network, _tolerance(network, layer) if tol is None else tol)
    if project is _own_project:
        below = network.below(layer)
        starts = {layer, *(name for name in below if name in network.conv_layers)}
        failed = _compare_all(network, x, dict.fromkeys(below, residuals), starts, seed)
        for error in failed.values():
            raise error
    else:
        BlackBox(network, x, layer, project, residuals, seed).run()
    trip = RoundTrip.of(layer, residuals)
    trip.judge()
    return trip


class Deconvnet(LayerCheck):
    """Zero-code check of the deconvnet through each convolution's stages.

    Each stage belongs to the first convolution that depends on it. All are computed together, and
    shared by the items of a run, so that the cost follows the network once.
    """

    name = "deconvnet"
    summary = "the deconvnet undoes the network stage by stage"
    assertion = staticmethod(assert_deconv_round_trip)
    columns = (Column("deconvnet residual", "{deconvnet_residual:.1e}"),)
    max_images = 2

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        if len(lens.distinct_images(2)) < 2:
            return f"{_NEEDS_TWO}; {_number_of(lens)}: give more with --convlens-images"
        return super().reason_to_skip(lens, layer)

    def run(self, lens: Lens, layer: Any, effort: Effort) -> RoundTrip:
        images = lens.images[lens.distinct_images(self.max_images)]
        results = lens.once(Deconvnet, lambda: _results(Network.of(lens.network), images))
        found = results[lens.network.find(layer)]
        if isinstance(found, Exception):
            raise found
        return found

    def measures(self, seen: RoundTrip) -> Measures:
        return {"stages": seen.shapes, "deconvnet_residual": seen.worst}

    def verdict(self, seen: RoundTrip) -> Measures:
        __tracebackhide__ = True
        seen.judge()
        return {}

    def figures(self, lens: Lens, layer: Any, seen: Any) -> Figures:
        return {"deconvnet": lambda: draw_reconstructions(lens, layer)}


def _results(network: Network, images: NDArray[np.float32]) -> dict[str, _Result]:
    """Return the result of each convolution that depends on the images."""
    layers = [name for name in network.conv_layers if network.reaches(name)]
    residuals = {name: Residuals(network, _tolerance(network, name)) for name in layers}
    owners: dict[str, str] = {}
    for layer in layers:
        for name in network.below(layer):
            owners.setdefault(name, layer)
    owned = {name: residuals[layer] for name, layer in owners.items()}
    failed = _compare_all(network, images, owned, layers, seed=0)
    found: dict[str, _Result] = {n: RoundTrip.of(n, residuals[n]) for n in layers}
    found.update((owners[name], error) for name, error in failed.items())
    return found


def _check_images_differ(images: NDArray[np.float32]) -> None:
    if (images == images[:1]).all():
        raise ValueError(_NEEDS_TWO)


def _number_of(lens: Lens) -> str:
    count = len(lens.images)
    return "there is one image" if count == 1 else f"all {count} images are the same"


def _tolerance(network: Network, layer: str) -> float:
    return tolerance.stage_tolerance(network.rounding(layer))


def _compare_all(
    network: Network,
    images: NDArray[np.float32],
    residuals: Mapping[str, Residuals],
    starts: Collection[str],
    seed: int,
) -> dict[str, Exception]:
    """Compare all stages of convlens's own deconvnet with the forward pass.

    Args:
        network: the network.
        images: (n, h, w, c).
        residuals: the residuals to which each layer's stage belongs, by layer.
        starts: layers where the projection may start.
        seed: seed of the random signals.

    Returns:
        The layers that raised an error, with the error.
    """
    layers = [name for name in network.outputs if name in residuals]
    failed = {}
    for part in walk(network, images, layers, starts, seed):
        for step in part.steps:
            _compare_step(network, step, residuals[step.stage.layer])
        for arrival in part.arrivals:
            reader = arrival.first_reader
            residuals[reader].chained(reader, arrival.signal, arrival.sent)
        if part.failed is not None and part.error is not None:
            failed[part.failed] = part.error
    return failed


def _compare_step(network: Network, step: Step, residuals: Residuals) -> None:
    stage = step.stage
    for source, features in step.features.items():
        residuals.same_shape(stage.layer, source, step.down[source], features)
        residuals.nothing(stage.layer, source, step.doubled[source][1::2])
        residuals.scaled(source, step.doubled[source][::2], step.whole[source][::2])
    features = step.features[stage.sources[0]]
    residuals.stage(stage, features, step.noise, step.forward, step.down)
    if step.unpooled is not None and pools_back(network, stage, step.maps):
        residuals.pooling(stage, step.maps, step.unpooled)
