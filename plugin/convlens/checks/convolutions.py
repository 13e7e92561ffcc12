"""A placeholder, always skipped, for the checks of filters in a model that has no convolution."""

from __future__ import annotations

from convlens.checks.check import Effort, ModelCheck
from convlens.engine.model.saved_model import is_graph
from convlens.lens import Lens


class Convolutions(ModelCheck):
    """Item that says why a model without convolutions has no checks of filters."""

    name = "convolutions"
    summary = "there are filters to look at"

    def layers(self, lens: Lens, effort: Effort) -> tuple[str | None, ...]:
        return (None,) if not lens.conv_layers or lens.network.untraced else ()

    def reason_to_skip(self, lens: Lens, layer: str | None) -> str | None:
        if is_graph(lens.model):
            return (
                f"{lens.name} is a SavedModel, a compiled graph without filters to look at: only "
                "its weights and predictions are tested"
            )
        for name, reason in lens.network.untraced.items():
            return (
                f"the convolutions inside layer {name!r} cannot be reached, as its code does not "
                f"run on symbolic tensors ({reason}): write it with Keras's layers and operations"
            )
        return (
            f"{lens.name} has no convolutional layer, so there is no filter to look at "
            f"(its layers: {', '.join(lens.network.layers)})"
        )
