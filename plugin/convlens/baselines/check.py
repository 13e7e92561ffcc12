"""Check what there is against a folder of baselines, and record what was asked for."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from convlens.baselines import provenance, record, store, values
from convlens.baselines.compare import compare_records
from convlens.baselines.comparison import Comparison
from convlens.baselines.draw import draw_baseline
from convlens.baselines.record import Record, record_network
from convlens.baselines.store import BaselineFileError, Device, Store, Stored, Variant
from convlens.baselines.values import Values, compare_values, record_values
from convlens.checks.finite_weights import assert_finite_weights
from convlens.engine.model.network import Network
from convlens.lens import Lens

Update = Literal["missing", "failed", "all"]
Observed = Record | Values
_HOW = "accept it with --convlens-update=failed"


@dataclass(frozen=True)
class Recording:
    """What may be written.

    Attributes:
        update: which baselines are recorded: 'missing' ones, 'failed' ones (missing ones too), or
            'all'; None for none.
        variant: for what they are recorded; None for what the present one is for.
        keep: whether what was accepted before stays accepted beside the new one.
        accept: key → fingerprint of the changes that a review accepted.
    """

    update: Update | None = None
    variant: Variant | None = None
    keep: bool = False
    accept: Mapping[str, str] = field(default_factory=dict)


def assert_matches_baseline(
    value: Any,
    folder: str | Path,
    name: str,
    *,
    images: ArrayLike | None = None,
    tol: float | None = None,
    update: Update | None = None,
) -> Comparison:
    """Assert that a model, a result or any value is what its baseline says.

    Args:
        value: a Keras model or `Network` (with `images`), a `Lens`, an engine result, or arrays,
            numbers, pictures, and mappings and sequences of these.
        folder: of the baselines.
        name: the baseline's name in it; any text will do.
        images: (n, h, w, c) that a model is looked at with.
        tol: see `compare_records` and `compare_values`.
        update: record the baseline if it is 'missing', has 'failed', or always ('all').

    Returns:
        How it compares.

    Raises:
        AssertionError: it differs, or there is no such baseline, or its file cannot be used.
        OSError: the folder cannot be written to.
        TypeError, ValueError: a value that cannot be kept; a model without images.
    """
    __tracebackhide__ = True
    observed = observe(value, images)
    place = Store(Path(folder), here())
    comparison = examine(place, name, observed, tol)
    comparison, _ = settle(place, observed, comparison, Recording(update))
    if not comparison.passed:
        raise AssertionError(comparison.message)
    return comparison


def here() -> Device:
    """Return the device of this run, which variants are for."""
    return Device(provenance.device(), provenance.family())


def observe(value: Any, images: ArrayLike | None = None) -> Observed:
    """Return what is to be compared or kept of a model or a value.

    Raises:
        AssertionError: a model's weight is not finite, which its outputs need not show.
        FloatingPointError: a layer's output is not finite.
        TypeError, ValueError: a value that cannot be kept; a model without images.
    """
    __tracebackhide__ = True
    if isinstance(value, Lens):
        return _of_network(value.network, value.images if images is None else images)
    if isinstance(value, keras.Model | Network):
        if images is None:
            raise ValueError(
                f"{value.name} needs images to be looked at with: give a Lens, such as the fixture "
                "lens, or images="
            )
        return _of_network(Network.of(value), images)
    return record_values(value)


def _of_network(network: Network, images: ArrayLike) -> Record:
    __tracebackhide__ = True
    assert_finite_weights(network)
    return record_network(network, images, identified=False)


def examine(place: Store, key: str, observed: Observed, tol: float | None = None) -> Comparison:
    """Return how what there is compares with the baseline of that name.

    Of several accepted baselines the one that it is nearest to counts. A baseline that is missing
    or whose file cannot be used is a comparison that fails, and says what to do.
    """
    found = []
    for path in place.find(key):
        try:
            expected = _load(path, key)
        except BaselineFileError as error:
            return Comparison(key, observed.fingerprint, f"{error}.", passed=False)
        # What a file holds may be as large as floats go; what overflows does not agree.
        with np.errstate(over="ignore", invalid="ignore"):
            comparison = _compare(expected, observed, key, tol)
        found.append(replace(comparison, details=(*comparison.details, f"{path}: {_HOW}")))
    if not found:
        verdict = (
            f"there is no baseline of {key!r} in {place.folder}: record it with "
            "--convlens-update=missing, look at its picture, and commit both."
        )
        return Comparison(key, observed.fingerprint, verdict, passed=False)
    return max(found, key=lambda each: sum(layer.passed for layer in each.layers))


def settle(
    place: Store, observed: Observed, comparison: Comparison, recording: Recording
) -> tuple[Comparison, Path | None]:
    """Record what was observed, if that was asked for.

    Returns:
        How it compares now, and the file that was written.

    Raises:
        OSError: the folder cannot be written to.
    """
    key = comparison.key
    accepted = recording.accept.get(key)
    if accepted is not None and not comparison.passed and accepted != comparison.fingerprint:
        verdict = (
            f"what the review accepted for {key!r} is not what there is: it changed again since "
            f"(accepted {accepted}, now {comparison.fingerprint}). Review it anew."
        )
        details = (comparison.verdict, *comparison.details)
        return replace(comparison, verdict=verdict, details=details), None
    wanted = {
        None: False,
        "missing": not place.find(key),
        "failed": not comparison.passed,
        "all": True,
    }[recording.update]
    if not wanted and (accepted is None or comparison.passed):
        return comparison, None
    path = save(place, key, observed, recording)
    verdict = f"recorded as the baseline {path}; it was: {comparison.verdict}"
    layers = tuple(replace(layer, passed=True) for layer in comparison.layers)
    return replace(comparison, verdict=verdict, passed=True, first=None, layers=layers), path


def save(place: Store, key: str, observed: Observed, recording: Recording) -> Path:
    """Write a baseline and the picture of it, and return its file.

    Raises:
        OSError: the folder cannot be written to.
    """
    variant = recording.variant or place.variant_in_force(key)
    path = place.path(key, variant)
    if recording.keep:
        path = place.new_alternative(key, variant)
    kind, module = ("network", record) if isinstance(observed, Record) else ("values", values)
    arrays, header = module.to_arrays(observed)
    content = io.BytesIO()
    _draw(key, observed).save(content, format="PNG", optimize=True)
    # The picture first: a baseline without its picture is never seen.
    store.write_bytes(store.picture_of(path), content.getvalue())
    store.write(path, Stored(key, kind, arrays, header))
    if not recording.keep:
        for other in place.alternatives(key, variant):
            if other != path:
                store.remove(other)
    return path


def _load(path: Path, key: str) -> Observed:
    stored = store.read(path, key)
    try:
        if stored.kind == "network":
            return record.from_arrays(stored.arrays, stored.header)
        return values.from_arrays(stored.arrays, stored.header)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise store.unusable(path, error) from None


def _compare(expected: Observed, actual: Observed, key: str, tol: float | None) -> Comparison:
    if isinstance(expected, Record) and isinstance(actual, Record):
        return compare_records(expected, actual, key=key, tol=tol)
    if isinstance(expected, Values) and isinstance(actual, Values):
        return compare_values(expected, actual, key=key, tol=tol)
    kinds = {Record: "a network", Values: "a value"}
    old, new = kinds[type(expected)], kinds[type(actual)]
    verdict = f"the baseline of {key!r} is of {old}, and this is {new}."
    return Comparison(key, actual.fingerprint, verdict, passed=False)


def _draw(key: str, observed: Observed) -> Any:
    shown: Mapping[str, NDArray[np.uint8]]
    if isinstance(observed, Record):
        shown = record.pictures(observed)
        subtitle = f"{observed.provenance['count']} images, weights "
        subtitle += observed.provenance["weights hash"]
    else:
        shown = observed.shown
        subtitle = f"{len(observed.shapes)} arrays, {len(observed.facts)} facts"
    return draw_baseline(shown, key, subtitle)
