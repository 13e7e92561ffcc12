"""Compare the provenance of two records and find the likely cause of a difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from convlens.baselines.comparison import join_names
from convlens.baselines.provenance import Provenance
from convlens.baselines.weights import crossed, explain_change

# Largest difference, in units of a channel's size, that the settings of a machine can cause.
_ROUNDING = 1e-3
_MACHINE = ("backend", "device", "products", "oneDNN", "XLA", "threads")
_VERSIONS = ("tensorflow", "jax", "keras", "numpy", "convlens", "python")
_COARSE = ("float16", "bfloat16", "int8")


def changed_keys(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """Return the keys whose values differ between two mappings."""
    return [key for key in {**expected, **actual} if expected.get(key) != actual.get(key)]


def differences(expected: Provenance, actual: Provenance) -> list[str]:
    """Return one phrase for each difference in provenance."""
    found = []
    if expected.get("images") != actual.get("images"):
        found.append(f"images ({expected.get('count')} → {actual.get('count')})")
    for name in ("weights", "settings"):
        layers = changed_keys(expected.get(name, {}), actual.get(name, {}))
        if layers:
            found.append(f"{name} of {join_names(layers)}")
    rounded = newly_rounded(expected, actual)
    if rounded:
        found += [f"precision of weights ({', '.join(sorted(set(rounded.values())))})"]
    for name in ("dtypes", "seed"):
        if expected.get(name) != actual.get(name):
            found.append(f"{name} {expected.get(name)} → {actual.get(name)}")
    before, now = expected.get("environment", {}), actual.get("environment", {})
    return found + [
        f"{key} {before.get(key)} → {now.get(key)}" for key in changed_keys(before, now)
    ]


def newly_rounded(expected: Provenance, actual: Provenance) -> dict[str, str]:
    """Return layer → the coarser type that its weights were rounded to since the baseline."""
    before = expected.get("precision", {})
    return {
        layer: kind
        for layer, kind in actual.get("precision", {}).items()
        if kind in _COARSE and before.get(layer) not in (None, kind)
    }


def explanation(
    expected: Provenance,
    actual: Provenance,
    first: str,
    error: float,
    arrays: Mapping[str, NDArray[Any]] | None = None,
) -> str:
    """Return the difference in provenance that is the likely cause of a failed comparison.

    Args:
        expected, actual: provenance of the baseline and of the new record.
        first: name of the first layer that diverges.
        error: difference of its worst channel, in units of the channel's size.
        arrays: the weights that this layer has now, by name; None where they are not known.
    """
    if expected.get("images") != actual.get("images"):
        return "the images differ: other images were given, or they were preprocessed differently"
    rounded = newly_rounded(expected, actual)
    if first in rounded:
        return f"the weights were rounded to {rounded[first]}"
    if expected.get("dtypes") != actual.get("dtypes"):
        return "the network computes in a different precision"
    weights = changed_keys(expected.get("weights", {}), actual.get("weights", {}))
    if first in weights:
        moved = crossed(expected.get("weights", {}), actual.get("weights", {}), first)
        if moved:
            return moved
        marks = expected.get("marks", {}).get(first)
        change, which = explain_change(marks, arrays) if marks and arrays else ("", "")
        if change:
            return f"the weights of {first!r} changed: {change}"
        shown = f" ({which})" if which else ""
        return (
            f"the weights of {first!r} changed{shown}: retraining, an edit, or a faulty conversion"
        )
    settings = changed_keys(expected.get("settings", {}), actual.get("settings", {}))
    order = list(actual.get("settings", {}))
    preceding = order[: order.index(first) + 1] if first in order else order
    # A change in a layer that only moves values, such as padding, shows first in the next layer.
    candidates = [layer for layer in preceding if layer in settings]
    if candidates:
        return f"the settings of {join_names(candidates)} changed, not the weights"
    before, now = expected.get("environment", {}), actual.get("environment", {})
    machine = [key for key in _MACHINE if before.get(key) != now.get(key)]
    versions = [key for key in _VERSIONS if before.get(key) != now.get(key)]
    if error <= _ROUNDING and (machine or versions):
        return f"rounding: {join_names(machine + versions)} differ; consider recording a variant"
    if versions:
        return f"{join_names(versions)} differ: a layer may work differently in the new version"
    return "unknown, the provenance is the same: check the layer's code and its inputs"
