"""The result of holding two models side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from convlens.compare.limits import Limits
from convlens.compare.measure import Difference
from convlens.compare.noise import Noise
from convlens.compare.runtime import Arithmetic

OUTPUTS = "outputs"
_MAX_LINES, _MAX_DAMAGED = 10, 3
_MANY_SATURATED = 0.05


@dataclass(frozen=True)
class LayerSameness:
    """A layer, or layers that a converter fused, beside its counterpart.

    Attributes:
        layer: name of the last layer of the group.
        group: names of all its layers, in the network's order.
        tensor: name of the counterpart.
        difference: their difference; the layer was computed from the other model's own inputs.
        passed: whether it is within the limits.
        finding: what is wrong, in a few words; "" where it passed.
        noise: the noise of an integer layer beside what its steps explain; None for others.
        share: share of the outputs' error that the layer's own arithmetic causes, see `ranking`;
            None where it was not computed.
    """

    layer: str
    group: tuple[str, ...]
    tensor: str
    difference: Difference
    passed: bool
    finding: str = ""
    noise: Noise | None = None
    share: float | None = None

    @property
    def title(self) -> str:
        """The names of the group, such as "conv2d + batch_normalization + re_lu"."""
        return " + ".join(self.group)


@dataclass(frozen=True)
class Evidence:
    """The values of the first layer that differs, for the images with the largest errors.

    Attributes:
        layer: name of the layer.
        channel: the channel that differs most.
        numbers: numbers of the images, the worst first.
        images: the images (n, h, w, c).
        expected, actual: that channel's values (n, h, w); all units' (n, c) of a dense layer.
    """

    layer: str
    channel: int
    numbers: tuple[int, ...]
    images: NDArray[Any]
    expected: NDArray[Any]
    actual: NDArray[Any]


@dataclass(frozen=True)
class Sameness:
    """Two models side by side.

    Attributes:
        new, reference: the models' names.
        runtimes: the programs that ran them, the new model's first.
        arithmetic: the coarser arithmetic of the two.
        limits: the limits that follow from it.
        outputs: difference of each output.
        outputs_passed: whether the outputs are within their limit.
        layers: the compared layers in the order of the network; empty where neither model is a
            Keras model.
        unmatched: layers that have no counterpart and are fused with none.
        notes: findings on how the models are called, each a sentence.
        images: number of images whose layers were compared.
        convention: difference in how the models are called that explains all others, such as the
            order of colors; "" where there is none. Layers are not compared then.
        evidence: values of the first layer that differs; None where all agree.
    """

    new: str
    reference: str
    runtimes: tuple[str, str]
    arithmetic: Arithmetic
    limits: Limits
    outputs: tuple[Difference, ...]
    outputs_passed: bool
    layers: tuple[LayerSameness, ...]
    unmatched: tuple[str, ...]
    notes: tuple[str, ...]
    images: int
    convention: str = ""
    evidence: Evidence | None = None

    @property
    def ranking(self) -> tuple[LayerSameness, ...]:
        """The layers whose share of the outputs' error is known, the largest first."""
        known = [(layer.share, layer) for layer in self.layers if layer.share is not None]
        return tuple(layer for _, layer in sorted(known, key=lambda each: -each[0]))

    @property
    def failing(self) -> tuple[LayerSameness, ...]:
        """The layers that differ, in the order of the network."""
        return tuple(layer for layer in self.layers if not layer.passed)

    @property
    def first(self) -> LayerSameness | None:
        """The first layer that differs; None if all agree."""
        return next(iter(self.failing), None)

    @property
    def passed(self) -> bool:
        """True if outputs and layers agree."""
        return self.outputs_passed and not self.failing

    def of_layer(self, name: str) -> LayerSameness | None:
        """Return the group that has a layer, one that differs first; None where there is none."""
        own = [layer for layer in self.layers if name in layer.group]
        return next((layer for layer in own if not layer.passed), own[-1] if own else None)

    @property
    def damage(self) -> str:
        """The layers that cause most of the error where every layer's noise is explained."""
        ranked = self.ranking or sorted(self.layers, key=lambda x: x.difference.snr)
        noisy = [(x, x.noise) for x in ranked if x.noise is not None]
        return "; ".join(
            f"{x.title!r} {'' if x.share is None else f'causes {x.share:.0%} of the error and '}"
            f"leaves {x.difference.snr:.1f} dB of signal, {_taker(noise)}"
            for x, noise in noisy[:_MAX_DAMAGED]
        )

    @property
    def verdict(self) -> str:
        """The result in a sentence."""
        if self.convention:
            return (
                f"{self.new} differs from {self.reference} in how it is called: it "
                f"{self.convention}"
            )
        if self.first is not None:
            before = sum(layer.passed for layer in self.layers[: self.layers.index(self.first)])
            return (
                f"the first layer of {self.new} that diverges from {self.reference} is "
                f"{self.first.title!r}, after {before} that agree: {self.first.finding}"
            )
        if not self.outputs_passed and self.damage:
            return f"the outputs of {self.new} are damaged by its arithmetic: {self.damage}"
        if not self.outputs_passed:
            where = (
                "no layer that was compared differs"
                if self.layers
                else "no layer can be named: that takes a Keras model, and one with tensors"
            )
            return f"the outputs of {self.new} differ from those of {self.reference}; {where}"
        return f"{self.new} behaves as {self.reference} does"

    @property
    def message(self) -> str:
        """The verdict and the numbers behind it, one per line."""
        lines = [
            f"output {i}: {found} (limit {self.limits.output:g} dB)"
            for i, found in enumerate(self.outputs)
        ]
        lines += [f"{x.title}: {x.finding}" for x in self.failing[1:_MAX_LINES]]
        if len(self.failing) > _MAX_LINES:
            lines.append(f"and {len(self.failing) - _MAX_LINES} more layers")
        if self.ranking and not self.passed:
            shares = [f"{x.title} {x.share:.0%}" for x in self.ranking[:_MAX_DAMAGED]]
            lines.append(f"most of the outputs' error comes from: {', '.join(shares)}")
        if self.unmatched and not self.passed:
            lines.append(f"without a counterpart: {', '.join(self.unmatched[:_MAX_LINES])}")
        lines += self.notes
        lines.append(f"run by {' and '.join(self.runtimes)}, in {self.arithmetic}")
        return "\n".join([self.verdict, *(f"  {line}" for line in lines)])


def _taker(noise: Noise) -> str:
    """Return what takes most of a layer's signal."""
    if noise.saturated > _MANY_SATURATED:
        return f"{noise.saturated:.0%} of its values are at an end of their range"
    weights = noise.by_weights
    return f"{weights:.0%} of the noise is the weights' step, {1 - weights:.0%} the values'"
