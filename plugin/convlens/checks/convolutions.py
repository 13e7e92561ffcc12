"""A placeholder, always skipped, for what the checks of filters do not look at."""

from __future__ import annotations

import keras

from convlens.checks._offenders import listed
from convlens.checks.check import Effort, ModelCheck
from convlens.engine.model.flatten import is_convolution
from convlens.engine.model.network import Network
from convlens.engine.model.saved_model import is_graph
from convlens.lens import Lens

# Layers whose weights are no filters, and that are usual in convolutional networks.
_USUAL = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Embedding,
    keras.layers.PReLU,
)


class Convolutions(ModelCheck):
    """Item that says why a model, or some of its layers, have no checks of filters."""

    name = "convolutions"
    summary = "there are filters to look at"

    def layers(self, lens: Lens, effort: Effort) -> tuple[str | None, ...]:
        network = lens.network
        return (None,) if not lens.conv_layers or network.untraced or _others(network) else ()

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
        others = _others(lens.network)
        if lens.conv_layers and others:
            return (
                f"{len(others)} of {len(lens.network.layers)} layers have other weights than "
                f"filters ({listed(others)}): the checks of the whole model see what they compute"
            )
        return (
            f"{lens.name} has no convolutional layer, so there is no filter to look at "
            f"(its layers: {', '.join(lens.network.layers)})"
        )


def _others(network: Network) -> list[str]:
    """Return the names of the layers that multiply by weights that are no filters.

    These are attention, recurrent layers, and layers of the user's own.
    """
    return [
        name
        for name, layer in network.layers.items()
        if not (is_convolution(layer) or isinstance(layer, _USUAL))
        and any(len(w.shape) > 1 for w in layer.weights)
    ]
