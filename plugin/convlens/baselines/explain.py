"""What differs in where two records came from, and which of it usually explains the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convlens.baselines.comparison import listed
from convlens.baselines.provenance import Provenance

# Differences up to these, in units of a channel's size, are what settings of a machine leave.
_ROUNDING, _TF32_ROUNDING = 1e-3, 1e-2
_MACHINE = ("backend", "device", "oneDNN", "XLA", "threads")
_VERSIONS = ("tensorflow", "jax", "keras", "numpy", "convlens", "python")
_COARSE = ("float16", "bfloat16", "int8")


def changed(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """Return the names under which two mappings hold different things."""
    return [key for key in {**expected, **actual} if expected.get(key) != actual.get(key)]


def differences(expected: Provenance, actual: Provenance) -> list[str]:
    """Return what differs in provenance, a phrase each."""
    found = []
    if expected.get("images") != actual.get("images"):
        found.append(f"images ({expected.get('count')} → {actual.get('count')})")
    for name in ("weights", "settings"):
        layers = changed(expected.get(name, {}), actual.get(name, {}))
        if layers:
            found.append(f"{name} of {listed(layers)}")
    rounded = newly_rounded(expected, actual)
    if rounded:
        found += [f"precision of weights ({', '.join(sorted(set(rounded.values())))})"]
    for name in ("dtypes", "seed"):
        if expected.get(name) != actual.get(name):
            found.append(f"{name} {expected.get(name)} → {actual.get(name)}")
    before, now = expected.get("environment", {}), actual.get("environment", {})
    return found + [f"{key} {before.get(key)} → {now.get(key)}" for key in changed(before, now)]


def newly_rounded(expected: Provenance, actual: Provenance) -> dict[str, str]:
    """Return layer → the coarser type that holds its weights now and did not before."""
    before = expected.get("precision", {})
    return {
        layer: kind
        for layer, kind in actual.get("precision", {}).items()
        if kind in _COARSE and before.get(layer) not in (None, kind)
    }


def explanation(expected: Provenance, actual: Provenance, first: str, error: float) -> str:
    """Return which difference in provenance usually explains what was found.

    Args:
        expected, actual: of the two records.
        first: the first layer that diverges.
        error: its worst channel's, in units of that channel's size.
    """
    if expected.get("images") != actual.get("images"):
        return "the images differ: other images were given, or they were prepared in another way"
    rounded = newly_rounded(expected, actual)
    if first in rounded:
        return f"the weights were rounded to {rounded[first]}"
    if expected.get("dtypes") != actual.get("dtypes"):
        return "the network computes in another precision"
    weights = changed(expected.get("weights", {}), actual.get("weights", {}))
    if first in weights:
        return f"the weights of {first!r} changed: retraining, an edit, or a faulty conversion"
    settings = changed(expected.get("settings", {}), actual.get("settings", {}))
    order = list(actual.get("settings", {}))
    before_it = order[: order.index(first) + 1] if first in order else order
    # A layer that moves numbers about, such as padding, shows in the layer that reads it.
    near = [layer for layer in before_it if layer in settings]
    if near:
        return f"the settings of {listed(near)} changed, not the weights"
    before, now = expected.get("environment", {}), actual.get("environment", {})
    if before.get("TF32") != now.get("TF32") and error <= _TF32_ROUNDING:
        return "TF32 rounds products to 10 bits; compare with it switched off, or keep a variant"
    machine = [key for key in _MACHINE if before.get(key) != now.get(key)]
    versions = [key for key in _VERSIONS if before.get(key) != now.get(key)]
    if error <= _ROUNDING and (machine or versions):
        return f"rounding, for {listed(machine + versions)} differ; a variant may be kept"
    if versions:
        return f"{listed(versions)} differ: a layer may compute something else in that version"
    return "nothing in the provenance: look at code that the layer runs, or at its inputs"
