"""The statistics of layers' filters, for the checks of dead and of duplicate filters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from numpy.typing import ArrayLike

from convlens.checks._reached import reason_unreached
from convlens.checks.finite_weights import assert_finite_weights
from convlens.engine.features.activations import check_layers
from convlens.engine.features.filters import FilterStatistics, survey_filters
from convlens.engine.model.network import Network


def layer_statistics(
    network: Network, images: ArrayLike, layers: str | Iterable[str] | None, **options: Any
) -> dict[str, FilterStatistics]:
    """Return layer → its statistics over the images; see `filter_statistics` for the options.

    With None for the layers, convolutions that the images do not reach are left out.

    Raises:
        AssertionError: a weight or an activation is not finite; the message names the layer.
        ValueError: an unknown layer, or one that the images do not reach, images of a wrong shape,
            a model without convolutions.
    """
    __tracebackhide__ = True
    assert_finite_weights(network)
    names = check_layers(network, layers)
    if layers is None:
        names = tuple(name for name in names if network.reaches(name)) or names
    for name in names:
        reason = reason_unreached(network, name)
        if reason is not None:
            raise ValueError(f"{network.name} layer {name!r}: {reason}")
    found = survey_filters(network, network.check_images(images), names)
    for name, survey in found.items():
        if survey.not_finite is not None:
            raise AssertionError(
                f"{network.name} layer {name!r}: the activation of unit {survey.not_finite} is not "
                "finite"
            )
    return {name: survey.statistics(**options) for name, survey in found.items()}
