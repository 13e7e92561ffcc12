"""The reason why a layer cannot be judged by images: they do not reach it."""

from __future__ import annotations

from convlens.engine.model.network import Network


def reason_unreached(network: Network, layer: str) -> str | None:
    """Return the reason why images say nothing about a layer, None where they reach it."""
    if network.reaches(layer):
        return None
    return "the images do not reach it: it depends on held inputs alone"
