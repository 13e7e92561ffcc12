"""The statistics of layers' filters, for the checks of dead and of duplicate filters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.checks.finite_weights import assert_finite_weights
from convlens.engine.features.activations import activations, check_layers
from convlens.engine.features.filters import FilterStatistics, filter_statistics
from convlens.engine.model.network import Network


def layer_statistics(
    network: Network, images: ArrayLike, layers: str | Iterable[str] | None, **options: Any
) -> dict[str, FilterStatistics]:
    """Return layer → its statistics over the images.

    Raises:
        AssertionError: a weight or an activation is not finite; the message names the layer.
        ValueError: an unknown layer, images of a wrong shape, a model without convolutions.
    """
    __tracebackhide__ = True
    assert_finite_weights(network)
    maps = activations(network, images, check_layers(network, layers))
    for name, values in maps.items():
        assert_finite_maps(network.name, name, values)
    return {
        name: filter_statistics(values, name, precision=network.rounding(name).precision, **options)
        for name, values in maps.items()
    }


def assert_finite_maps(model: str, layer: str, maps: NDArray[Any]) -> None:
    """Assert that a layer's activations are finite.

    Raises:
        AssertionError: the message names the first unit whose activation is not.
    """
    __tracebackhide__ = True
    finite = np.isfinite(maps).reshape(-1, maps.shape[-1]).all(axis=0)
    if not finite.all():
        unit = int(np.flatnonzero(~finite)[0])
        raise AssertionError(
            f"{model} layer {layer!r}: the activation of unit {unit} is not finite"
        )
