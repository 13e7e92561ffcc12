"""A model's baseline as pytest items: one for the predictions and one a layer."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from convlens.baselines.check import observe
from convlens.baselines.compare import OUTPUT, PREDICTIONS
from convlens.battery import Property
from convlens.engine.features.sketch import sketched_layers
from convlens.lens import Lens
from convlens.pytest_plugin.baselines import SESSION
from convlens.pytest_plugin.collection import ModelItem
from convlens.pytest_plugin.targets import Target


class Unchanged(Property):
    """That a layer does what its baseline says."""

    name = "baseline"
    summary = "the layer does what it did"

    def layers(self, lens: Lens) -> tuple[str | None, ...]:
        """Return the layers in the network's order, and the predictions."""
        output = lens.network.output_layer
        inner = [name for name in sketched_layers(lens.network) if name != output]
        return (*inner, OUTPUT if PREDICTIONS in inner else PREDICTIONS)


class BaselineItem(ModelItem):
    """What one layer does, held against the model's baseline; its items share one record."""

    def check(self, lens: Lens) -> None:
        """Hold the layer against its baseline.

        Raises:
            AssertionError: it differs, or there is no usable baseline.
        """
        __tracebackhide__ = True
        session = self.config.stash[SESSION]
        session.check(
            self,
            f"{self.nodeid.removesuffix(f'::{self.name}')}::baseline",
            lambda: observe(lens),
            layer=self.layer,
        )


def baseline_items(parent: pytest.Collector, target: Target, lens: Lens) -> Iterable[BaselineItem]:
    """Yield the items of a model's baseline, where baselines were asked for."""
    if not parent.config.stash[SESSION].asked:
        return
    prop = Unchanged()
    for layer in prop.layers(lens):
        yield BaselineItem.from_parent(
            parent,
            name=f"{prop.name}[{layer}]",
            target=target,
            prop=prop,
            layer=layer,
        )
