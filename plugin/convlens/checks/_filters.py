"""The statistics of layers' filters, for the checks of dead and of duplicate filters."""

from __future__ import annotations

from collections.abc import Iterable

from numpy.typing import ArrayLike

from convlens.checks._reached import reason_unreached
from convlens.checks.finite_weights import assert_finite_weights
from convlens.engine.features.activations import check_layers
from convlens.engine.features.filters import FilterStatistics
from convlens.engine.features.survey import Survey, Wanted, survey_network
from convlens.engine.model.network import Network
from convlens.lens import Lens


def layer_statistics(
    network: Network,
    images: ArrayLike,
    layers: str | Iterable[str] | None,
    *,
    tol: float | None = None,
) -> dict[str, FilterStatistics]:
    """Return layer → its statistics over the images; see `filter_statistics` for the tolerance.

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
    x = network.check_images(images)
    return _all_finite(network, survey_network(network, x, Wanted(filters=names), tol=tol), names)


def lens_statistics(lens: Lens, layer: str) -> dict[str, FilterStatistics]:
    """Return a layer → its statistics over a lens's images, from the survey that is shared.

    Raises:
        AssertionError: an activation is not finite; the message names the layer.
    """
    __tracebackhide__ = True
    return _all_finite(lens.network, lens.survey(Wanted(filters=(layer,))), (layer,))


def _all_finite(
    network: Network, survey: Survey, names: Iterable[str]
) -> dict[str, FilterStatistics]:
    __tracebackhide__ = True
    for name in names:
        if name in survey.broken:
            raise AssertionError(
                f"{network.name} layer {name!r}: the activation of unit {survey.broken[name]} is "
                "not finite"
            )
    return {name: survey.filters[name] for name in names}
