"""The base of checks of the vector of classes that a model ends with."""

from __future__ import annotations

from convlens.checks.check import ModelCheck
from convlens.lens import Lens


class ClassesCheck(ModelCheck):
    """A property of the scores of the classes; skipped where the model has no such output."""

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        output = lens.network.output_layer
        if output is None or len(lens.network.outputs[output].shape) != 2:
            return f"{lens.name} has no vector of classes as its output"
        if lens.network.units(output) < 2:
            return f"{lens.name} has a single output, and so no other class to tell it from"
        return None
