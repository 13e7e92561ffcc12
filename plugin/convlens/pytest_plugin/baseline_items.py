"""A model's baseline as pytest items: one for the predictions and one for each layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest

from convlens.pytest_plugin.baselines import SESSION, tell_compared
from convlens.pytest_plugin.items import ModelItem
from convlens.pytest_plugin.options import effort
from convlens.pytest_plugin.targets import Target

if TYPE_CHECKING:
    from convlens.baselines.compare import Comparison
    from convlens.lens import Lens


class BaselineItem(ModelItem):
    """One layer, compared with the model's baseline; the items of a model share one record."""

    def run_check(self, lens: Lens) -> Any:
        """Compare the layer with its baseline, and hand the comparison to the report."""
        __tracebackhide__ = True
        found = super().run_check(lens)
        tell_compared(self, found)
        return found


def baseline_items(parent: pytest.Collector, target: Target, lens: Lens) -> Iterable[BaselineItem]:
    """Yield the items of a model's baseline, where baselines were asked for."""
    session = parent.config.stash[SESSION]
    if not session.asked:
        return
    from convlens.baselines.check import observe
    from convlens.baselines.unchanged import Unchanged

    key = f"{parent.nodeid}::{Unchanged.name}"

    def compare(lens: Lens, layer: str) -> Comparison:
        __tracebackhide__ = True
        return session.compare(key, lambda: observe(lens), layer=layer)

    check = Unchanged(compare)
    for layer in check.layers(lens, effort(parent.config)):
        yield BaselineItem.from_parent(
            parent, name=f"{check.name}[{layer}]", target=target, check=check, layer=layer
        )
