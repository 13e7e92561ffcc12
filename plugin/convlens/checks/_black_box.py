"""A deconvnet of the user's own, held against the network from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.checks._residuals import Residuals, pools_back
from convlens.engine.explain.stages import noise_of, run_stages, stages_of
from convlens.engine.explain.walk import MAX_SCALINGS, factor_to_range
from convlens.engine.features.activations import activations
from convlens.engine.model.network import INPUT, Network
from convlens.engine.runtime.tolerance import is_coarse

Array = NDArray[Any]
Project = Callable[[Network, NDArray[np.float32], str, NDArray[np.float32]], Mapping[str, Any]]


class BlackBox:
    """One run of the check of a deconvnet that is only known by what it returns."""

    def __init__(
        self,
        network: Network,
        images: NDArray[np.float32],
        layer: str,
        project: Project,
        residuals: Residuals,
        seed: int,
    ) -> None:
        self.network = network
        self.images = images
        self.layer = layer
        self.project = project
        self.residuals = residuals
        self.seed = seed
        self.below = network.below(layer)
        self.maps = {INPUT: images, **activations(network, images, self.below)}

    def run(self) -> None:
        """Compare the stages, the whole, and the whole with its stages."""
        signal, whole = self.within_range()
        self.stages()
        self.whole(signal, whole)
        self.chain(whole)

    def down(self, layer: str, signal: Array) -> dict[str, Array]:
        """Project, and keep the stages whose shape is right."""
        found = self.project(self.network, self.images, layer, signal.astype(np.float32))
        good = {}
        for name in [INPUT, *self.network.below(layer)]:
            if name not in found:
                self.residuals.fail(f"from {layer!r}: there is no reconstruction at {name!r}")
                continue
            value = np.asarray(found[name])
            if self.residuals.same_shape(layer, name, value, self.maps[name]):
                good[name] = value.astype(np.float64)
        return good

    def within_range(self) -> tuple[Array, dict[str, Array]]:
        """Return the layer's maps as a signal, and its projections, within the range of the type.

        In float16 small signals lose their bits and large ones overflow; a power of two as a
        factor changes nothing else.
        """
        signal = self.maps[self.layer].astype(np.float64)
        whole = self.down(self.layer, signal)
        if not is_coarse(self.network.rounding(self.layer).precision):
            return signal, whole
        for _ in range(MAX_SCALINGS):
            factor = factor_to_range(whole.values())
            if factor == 1:
                break
            signal = factor * signal
            whole = self.down(self.layer, signal)
        return signal, whole

    def stages(self) -> None:
        """Compare each stage of a single source with the forward pass, from the last to the first.

        What a stage of several sources sends to each of them cannot be seen from outside: the
        projection may reach one of them through another.
        """
        stages = [
            stage
            for stage in reversed(stages_of(self.network, self.below))
            if len(self.network.sources(stage.layer)) == 1
        ]
        shapes = {name: maps.shape[1:] for name, maps in self.maps.items()}
        noise = [
            noise_of(self.network, stage, shapes, len(self.images), self.seed) for stage in stages
        ]
        forward = run_stages(self.network, stages, noise, self.maps)
        for stage, own, value in zip(stages, noise, forward, strict=True):
            source = stage.sources[0]
            down = self.down(stage.layer, own.signal).get(source)
            if down is None:
                continue
            self.residuals.stage(stage, self.maps[source], own, value, {source: down})
            if stage.kind == "pool" and pools_back(self.network, stage, self.maps[stage.layer]):
                unpooled = self.down(stage.layer, self.maps[stage.layer]).get(source)
                if unpooled is not None:
                    self.residuals.pooling(stage, self.maps[stage.layer], unpooled)

    def whole(self, signal: Array, whole: Mapping[str, Array]) -> None:
        """Check that zero gives zero, and a scaled activation a scaled reconstruction."""
        nothing = self.down(self.layer, np.zeros_like(signal))
        twice = self.down(self.layer, 2 * signal)
        for name, once in whole.items():
            if name in nothing:
                self.residuals.nothing(self.layer, name, nothing[name])
            if name in twice:
                self.residuals.scaled(name, twice[name], once)

    def chain(self, whole: Mapping[str, Array]) -> None:
        """Check that the whole is made of its stages, where layers of one source each read."""
        sources = {name: self.network.sources(name) for name in self.below}
        for source in whole:
            readers = [name for name in self.below if source in sources[name]]
            if not readers or not whole.keys() >= set(readers):
                continue
            if any(len(sources[name]) > 1 for name in readers):
                continue
            sent = [self.down(name, whole[name]).get(source) for name in readers]
            known = [signal for signal in sent if signal is not None]
            if len(known) == len(sent):
                self.residuals.chained(readers[0], whole[source], sum(known[1:], start=known[0]))
