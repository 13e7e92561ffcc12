"""A model's baseline as pytest items: one for the predictions and one for each layer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convlens.pytest_plugin.baselines import SESSION, tell_compared
from convlens.pytest_plugin.causes import record_cause, record_follower
from convlens.pytest_plugin.items import ModelItem
from convlens.pytest_plugin.options import effort
from convlens.pytest_plugin.targets import Target

if TYPE_CHECKING:
    from convlens.baselines.compare import Comparison
    from convlens.lens import Lens


class BaselineItem(ModelItem):
    """One layer, compared with the model's baseline; the items of a model share one record.

    One cause is one failure: the item of the first layer that diverges fails in full, and those of
    the layers behind it in one line. Each item decides that from the comparison alone, so it makes
    no difference which process of xdist runs it.
    """

    def run_check(self, lens: Lens) -> Any:
        """Compare the layer with its baseline, and hand the comparison to the report.

        Raises:
            AssertionError, FloatingPointError, OSError: the network cannot be compared, or not
                recorded; of the items of a model, one has the whole message.
        """
        __tracebackhide__ = True
        try:
            found = super().run_check(lens)
        except (AssertionError, FloatingPointError, OSError, ValueError) as error:
            leader = self._leader(None)
            if leader == self.layer:
                raise
            self._follow(leader)
            raise type(error)(f"fails as {self.check.name}[{leader}] does") from None
        if found.baseline:
            self.record("baseline", Path(found.baseline).name)
        if not found.passed:
            leader = self._leader(found)
            if leader == self.layer:
                record_cause(self, found)
            else:
                self._follow(leader)
                found = found.as_follower(f"{self.check.name}[{leader}]")
        tell_compared(self, found)
        return found

    def _follow(self, leader: str) -> None:
        record_follower(self, leader, self._layers.index(str(self.layer)))

    def _leader(self, found: Comparison | None) -> str:
        """Return the layer whose item tells the cause: of those in this run, the first to diverge.

        Args:
            found: a failed comparison; None where there was nothing to compare.
        """
        diverging = {layer.layer for layer in found.layers if not layer.passed} if found else set()
        if found is not None and found.first in self._layers:
            return str(found.first)
        return next((layer for layer in self._layers if layer in diverging), self._layers[0])

    @property
    def _layers(self) -> list[str]:
        """The layers of this model's baseline that have an item in this run."""
        return [
            str(item.layer)
            for item in self.session.items
            if isinstance(item, BaselineItem) and item.parent is self.parent
        ]


def baseline_items(parent: pytest.Collector, target: Target, lens: Lens) -> Iterable[BaselineItem]:
    """Yield the items of a model's baseline, where baselines were asked for."""
    session = parent.config.stash[SESSION]
    if not session.asked:
        return
    from convlens.baselines.check import observe
    from convlens.baselines.unchanged import Unchanged

    key = f"{session.name_of(parent)}::{Unchanged.name}"

    def compare(lens: Lens, layer: str) -> Comparison:
        __tracebackhide__ = True
        return session.compare(key, lambda: observe(lens), layer=layer)

    check = Unchanged(compare)
    for layer in check.layers(lens, effort(parent.config)):
        yield BaselineItem.from_parent(
            parent, name=f"{check.name}[{layer}]", target=target, check=check, layer=layer
        )
