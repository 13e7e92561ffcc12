"""Repeatability: the outputs for an image are the same each time, and in any batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.checks.check import Effort, Measures, ModelCheck
from convlens.checks.finite_weights import assert_finite_weights
from convlens.engine.features.activations import activations
from convlens.engine.model.network import Network
from convlens.engine.runtime.batches import in_batches
from convlens.engine.runtime.tolerance import activation_tolerance
from convlens.lens import Lens

_TOO_FEW = "at least two images are needed to compare a batch with single images"


def assert_repeatable(
    model: keras.Model | Network, images: ArrayLike, *, tol: float | None = None
) -> dict[str, float]:
    """Assert that each layer's output for an image is the same each time, and in any batch.

    This catches a dropout, noise or augmentation that is active at inference, and a batch
    normalization in training mode. The model runs in two ways: as ``model.predict(x)``, which runs
    all layers in inference mode, and as the graph fixes it: where it calls a layer, or a model
    around it, with ``training=True``, ``model(x)`` runs it in that mode. The outputs must be the
    same. Layers of augmentation are no defect as Keras's tutorials call them, without the argument.
    The weights and seeds of the model have their values again at the end.

    Args:
        model: a Keras model or a `Network`.
        images: (n, h, w, c) in the model's own range; n is 2 or more.
        tol: largest difference, in units of the layer's largest value; by the precision of the
            layers below, and their number, unless given (5e-5 for float32).

    Returns:
        layer → the largest difference, in the order of the network.

    Raises:
        AssertionError: a layer's output differs; the message names the first such layer. Or a
            weight is not finite.
        ValueError: fewer than two images, or images of a wrong shape.
    """
    __tracebackhide__ = True
    network = Network.of(model)
    assert_finite_weights(network)
    x = network.check_images(images)
    if len(x) < 2:
        raise ValueError(f"{network.name}: {_TOO_FEW}")
    seen = _Seen.of(network, x, tol)
    seen.judge()
    return seen.differences


class Repeatable(ModelCheck):
    """Zero-code check of all layers."""

    name = "repeatable"
    summary = "an image's outputs are the same each time, and in any batch"
    assertion = staticmethod(assert_repeatable)
    max_images = 8

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        few = len(lens.images) < 2
        return (
            "at least two images are needed to compare a batch with single images" if few else None
        )

    def run(self, lens: Lens, layer: Any, effort: Effort) -> _Seen:
        return _Seen.of(lens.network, lens.images[: self.max_images], None)

    def measures(self, seen: _Seen) -> Measures:
        return {"repeat_residual": max(seen.differences.values())}

    def verdict(self, seen: _Seen) -> Measures:
        __tracebackhide__ = True
        seen.judge()
        return {}


@dataclass(frozen=True)
class _Seen:
    model: str
    twice: dict[str, float]  # layer → difference of two runs
    apart: dict[str, float]  # layer → difference of a batch and of single images
    called: dict[str, float]  # layer → difference of model.predict(x) and of model(x)
    allowed: dict[str, float]

    @classmethod
    def of(cls, network: Network, x: NDArray[np.float32], tol: float | None) -> _Seen:
        names = tuple(network.outputs)
        predicted = activations(network, x, names)
        with network.variables_restored():  # a batch normalization in training mode assigns them
            once = _as_called(network, x, names)
            again = _as_called(network, x, names)
            alone = _as_called(network, x, names, batch_size=1)
        return cls(
            network.name,
            {name: _difference(once[name], again[name]) for name in names},
            {name: _difference(once[name], alone[name]) for name in names},
            {name: _difference(predicted[name], once[name]) for name in names},
            {
                name: activation_tolerance(network.rounding(name)) if tol is None else tol
                for name in names
            },
        )

    @property
    def differences(self) -> dict[str, float]:
        return {
            name: max(self.twice[name], self.apart[name], self.called[name]) for name in self.twice
        }

    def judge(self) -> None:
        __tracebackhide__ = True
        for name, allowed in self.allowed.items():
            if not self.twice[name] <= allowed:
                raise AssertionError(
                    f"{self.model} layer {name!r} is the first that gives the same images another "
                    f"output each time: it differs by {self.twice[name]:.3g} of its largest value "
                    f"(tolerance {allowed:g}). A dropout or noise is active at inference."
                )
            if not self.apart[name] <= allowed:
                raise AssertionError(
                    f"{self.model} layer {name!r} is the first whose output for an image depends "
                    f"on the others in its batch: it differs by {self.apart[name]:.3g} of its "
                    f"largest value (tolerance {allowed:g}). A batch normalization or an "
                    "augmentation is in training mode."
                )
            if not self.called[name] <= allowed:
                raise AssertionError(
                    f"{self.model} layer {name!r} is the first that gives other outputs in "
                    f"model(x) than in model.predict(x): they differ by {self.called[name]:.3g} of "
                    f"the largest value (tolerance {allowed:g}). The layer, or a model around it, "
                    "is called with training=True: leave the argument out."
                )


def _as_called(
    network: Network, x: NDArray[np.float32], names: tuple[str, ...], batch_size: int = 64
) -> dict[str, NDArray[Any]]:
    """Return the layers' outputs in the modes that the graph fixes."""
    tensors = [network.outputs[name] for name in names]
    run = network.compiled(
        ("as called", names), lambda: lambda batch: network.run(batch, tensors, fixed_modes=True)
    )
    return dict(zip(names, in_batches(run, x, batch_size), strict=True))


def _difference(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Return the largest difference in units of the largest value; 0 where all values are 0."""
    one, other = a.astype(np.float64), b.astype(np.float64)
    return float(np.abs(one - other).max() / (np.abs(one).max() or 1.0))
