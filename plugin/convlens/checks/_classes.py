"""The base of checks of the vector of classes that a model ends with."""

from __future__ import annotations

from convlens.checks.check import ModelCheck
from convlens.engine.model.classes import class_layer
from convlens.lens import Lens


class ClassesCheck(ModelCheck):
    """A property of the scores of the classes; skipped where the model has no such output."""

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        try:
            output = class_layer(lens.network)
        except ValueError as reason:
            return str(reason)
        if lens.network.units(output) < 2:
            return f"{lens.name} has a single output, and so no other class to tell it from"
        return None
