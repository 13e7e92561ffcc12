"""Repeatability: the outputs for an image are the same each time, and in any batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from convlens.checks.check import Effort, Measures, ModelCheck
from convlens.checks.finite_weights import assert_finite_weights
from convlens.engine.model.network import Network
from convlens.engine.runtime import backend
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
        with network.variables_restored():  # a batch normalization in training mode assigns them
            pairs = [x[i : i + 2] for i in range(0, len(x) - 1, 2)]
            pairs += [x[-2:]] if len(x) % 2 else []
            compared = [_compare(network, pair) for pair in pairs]
        apart, largest = np.max(compared, axis=0)
        # In units of the largest value; of nothing but 0 any difference is large enough.
        twice, alone, called = apart / np.where(largest == 0, 1, largest)
        return cls(
            network.name,
            dict(zip(names, twice.tolist(), strict=True)),
            dict(zip(names, alone.tolist(), strict=True)),
            dict(zip(names, called.tolist(), strict=True)),
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


Values = list[NDArray[Any]]


def _compare(network: Network, pair: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (2, 3, layers): each layer's largest differences for two images, and largest values.

    The differences are those of two runs, of the pair and each image alone, and of `model(x)` and
    `model.predict(x)`. The values of two runs at most are in memory at a time.
    """
    tensors = list(network.outputs.values())
    fixes_modes = any(call.training for call in network.graph)

    def run(batch: NDArray[np.float32], *, fixed_modes: bool = fixes_modes) -> Values:
        forward = network.compiled(
            ("as called", fixed_modes),
            lambda: lambda x: network.run(x, tensors, fixed_modes=fixed_modes),
        )
        return [backend.to_numpy(value) for value in forward(ops.convert_to_tensor(batch))]

    once = run(pair)
    twice = _differences(once, run(pair))
    alone = [run(pair[:1]), run(pair[1:])]
    apart = _differences(once, map(np.concatenate, zip(*alone, strict=True)))
    # Where the graph fixes no mode, both run the same.
    called = _differences(run(pair, fixed_modes=False), once) if fixes_modes else twice
    return np.stack([twice, apart, called], axis=1)


def _differences(values: Values, others: Iterable[NDArray[Any]]) -> NDArray[np.float64]:
    """Return (2, layers): each layer's largest difference of two runs, and largest value."""
    found = []
    for value, other in zip(values, others, strict=True):
        a, b = (np.asarray(v, np.promote_types(v.dtype, np.float32)) for v in (value, other))
        with np.errstate(invalid="ignore"):  # the difference of two infinite values is NaN
            found.append([float(np.abs(a - b).max()), float(np.abs(a).max())])
    return np.array(found).T
